//! What is a score, and why is there none? And what was seen on the way to one, for the numbers a node
//! shows.

use std::{sync::Arc, time::Duration};

use crate::domain::LEVELS;

/// Of English prose that is read by its sentences: four to five bytes for each token.
const WINDOW_BYTES: usize = 560;

/// How harmful words sound.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Semantic {
    /// The semantic part, 0 to 1.
    pub score: f64,
    /// How likely each level of harm is, if the scorer knows levels.
    pub levels: Option<[f64; LEVELS]>,
    /// Tokens that a model has read for it now; none where the answer was known.
    pub tokens: u64,
}

/// Of a scorer that knows no levels.
impl From<f64> for Semantic {
    fn from(score: f64) -> Self {
        Self { score, levels: None, tokens: 0 }
    }
}

impl Semantic {
    /// As a verdict shows them: to three digits.
    pub(super) fn levels_shown(self) -> Option<[f64; LEVELS]> {
        const DIGITS: f64 = 1e3;
        self.levels.map(|levels| levels.map(|level| (level * DIGITS).round() / DIGITS))
    }
}

/// Why there is no score. Not a low score: an unscored message may be severe.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unscored {
    #[error("the model did not answer within {limit:?}")]
    TimedOut { limit: Duration },
    #[error("{waiting} messages wait for the model already")]
    Busy { waiting: usize },
    #[error(
        "its text fills {windows} windows of the model or more, {max} are read: about {} bytes of prose",
        max.saturating_mul(WINDOW_BYTES)
    )]
    TooLong { windows: usize, max: usize },
    #[error("the scorer answered {found}, expected 0 to 1")]
    OutOfRange { found: f64 },
    #[error("its text takes longer than {limit:?} on this machine")]
    TooSlow { limit: Duration },
    /// The cause is in the log.
    #[error("the model failed on it")]
    Failed,
    #[error("this node has no model that works")]
    NoModel,
    #[error("this node is stopping")]
    Stopping,
    /// It has failed on the tenant's messages of late, and was not asked.
    #[error("its breaker is open")]
    BreakerOpen,
}

impl Unscored {
    pub const WORDS: &[&str] = &[
        "timed_out",
        "busy",
        "too_long",
        "too_slow",
        "out_of_range",
        "failed",
        "no_model",
        "stopping",
        "breaker_open",
    ];

    /// Whether more time would help, and nothing else is wrong.
    pub fn is_for_its_length(&self) -> bool {
        matches!(self, Unscored::TooLong { .. } | Unscored::TooSlow { .. })
    }

    /// A stable word, in verdicts and as a label.
    pub fn word(&self) -> &'static str {
        match self {
            Unscored::TimedOut { .. } => "timed_out",
            Unscored::Busy { .. } => "busy",
            Unscored::TooLong { .. } => "too_long",
            Unscored::TooSlow { .. } => "too_slow",
            Unscored::OutOfRange { .. } => "out_of_range",
            Unscored::Failed => "failed",
            Unscored::NoModel => "no_model",
            Unscored::Stopping => "stopping",
            Unscored::BreakerOpen => "breaker_open",
        }
    }
}

/// Of what is said of one text's windows the highest counts, with its levels. What is no number from 0 to 1
/// is no score, and leaves the text without one: `f64::max` would pass over a NaN. Of nothing it is 0.
pub fn highest(said: impl IntoIterator<Item = Semantic>) -> Result<Semantic, Unscored> {
    said.into_iter().try_fold(Semantic::from(0.0), |highest, found| {
        let tokens = highest.tokens.saturating_add(found.tokens);
        match found.score {
            score if !(0.0..=1.0).contains(&score) => Err(Unscored::OutOfRange { found: score }),
            score if score >= highest.score => Ok(Semantic { tokens, ..found }),
            _ => Ok(Semantic { tokens, ..highest }),
        }
    })
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

    /// As [`Meter::see`], of a guard that is asked beside the model.
    fn see_of_guard(&self, guard: &str, event: Event);
}

/// What a guard's pool and cache tell: all of it is that guard's.
pub struct OfGuard {
    guard: String,
    meter: Arc<dyn Meter>,
}

impl OfGuard {
    pub fn new(guard: &str, meter: &Arc<dyn Meter>) -> Self {
        Self { guard: guard.to_owned(), meter: Arc::clone(meter) }
    }
}

impl Meter for OfGuard {
    fn see(&self, event: Event) {
        self.meter.see_of_guard(&self.guard, event);
    }

    fn see_of_guard(&self, guard: &str, event: Event) {
        self.meter.see_of_guard(guard, event);
    }
}

/// For tests and benchmarks, where nobody counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unmetered;

impl Meter for Unmetered {
    fn see(&self, _: Event) {}

    fn see_of_guard(&self, _: &str, _: Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_window_gives_the_levels() {
        let of = |score, levels| Semantic { levels: Some(levels), ..Semantic::from(score) };
        let (calm, loud) = (of(0.1, [0.9, 0.1, 0.0, 0.0]), of(0.7, [0.1, 0.1, 0.5, 0.3]));
        for windows in [[calm, loud], [loud, calm]] {
            assert_eq!(highest(windows), Ok(loud));
        }
        assert_eq!(highest([of(0.0, [1.0, 0.0, 0.0, 0.0])]), Ok(of(0.0, [1.0, 0.0, 0.0, 0.0])));
        assert_eq!(of(0.5, [0.123_456, 0.0, 1.0, 0.999_6]).levels_shown(), Some([0.123, 0.0, 1.0, 1.0]));
    }

    #[test]
    fn what_was_read_for_all_of_them_counts() {
        let of = |score, tokens| Semantic { tokens, ..Semantic::from(score) };
        assert_eq!(highest([of(0.1, 7), of(0.3, 5), of(0.2, 3)]), Ok(of(0.3, 15)));
    }

    #[test]
    fn one_window_without_a_score_leaves_none_whatever_the_others_say() {
        let highest = |scores: &[f64]| highest(scores.iter().copied().map(Semantic::from));
        assert_eq!(highest(&[]), Ok(Semantic::from(0.0)));
        assert_eq!(highest(&[0.2, 0.9, 0.4]), Ok(Semantic::from(0.9)));
        for wrong in [f64::NAN, f64::INFINITY, -0.1, 1.1] {
            for scores in [[wrong, 0.3], [0.3, wrong], [wrong, wrong]] {
                assert!(matches!(highest(&scores), Err(Unscored::OutOfRange { .. })), "{scores:?}");
            }
        }
    }
}
