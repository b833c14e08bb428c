//! How much harm a message could do if it is wrong, from 0 to 1, with its parts.

/// Of harm that a text can do if it is acted upon: 0 reads or computes, 1 small and reversible, 2 money, the
/// outside, deletion, rights, production, 3 plainly harmful.
pub const LEVELS: usize = 4;

/// The score and where it came from. Every part is in 0..=1; `score` is the weighted mean with the
/// floors applied (`docs/impact.md`).
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Impact {
    /// Where the words were not read: the least that any words could have made of it.
    pub score: f64,
    /// Where the words were not read: the most that any words could have made of it.
    pub score_max: Option<f64>,
    /// Of the score; where the words were not read, of the most that it could be.
    pub level: Level,
    pub parts: Parts,
    /// How likely each level of harm is, 0 to 3, to three digits. Absent where the scorer knows no levels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<[f64; LEVELS]>,
    /// What gave the semantic part: `keywords`, a model's name and digest, or [`NOT_NEEDED`].
    pub model: String,
    /// Why the words were not read although it mattered, as a stable word.
    pub unscored: Option<String>,
    /// Tokens that models have read for it, now; for the usage alone.
    #[serde(skip)]
    pub tokens: u64,
}

/// Stands for the model where no words could have changed the verdict, so that none was asked.
pub const NOT_NEEDED: &str = "not needed";

/// The seven parts of the impact formula (`origin.md`, "Impact").
#[derive(Debug, Clone, Copy, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Parts {
    /// Absent where the words were not read.
    pub semantic: Option<f64>,
    pub permission: f64,
    pub volume: f64,
    pub context: f64,
    /// Absent where the words were not read: it is the semantic part's distance from the past.
    pub drift: Option<f64>,
    pub priority: f64,
    pub message_type: f64,
}

/// The score as a word for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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
