//! What have other nodes been answered? A second tier behind the node's own cache, for questions that go to OPA servers:
//! there an answer in Redis comes sooner than one of theirs.
//!
//! It can only save a question. What is not there, not in time, not sealed by a node or not understood is a miss, counted,
//! and what is new is kept beside the message's way. A key has the revision in it, so an answer is true for as long as
//! it lives.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{Quota, RateLimiter};
use tokio::sync::{Mutex, mpsc};

use super::{
    Decision, Event, Meter,
    cache::Key,
    decision_log::{as_json, from_json},
};
use crate::{
    domain::TenantId,
    state::{SHARED_BYTES_MAX, SharedAnswers},
};

/// A message waits no longer for an answer that another node may have.
const WITHIN: Duration = Duration::from_millis(25);
/// For an answer to be kept, which nobody waits for.
const KEPT_WITHIN: Duration = Duration::from_secs(1);
/// How long an answer is there for others.
const LIFE: Duration = Duration::from_secs(600);
/// Answers that wait to be kept.
const WAITING_MAX: usize = 1_024;
/// New answers of this node a second, and at one time. With [`LIFE`] and their size that bounds what Redis holds: 150,000
/// for each node, some 60 MB, and 200 MB at the very most.
const KEPT_A_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(249);
const KEPT_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(WAITING_MAX as u32 - 1);

/// The tier as one node has it.
pub struct SharedTier {
    store: Arc<dyn SharedAnswers>,
    meter: Arc<dyn Meter>,
    inbox: mpsc::Sender<Kept>,
    /// Taken by whoever runs it.
    waiting: Mutex<mpsc::Receiver<Kept>>,
}

/// An answer to be kept.
struct Kept {
    tenant: TenantId,
    key: Key,
    decision: Arc<Decision>,
}

impl SharedTier {
    pub fn new(store: Arc<dyn SharedAnswers>, meter: Arc<dyn Meter>) -> Self {
        let (inbox, waiting) = mpsc::channel(WAITING_MAX);
        Self { store, meter, inbox, waiting: Mutex::new(waiting) }
    }

    /// What a node was answered, if that is known in time.
    pub(super) async fn get(&self, tenant: &TenantId, key: &Key) -> Option<Arc<Decision>> {
        let (found, seen) = match tokio::time::timeout(WITHIN, self.store.get(tenant, key)).await {
            Ok(Ok(Some(json))) => match std::str::from_utf8(&json).ok().and_then(|json| from_json(json).ok())
            {
                Some(decision) => (Some(Arc::new(decision)), Event::SharedHit),
                // Of another version.
                None => (None, Event::SharedUnreadable),
            },
            Ok(Ok(None)) => (None, Event::SharedMiss),
            Ok(Err(_)) | Err(_) => (None, Event::SharedUnanswered),
        };
        self.meter.see(seen);
        found
    }

    /// Never waits.
    pub(super) fn keep(&self, tenant: &TenantId, key: Key, decision: &Arc<Decision>) {
        let kept = Kept { tenant: tenant.clone(), key, decision: Arc::clone(decision) };
        if self.inbox.try_send(kept).is_err() {
            self.meter.see(Event::SharedLost);
        }
    }

    /// Keeps what is new, until the future is dropped.
    pub async fn run(&self) {
        let mut waiting = self.waiting.lock().await;
        let budget = RateLimiter::direct(Quota::per_second(KEPT_A_SECOND).allow_burst(KEPT_AT_ONCE));
        while let Some(kept) = waiting.recv().await {
            let stored = budget.check().is_ok() && self.store(&kept).await;
            self.meter.see(if stored { Event::SharedKept } else { Event::SharedLost });
        }
    }

    async fn store(&self, Kept { tenant, key, decision }: &Kept) -> bool {
        let json = as_json(decision).to_string();
        // Answers with long reasons are few, and take the room of many.
        json.len() <= SHARED_BYTES_MAX
            && tokio::time::timeout(KEPT_WITHIN, self.store.put(tenant, key, json.into_bytes(), LIFE))
                .await
                .is_ok_and(|put| put.is_ok())
    }
}
