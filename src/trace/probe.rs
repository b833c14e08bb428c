//! What happens for a message on other threads, and how long does it take?
//!
//! Whoever works for it there finds the message's probe by [`probe`], as long as it was asked within [`Probe::within`].

use std::{future::Future, sync::Arc, time::Instant};

use parking_lot::Mutex;

use super::Attribute;

/// Of one message.
const TIMINGS_MAX: usize = 16;

/// A piece of work on another thread.
#[derive(Debug, Clone, PartialEq)]
pub struct Timing {
    pub name: &'static str,
    pub started: Instant,
    pub ended: Instant,
    pub attributes: Vec<Attribute>,
}

/// Collects what was done for one message. Clones collect together.
#[derive(Debug, Clone, Default)]
pub struct Probe(Arc<Mutex<Vec<Timing>>>);

tokio::task_local! {
    static PROBE: Probe;
}

/// That of the message for which this task works; `None`: nobody asks.
pub fn probe() -> Option<Probe> {
    PROBE.try_with(Probe::clone).ok()
}

impl Probe {
    /// What is begun by this future is told to this probe.
    pub async fn within<T>(&self, working: impl Future<Output = T>) -> T {
        PROBE.scope(self.clone(), working).await
    }

    pub fn add(&self, timing: Timing) {
        let mut timings = self.0.lock();
        if timings.len() < TIMINGS_MAX {
            timings.push(timing);
        }
    }

    /// All so far.
    pub fn take(&self) -> Vec<Timing> {
        std::mem::take(&mut self.0.lock())
    }
}
