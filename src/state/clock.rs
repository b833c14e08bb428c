//! What time is it, for what a process keeps in its own memory?

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Time since the clock was made, in milliseconds: the machine's monotonic clock, or one that is
/// moved by hand so that nobody has to wait for an expiry.
#[derive(Debug, Clone)]
pub struct Clock(Source);

#[derive(Debug, Clone)]
enum Source {
    Machine(Instant),
    Manual(Arc<AtomicU64>),
}

impl Clock {
    pub fn machine() -> Self {
        Self(Source::Machine(Instant::now()))
    }

    pub fn manual() -> (Self, ManualClock) {
        let now = Arc::new(AtomicU64::new(0));
        (Self(Source::Manual(Arc::clone(&now))), ManualClock(now))
    }

    pub(super) fn now(&self) -> u64 {
        match &self.0 {
            Source::Machine(start) => millis(start.elapsed()),
            Source::Manual(now) => now.load(Ordering::Acquire),
        }
    }
}

/// Moves the [`Clock`] it was made with.
#[derive(Debug)]
pub struct ManualClock(Arc<AtomicU64>);

impl ManualClock {
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(millis(by), Ordering::AcqRel);
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
