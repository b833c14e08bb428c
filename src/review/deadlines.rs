//! What follows by itself for parked messages: their deadlines, and what a decision comes to.
//!
//! Nothing here keeps time: whoever calls is told when to come again. Any node may be the one that does, and
//! doing it twice does nothing twice.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::Thresholds;
use crate::{
    deliberation::{Appended, Case, DeliberationLog, LogError},
    domain::{DeliberationId, Event, TenantId, Timestamp},
    lanes::{
        Lanes,
        backoff::{doubling, jittered},
    },
    rejection::Rejection,
};

/// A deadline is looked at at least this often, should a clock have been set.
const LOOK_MAX: Duration = Duration::from_secs(3_600);
/// No shorter: clocks differ, and a deadline is not worth a busy loop.
const LOOK_MIN: Duration = Duration::from_millis(50);
/// What could not be done is tried again after this, doubling to the second.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// Times that a deadline finds that the log has grown before it is given back.
const CONFLICTS_MAX: usize = 16;

/// What is left to do about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    Done,
    Again(Duration),
}

/// Carries a decision out. The lanes do, by a new permit.
#[async_trait]
pub trait Release: Send + Sync {
    /// The event that concludes the deliberation, or why it must be tried again. `tries` counts from 1.
    async fn release(&self, case: &Case, tries: u64) -> Result<Event, Rejection>;
}

#[async_trait]
impl Release for Lanes {
    async fn release(&self, case: &Case, tries: u64) -> Result<Event, Rejection> {
        Lanes::release(self, case, tries).await
    }
}

/// Keeps deadlines and carries decisions out.
#[derive(Clone)]
pub struct Deadlines {
    pub log: Arc<dyn DeliberationLog>,
    pub lanes: Arc<dyn Release>,
    pub thresholds: Arc<Thresholds>,
    pub clock: fn() -> Timestamp,
}

impl Deadlines {
    /// What panicked is tried again after this.
    pub const AFTER_PANIC: Duration = RETRY_MAX;

    /// Appends what its time brings, and says when to look again.
    pub async fn look(&self, tenant: &TenantId, id: &DeliberationId) -> Next {
        for _ in 0..CONFLICTS_MAX {
            let case = match self.load(tenant, id).await {
                Ok(Some(case)) => case,
                Ok(None) => return Next::Done,
                Err(again) => return Next::Again(again),
            };
            let now = (self.clock)();
            if let Some(event) = case.tick(now) {
                match self.log.append(&case, &event).await {
                    // Either way there is more to read.
                    Ok(Appended::Now | Appended::Conflict) => continue,
                    Err(error) => {
                        tracing::warn!(%error, deliberation = %id, "a deadline is not kept yet");
                        return Next::Again(jittered(RETRY_MIN));
                    }
                }
            }
            return match case.due() {
                Some(due) => Next::Again(until(due, now)),
                None => Next::Done,
            };
        }
        Next::Again(jittered(RETRY_MIN))
    }

    /// Carries a decision out, says so in the log, and lets the threshold learn from it.
    pub async fn conclude(&self, tenant: &TenantId, id: &DeliberationId, attempt: u64) -> Next {
        let again = Next::Again(jittered(doubling(RETRY_MIN, RETRY_MAX, attempt)));
        let case = match self.load(tenant, id).await {
            Ok(Some(case)) if case.conclusion.is_none() && case.decision.is_some() => case,
            Ok(_) => return Next::Done,
            Err(after) => return Next::Again(after),
        };
        let concluded = match self.lanes.release(&case, attempt).await {
            Ok(concluded) => concluded,
            Err(rejection) => {
                tracing::debug!(%rejection, attempt, deliberation = %id, "tried again later");
                return again;
            }
        };
        match self.log.append(&case, &concluded).await {
            Ok(Appended::Now) => {
                self.thresholds.learn_from(&case).await;
                Next::Done
            }
            // Somebody else has: nothing but a conclusion follows a decision. Looked at once more.
            Ok(Appended::Conflict) => Next::Again(RETRY_MIN),
            Err(error) => {
                tracing::warn!(%error, deliberation = %id, "not concluded yet");
                again
            }
        }
    }

    /// `None`: it is gone. Else when to try again.
    async fn load(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<Case>, Duration> {
        self.log.load(tenant, id).await.map_err(|error| match error {
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

#[cfg(test)]
mod tests;
