//! The durable lane: the streams of each tenant behind a breaker of its own, and the records behind theirs.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    audit::Written,
    breakers::{Breaker, Breakers, Call, Kind, Open},
    domain::{AgentId, TenantId, Verdict},
    lanes::{
        Accepted, DeadLetter, DurableLane, DurableWrite, Evidence, LaneError, Noted, Notice, Stored,
        Submission,
    },
    state::MessageKey,
};

/// A lane and its breakers.
pub struct GuardedLane {
    lane: Arc<dyn DurableLane>,
    breakers: Arc<Breakers>,
    records: Arc<Breaker>,
}

impl GuardedLane {
    pub fn new(lane: Arc<dyn DurableLane>, breakers: &Arc<Breakers>) -> Self {
        Self { lane, breakers: Arc::clone(breakers), records: breakers.of(Kind::Records) }
    }

    fn of(&self, tenant: &TenantId) -> Arc<Breaker> {
        self.breakers.of_target(Kind::Jetstream, tenant.as_str())
    }
}

fn admit(breaker: &Breaker) -> Result<Call<'_>, LaneError> {
    breaker.admit().map(Call::timed).map_err(|Open { retry_after }| LaneError::BreakerOpen { retry_after })
}

fn ended<T>(call: Call<'_>, answer: Result<T, LaneError>) -> Result<T, LaneError> {
    match &answer {
        Ok(_) => call.good(),
        Err(fault @ LaneError::Unconfirmed) => call.bad(fault),
        // It has answered, was not asked, or is said to be at fault by another.
        Err(
            LaneError::UnconfirmedBeside
            | LaneError::Away
            | LaneError::TooLate
            | LaneError::Full(_)
            | LaneError::ShareStored { .. }
            | LaneError::Refused(_)
            | LaneError::Unreadable(_)
            | LaneError::BreakerOpen { .. },
        ) => call.neither(),
    }
    answer
}

#[async_trait]
impl DurableLane for GuardedLane {
    async fn room(&self, key: &MessageKey, to: &[AgentId], bytes: usize) -> Result<(), LaneError> {
        let breaker = self.of(&key.tenant);
        let call = admit(&breaker)?;
        match self.lane.room(key, to, bytes).await {
            // Mostly said from memory, and where nobody answers there is room: it says nothing of JetStream.
            Ok(()) => {
                call.neither();
                Ok(())
            }
            full => ended(call, full),
        }
    }

    /// Where it is not known, the store itself will say.
    async fn crowded(&self, tenant: &TenantId, to: &[AgentId]) -> Vec<(AgentId, LaneError)> {
        let breaker = self.of(tenant);
        let Ok(call) = admit(&breaker) else { return Vec::new() };
        let crowded = self.lane.crowded(tenant, to).await;
        call.neither();
        crowded
    }

    async fn accept(&self, submission: Submission<'_>) -> Result<Accepted, LaneError> {
        let breaker = self.of(&submission.key.tenant);
        ended(admit(&breaker)?, self.lane.accept(submission).await)
    }

    async fn store(&self, write: DurableWrite) -> Result<Stored, LaneError> {
        let breaker = self.of(&write.key.tenant);
        ended(admit(&breaker)?, self.lane.store(write).await)
    }

    async fn evidence(&self, key: &MessageKey) -> Result<Option<Evidence>, LaneError> {
        let breaker = self.of(&key.tenant);
        ended(admit(&breaker)?, self.lane.evidence(key).await)
    }

    async fn judged(&self, key: &MessageKey) -> Result<Option<Verdict>, LaneError> {
        let breaker = self.of(&key.tenant);
        ended(admit(&breaker)?, self.lane.judged(key).await)
    }

    async fn outcome(&self, notice: Notice) -> Result<Noted, LaneError> {
        let breaker = self.of(&notice.key.tenant);
        ended(admit(&breaker)?, self.lane.outcome(notice).await)
    }

    async fn record(&self, record: Written) -> Result<(), LaneError> {
        ended(admit(&self.records)?, self.lane.record(record).await)
    }

    /// The last that can be done for a message, and tried whatever has failed before.
    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), LaneError> {
        self.lane.dead_letter(letter).await
    }

    fn payload_max(&self) -> usize {
        self.lane.payload_max()
    }
}
