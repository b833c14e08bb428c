//! What follows by itself for parked messages: their deadlines, and what a decision comes to.
//!
//! JetStream is the clock. Every parked message is given back to its consumer with a delay until
//! something is due, so a schedule outlives every node, and any node may be the one that keeps it.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use async_nats::{
    Client,
    jetstream::{AckKind, Message},
};
use futures_util::FutureExt as _;

use super::{
    Thresholds,
    each_tenant::Served,
    feed::{Feed, tell},
    subjects,
};
use crate::{
    deliberation::{Appended, Case, DeliberationLog, LogError},
    domain::Timestamp,
    lanes::{
        Lanes,
        backoff::{doubling, jittered},
    },
    shutdown::Shutdown,
    supervisor::Supervisor,
    tenants::{Directory, names},
};

/// Events of one tenant that are in hand at one time.
const SHARE: usize = 16;
/// Events of all tenants that are worked on at one time.
const AT_ONCE: usize = 128;
/// A deadline is looked at at least this often, should a clock have been set.
const LOOK_MAX: Duration = Duration::from_secs(3_600);
/// No shorter: clocks differ, and a deadline is not worth a busy loop.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// What could not be done is tried again after this, doubling to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Times that a deadline finds that the log has grown before it is given back.
const CONFLICTS_MAX: usize = 16;

/// Keeps deadlines and carries decisions out, beside the other nodes.
#[derive(Clone)]
pub struct Clerk {
    feed: Arc<Feed>,
    log: Arc<dyn DeliberationLog>,
    lanes: Arc<Lanes>,
    thresholds: Arc<Thresholds>,
}

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Done {
    Ever,
    Again(Duration),
}

impl From<Done> for AckKind {
    fn from(done: Done) -> Self {
        match done {
            Done::Ever => AckKind::Ack,
            Done::Again(after) => AckKind::Nak(Some(after)),
        }
    }
}

impl Clerk {
    pub fn new(
        client: Client,
        log: Arc<dyn DeliberationLog>,
        lanes: Arc<Lanes>,
        thresholds: Arc<Thresholds>,
    ) -> Self {
        let feed = Feed::new(client, names::CLERK_CONSUMER, SHARE, AT_ONCE);
        Self { feed, log, lanes, thresholds }
    }

    /// Tenants whose deadlines and decisions wait for their stream.
    pub fn absent(&self) -> usize {
        self.feed.absent()
    }

    /// Works until the shutdown. What was begun is finished, what was not is given back.
    pub fn start(self, directory: Arc<Directory>, shutdown: &Shutdown, supervisor: &Supervisor) {
        let feed = Arc::clone(&self.feed);
        let skew = self.lanes.skew.clone();
        feed.start("deliberations", Served { directory, skew }, shutdown, supervisor, move |message| {
            let (clerk, metrics) = (self.clone(), Arc::clone(&self.lanes.metrics));
            async move { metrics.polls.watch("clerk", clerk.handle(message)).await }
        });
    }

    async fn handle(self, message: Message) {
        let attempt = message.info().map_or(1, |info| u64::try_from(info.delivered).unwrap_or(1));
        let doing = async {
            match subjects::is_decided(&message.subject) {
                true => self.conclude(&message, attempt).await,
                false => self.look(&message).await,
            }
        };
        // A message that makes a node panic must not be lost with it.
        let done = AssertUnwindSafe(doing).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!(subject = %message.subject, "a deliberation made the node panic; tried again");
            Done::Again(RETRY_MAX)
        });
        tell(&message, done.into()).await;
    }

    /// Appends what its time brings, and says when to look again.
    async fn look(&self, message: &Message) -> Done {
        for _ in 0..CONFLICTS_MAX {
            let case = match self.load(message).await {
                Ok(Some(case)) => case,
                Ok(None) => return Done::Ever,
                Err(again) => return Done::Again(again),
            };
            let now = (self.lanes.clock)();
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
    async fn conclude(&self, message: &Message, attempt: u64) -> Done {
        let again = Done::Again(jittered(doubling(RETRY_MIN, RETRY_MAX, attempt)));
        let case = match self.load(message).await {
            Ok(Some(case)) if case.conclusion.is_none() && case.decision.is_some() => case,
            Ok(_) => return Done::Ever,
            Err(after) => return Done::Again(after),
        };
        let concluded = match self.lanes.release(&case, attempt).await {
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

fn until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(due.0.saturating_sub(now.0)).clamp(LOOK_MIN, LOOK_MAX)
}
