//! Which messages are told of? At the head, a share of the traces; at the end, whatever went wrong, waits for people or
//! was slow.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use moka::sync::Cache;

use super::TraceContext;
use crate::recent::recent;

/// Messages a second that are told of one tenant: who samples all of its own, or floods, takes nobody else's room.
const SHARE_A_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(199);
const TENANTS_MAX: u64 = 4_096;
/// Of a trace id, the bits that are random by all of W3C's levels.
const RANDOM_BITS: u32 = 56;

/// What is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sampling {
    /// Of the traces that begin here, 0 to 1.
    pub ratio: f64,
    /// From this on a message is slow.
    pub slow: Duration,
}

/// How a message has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub failed: bool,
    pub parked: bool,
    pub took: Duration,
}

pub(super) struct Sampler {
    /// Of the random bits of a trace id, from this on it is sampled.
    from: u64,
    slow: Duration,
    shares: Cache<String, Arc<DefaultDirectRateLimiter>>,
}

impl Sampler {
    pub(super) fn new(Sampling { ratio, slow }: Sampling) -> Self {
        let all = 1_u64 << RANDOM_BITS;
        // Rounded, and within bounds: 56 bits are more than a double has.
        let left_out = ((1.0 - ratio.clamp(0.0, 1.0)) * all as f64) as u64;
        Self { from: left_out, slow, shares: recent(TENANTS_MAX).build() }
    }

    /// All nodes choose the same traces.
    pub(super) fn samples(&self, context: TraceContext) -> bool {
        let random = context.trace_id.0 as u64 & ((1 << RANDOM_BITS) - 1);
        random >= self.from
    }

    pub(super) fn keeps(&self, Ended { failed, parked, took }: Ended) -> bool {
        failed || parked || took >= self.slow
    }

    /// Whether the tenant has something left of its share.
    pub(super) fn has_room(&self, tenant: &str) -> bool {
        let share = self.shares.get(tenant).unwrap_or_else(|| {
            let new = || Arc::new(RateLimiter::direct(Quota::per_second(SHARE_A_SECOND)));
            self.shares.get_with_by_ref(tenant, new)
        });
        share.check().is_ok()
    }
}
