//! A claim on a message, from just before its effect until its verdict is stored.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::admission::Slot;
use crate::{
    domain::{Encoding, Reason, Verdict},
    fault_points::{self, Step},
    state::{ClaimToken, Digest, Idempotency, MessageKey},
    wire,
};

/// A message that this node has claimed.
#[derive(Debug)]
pub(super) struct Claimed {
    pub key: MessageKey,
    pub digest: Digest,
    pub token: ClaimToken,
    /// What its verdict is kept for beyond the window.
    pub longer: Duration,
}

impl Claimed {
    /// Settles it or gives it back, after the verdict is known and without keeping the sender waiting. The
    /// slot goes along, so that work that waits for the store counts as in flight.
    pub(super) fn settle(
        self,
        store: &Arc<dyn Idempotency>,
        tasks: &TaskTracker,
        verdict: &Verdict,
        slot: Option<Slot>,
    ) {
        let Self { key, digest, token, longer } = self;
        // It may have been delivered or not: the lease runs out, and the next claim finds out.
        if verdict.reason == Reason::TimedOut {
            return;
        }
        let lasting = is_lasting(verdict).then(|| wire::encode_verdict(verdict, Encoding::MessagePack));
        let (store, recorded_ahead) = (Arc::clone(store), is_recorded_ahead(verdict));
        tasks.spawn(async move {
            let done = match lasting {
                Some(bytes) if recorded_ahead => store.settle_recorded(&key, &digest, token, &bytes).await,
                Some(bytes) => store.settle(&key, &digest, token, &bytes, longer).await,
                None => store.release(&key, token).await,
            };
            if let Err(error) = done {
                tracing::warn!(%error, "verdict not stored");
            }
            fault_points::reached(Step::Settled);
            drop(slot);
        });
    }
}

/// Whether every repeat must hear the same: because something was done, or because it was judged.
/// Other rejections follow from the message's bytes, or may pass, as that of a message that found the
/// model busy.
pub(super) fn is_lasting(verdict: &Verdict) -> bool {
    matches!(
        verdict.reason,
        Reason::Delivered
            | Reason::Stored
            | Reason::Deliberating
            | Reason::PolicyDenied
            | Reason::NoReviewers
    )
}

/// Whether its intent says the same: one agent has it in its live inbox. Of a broadcast the verdict knows more, and what is
/// stored durably is found there.
fn is_recorded_ahead(verdict: &Verdict) -> bool {
    let alone = verdict.reach.as_ref().is_some_and(|reach| reach.agent.is_some() && !reach.durable);
    verdict.reason == Reason::Delivered && alone
}
