//! Carries a plan out: now, durably, or once its reviewers approve.

use super::{
    attempt::Attempt,
    durable::{Accepted, DurableWrite, LaneError, OutcomePolicy, Stored, Submission},
    earlier::{from_evidence, same_content},
    errors::{of_lane, used_before},
    findings::Outcome,
    live::Delivery,
    pack,
    trace::Destination,
};
use crate::{
    domain::{AgentId, Missed, Reach, Reason, Recipient},
    fault_points::{self, Step},
    governance::{Addressees, Decoded, Effect, Fanout, Plan, Precondition},
    rejection::Rejection,
    telemetry::Stage,
};

impl Attempt<'_> {
    /// What the plan says, each recipient by its own permit.
    pub(super) async fn commit(&mut self, decoded: &Decoded, plan: Plan<'_>) -> Result<Outcome, Rejection> {
        let Plan { effect, duties, precondition, record_ahead, notify, remember: _ } = plan;
        self.oblige(decoded, &duties).await?;
        match effect {
            Effect::Deliver(to) => self.deliver(decoded, to, None).await.map(Outcome::Delivered),
            Effect::Store(to) => Box::pin(self.store(decoded, to, precondition, record_ahead)).await,
            Effect::Queue => Box::pin(self.queue(decoded)).await,
            Effect::Park(parking) => Box::pin(self.park(decoded, &parking, notify)).await,
        }
    }

    /// Keeps it to be governed where nobody waits. There it counts for its sender.
    pub(super) async fn queue(&mut self, decoded: &Decoded) -> Result<Outcome, Rejection> {
        self.sender.observation = None;
        let traceparent = self.keep_on(Destination::Queue);
        let (key, lane, decision_id) = (decoded.key(), &self.lanes.lane, &self.findings.decision_id);
        // Whom a capability and a broadcast come to is known when it is governed, and looked at then.
        let to = match &decoded.message().to {
            Recipient::Agent(agent) => std::slice::from_ref(agent),
            Recipient::Capability(_) | Recipient::Broadcast(_) => &[],
        };
        lane.room(key, to, self.request.payload.len()).await.map_err(of_lane)?;
        let payload = self.request.payload.clone();
        let submission = Submission { key, digest: decoded.digest(), decision_id, traceparent, payload };
        match lane.accept(submission).await.map_err(of_lane)? {
            Accepted::New | Accepted::Repeat(None) => Ok(Outcome::Queued),
            Accepted::Repeat(Some(verdict)) => {
                let stands = self.lanes.stands(key, *verdict).await.map_err(of_lane)?;
                Ok(Outcome::Repeat(Box::new(stands)))
            }
            Accepted::Conflict => Err(used_before(&key.message)),
        }
    }

    /// Into durable inboxes. The record goes ahead where somebody waits for the verdict: nothing governs the
    /// message again if this node dies.
    async fn store(
        &mut self,
        decoded: &Decoded,
        to: Addressees,
        precondition: Precondition,
        record_ahead: bool,
    ) -> Result<Outcome, Rejection> {
        let to_each = to.fanout == Fanout::EachOfThem;
        let (lane, cpu) = (&self.lanes.lane, &self.lanes.cpu);
        let (mut deliveries, mut reach) = pack::durably(cpu, to, decoded, lane.payload_max()).await?;
        let was_named = matches!(decoded.message().to, Recipient::Agent(_));
        // What people want is stored as long as there is room for it.
        if precondition == Precondition::Undecided && !was_named {
            self.leave_out_the_crowded(decoded, &mut deliveries, &mut reach).await?;
        }
        let recipients: Vec<AgentId> =
            deliveries.iter().map(|delivery| delivery.permit.recipient().clone()).collect();
        let write = DurableWrite {
            key: decoded.key().clone(),
            decision_id: self.findings.decision_id.clone(),
            deliveries,
            to_each,
            traceparent: self.hand_on(Destination::DurableInbox),
            cause: self.findings.cause.clone(),
            precondition,
            after: self.stored_last,
            not_after: self.deadline(),
        };
        if record_ahead {
            let bytes = write.deliveries.iter().map(|delivery| delivery.payload.len()).sum();
            let to = if was_named { recipients.as_slice() } else { &[] };
            lane.room(&write.key, to, bytes).await.map_err(of_lane)?;
            let record = self.intent_to_store(&reach, &recipients);
            lane.record(record.into()).await.map_err(unrecorded)?;
        }
        let stored = self.write(decoded, write, reach).await?;
        if let (Outcome::Repeat(stands), true) = (&stored, record_ahead) {
            // Repeats are not recorded, and this one takes the intent back.
            self.record(stands);
        }
        Ok(stored)
    }

    /// Who reads nothing must not be what keeps others from a broadcast, nor take all room by it.
    async fn leave_out_the_crowded(
        &self,
        decoded: &Decoded,
        deliveries: &mut Vec<Delivery>,
        reach: &mut Reach,
    ) -> Result<(), Rejection> {
        let to: Vec<AgentId> =
            deliveries.iter().map(|delivery| delivery.permit.recipient().clone()).collect();
        let mut crowded = self.lanes.lane.crowded(&decoded.key().tenant, &to).await;
        if crowded.is_empty() {
            return Ok(());
        }
        // Who has it from an earlier attempt misses nothing, and it takes no more of its room.
        if let Some(evidence) = self.lanes.lane.evidence(decoded.key()).await.map_err(of_lane)? {
            crowded.retain(|(agent, _)| !evidence.recipients.contains(agent));
        }
        if crowded.len() == deliveries.len()
            && let Some((_, why)) = crowded.pop()
        {
            return Err(of_lane(why));
        }
        for (agent, why) in crowded {
            tracing::debug!(%why, "it is left out of a broadcast");
            deliveries.retain(|delivery| *delivery.permit.recipient() != agent);
            reach.delivered = reach.delivered.saturating_sub(1);
            reach.missed_total = reach.missed_total.saturating_add(1);
            if reach.missed.len() < Reach::MISSED_MAX {
                reach.missed.push(Missed { agent, reason: Reason::RateLimited });
            }
        }
        Ok(())
    }

    async fn write(
        &mut self,
        decoded: &Decoded,
        write: DurableWrite,
        reach: Reach,
    ) -> Result<Outcome, Rejection> {
        let policy = OutcomePolicy::after(write.precondition);
        let stored = self.lanes.lane.store(write).await.map_err(of_lane)?;
        self.measured.passed(Stage::Deliver);
        match stored {
            Stored::Now { last } => {
                fault_points::reached(Step::Stored);
                self.stored_last = last;
                self.count();
                Ok(Outcome::Delivered(reach))
            }
            Stored::Before(evidence) => {
                self.sender.observation = None;
                same_content(&evidence, decoded.body())?;
                self.stored_last = evidence.last;
                self.findings.goes_on(evidence.decision_id.as_deref());
                from_evidence(*evidence, decoded.body(), policy)
                    .ok_or_else(|| of_lane(LaneError::Unreadable("what is stored for it".to_owned())))
            }
        }
    }
}

fn unrecorded(error: LaneError) -> Rejection {
    tracing::warn!(%error, "a decision could not be recorded");
    if let LaneError::BreakerOpen { retry_after } = error {
        return Rejection::breaker_open("the store of decision records", retry_after);
    }
    Rejection::new(
        Reason::AuditUnavailable,
        "the decision cannot be recorded at the moment, so nothing was delivered",
    )
    .after(std::time::Duration::from_millis(500))
}
