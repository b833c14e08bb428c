//! What went wrong with the last real work of a kind? Gone with the next that goes well, or when it is long ago.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const TOLD_FOR: Duration = Duration::from_secs(30);

/// The last failure, unless something has gone well since.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<(Instant, String)>>);

impl Trouble {
    pub fn begins(&self, why: String) {
        *self.0.lock() = Some((Instant::now(), why));
    }

    pub fn is_over(&self) {
        *self.0.lock() = None;
    }

    /// What it is, for people.
    pub fn problem(&self) -> Option<String> {
        self.0.lock().as_ref().filter(|(at, _)| at.elapsed() <= TOLD_FOR).map(|(_, why)| why.clone())
    }
}
