//! How fast does this machine run the model at its best? What would take too long even then need not be tried.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The fewest nanoseconds for a token of any pass so far.
pub(super) struct Pace(AtomicU64);

impl Pace {
    pub(super) fn unknown() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    pub(super) fn saw(&self, tokens: usize, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.0.fetch_min(nanos / u64::try_from(tokens.max(1)).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What so many tokens take at least; nothing as long as no pass was seen.
    pub(super) fn least(&self, tokens: usize) -> Duration {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => Duration::ZERO,
            nanos => Duration::from_nanos(nanos.saturating_mul(u64::try_from(tokens).unwrap_or(u64::MAX))),
        }
    }
}
