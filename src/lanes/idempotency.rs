//! One outcome for each message: repeats get the stored verdict, on whichever node they arrive.
//!
//! A message is claimed just before its effect and settled with its verdict after. A node that dies
//! in between leaves a claim without a verdict; whoever takes it over learns from the record that
//! was sent ahead of the delivery whether there was one.

use std::time::Duration;

use futures_util::future::join;
use rand::Rng as _;

use super::{
    attempt::Attempt, claim::Claimed, durable::OutcomePolicy, errors::used_before, findings::Outcome,
    live::Named,
};
use crate::{
    audit::{Body, Record},
    domain::{DeliberationId, Encoding, Reason, Verdict},
    fault_points::{self, Step},
    governance::{Decoded, Plan},
    rejection::Rejection,
    state::{Claim, ClaimToken, Digest, StoreError},
    wire,
};

impl Attempt<'_> {
    /// The stored verdict if this is a repeat; else the message is claimed.
    ///
    /// What goes no further is claimed as well: an earlier attempt may have gone further.
    pub(super) async fn claim(
        &mut self,
        decoded: &Decoded,
        plan: &Result<Plan<'_>, Rejection>,
    ) -> Result<Option<Outcome>, Rejection> {
        fault_points::reached(Step::Judged);
        // On the same connection ahead of the claim, so that an answer finds it.
        let claimed = match plan.as_ref().ok().and_then(|plan| self.followed(decoded, plan)) {
            None => self.claim_or_repeat(decoded).await,
            Some(followed) => Box::pin(join(followed, self.claim_or_repeat(decoded))).await.1,
        };
        let claimed = match (claimed, plan) {
            // Nothing is delivered anyway, and the rejection at hand says more.
            (Err(unavailable), Err(_))
                if matches!(unavailable.reason, Reason::IdempotencyUnavailable | Reason::BreakerOpen) =>
            {
                Ok(None)
            }
            (claimed, _) => claimed,
        };
        if let Ok(None) = claimed {
            self.measured.passed(crate::telemetry::Stage::Claim);
            fault_points::reached(Step::Claimed);
        }
        claimed
    }

    async fn claim_or_repeat(&mut self, decoded: &Decoded) -> Result<Option<Outcome>, Rejection> {
        let (key, digest) = (decoded.key(), decoded.digest());
        // Bounded by the message's deadline, which cancels this wait.
        loop {
            let named = self.findings.named.as_ref();
            match self.lanes.idempotency.claim(key, digest, named).await.map_err(claims_unavailable)? {
                Claim::Mine { token } => {
                    self.claimed(decoded, token);
                    return Ok(None);
                }
                Claim::TakenOver { token, first } => {
                    // The claim goes on to name the first holder's decision; others are found by the message.
                    self.findings.named = None;
                    let named = first.as_ref().map_or(Named::Nothing, Named::Decision);
                    let recorded = Box::pin(self.recorded_before(decoded, named)).await?;
                    self.measured.took_over();
                    self.claimed(decoded, token);
                    if let Some(verdict) = recorded {
                        return Ok(Some(Outcome::Repeat(Box::new(verdict))));
                    }
                    // It may have taken another way than a live inbox.
                    return Box::pin(self.earlier_or_parked(decoded)).await;
                }
                Claim::Settled { verdict } => {
                    let verdict = stored(&verdict).ok_or_else(|| claims_unavailable(unreadable()))?;
                    return Ok(Some(Outcome::Repeat(Box::new(verdict))));
                }
                Claim::Conflict => return Err(used_before(&key.message)),
                Claim::Doubtful => return Box::pin(self.in_doubt(decoded)).await.map(Some),
                Claim::Pending { lease_left } => {
                    let wait = Duration::from_millis(rand::rng().random_range(5..20));
                    tokio::time::sleep(wait.min(lease_left + Duration::from_millis(1))).await;
                }
            }
        }
    }

    fn claimed(&mut self, decoded: &Decoded, token: ClaimToken) {
        let (key, digest) = (decoded.key().clone(), *decoded.digest());
        self.claim = Some(Claimed { key, digest, token, longer: Duration::ZERO });
    }

    /// Lets the verdict of what is claimed be kept beyond the window.
    pub(super) fn keep_claim_for(&mut self, longer: Duration) {
        if let Some(claim) = &mut self.claim {
            claim.longer = longer;
        }
    }

    /// What stands in the place of the claim or the verdict, no node wrote. JetStream is believed instead, but
    /// only where it says that something was done: for all that it keeps, a record can be gone by now, and what
    /// stood there before was perhaps the verdict of a delivery.
    async fn in_doubt(&mut self, decoded: &Decoded) -> Result<Outcome, Rejection> {
        if let Some(verdict) = self.recorded_before(decoded, Named::Lost).await? {
            return Ok(Outcome::Repeat(Box::new(verdict)));
        }
        self.earlier_or_parked(decoded).await?.ok_or_else(unknown)
    }

    async fn earlier_or_parked(&mut self, decoded: &Decoded) -> Result<Option<Outcome>, Rejection> {
        match self.earlier(decoded, OutcomePolicy::Stands).await? {
            Some(Outcome::Parked(id, why)) => self.notify_parked(decoded.key(), (id, why)).await.map(Some),
            earlier => Ok(earlier),
        }
    }

    /// The verdict of a delivery that was made or begun, as it was recorded ahead of it.
    async fn recorded_before(
        &self,
        decoded: &Decoded,
        named: Named<'_>,
    ) -> Result<Option<Verdict>, Rejection> {
        let last = self.lanes.live.last_intent(decoded.key(), named).await.map_err(|error| {
            tracing::warn!(%error, "records unreadable");
            unknown()
        })?;
        Ok(last.and_then(|last| sent(last, decoded.digest())))
    }

    /// What was submitted and parked is not let through by a `send` either: that finds this verdict.
    pub(super) async fn remember_parked(
        &self,
        decoded: &Decoded,
        (id, why): (DeliberationId, String),
    ) -> Result<Outcome, Rejection> {
        let (key, digest, store) = (decoded.key(), decoded.digest(), &self.lanes.idempotency);
        match store.claim(key, digest, None).await.map_err(claims_unavailable)? {
            Claim::Mine { token } => {
                let answer = self.answer(Ok(Outcome::Parked(id.clone(), why.clone())));
                let bytes = wire::encode_verdict(&answer.verdict, Encoding::MessagePack);
                let longer = deliberated_for(decoded);
                store.settle(key, digest, token, &bytes, longer).await.map_err(claims_unavailable)?;
            }
            // Sent before: that has a verdict of its own, or is about to. The doubt about it stays.
            Claim::TakenOver { token, .. } => store.release(key, token).await.map_err(claims_unavailable)?,
            Claim::Pending { .. } | Claim::Settled { .. } | Claim::Conflict | Claim::Doubtful => {}
        }
        Ok(Outcome::Parked(id, why))
    }
}

