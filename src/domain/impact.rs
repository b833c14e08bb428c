//! How much harm a message could do if it is wrong, from 0 to 1, with its parts.

/// The score and where it came from. Every part is in 0..=1; `score` is the weighted mean with the
/// floors applied (`docs/impact.md`).
#[derive(Debug, Clone, PartialEq)]
pub struct Impact {
    pub score: f64,
    pub level: Level,
    pub parts: Parts,
    /// What gave the semantic part: `keywords`, or a model's name and digest.
    pub model: String,
}

/// The seven parts of the impact formula (`origin.md`, "Impact").
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Parts {
    pub semantic: f64,
    pub permission: f64,
    pub volume: f64,
    pub context: f64,
    pub drift: f64,
    pub priority: f64,
    pub message_type: f64,
}

/// The score as a word for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Below 0.3.
    Low,
    /// Below 0.6.
    Medium,
    /// Below 0.8.
    High,
    /// 0.8 and above: the default threshold of deliberation.
    Critical,
}

impl Level {
    pub fn of(score: f64) -> Level {
        match score {
            s if s < 0.3 => Level::Low,
            s if s < 0.6 => Level::Medium,
            s if s < 0.8 => Level::High,
            // Deliberate: a score that is not a number counts as the worst.
            _ => Level::Critical,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Level::Low => "low",
            Level::Medium => "medium",
            Level::High => "high",
            Level::Critical => "critical",
        }
    }
}
