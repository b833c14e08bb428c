//! Carries a plan out: now, durably, or once its reviewers approve.

use super::{
    attempt::Attempt,
    durable::{LaneError, OutcomePolicy, Shipment, Stored},
    earlier::{from_evidence, same_content},
    errors::of_lane,
    findings::Outcome,
    pack, trace,
};
use crate::{
    domain::{AgentId, Reach, Reason},
    governance::{Addressees, Decoded, Effect, Fanout, Plan, Precondition},
    rejection::Rejection,
    telemetry::Stage,
};

impl Attempt<'_> {
    /// What the plan says, each recipient by its own permit.
    pub(super) async fn commit(&mut self, decoded: &Decoded, plan: Plan<'_>) -> Result<Outcome, Rejection> {
        let Plan { effect, precondition, record_ahead, tell, remember: _ } = plan;
        match effect {
            Effect::Deliver(to) => self.deliver(decoded, to, None).await.map(Outcome::Delivered),
            Effect::Store(to) => self.store(decoded, to, precondition, record_ahead).await,
            Effect::Park(parking) => self.park(decoded, &parking, tell).await,
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
        let (parcels, reach) = pack::durably(cpu, to, decoded, lane.payload_max()).await?;
        let recipients: Vec<AgentId> =
            parcels.iter().map(|parcel| parcel.permit.recipient().clone()).collect();
        let shipment = Shipment {
            key: decoded.key().clone(),
            decision_id: self.findings.decision_id.clone(),
            parcels,
            to_each,
            traceparent: trace::traceparent(self.request.traceparent.as_deref()),
            precondition,
            after: self.stored_last,
            not_after: self.at.deadline,
        };
        if record_ahead {
            let record = self.intent_to_store(&reach, &recipients);
            lane.record(record).await.map_err(unrecorded)?;
        }
        let stored = self.write(decoded, shipment, reach).await?;
        if let (Outcome::Repeat(stands), true) = (&stored, record_ahead) {
            // Repeats are not recorded, and this one takes the intent back.
            self.record(stands);
        }
        Ok(stored)
    }

    async fn write(
        &mut self,
        decoded: &Decoded,
        shipment: Shipment,
        reach: Reach,
    ) -> Result<Outcome, Rejection> {
        let policy = OutcomePolicy::after(shipment.precondition);
        let stored = self.lanes.lane.store(shipment).await.map_err(of_lane)?;
        self.measured.passed(Stage::Deliver);
        match stored {
            Stored::Now { last } => {
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
    Rejection::new(
        Reason::AuditUnavailable,
        "the decision cannot be recorded at the moment, so nothing was delivered",
    )
    .after(std::time::Duration::from_millis(500))
}