/// How long its reviewers have, from now, at most.
pub(super) fn deliberated_for(decoded: &Decoded) -> Duration {
    decoded.tenant().deliberation.terms(decoded.message().message_type).timeout
}

fn unknown() -> Rejection {
    Rejection::new(Reason::IdempotencyUnavailable, "whether this was delivered before cannot be told")
        .after(Duration::from_millis(500))
}

/// The verdict of a message that a node has sent before it died, if the last record of a claim's
/// holder says so. A record of another content is of an earlier use of the id.
fn sent(last: Record<'_>, digest: &Digest) -> Option<Verdict> {
    match last.body {
        Body::Intent(decision) if decision.digest.as_ref() == Some(digest) => {
            Some(by_record(decision.verdict.into_owned()))
        }
        _ => None,
    }
}

/// A verdict that rests on the record of a node that stopped before it could confirm it.
fn by_record(verdict: Verdict) -> Verdict {
    let detail = format!("{}, as {} recorded before it stopped", verdict.detail, verdict.node);
    Verdict { detail, ..verdict }
}

fn stored(bytes: &[u8]) -> Option<Verdict> {
    wire::decode_verdict(bytes).inspect_err(|error| tracing::error!(%error, "stored verdict unreadable")).ok()
}

fn unreadable() -> StoreError {
    StoreError::Unexpected { found: "a verdict that cannot be read".to_owned() }
}

fn claims_unavailable(error: StoreError) -> Rejection {
    tracing::warn!(%error, "idempotency store unavailable");
    if let StoreError::BreakerOpen { retry_after } = error {
        return Rejection::breaker_open("the store that knows repeats", retry_after);
    }
    Rejection::new(
        Reason::IdempotencyUnavailable,
        "whether this is a repeat cannot be told at the moment, so it is not delivered",
    )
    .after(Duration::from_millis(500))
}
