//! One outcome for each message: repeats get the stored verdict, on whichever node they arrive.
//!
//! A message is claimed just before its effect and settled with its verdict after. A node that dies
//! in between leaves a claim without a verdict; whoever takes it over learns from the record that
//! was sent ahead of the delivery whether there was one.

use std::{sync::Arc, time::Duration};

use rand::Rng as _;
use tokio_util::task::TaskTracker;

use super::{
    Answer, Pipeline,
    keep::Told,
    trail::{Judged, Outcome, Trail},
};
use crate::{
    domain::{Encoding, Reason, Verdict},
    rejection::Rejection,
    state::{Claim, ClaimToken, Digest, Idempotency, MessageKey, StoreError},
    wire::{self, Decoded, RecordKind, Recorded},
};

/// A message that this node has claimed.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    key: MessageKey,
    token: ClaimToken,
}

/// The stored verdict if this is a repeat; else the message is claimed, and the trail knows.
///
/// What goes no further is claimed as well: an earlier attempt may have gone further.
pub(super) async fn enter(
    pipeline: &Pipeline,
    letter: &Decoded,
    judged: &Result<Judged, Rejection>,
    trail: &mut Trail,
) -> Result<Option<Outcome>, Rejection> {
    match (claim(pipeline, letter, trail).await, judged) {
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
    loop {
        match pipeline.idempotency.claim(&key, &letter.digest).await.map_err(unavailable)? {
            Claim::Mine { token } => {
                trail.claimed(Claimed { key, token });
                return Ok(None);
            }
            Claim::TakenOver { token } => {
                let last = pipeline.courier.last_intent(&key).await.map_err(|error| {
                    tracing::warn!(%error, "records unreadable");
                    Rejection::new(
                        Reason::IdempotencyUnavailable,
                        "whether this was delivered before cannot be told",
                    )
                    .after(Duration::from_millis(500))
                })?;
                trail.took_over();
                trail.claimed(Claimed { key: key.clone(), token });
                if let Some(verdict) = last.and_then(|last| sent(last, &letter.digest)) {
                    return Ok(Some(Outcome::Repeat(Box::new(verdict))));
                }
                // It may have taken another way than a live inbox.
                return pipeline.earlier(&key, letter, Told::Before, trail).await;
            }
            Claim::Settled { verdict } => {
                let verdict = stored(&verdict).ok_or_else(|| unavailable(unreadable()))?;
                return Ok(Some(Outcome::Repeat(Box::new(verdict))));
            }
            Claim::Conflict => {
                return Err(Rejection::new(
                    Reason::DuplicateMessage,
                    format!("message_id {} was used before for another message", key.message),
                ));
            }
            Claim::Pending { lease_left } => {
                let wait = Duration::from_millis(rand::rng().random_range(5..20));
                tokio::time::sleep(wait.min(lease_left + Duration::from_millis(1))).await;
            }
        }
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
/// the sender waiting.
pub(super) fn conclude(
    store: &Arc<dyn Idempotency>,
    tasks: &TaskTracker,
    trail: &mut Trail,
    answer: &Answer,
) {
    let Some(Claimed { key, token }) = trail.take_claim() else { return };
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
                store.settle(&key, token, &bytes).await
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
fn lasting(verdict: &Verdict) -> bool {
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
