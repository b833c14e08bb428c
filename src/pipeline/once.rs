//! One outcome for each message: repeats get the stored verdict, on whichever node they arrive.
//!
//! A message is claimed just before its effect and settled with its verdict after. A node that dies
//! in between leaves a claim without a verdict; whoever takes it over learns from the record that
//! was sent ahead of the delivery whether there was one.

use std::{sync::Arc, time::Duration};

use rand::Rng as _;
use tokio_util::task::TaskTracker;

use super::{
    Answer, Notice, OutcomeStage, Pipeline, Request, park,
    stored::{self, Told},
    trail::{Outcome, Trail},
};
use crate::{
    domain::{DeliberationId, Encoding, Reason, Verdict},
    governance::{self, Parking, Plan},
    rejection::Rejection,
    state::{Claim, ClaimToken, Digest, Idempotency, MessageKey, StoreError},
    wire::{self, Decoded, RecordKind, Recorded},
};

/// A message that this node has claimed.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    key: MessageKey,
    digest: Digest,
    token: ClaimToken,
    /// What its verdict is kept for beyond the window.
    longer: Duration,
}

/// The stored verdict if this is a repeat; else the message is claimed, and the trail knows.
///
/// What goes no further is claimed as well: an earlier attempt may have gone further.
pub(super) async fn enter(
    pipeline: &Pipeline,
    letter: &Decoded,
    planned: &Result<Plan<'_>, Rejection>,
    trail: &mut Trail,
) -> Result<Option<Outcome>, Rejection> {
    match (claim(pipeline, letter, trail).await, planned) {
        // Nothing is delivered anyway, and the rejection at hand says more.
        (Err(unavailable), Err(_)) if unavailable.reason == Reason::IdempotencyUnavailable => Ok(None),
        (claimed, _) => claimed,
    }
}

async fn claim(
    pipeline: &Pipeline,
    letter: &Decoded,
    trail: &mut Trail,
) -> Result<Option<Outcome>, Rejection> {
    let key = trail.message_key(letter);
    // Bounded by the message's deadline, which cancels this wait.
    let digest = letter.digest;
    loop {
        match pipeline.idempotency.claim(&key, &digest).await.map_err(unavailable)? {
            Claim::Mine { token } => {
                trail.claimed(Claimed { key, digest, token, longer: Duration::ZERO });
                return Ok(None);
            }
            Claim::TakenOver { token } => {
                let recorded = recorded(pipeline, &key, &digest).await?;
                trail.took_over();
                trail.claimed(Claimed { key: key.clone(), digest, token, longer: Duration::ZERO });
                if let Some(verdict) = recorded {
                    return Ok(Some(Outcome::Repeat(Box::new(verdict))));
                }
                // It may have taken another way than a live inbox.
                let earlier = pipeline.earlier(&key, letter, Told::Before, trail).await?;
                return match earlier {
                    Some(Outcome::Parked(id, why)) => {
                        tell_parked(pipeline, &key, (id, why), trail).await.map(Some)
                    }
                    earlier => Ok(earlier),
                };
            }
            Claim::Settled { verdict } => {
                let verdict = stored(&verdict).ok_or_else(|| unavailable(unreadable()))?;
                return Ok(Some(Outcome::Repeat(Box::new(verdict))));
            }
            Claim::Conflict => {
                return Err(stored::used_before(&key.message));
            }
            Claim::Doubtful => return in_doubt(pipeline, &key, letter, trail).await.map(Some),
            Claim::Pending { lease_left } => {
                let wait = Duration::from_millis(rand::rng().random_range(5..20));
                tokio::time::sleep(wait.min(lease_left + Duration::from_millis(1))).await;
            }
        }
    }
}

/// What stands in the place of the claim or the verdict, no node wrote. JetStream is believed instead, but
/// only where it says that something was done: for all that it keeps, a record can be gone by now, and what
/// stood there before was perhaps the verdict of a delivery.
async fn in_doubt(
    pipeline: &Pipeline,
    key: &MessageKey,
    letter: &Decoded,
    trail: &mut Trail,
) -> Result<Outcome, Rejection> {
    if let Some(verdict) = recorded(pipeline, key, &letter.digest).await? {
        return Ok(Outcome::Repeat(Box::new(verdict)));
    }
    match pipeline.earlier(key, letter, Told::Before, trail).await? {
        Some(Outcome::Parked(id, why)) => tell_parked(pipeline, key, (id, why), trail).await,
        Some(earlier) => Ok(earlier),
        None => Err(untold()),
    }
}

/// The verdict of a delivery that was made or begun, as it was recorded ahead of it.
async fn recorded(
    pipeline: &Pipeline,
    key: &MessageKey,
    digest: &Digest,
) -> Result<Option<Verdict>, Rejection> {
    let last = pipeline.courier.last_intent(key).await.map_err(|error| {
        tracing::warn!(%error, "records unreadable");
        untold()
    })?;
    Ok(last.and_then(|last| sent(last, digest)))
}

fn untold() -> Rejection {
    Rejection::new(Reason::IdempotencyUnavailable, "whether this was delivered before cannot be told")
        .after(Duration::from_millis(500))
}

/// Parks, and leaves the verdict where a repeat on either lane finds it: with the claim, for longer than
/// reviewers can take, and as an outcome beside which the durable lane delivers nothing.
pub(super) async fn park(
    pipeline: &Pipeline,
    parking: &Parking<'_>,
    request: &Request,
    trail: &mut Trail,
) -> Result<Outcome, Rejection> {
    let decoded = parking.decoded();
    let longer = deliberated_for(decoded);
    match park::park(&*pipeline.deliberations, &pipeline.cpu, parking, request, trail).await? {
        Outcome::Parked(id, why) => {
            keep_for(trail, longer);
            tell_parked(pipeline, decoded.key(), (id, why), trail).await
        }
        other => Ok(other),
    }
}

