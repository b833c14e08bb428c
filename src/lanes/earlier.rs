//! What is stored of a message, by whichever attempt?

use std::time::Duration;

use super::{
    attempt::Attempt,
    durable::{Evidence, OutcomePolicy},
    errors::{of_deliberations, of_lane, used_before},
    findings::Outcome,
};
use crate::{
    deliberation,
    domain::{Reach, Recipient},
    governance::Decoded,
    rejection::Rejection,
    wire,
};

impl Attempt<'_> {
    /// What an earlier attempt has come to, as far as it is to be seen.
    ///
    /// Also for the fast lane: the holder of a claim that was taken over may have stored or parked it.
    pub(super) async fn earlier(
        &mut self,
        decoded: &Decoded,
        policy: OutcomePolicy,
    ) -> Result<Option<Outcome>, Rejection> {
        let key = decoded.key();
        if let Some(evidence) = self.lanes.lane.evidence(key).await.map_err(of_lane)? {
            same_content(&evidence, decoded.body())?;
            self.stored_last = evidence.last;
            self.findings.goes_on(evidence.decision_id.as_deref());
            if let Some(outcome) = from_evidence(evidence, decoded.body(), policy) {
                return Ok(Some(outcome));
            }
        }
        let id = deliberation::id_of(key);
        let case = self.lanes.deliberations.load(&key.tenant, &id).await.map_err(of_deliberations)?;
        let Some(case) = case else { return Ok(None) };
        if case.parked.digest != hex::encode(decoded.digest()) {
            return Err(used_before(&key.message));
        }
        let left = case.parked.deadline.0.saturating_sub(self.now().0);
        self.keep_claim_for(Duration::from_millis(left));
        Ok(Some(Outcome::Parked(case.parked.id, "it was parked: its reviewers decide".to_owned())))
    }
}

/// The id may have been used for another content, long enough ago that JetStream has forgotten.
pub(super) fn same_content(evidence: &Evidence, decoded: &wire::Decoded) -> Result<(), Rejection> {
    match evidence.digest {
        Some(digest) if digest != decoded.digest => Err(used_before(&decoded.message.id)),
        _ => Ok(()),
    }
}

/// What is stored for a message, as an outcome. `None`: govern on, there is more to do.
pub(super) fn from_evidence(
    evidence: Evidence,
    decoded: &wire::Decoded,
    policy: OutcomePolicy,
) -> Option<Outcome> {
    let broadcast = matches!(decoded.message.to, Recipient::Broadcast(_));
    match (evidence.verdict, evidence.recipients.first()) {
        (Some(verdict), _) if policy == OutcomePolicy::Stands => Some(Outcome::Repeat(Box::new(verdict))),
        // A broadcast that was stored for some: the others are to come, and none gets it twice.
        (_, Some(_)) if broadcast => None,
        (_, Some(agent)) => {
            let agent = Some(agent.clone());
            Some(Outcome::Delivered(Reach { delivered: 1, agent, durable: true, ..Reach::default() }))
        }
        (_, None) => None,
    }
}
