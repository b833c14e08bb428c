//! What is remembered of senders: how many messages of late, and how they were scored, over all nodes.
//!
//! A message counts for those after it while it is judged ([`Observation`]), and stays counted once it has
//! its verdict. It asks its node's memory alone, which is a lock and a few additions. What the other nodes
//! saw is fetched when the copy here is older than 0.6 s; then the first message waits, for the time
//! limit at most. What this node saw is told with each such question, and by a flush every 0.4 s. So
//! volume and drift are true within a second. Without the store this node's own view counts, and only
//! the flush asks whether the store is back: an outage costs a message the limit once, not each.

use std::{
    collections::VecDeque,
    hash::{BuildHasher as _, RandomState},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::history::{History, Past, Question};
use crate::{
    domain::{AgentId, Message, TenantId, Timestamp},
    recent::recent,
    state::{SenderHistoryStore, StoreError},
};

/// A message waits no longer than this to hear what other nodes saw.
const WAIT_MAX: Duration = Duration::from_millis(50);
/// A flush has more time: nobody waits for it.
const FLUSH_WAIT_MAX: Duration = Duration::from_millis(500);
const FLUSH_EVERY: Duration = Duration::from_millis(400);
/// Senders told of in one flush, the rest in the next.
const FLUSH_MAX: usize = 4096;
/// Of these at one time.
const FLUSH_AT_ONCE: usize = 64;

/// A message that is being judged. Dropped, it leaves its sender's past as it was.
pub struct Observation {
    senders: Arc<Senders>,
    sender: Arc<Sender>,
    past: Past,
    /// Names the message to this node.
    message: u64,
    at: Timestamp,
    /// Whether it is among those that are being judged.
    reserved: bool,
}

impl Observation {
    /// What it comes after.
    pub fn past(&self) -> Past {
        self.past
    }

    /// It has the verdict that repeats get: it counts, and its score with it.
    pub fn count(self, semantic: Option<f64>) {
        self.record(semantic, false);
    }

    /// It may come again as if for the first time: it counts, and the next time it does not.
    pub fn count_in_doubt(self, semantic: Option<f64>) {
        self.record(semantic, true);
    }

    fn record(mut self, semantic: Option<f64>, in_doubt: bool) {
        self.reserved = false;
        let mut history = self.sender.history.lock();
        history.count(self.message, self.at, semantic, in_doubt);
        self.senders.queue(&self.sender, &mut history);
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if self.reserved {
            self.sender.history.lock().undo();
        }
    }
}

/// The pasts of all senders heard of late. One for a node.
///
/// Bounded by `senders_max`; the sender least recently heard is forgotten first.
pub struct Senders {
    // A lock for each sender: messages of different senders never wait for each other, and none is
    // held for longer than a few additions.
    known: Cache<(TenantId, AgentId, Arc<str>), Arc<Sender>>,
    senders_max: usize,
    /// Absent: this node's own view is all there is.
    pasts: Option<Arc<dyn SenderHistoryStore>>,
    /// Names this process to the store.
    teller: u64,
    /// So that no sender can make two messages look like one.
    hasher: RandomState,
    questions: AtomicU64,
    /// The store did not answer.
    away: AtomicBool,
    /// Senders of whom something is not told, at most `senders_max`.
    untold: Mutex<VecDeque<Arc<Sender>>>,
}

struct Sender {
    tenant: TenantId,
    agent: AgentId,
    /// Of its scores.
    scale: Arc<str>,
    history: Mutex<History>,
}

impl Senders {
    /// SenderHistoryStore that are true over all nodes of the store. [`Senders::keep`] must run beside.
    pub fn sharing(senders_max: u64, pasts: Arc<dyn SenderHistoryStore>) -> Self {
        Self::new(senders_max, Some(pasts))
    }

    /// SenderHistoryStore as this process alone sees them.
    pub fn unshared(senders_max: u64) -> Self {
        Self::new(senders_max, None)
    }

    fn new(senders_max: u64, pasts: Option<Arc<dyn SenderHistoryStore>>) -> Self {
        let known = recent(senders_max).build();
        Self {
            known,
            senders_max: usize::try_from(senders_max).unwrap_or(usize::MAX),
            pasts,
            teller: rand::random(),
            hasher: RandomState::new(),
            questions: AtomicU64::new(0),
            away: AtomicBool::new(false),
            untold: Mutex::default(),
        }
    }

    /// Begins with a message; the past it comes after, as far as it was scored on this scale.
    pub async fn observe(
        self: &Arc<Self>,
        message: &Message,
        scale: &Arc<str>,
        now: Timestamp,
    ) -> Observation {
        let sender = self.of(message, scale);
        let (number, past, question) = {
            let mut history = sender.history.lock();
            let number = history.reserve(now);
            let known = self.pasts.is_none() || history.is_fresh(now) || self.is_away();
            let question = (!known).then(|| self.question(&sender, &mut history, now));
            (number, history.past_of(number), question)
        };
        let mut observation = Observation {
            senders: Arc::clone(self),
            sender,
            past,
            message: self.hasher.hash_one(&message.id),
            at: now,
            reserved: true,
        };
        if let Some(question) = question {
            // Whatever comes of it, what is known counts.
            let _ = self.ask(&observation.sender, &question, WAIT_MAX).await;
            let heard = observation.sender.history.lock().past_of(number);
            observation.past = Past { messages: past.messages.max(heard.messages), ..heard };
        }
        observation
    }

    /// Tells the other nodes what this one saw, every now and then, until told to stop.
    pub async fn keep(self: Arc<Self>, clock: fn() -> Timestamp, stop: CancellationToken) {
        let mut tick = tokio::time::interval(FLUSH_EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let flushes = async {
            loop {
                tick.tick().await;
                self.flush(clock()).await;
            }
        };
        stop.run_until_cancelled(flushes).await;
    }

    /// Tells all that is untold, within this time: the last thing that a node does with the store.
    pub async fn flush_all(&self, now: Timestamp, limit: Duration) {
        let all = async {
            // Each round takes some out, so the bound is that of the queue.
            while !self.untold.lock().is_empty() && self.flush(now).await {}
        };
        if tokio::time::timeout(limit, all).await.is_err() {
            tracing::warn!("what senders did last is not told to the other nodes");
        }
    }

    /// Tells what is untold of the senders at the head of the queue. `false`: nobody listens.
    async fn flush(&self, now: Timestamp) -> bool {
        let mut batch: VecDeque<Arc<Sender>> = {
            let mut untold = self.untold.lock();
            let some = untold.len().min(FLUSH_MAX);
            untold.drain(..some).collect()
        };
        // While the store is away one question is enough to see whether it still is.
        while self.is_away()
            && let Some(sender) = batch.pop_front()
        {
            if self.tell(&sender, now).await.is_err() {
                break;
            }
        }
        stream::iter(batch)
            .for_each_concurrent(FLUSH_AT_ONCE, |sender| async move {
                if self.is_away() {
                    self.queue_again(&sender);
                } else {
                    // It is in the queue again if nobody listened.
                    let _ = self.tell(&sender, now).await;
                }
            })
            .await;
        !self.is_away()
    }

    /// Tells what is untold of one sender, if anything is.
    async fn tell(&self, sender: &Arc<Sender>, now: Timestamp) -> Result<(), StoreError> {
        let question = {
            let mut history = sender.history.lock();
            history.queued = false;
            if !history.is_untold() {
                return Ok(());
            }
            self.question(sender, &mut history, now)
        };
        let told = self.ask(sender, &question, FLUSH_WAIT_MAX).await;
        let mut history = sender.history.lock();
        // Nobody listened, or it was what nobody had confirmed before, and there is more.
        if history.is_untold() {
            self.queue(sender, &mut history);
        }
        told
    }

    fn question(&self, sender: &Sender, history: &mut History, now: Timestamp) -> Question {
        let mut question = history.question(self.teller, self.next_question(), now);
        question.seen.scale = Arc::clone(&sender.scale);
        question
    }

    async fn ask(&self, sender: &Sender, question: &Question, limit: Duration) -> Result<(), StoreError> {
        let Some(pasts) = &self.pasts else { return Ok(()) };
        let answer = pasts.share(&sender.tenant, &sender.agent, &question.seen);
        let answer = tokio::time::timeout(limit, answer).await;
        match answer.unwrap_or(Err(StoreError::Timeout { limit })) {
            Ok(shared) => {
                if self.away.swap(false, Ordering::Relaxed) {
                    tracing::info!("senders' pasts are those of all nodes again");
                }
                sender.history.lock().answer(question, &shared);
                Ok(())
            }
            Err(error) => {
                let lost = match &error {
                    StoreError::Timeout { .. }
                    | StoreError::Disconnected
                    | StoreError::Full
                    | StoreError::BreakerOpen { .. } => true,
                    // Of this one entry; that of another sender may be readable.
                    StoreError::Unexpected { .. } => false,
                };
                if lost && !self.away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "senders' pasts are what this node alone saw");
                }
                sender.history.lock().unanswered(question);
                Err(error)
            }
        }
    }

    fn queue(&self, sender: &Arc<Sender>, history: &mut History) {
        if history.queued || self.pasts.is_none() {
            return;
        }
        let mut untold = self.untold.lock();
        // Beyond the bound it is told with its next question, or when there is room again.
        if untold.len() < self.senders_max {
            untold.push_back(Arc::clone(sender));
            history.queued = true;
        }
    }

    fn queue_again(&self, sender: &Arc<Sender>) {
        let mut history = sender.history.lock();
        history.queued = false;
        self.queue(sender, &mut history);
    }

    fn is_away(&self) -> bool {
        self.away.load(Ordering::Relaxed)
    }

    fn next_question(&self) -> u64 {
        self.questions.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn of(&self, message: &Message, scale: &Arc<str>) -> Arc<Sender> {
        let key = (message.tenant.clone(), message.sender.clone(), Arc::clone(scale));
        self.known.get_with(key, || {
            Arc::new(Sender {
                tenant: message.tenant.clone(),
                agent: message.sender.clone(),
                scale: Arc::clone(scale),
                history: Mutex::default(),
            })
        })
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> u64 {
        self.known.run_pending_tasks();
        self.known.entry_count()
    }
}

#[cfg(test)]
mod tests;
