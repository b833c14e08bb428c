//! What follows by itself for parked messages: their deadlines, and what a decision comes to.
//!
//! JetStream is the clock. Every parked message is given back to its consumer with a delay until
//! something is due, so a schedule outlives every node, and any node may be the one that keeps it.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{self, AckKind, Context, Message, consumer::PullConsumer},
};
use futures_util::{FutureExt as _, StreamExt as _};
use rand::Rng as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Thresholds, subjects};
use crate::{
    deliberation::{Appended, Case, DeliberationLog, LogError},
    domain::Timestamp,
    pipeline::Pipeline,
    shutdown::Shutdown,
    tenants::names,
};

/// Messages of one consumer that are worked on at one time.
const AT_ONCE: usize = 32;
/// How long the server holds a question for messages. A stopping node waits for its last one.
const PULL_FOR: Duration = Duration::from_secs(1);
/// One question to JetStream, or one answer to it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A deadline is looked at at least this often, should a clock have been set.
const LOOK_MAX: Duration = Duration::from_secs(3_600);
/// No shorter: clocks differ, and a deadline is not worth a busy loop.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// What could not be done is tried again after this, doubling to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Times that a deadline finds that the log has grown before it is given back.
const CONFLICTS_MAX: usize = 16;
/// Pause after a consumer that is not there, or does not answer.
const MISSING_PAUSE: Duration = Duration::from_secs(2);

/// Keeps deadlines and carries decisions out, beside the other nodes.
#[derive(Clone)]
pub struct Clerk {
    context: Context,
    log: Arc<dyn DeliberationLog>,
    pipeline: Arc<Pipeline>,
    thresholds: Arc<Thresholds>,
    /// A consumer is not there, or does not answer.
    waiting: Arc<AtomicBool>,
}

/// What the messages of a consumer ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Deadlines,
    Effects,
}

impl Duty {
    fn consumer(self) -> &'static str {
        match self {
            Duty::Deadlines => names::DEADLINES_CONSUMER,
            Duty::Effects => names::EFFECTS_CONSUMER,
        }
    }
}

/// What becomes of a message of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Ever,
    Again(Duration),
}

