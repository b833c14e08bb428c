//! Why is there no score? And what was seen on the way to one, for the numbers a node shows.

use std::time::Duration;

/// Why there is no score. Not a low score: an unscored message may be severe.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unscored {
    #[error("the model did not answer within {limit:?}")]
    TimedOut { limit: Duration },
    #[error("{waiting} messages wait for the model already")]
    Busy { waiting: usize },
    #[error("its text is {windows} windows of the model long, at most {max} are read")]
    TooLong { windows: usize, max: usize },
    #[error("the scorer answered {found}, expected 0 to 1")]
    OutOfRange { found: f64 },
    /// The cause is in the log.
    #[error("the model failed on it")]
    Failed,
    #[error("this node has no model that works")]
    NoModel,
    #[error("this node is stopping")]
    Stopping,
}

impl Unscored {
    pub const WORDS: &[&str] =
        &["timed_out", "busy", "too_long", "out_of_range", "failed", "no_model", "stopping"];

    /// A stable word, in verdicts and as a label.
    pub fn word(&self) -> &'static str {
        match self {
            Unscored::TimedOut { .. } => "timed_out",
            Unscored::Busy { .. } => "busy",
            Unscored::TooLong { .. } => "too_long",
            Unscored::OutOfRange { .. } => "out_of_range",
            Unscored::Failed => "failed",
            Unscored::NoModel => "no_model",
            Unscored::Stopping => "stopping",
        }
    }
}

/// One thing that happened on the way to a score.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// No words could have changed the verdict.
    NotNeeded,
    /// A message that needed no model was scored all the same, to see that it did not.
    Audited {
        differed: bool,
    },
    Unscored {
        why: &'static str,
    },
    CacheHit,
    CacheMiss,
    /// A text waits; so many do now.
    Queued {
        waiting: usize,
    },
    /// A text waits no longer.
    Taken {
        waiting: usize,
        waited: Duration,
    },
    /// A text whose answer nobody waits for any more was not run.
    Skipped,
    /// One forward pass.
    Ran {
        texts: usize,
        tokens: usize,
        took: Duration,
    },
    /// A panic was caught, and the thread began anew.
    Restarted,
}

/// Whoever counts what is seen. Called from any thread, and never waits.
pub trait Meter: Send + Sync {
    fn see(&self, event: Event);
}

/// For tests and benchmarks, where nobody counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn see(&self, _: Event) {}
}
