//! A claim on a message, from just before its effect until its verdict is stored.

use std::{sync::Arc, time::Duration};

use tokio_util::task::TaskTracker;

use super::admission::Slot;
use crate::{
    domain::{Encoding, Reason, Verdict},
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
        let (store, verdict) = (Arc::clone(store), verdict.clone());
        tasks.spawn(async move {
            let done = match verdict.reason {
                // It may have been delivered or not: the lease runs out, and the next claim finds out.
                Reason::TimedOut => Ok(()),
                _ if is_lasting(&verdict) => {
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
