//! What do clients do while things break? Send, ask again with the same bytes, and keep the books.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Verdict},
};
use agentbus_testkit::{
    books::{Fate, Key, Seen, To},
    checker::{Fault, Records, check, due},
};
use futures_util::StreamExt as _;
use rand::Rng as _;
use tokio::task::JoinSet;

/// How a client asks for one message's verdict.
#[derive(Debug, Clone, Copy)]
pub(super) struct Persistence {
    /// One attempt; then the same bytes again.
    pub(super) attempt: Duration,
    /// Over all attempts. After it the outcome is unknown.
    pub(super) deadline: Duration,
}

/// Any node's death costs at most a lease of two seconds, so this is enough for several, on a busy machine too.
pub(super) const PERSISTENT: Persistence =
    Persistence { attempt: Duration::from_millis(400), deadline: Duration::from_secs(40) };

/// One attempt and no other.
pub(super) const ONCE: Persistence =
    Persistence { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };

/// Asks until there is a verdict that asking again would not change.
pub(super) async fn persist(sender: &AgentClient, draft: &Draft, how: Persistence) -> Option<Verdict> {
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
    last.filter(|verdict| verdict.reason != agentbus::domain::Reason::TimedOut)
}

/// What a recipient got so far.
#[derive(Clone, Default)]
pub(super) struct Receipts(Arc<Mutex<Vec<Seen>>>);

impl Receipts {
    /// Subscribes the recipient's inbox and keeps the books until its connection ends.
    pub(super) async fn of(recipient: &AgentClient) -> Self {
        let receipts = Self::default();
        let (book, reader) = (receipts.clone(), recipient.id().to_string());
        let mut inbox = recipient.inbox().await.unwrap();
        tokio::spawn(async move {
            while let Some(message) = inbox.next().await {
                let headers = message.headers.unwrap_or_default();
                let read = |name| headers.get(name).map(|v| v.as_str().to_owned()).unwrap_or_default();
                book.0.lock().unwrap().push(Seen::Received {
                    key: key(&read("Agentbus-Sender"), &read("Agentbus-Message-Id")),
                    tenant: TENANT.to_owned(),
                    recipient: reader.clone(),
                    decision: read("Agentbus-Decision"),
                });
            }
        });
        receipts
    }

    pub(super) fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until so many more have come: there is traffic.
    pub(super) async fn more(&self, messages: usize) {
        let (before, started) = (self.count(), Instant::now());
        while self.count() < before + messages {
            assert!(started.elapsed() < super::SOON, "{} of {messages} came", self.count() - before);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }
}

/// Of all who take part.
const TENANT: &str = "acme";

fn key(sender: &str, message: &str) -> Key {
    Key { tenant: TENANT.to_owned(), sender: sender.to_owned(), message: message.to_owned() }
}

/// Messages from one agent to another, a bounded number at one time.
#[derive(Clone)]
pub(super) struct Traffic {
    pub(super) sender: AgentClient,
    pub(super) recipient: String,
    pub(super) in_flight: usize,
    /// At most so many messages.
    pub(super) messages: usize,
    /// After each verdict, so that the load lasts as long as what breaks.
    pub(super) pause: Duration,
    pub(super) how: Persistence,
}

/// Who sent what and what they heard.
#[derive(Debug, Default)]
pub(super) struct Heard {
    pub(super) sender: String,
    pub(super) sent: Vec<String>,
    pub(super) verdicts: BTreeMap<String, Verdict>,
    /// From the first attempt to the verdict.
    pub(super) slowest: Duration,
}

impl Traffic {
    /// Runs until all messages have their outcome, or `stop` is set.
    pub(super) async fn run(&self, stop: Arc<AtomicBool>) -> Heard {
        let next = Arc::new(AtomicUsize::new(0));
        let heard = Arc::new(Mutex::new(Heard { sender: self.sender.id().to_string(), ..Heard::default() }));
        let mut workers = JoinSet::new();
        for _ in 0..self.in_flight {
            let (traffic, next, heard, stop) =
                (self.clone(), Arc::clone(&next), Arc::clone(&heard), Arc::clone(&stop));
            workers.spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < traffic.messages && !stop.load(Ordering::Relaxed)
                {
                    let draft = Draft::to_agent(&traffic.recipient, "the weekly summary is ready");
                    let started = Instant::now();
                    let verdict = persist(&traffic.sender, &draft, traffic.how).await;
                    {
                        let mut heard = heard.lock().unwrap();
                        heard.slowest = heard.slowest.max(started.elapsed());
                        heard.sent.push(draft.message_id.clone());
                        verdict
                            .into_iter()
                            .for_each(|v| drop(heard.verdicts.insert(draft.message_id.clone(), v)));
                    }
                    tokio::time::sleep(traffic.pause).await;
                }
            });
        }
        while let Some(ended) = workers.join_next().await {
            ended.unwrap();
        }
        std::mem::take(&mut *heard.lock().unwrap())
    }
}

impl Heard {
    /// Compares with what was received, when nothing more is on its way.
    pub(super) async fn faults(&self, receipts: &Receipts) -> Vec<Fault> {
        self.quiet(receipts).await;
        self.faults_so_far(receipts)
    }

    /// The same with what has been received by now.
    pub(super) fn faults_so_far(&self, receipts: &Receipts) -> Vec<Fault> {
        check(&self.seen(receipts), Records::Unread).faults
    }

    fn seen(&self, receipts: &Receipts) -> Vec<Seen> {
        let sending =
            |id: &String| Seen::Sending { key: key(&self.sender, id), to: To::One, fate: Fate::Delivered };
        let answered = |(id, verdict): (&String, &Verdict)| Seen::Answered {
            key: key(&self.sender, id),
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
        while started.elapsed() < Duration::from_secs(10)
            && (last.1.elapsed() < Duration::from_millis(500) || due(&self.seen(receipts)) > 0)
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if receipts.count() != last.0 {
                last = (receipts.count(), Instant::now());
            }
        }
    }

    /// How many verdicts each node gave.
    pub(super) fn by_node(&self) -> BTreeMap<&str, usize> {
        let mut shares = BTreeMap::new();
        for verdict in self.verdicts.values() {
            *shares.entry(verdict.node.as_str()).or_default() += 1;
        }
        shares
    }

    pub(super) fn by_reason(&self) -> BTreeMap<&'static str, usize> {
        let mut reasons = BTreeMap::new();
        for verdict in self.verdicts.values() {
            *reasons.entry(verdict.reason.as_str()).or_default() += 1;
        }
        reasons
    }
}
