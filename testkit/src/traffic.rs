//! What do clients do while things break? Send, ask again with the same bytes, and keep the books.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, MessageType, Reason, Verdict},
};
use anyhow::ensure;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use rand::Rng as _;
use tokio::task::JoinSet;

use crate::{
    books::{Fate, Key, Seen, To},
    checker::{Fault, Records, check, due},
};

/// Of a node that had no time for a message, or whose servers had none.
pub const BUSY: [Reason; 8] = [
    Reason::Overloaded,
    Reason::AuditUnavailable,
    Reason::PolicyUnavailable,
    Reason::IdempotencyUnavailable,
    Reason::RegistryUnavailable,
    Reason::ClockUncertain,
    Reason::DeliberationUnavailable,
    Reason::BreakerOpen,
];

/// How a client asks for one message's verdict.
#[derive(Debug, Clone, Copy)]
pub struct Persistence {
    /// One attempt; then the same bytes again.
    pub attempt: Duration,
    /// Over all attempts. After it the outcome is unknown.
    pub deadline: Duration,
}

/// Any node's death costs at most a lease of two seconds, so this is enough for several, on a busy machine too.
pub const PERSISTENT: Persistence =
    Persistence { attempt: Duration::from_millis(400), deadline: Duration::from_secs(40) };

/// One attempt and no other.
pub const ONCE: Persistence =
    Persistence { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };

/// Nothing has come for so long: nothing is on its way.
const QUIET: Duration = Duration::from_millis(500);
const QUIET_MAX: Duration = Duration::from_secs(10);

/// Asks until there is a verdict that asking again would not change.
pub async fn persist(sender: &AgentClient, draft: &Draft, how: Persistence) -> Option<Verdict> {
    let bytes = draft.encode(Encoding::MessagePack);
    let started = Instant::now();
    let mut last = None;
    while started.elapsed() < how.deadline {
        let left = how.deadline.saturating_sub(started.elapsed());
        let patience = Patience { attempt: how.attempt, deadline: left };
        let Ok(verdict) = sender.send(bytes.clone(), patience).await else { break };
        if !verdict.reason.retryable() || how.attempt >= how.deadline {
            return Some(verdict);
        }
        let pause = verdict.retry_after.unwrap_or_default().min(Duration::from_millis(200));
        last = Some(verdict);
        let jitter = Duration::from_millis(rand::rng().random_range(5..30));
        tokio::time::sleep(pause + jitter).await;
    }
    // A verdict that may still change is not an outcome, unless it says that nothing was done.
    last.filter(|verdict| verdict.reason != Reason::TimedOut)
}

/// What a recipient got so far.
#[derive(Clone)]
pub struct Receipts {
    tenant: String,
    got: Arc<Mutex<Vec<Seen>>>,
}

impl Receipts {
    /// Subscribes the recipient's inbox and keeps the books until its connection ends.
    pub async fn of(recipient: &AgentClient, tenant: &str) -> anyhow::Result<Self> {
        let receipts = Self { tenant: tenant.to_owned(), got: Arc::default() };
        let (book, reader) = (receipts.clone(), recipient.id().to_string());
        let mut inbox = recipient.inbox().await?;
        tokio::spawn(async move {
            while let Some(message) = inbox.next().await {
                let headers = message.headers.unwrap_or_default();
                let read = |name| headers.get(name).map(|v| v.as_str().to_owned()).unwrap_or_default();
                let key = Key {
                    tenant: book.tenant.clone(),
                    sender: read("Agentbus-Sender"),
                    message: read("Agentbus-Message-Id"),
                };
                book.got.lock().push(Seen::Received {
                    key,
                    tenant: book.tenant.clone(),
                    recipient: reader.clone(),
                    decision: read("Agentbus-Decision"),
                });
            }
        });
        Ok(receipts)
    }

    pub fn count(&self) -> usize {
        self.got.lock().len()
    }

    /// Whether a message with this id has come.
    pub fn has(&self, id: &str) -> bool {
        let is_it = |seen: &Seen| matches!(seen, Seen::Received { key, .. } if key.message == id);
        self.got.lock().iter().any(is_it)
    }

