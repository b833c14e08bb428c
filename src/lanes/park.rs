//! A durable record of a message that its reviewers must see first, and of who may judge it.

use std::sync::Arc;

use super::{
    attempt::Attempt,
    decode::not_computed,
    errors::{of_deliberations, used_before},
    findings::Outcome,
    idempotency::deliberated_for,
    trace::Destination,
};
use crate::{
    cpu::Work,
    deliberation::Appended,
    domain::{DeliberationId, Encoding, Why},
    governance::{Decoded, Parking, Written},
    rejection::Rejection,
    wire,
};

impl Attempt<'_> {
    /// Parks a message that the policy permits, and leaves the verdict where a repeat on either lane finds it:
    /// with the claim, for longer than reviewers can take, and, if its sender waits, as an outcome beside which
    /// the durable lane delivers nothing.
    pub(super) async fn park(
        &mut self,
        decoded: &Decoded,
        parking: &Parking<'_>,
        notify: bool,
    ) -> Result<Outcome, Rejection> {
        let parked = self.append(decoded, parking).await?;
        self.count();
        match notify {
            true => {
                self.keep_claim_for(deliberated_for(decoded));
                self.notify_parked(decoded.key(), parked).await
            }
            false => self.remember_parked(decoded, parked).await,
        }
    }

    async fn append(
        &mut self,
        decoded: &Decoded,
        parking: &Parking<'_>,
    ) -> Result<(DeliberationId, String), Rejection> {
        let message = self.as_json(decoded).await?;
        let parked = parking.parked(Written {
            message,
            impact: self.findings.impact.clone(),
            policy_revision: self.findings.policy_revision.as_deref().unwrap_or_default().to_owned(),
            decision_id: self.findings.decision_id.clone(),
            node: self.lanes.node.clone(),
            traceparent: self.keep_on(Destination::Deliberation),
            now: self.now(),
        })?;
        let priority = decoded.message().priority;
        match self.lanes.deliberations.park(&parked, priority).await.map_err(of_deliberations)? {
            Appended::Now => Ok((parked.id, waits(parking.why()))),
            Appended::Conflict => self.found(decoded, parking, parked.id).await,
        }
    }

    async fn as_json(&self, decoded: &Decoded) -> Result<String, Rejection> {
        let (message, canonical) = (Arc::clone(decoded.message()), decoded.body().canonical.clone());
        let bytes = canonical.len();
        let json = move || {
            let json = wire::encode_message(&message, &canonical, Encoding::Json);
            String::from_utf8_lossy(&json).into_owned()
        };
        let json = self.lanes.cpu.run_sized(bytes, &decoded.tenant().id, Work::Encode, json).await;
        json.map_err(|why| not_computed(&why))
    }

    /// What is there under this id: the same message, parked before, or another.
    async fn found(
        &self,
        decoded: &Decoded,
        parking: &Parking<'_>,
        id: DeliberationId,
    ) -> Result<(DeliberationId, String), Rejection> {
        let case =
            self.lanes.deliberations.load(&decoded.tenant().id, &id).await.map_err(of_deliberations)?;
        match case {
            Some(case) if case.parked.digest == hex::encode(decoded.digest()) => {
                let why = match &case.decision {
                    None => waits(parking.why()),
                    Some(decision) => {
                        format!("it was parked before, and it is {}", decision.judgement.as_str())
                    }
                };
                Ok((id, why))
            }
            _ => Err(used_before(&decoded.key().message)),
        }
    }
}

fn waits(why: &Why) -> String {
    format!("{why}: its reviewers decide")
}
