//! May a sender have more stored in its tenant's durable inboxes? While it has less there than is left.
//!
//! How full the stream is says the server, once a second. Whose it is the node remembers of what it has let in: what
//! another node let in, or this one before it was started, is nobody's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::jetstream::Context;
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::{
    domain::{AgentId, TenantId},
    lanes::LaneError,
    shares::Room,
    state::MessageKey,
    tenants::names,
};

/// How long a stream is taken to be as full as it was, and what was let in since.
const COUNT_FOR: Duration = Duration::from_secs(1);
const TENANTS_MAX: u64 = 65_536;
/// Senders of all tenants; who was heard least recently is forgotten first.
const SENDERS_MAX: u64 = 65_536;
/// What a message takes in the stream besides its payload, about: its headers, its subject, and the outcome that its
/// sender is told.
const BESIDES: u64 = 2_048;

/// What is stored, and for whom.
pub(super) struct InboxRoom {
    context: Context,
    filled: Cache<TenantId, Arc<OnceCell<Filled>>>,
    held: Cache<(TenantId, AgentId), Arc<Mutex<Held>>>,
}

/// A tenant's stream.
struct Filled {
    bytes: AtomicU64,
    bytes_max: u64,
    /// What is stored leaves after this.
    age: Duration,
}

impl InboxRoom {
    pub(super) fn new(context: Context) -> Self {
        let filled = Cache::builder().max_capacity(TENANTS_MAX).time_to_live(COUNT_FOR).build();
        let held = Cache::builder().max_capacity(SENDERS_MAX).eviction_policy(EvictionPolicy::lru()).build();
        Self { context, filled, held }
    }

    /// Counts what a message of so many bytes will take, if there is room for it. Those who ask at one time share one
    /// look at the stream. Where JetStream does not say, the store itself will.
    pub(super) async fn take(&self, key: &MessageKey, bytes: usize) -> Result<(), LaneError> {
        let tenant = &key.tenant;
        let cell = self.filled.get_with(tenant.clone(), Arc::default);
        let Some(filled) = cell.get_or_try_init(|| self.look(tenant)).await.ok() else {
            self.filled.invalidate(tenant);
            return Ok(());
        };
        let held = self.held.get_with((tenant.clone(), key.sender.clone()), Arc::default);
        let more = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(BESIDES);
        filled.take(&mut held.lock(), more, Instant::now())
    }

    async fn look(&self, tenant: &TenantId) -> Result<Filled, ()> {
        let stream = self.context.get_stream(names::outbound_stream(tenant)).await.map_err(|error| {
            tracing::debug!(%error, %tenant, "how full its inboxes are is not known");
        })?;
        let info = stream.cached_info();
        // Without a bound, and as nobody provisions it, less than 0.
        let bytes_max = u64::try_from(info.config.max_bytes).unwrap_or(u64::MAX);
        Ok(Filled { bytes: info.state.bytes.into(), bytes_max, age: info.config.max_age })
    }
}

impl Filled {
    fn take(&self, held: &mut Held, more: u64, now: Instant) -> Result<(), LaneError> {
        let places = usize::MAX;
        let taken = Room { places: 0, bytes: self.bytes.load(Ordering::Relaxed) };
        let left = Room { places, bytes: self.bytes_max }.ordinary().left(taken);
        if left.bytes < more {
            let detail = "the rest is for what reviewers approve, and for outcomes";
            return Err(LaneError::Full(format!("{} of {} bytes: {detail}", taken.bytes, self.bytes_max)));
        }
        let holds = held.bytes(now, self.age);
        if (Room { places: 0, bytes: holds }).is_share(left) {
            return Err(LaneError::ShareStored { held: holds, left: left.bytes });
        }
        held.recent = held.recent.saturating_add(more);
        self.bytes.fetch_add(more, Ordering::Relaxed);
        Ok(())
    }
}

/// What a sender has let into inboxes within the age of what is stored there, and at most as long before.
#[derive(Default)]
struct Held {
    /// Since then it is `recent`.
    since: Option<Instant>,
    recent: u64,
    before: u64,
}

impl Held {
    fn bytes(&mut self, now: Instant, age: Duration) -> u64 {
        let since = *self.since.get_or_insert(now);
        if !age.is_zero() && now.duration_since(since) >= age {
            let gone = now.duration_since(since) >= age * 2;
            self.before = if gone { 0 } else { self.recent };
            (self.since, self.recent) = (Some(now), 0);
        }
        self.recent.saturating_add(self.before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AGE: Duration = Duration::from_secs(100);

    fn filled(bytes: u64) -> Filled {
        Filled { bytes: bytes.into(), bytes_max: 1_000, age: AGE }
    }

    #[test]
    fn one_sender_gets_half_of_what_is_not_kept_and_another_half_of_the_rest() {
        let (filled, now) = (filled(0), Instant::now());
        let (mut one, mut other) = (Held::default(), Held::default());
        let given = |held: &mut Held| (0..1_000).take_while(|_| filled.take(held, 1, now).is_ok()).count();
        assert_eq!((given(&mut one), given(&mut other)), (450, 225));
        assert_eq!(filled.take(&mut one, 1, now), Err(LaneError::ShareStored { held: 450, left: 225 }));
    }

    #[test]
    fn where_only_what_is_kept_is_left_nobody_is_told_that_it_has_too_much() {
        let (full, now) = (filled(900), Instant::now());
        let told = full.take(&mut Held::default(), 1, now);
        assert!(
            matches!(&told, Err(LaneError::Full(why)) if why.starts_with("900 of 1000 bytes")),
            "{told:?}"
        );
    }

    #[test]
    fn what_a_sender_had_stored_counts_until_it_is_too_old_to_be_there() {
        let began = Instant::now();
        let at = |ages: u32| began + AGE * ages;
        let mut held = Held::default();
        assert_eq!(filled(0).take(&mut held, 450, at(0)), Ok(()));
        assert!(filled(0).take(&mut held, 1, at(0) + AGE / 2).is_ok(), "as much is left as it has");
        assert_eq!(held.bytes(at(1), AGE), 451);
        assert_eq!(held.bytes(at(2), AGE), 0);
    }
}