    /// Waits until so many more have come: there is traffic.
    pub async fn more(&self, messages: usize, within: Duration) -> anyhow::Result<()> {
        let (before, started) = (self.count(), Instant::now());
        while self.count() < before + messages {
            ensure!(
                started.elapsed() < within,
                "{} of {messages} came within {within:?}",
                self.count() - before
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    fn all(&self) -> Vec<Seen> {
        self.got.lock().clone()
    }
}

/// Messages from one agent to another, a bounded number at one time.
#[derive(Clone)]
pub struct Traffic {
    pub sender: AgentClient,
    pub recipient: String,
    pub in_flight: usize,
    /// At most so many messages.
    pub messages: usize,
    /// After each verdict, so that the load lasts as long as what breaks.
    pub pause: Duration,
    pub how: Persistence,
    /// Of so many messages one is of a type that the policy denies; 0: none.
    pub denied_one_in: usize,
}

/// Who sent what and what they heard.
#[derive(Debug, Default)]
pub struct Heard {
    pub sender: String,
    pub sent: Vec<String>,
    pub verdicts: BTreeMap<String, Verdict>,
    /// Those that the policy denies.
    pub denied: Vec<String>,
    pub trips: Vec<Trip>,
    /// From the first attempt to the verdict.
    pub slowest: Duration,
}

/// One message that the policy allows, from its first attempt on.
#[derive(Debug, Clone, Copy)]
pub struct Trip {
    pub begun: Instant,
    pub took: Duration,
    /// Absent: its outcome is unknown.
    pub reason: Option<Reason>,
}

impl Traffic {
    /// Runs until all messages have their outcome, or `stop` is set.
    pub async fn run(&self, stop: Arc<AtomicBool>) -> Heard {
        let next = Arc::new(AtomicUsize::new(0));
        let heard = Arc::new(Mutex::new(Heard { sender: self.sender.id().to_string(), ..Heard::default() }));
        let mut workers = JoinSet::new();
        for _ in 0..self.in_flight {
            let (traffic, next, heard, stop) =
                (self.clone(), Arc::clone(&next), Arc::clone(&heard), Arc::clone(&stop));
            workers.spawn(async move {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= traffic.messages || stop.load(Ordering::Relaxed) {
                        return;
                    }
                    traffic.one(number, &heard).await;
                    tokio::time::sleep(traffic.pause).await;
                }
            });
        }
        workers.join_all().await;
        std::mem::take(&mut *heard.lock())
    }

    async fn one(&self, number: usize, heard: &Mutex<Heard>) {
        let mut draft = Draft::to_agent(&self.recipient, "the weekly summary is ready");
        let denied = self.denied_one_in > 0 && number.is_multiple_of(self.denied_one_in);
        if denied {
            draft.message_type = MessageType::AuditLog;
        }
        let begun = Instant::now();
        let verdict = persist(&self.sender, &draft, self.how).await;
        let took = begun.elapsed();
        let mut heard = heard.lock();
        heard.slowest = heard.slowest.max(took);
        heard.sent.push(draft.message_id.clone());
        match denied {
            true => heard.denied.push(draft.message_id.clone()),
            false => heard.trips.push(Trip { begun, took, reason: verdict.as_ref().map(|it| it.reason) }),
        }
        if let Some(verdict) = verdict {
            heard.verdicts.insert(draft.message_id, verdict);
        }
    }
}

impl Heard {
    /// Compares with what was received, when nothing more is on its way.
    pub async fn faults(&self, receipts: &Receipts) -> Vec<Fault> {
        self.quiet(receipts).await;
        self.faults_so_far(receipts)
    }

    /// The same with what has been received by now.
    pub fn faults_so_far(&self, receipts: &Receipts) -> Vec<Fault> {
        check(&self.seen(receipts), Records::Unread).faults
    }

    fn seen(&self, receipts: &Receipts) -> Vec<Seen> {
        let key = |message: &String| Key {
            tenant: receipts.tenant.clone(),
            sender: self.sender.clone(),
            message: message.clone(),
        };
        let sending = |id: &String| {
            let fate = if self.denied.contains(id) { Fate::Denied } else { Fate::Delivered };
            Seen::Sending { key: key(id), to: To::One, fate }
        };
        let answered = |(id, verdict): (&String, &Verdict)| Seen::Answered {
            key: key(id),
            status: verdict.status.as_str().to_owned(),
            reason: verdict.reason.as_str().to_owned(),
            decision: verdict.decision_id.clone(),
            delivered: verdict.reach.as_ref().map(|reach| reach.delivered),
        };
        let sent = self.sent.iter().map(sending);
        sent.chain(self.verdicts.iter().map(answered)).chain(receipts.all()).collect()
    }

    /// All that was said to be delivered has come, or ten seconds have passed; and nothing more comes.
    async fn quiet(&self, receipts: &Receipts) {
        let (started, mut last) = (Instant::now(), (receipts.count(), Instant::now()));
        while started.elapsed() < QUIET_MAX && (last.1.elapsed() < QUIET || due(&self.seen(receipts)) > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if receipts.count() != last.0 {
                last = (receipts.count(), Instant::now());
            }
        }
    }

    /// How many verdicts each node gave.
    pub fn by_node(&self) -> BTreeMap<&str, usize> {
        let mut shares = BTreeMap::new();
        for verdict in self.verdicts.values() {
            *shares.entry(verdict.node.as_str()).or_default() += 1;
        }
        shares
    }

    pub fn by_reason(&self) -> BTreeMap<&'static str, usize> {
        let mut reasons = BTreeMap::new();
        for verdict in self.verdicts.values() {
            *reasons.entry(verdict.reason.as_str()).or_default() += 1;
        }
        reasons
    }
}