impl Clerk {
    pub fn new(
        client: Client,
        log: Arc<dyn DeliberationLog>,
        pipeline: Arc<Pipeline>,
        thresholds: Arc<Thresholds>,
    ) -> Self {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_WITHIN);
        Self { context, log, pipeline, thresholds, waiting: Arc::default() }
    }

    /// Whether deadlines and decisions wait for JetStream.
    pub fn waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Works until the shutdown. What was begun is finished, what was not is given back.
    pub fn start(self, shutdown: &Shutdown) {
        for duty in [Duty::Deadlines, Duty::Effects] {
            shutdown.tracker().spawn(self.clone().work(duty, shutdown.clone()));
        }
    }

    async fn work(self, duty: Duty, shutdown: Shutdown) {
        let slots = Arc::new(Semaphore::new(AT_ONCE));
        while !shutdown.is_requested() {
            let consumer: Result<PullConsumer, _> =
                self.context.get_consumer_from_stream(duty.consumer(), names::DELIBERATIONS_STREAM).await;
            match consumer {
                Ok(consumer) => {
                    self.waiting.store(false, Ordering::Relaxed);
                    self.pull(duty, &consumer, &slots, &shutdown).await;
                }
                Err(error) => {
                    if !self.waiting.swap(true, Ordering::Relaxed) {
                        tracing::warn!(consumer = duty.consumer(), %error, "deliberations wait: no consumer");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(jittered(MISSING_PAUSE)) => {}
                () = shutdown.requested() => {}
            }
        }
    }

    /// Takes messages as long as there are slots for them. Returns when the consumer does not answer.
    async fn pull(&self, duty: Duty, consumer: &PullConsumer, slots: &Arc<Semaphore>, shutdown: &Shutdown) {
        while !shutdown.is_requested() {
            let slot = tokio::select! {
                slot = Arc::clone(slots).acquire_owned() => slot,
                () = shutdown.requested() => return,
            };
            // Never closed.
            let Ok(slot) = slot else { return };
            let mut free = vec![slot];
            free.extend(std::iter::from_fn(|| Arc::clone(slots).try_acquire_owned().ok()));
            let batch = consumer.batch().max_messages(free.len()).expires(PULL_FOR).messages().await;
            let Ok(mut messages) = batch else { return };
            while let Some(message) = messages.next().await {
                let message = match message {
                    Ok(message) => message,
                    Err(error) => {
                        tracing::debug!(consumer = duty.consumer(), %error, "no messages");
                        return;
                    }
                };
                match free.pop() {
                    Some(slot) if !shutdown.is_requested() => {
                        shutdown.tracker().spawn(self.clone().handle(duty, message, slot));
                    }
                    _ => settle(&message, Done::Again(Duration::ZERO)).await,
                }
            }
        }
    }

    async fn handle(self, duty: Duty, message: Message, _slot: OwnedSemaphorePermit) {
        let attempt = message.info().map_or(1, |info| usize::try_from(info.delivered).unwrap_or(1));
        let doing = async {
            match duty {
                Duty::Deadlines => self.look(&message).await,
                Duty::Effects => self.conclude(&message, attempt).await,
            }
        };
        // A message that makes a node panic must not be lost with it.
        let done = AssertUnwindSafe(doing).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(subject = %message.subject, "a deliberation made the node panic; tried again");
            Done::Again(RETRY_MAX)
        });
        settle(&message, done).await;
    }

    /// Appends what its time brings, and says when to look again.
    async fn look(&self, message: &Message) -> Done {
        for _ in 0..CONFLICTS_MAX {
            let case = match self.load(message).await {
                Ok(Some(case)) => case,
                Ok(None) => return Done::Ever,
                Err(again) => return Done::Again(again),
            };
            let now = (self.pipeline.clock)();
            if let Some(event) = case.tick(now) {
                match self.log.append(&case, &event).await {
                    // Either way there is more to read.
                    Ok(Appended::Now | Appended::Conflict) => continue,
                    Err(error) => {
                        tracing::warn!(%error, deliberation = %case.parked.id, "a deadline is not kept yet");
                        return Done::Again(jittered(RETRY_MIN));
                    }
                }
            }
            return match case.due() {
                Some(due) => Done::Again(until(due, now)),
                None => Done::Ever,
            };
        }
        Done::Again(jittered(RETRY_MIN))
    }

    /// Carries a decision out and says so in the log.
    async fn conclude(&self, message: &Message, attempt: usize) -> Done {
        let again = Done::Again(backoff(attempt));
        let case = match self.load(message).await {
            Ok(Some(case)) if case.conclusion.is_none() && case.decision.is_some() => case,
            Ok(_) => return Done::Ever,
            Err(after) => return Done::Again(after),
        };
        let attempt = u64::try_from(attempt).unwrap_or(u64::MAX);
        let concluded = match self.pipeline.release(&case, attempt).await {
            Ok(concluded) => concluded,
            Err(rejection) => {
                tracing::debug!(%rejection, attempt, deliberation = %case.parked.id, "tried again later");
                return again;
            }
        };
        match self.log.append(&case, &concluded).await {
            Ok(Appended::Now) => {
                self.thresholds.learn_from(&case).await;
                Done::Ever
            }
            // Somebody else has: nothing but a conclusion follows a decision. Looked at once more.
            Ok(Appended::Conflict) => Done::Again(RETRY_MIN),
            Err(error) => {
                tracing::warn!(%error, deliberation = %case.parked.id, "not concluded yet");
                again
            }
        }
    }

    /// The case of an event's subject; `None` if there is none any more. Else when to try again.
    async fn load(&self, message: &Message) -> Result<Option<Case>, Duration> {
        let (tenant, id) = match subjects::deliberation_of(&message.subject) {
            Ok(named) => named,
            Err(error) => {
                tracing::error!(%error, "an event on a malformed subject is dropped");
                return Ok(None);
            }
        };
        self.log.load(&tenant, &id).await.map_err(|error| match error {
            LogError::Unreadable(cause) => {
                tracing::error!(%tenant, deliberation = %id, cause, "a deliberation cannot be read");
                LOOK_MAX
            }
            error => {
                tracing::debug!(%error, "deliberations unavailable");
                jittered(RETRY_MIN)
            }
        })
    }
}

/// Tells the consumer. If that is lost, it asks again after its `ack_wait`.
async fn settle(message: &Message, done: Done) {
    let kind = match done {
        Done::Ever => AckKind::Ack,
        Done::Again(after) if after.is_zero() => AckKind::Nak(None),
        Done::Again(after) => AckKind::Nak(Some(after)),
    };
    match tokio::time::timeout(ANSWER_WITHIN, message.ack_with(kind)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "not acknowledged"),
        Err(_) => tracing::debug!("not acknowledged: NATS takes nothing"),
    }
}

fn until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(due.0.saturating_sub(now.0)).clamp(LOOK_MIN, LOOK_MAX)
}

/// 1 s doubling to 60 s, and up to half as long again.
fn backoff(attempt: usize) -> Duration {
    let exponent = u32::try_from(attempt.clamp(1, 7) - 1).unwrap_or(0);
    jittered((RETRY_MIN * 2_u32.pow(exponent)).min(RETRY_MAX))
}

fn jittered(wait: Duration) -> Duration {
    wait + wait.mul_f64(rand::rng().random_range(0.0..0.5))
}
