//! What is remembered of senders: how many messages of late, and how they were scored, over all nodes.
//!
//! A message asks its node's memory alone, which is a lock and a few additions. What the other nodes
//! saw is fetched when the copy here is older than 0.6 s; then the first message waits, for the time
//! limit at most. What this node saw is told with each such question, and by a flush every 0.4 s. So
//! volume and drift are true within a second. Without the store this node's own view counts, and only
//! the flush asks whether the store is back: an outage costs a message the limit once, not each.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::history::{History, Question};
use crate::{
    domain::{AgentId, Message, TenantId, Timestamp},
    state::{Pasts, StoreError},
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

/// A sender's past as the formula needs it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Past {
    /// Its messages within 60 s, this one included.
    pub messages: u32,
    /// The mean of its last semantic scores before this one, if there were any.
    pub mean: Option<f64>,
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
    pasts: Option<Arc<dyn Pasts>>,
    /// Names this process to the store.
    teller: u64,
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
    /// Pasts that are true over all nodes of the store. [`Senders::keep`] must run beside.
    pub fn sharing(senders_max: u64, pasts: Arc<dyn Pasts>) -> Self {
        Self::new(senders_max, Some(pasts))
    }

    /// Pasts as this process alone sees them.
    pub fn alone(senders_max: u64) -> Self {
        Self::new(senders_max, None)
    }

    fn new(senders_max: u64, pasts: Option<Arc<dyn Pasts>>) -> Self {
        let known = Cache::builder()
            .max_capacity(senders_max)
            // Not the default policy, which may refuse to remember a new sender at all.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Self {
            known,
            senders_max: usize::try_from(senders_max).unwrap_or(usize::MAX),
            pasts,
            teller: rand::random(),
            questions: AtomicU64::new(0),
            away: AtomicBool::new(false),
            untold: Mutex::default(),
        }
    }

    /// Counts a message of its sender; the past it comes after, as far as it was scored on this scale.
    pub async fn record_message(&self, message: &Message, scale: &Arc<str>, now: Timestamp) -> Past {
        let sender = self.of(message, scale);
        let question = {
            let mut history = sender.history.lock();
            history.record_message(now);
            if self.pasts.is_none() {
                return history.past();
            }
            self.queue(&sender, &mut history);
            if history.is_fresh(now) || self.is_away() {
                return history.past();
            }
            self.question(&sender, &mut history, now)
        };
        // Whatever comes of it, what is known counts.
        let _ = self.ask(&sender, &question, WAIT_MAX).await;
        sender.history.lock().past()
    }

    /// Remembers how a message of its sender was scored.
    pub fn record_semantic(&self, message: &Message, scale: &Arc<str>, semantic: f64) {
        let sender = self.of(message, scale);
        let mut history = sender.history.lock();
        history.record_semantic(semantic);
        self.queue(&sender, &mut history);
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
                    StoreError::Timeout { .. } | StoreError::Disconnected | StoreError::Full => true,
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
