//! What is stored of a message, by whichever attempt, and how it gets there.

use std::time::Duration;

use super::{
    Evidence, LaneError, Pipeline, Request, Shipment, Stored, Unless, deliver, once, park,
    trail::{self, Outcome, Trail},
};
use crate::{
    deliberation,
    domain::{AgentId, MessageId, Reach, Reason, Recipient},
    governance::{Addressees, Fanout},
    rejection::Rejection,
    state::MessageKey,
    telemetry::Stage,
    wire::Decoded,
};

impl Pipeline {
    /// What an earlier attempt has come to, as far as it is to be seen.
    ///
    /// Also for the fast lane: the holder of a claim that was taken over may have stored or parked it.
    pub(super) async fn earlier(
        &self,
        key: &MessageKey,
        letter: &Decoded,
        told: Told,
        trail: &mut Trail,
    ) -> Result<Option<Outcome>, Rejection> {
        if let Some(evidence) = self.lane.evidence(key).await.map_err(unavailable)? {
            same_content(&evidence, letter)?;
            trail.stored(evidence.last);
            trail.goes_on(evidence.decision_id.as_deref());
            if let Some(outcome) = from_evidence(evidence, letter, told) {
                return Ok(Some(outcome));
            }
        }
        let id = deliberation::id_of(key);
        let case = self.deliberations.load(&key.tenant, &id).await.map_err(park::unavailable)?;
        let Some(case) = case else { return Ok(None) };
        if case.parked.digest != hex::encode(letter.digest) {
            return Err(used_before(&key.message));
        }
        let left = case.parked.deadline.0.saturating_sub(trail.now().0);
        once::keep_for(trail, Duration::from_millis(left));
        Ok(Some(Outcome::Parked(case.parked.id, "it was parked: its reviewers decide".to_owned())))
    }

    /// Into durable inboxes, each by its own permit.
    pub(super) async fn store(
        &self,
        to: Addressees,
        letter: &Decoded,
        request: &Request,
        trail: &mut Trail,
        unless: Unless,
    ) -> Result<Outcome, Rejection> {
        let (shipment, reach) = self.packed(to, letter, request, trail, unless).await?;
        self.ship(shipment, reach, letter, trail).await
    }

    /// The same for who waits for the verdict: nothing governs its message again if this node dies, so the
    /// record goes ahead.
    pub(super) async fn store_recorded(
        &self,
        to: Addressees,
        letter: &Decoded,
        request: &Request,
        trail: &mut Trail,
    ) -> Result<Outcome, Rejection> {
        let (shipment, reach) = self.packed(to, letter, request, trail, Unless::Decided).await?;
        let recipients: Vec<AgentId> =
            shipment.parcels.iter().map(|parcel| parcel.permit.recipient().clone()).collect();
        let (place, record) = trail.intent_to_store(letter, request, &reach, &recipients);
        self.lane.record(place, record).await.map_err(|error| {
            tracing::warn!(%error, "a decision could not be recorded");
            Rejection::new(
                Reason::AuditUnavailable,
                "the decision cannot be recorded at the moment, so nothing was delivered",
            )
            .after(Duration::from_millis(500))
        })?;
        let stored = self.ship(shipment, reach, letter, trail).await?;
        if let Outcome::Repeat(stands) = &stored {
            // Repeats are not recorded, and this one takes the intent back.
            trail.record(request, stands, &*self.courier, &self.metrics);
        }
        Ok(stored)
    }

    async fn packed(
        &self,
        to: Addressees,
        letter: &Decoded,
        request: &Request,
        trail: &Trail,
        unless: Unless,
    ) -> Result<(Shipment, Reach), Rejection> {
        let to_each = to.fanout == Fanout::EachOfThem;
        let (parcels, reach) = deliver::pack(&self.cpu, to, letter, self.lane.payload_max()).await?;
        let shipment = Shipment {
            key: trail.message_key(letter),
            decision_id: trail.decision_id().to_owned(),
            parcels,
            to_each,
            traceparent: trail::traceparent(request.traceparent.as_deref()),
            unless,
            after: trail.stored_last(),
            not_after: trail.deadline(),
        };
        Ok((shipment, reach))
    }

    async fn ship(
        &self,
        shipment: Shipment,
        reach: Reach,
        letter: &Decoded,
        trail: &mut Trail,
    ) -> Result<Outcome, Rejection> {
        let unless = shipment.unless;
        let stored = self.lane.store(shipment).await.map_err(unavailable)?;
        trail.passed(Stage::Deliver);
        match stored {
            Stored::Now { last } => {
                trail.stored(last);
                trail.count();
                Ok(Outcome::Delivered(reach))
            }
            Stored::Before(evidence) => {
                drop(trail.take_observation());
                same_content(&evidence, letter)?;
                trail.stored(evidence.last);
                trail.goes_on(evidence.decision_id.as_deref());
                let told = match unless {
                    Unless::Decided => Told::Before,
                    Unless::Delivered => Told::Anew,
                };
                from_evidence(*evidence, letter, told)
                    .ok_or_else(|| unavailable(LaneError::Unreadable("what is stored for it".to_owned())))
            }
        }
    }
}

/// The id may have been used for another content, long enough ago that JetStream has forgotten.
pub(super) fn same_content(evidence: &Evidence, letter: &Decoded) -> Result<(), Rejection> {
    match evidence.digest {
        Some(digest) if digest != letter.digest => Err(used_before(&letter.message.id)),
        _ => Ok(()),
    }
}

pub(super) fn used_before(id: &MessageId) -> Rejection {
    Rejection::new(Reason::DuplicateMessage, format!("message_id {id} was used before for another message"))
}

/// Whether a verdict that is stored is the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is: repeats get it.
    Before,
    /// Another is due: reviewers have decided since, or a person wants the message tried anew.
    Anew,
}

/// What is stored for a message, as an outcome. `None`: govern on, there is more to do.
pub(super) fn from_evidence(evidence: Evidence, letter: &Decoded, told: Told) -> Option<Outcome> {
    let broadcast = matches!(letter.message.to, Recipient::Broadcast(_));
    match (evidence.verdict, evidence.recipients.first()) {
        (Some(verdict), _) if told == Told::Before => Some(Outcome::Repeat(Box::new(verdict))),
        // A broadcast that was stored for some: the others are to come, and none gets it twice.
        (_, Some(_)) if broadcast => None,
        (_, Some(agent)) => {
            let agent = Some(agent.clone());
            Some(Outcome::Delivered(Reach { delivered: 1, agent, durable: true, ..Reach::default() }))
        }
        (_, None) => None,
    }
}

pub(super) fn unavailable(error: LaneError) -> Rejection {
    tracing::warn!(%error, "durable lane");
    match error {
        LaneError::Full(_) => Rejection::new(
            Reason::StoreFull,
            "the tenant's store of the durable lane is full; it empties as it ages",
        )
        .after(Duration::from_secs(5)),
        LaneError::TooLate => {
            Rejection::new(Reason::LaneUnavailable, "it took too long to be stored, so it was not")
                .after(Duration::from_millis(500))
        }
        LaneError::Unconfirmed | LaneError::Refused(_) | LaneError::Unreadable(_) => {
            Rejection::new(Reason::LaneUnavailable, "the durable lane does not answer at the moment")
                .after(Duration::from_secs(1))
        }
    }
}