async fn tell_parked(
    pipeline: &Pipeline,
    key: &MessageKey,
    (id, why): (DeliberationId, String),
    trail: &Trail,
) -> Result<Outcome, Rejection> {
    let Answer { verdict, .. } = trail.answer(Ok(Outcome::Parked(id.clone(), why.clone())));
    let notice = Notice {
        key: key.clone(),
        to: key.sender.clone(),
        stage: OutcomeStage::Governed,
        after: 0,
        not_after: trail.deadline(),
        digest: trail.digest(),
        verdict,
        encoding: pipeline.inbox_encoding(&key.tenant, &key.sender),
    };
    // What stands already is of a `submit` of this id.
    pipeline.lane.outcome(notice).await.map_err(stored::unavailable)?;
    Ok(Outcome::Parked(id, why))
}

/// What was submitted and parked is not let through by a `send` either: that finds this verdict.
pub(super) async fn remember(
    pipeline: &Pipeline,
    decoded: &governance::Decoded,
    (id, why): (DeliberationId, String),
    trail: &Trail,
) -> Result<Outcome, Rejection> {
    let (key, digest, store) = (decoded.key(), decoded.digest(), &pipeline.idempotency);
    match store.claim(key, digest).await.map_err(unavailable)? {
        Claim::Mine { token } => {
            let Answer { verdict, .. } = trail.answer(Ok(Outcome::Parked(id.clone(), why.clone())));
            let bytes = wire::encode_verdict(&verdict, Encoding::MessagePack);
            let longer = deliberated_for(decoded);
            store.settle(key, digest, token, &bytes, longer).await.map_err(unavailable)?;
        }
        // Sent before: that has a verdict of its own, or is about to. The doubt about it stays.
        Claim::TakenOver { token } => store.release(key, token).await.map_err(unavailable)?,
        Claim::Pending { .. } | Claim::Settled { .. } | Claim::Conflict | Claim::Doubtful => {}
    }
    Ok(Outcome::Parked(id, why))
}

/// How long its reviewers have, from now, at most.
fn deliberated_for(decoded: &governance::Decoded) -> Duration {
    decoded.tenant().deliberation.terms(decoded.message().message_type).timeout
}

/// Lets the verdict of what the trail has claimed be kept beyond the window.
pub(super) fn keep_for(trail: &mut Trail, longer: Duration) {
    if let Some(claim) = trail.take_claim() {
        trail.claimed(Claimed { longer, ..claim });
    }
}

/// The verdict of a message that a node has sent before it died, if the last record of a claim's
/// holder says so. A record of another content is of an earlier use of the id.
fn sent(last: Recorded, digest: &Digest) -> Option<Verdict> {
    let intent = last.kind == RecordKind::Intent && last.digest.as_ref() == Some(digest);
    intent.then(|| told_by_record(last.verdict))
}

/// A verdict that rests on the record of a node that stopped before it could confirm it.
fn told_by_record(verdict: Verdict) -> Verdict {
    let detail = format!("{}, as {} recorded before it stopped", verdict.detail, verdict.node);
    Verdict { detail, ..verdict }
}

/// Settles or gives back what the trail has claimed, after the verdict is known and without keeping
/// the sender waiting. Unless it is a repeat, the message counts for its sender from here on.
pub(super) fn conclude(
    store: &Arc<dyn Idempotency>,
    tasks: &TaskTracker,
    trail: &mut Trail,
    answer: &Answer,
) {
    trail.count_after_claim(answer);
    let Some(Claimed { key, digest, token, longer }) = trail.take_claim() else { return };
    // The slot goes along, so that work that waits for the store counts as in flight.
    let slot = trail.release_slot();
    let store = Arc::clone(store);
    let verdict = answer.verdict.clone();
    tasks.spawn(async move {
        let done = match verdict.reason {
            // It may have been delivered or not: the lease runs out, and the next claim finds out.
            Reason::TimedOut => Ok(()),
            _ if lasting(&verdict) => {
                let bytes = wire::encode_verdict(&verdict, Encoding::MessagePack);
                store.settle(&key, &digest, token, &bytes, longer).await
            }
            _ => store.release(&key, token).await,
        };
        if let Err(error) = done {
            tracing::warn!(%error, "verdict not stored");
        }
        drop(slot);
    });
}

/// Whether every repeat must hear the same: because something was done, or because it was judged.
/// Other rejections follow from the message's bytes, or may pass, as that of a message that found the
/// model busy.
pub(super) fn lasting(verdict: &Verdict) -> bool {
    matches!(
        verdict.reason,
        Reason::Delivered | Reason::Deliberating | Reason::PolicyDenied | Reason::NoReviewers
    )
}

fn stored(bytes: &[u8]) -> Option<Verdict> {
    wire::decode_verdict(bytes).inspect_err(|error| tracing::error!(%error, "stored verdict unreadable")).ok()
}

fn unreadable() -> StoreError {
    StoreError::Unexpected { found: "a verdict that cannot be read".to_owned() }
}

fn unavailable(error: StoreError) -> Rejection {
    tracing::warn!(%error, "idempotency store unavailable");
    Rejection::new(
        Reason::IdempotencyUnavailable,
        "whether this is a repeat cannot be told at the moment, so it is not delivered",
    )
    .after(Duration::from_millis(500))
}
