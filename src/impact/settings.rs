//! What can be configured of the impact? Defaults and bounds of `[impact]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::domain::Weights;

/// Words lift what only reports like all else: its type is the sender's own word.
pub const LIFT_ALL: f64 = 1.0;

/// How the assessor weighs, how many senders it remembers, and how it uses the model.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub scorer: ScorerKind,
    /// Absent: the model within the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_dir: Option<PathBuf>,
    /// Folders of guards that are asked beside it.
    #[serde(deserialize_with = "folders")]
    pub guards: Vec<PathBuf>,
    /// Files of heads that tenants name in their limits, by that name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub heads: BTreeMap<String, PathBuf>,
    /// Of each guard.
    pub guard_threads: usize,
    pub precision: Precision,
    /// 0: one less than the machine has cores, at least 1.
    pub threads: usize,
    /// Niceness of these threads and of those that read large texts, 0 to 19 (Linux): how far the rest of the node goes first.
    pub nice: u8,
    /// Each of these threads has one beside it that runs only where nothing else of the machine wants the core (Linux).
    pub idle: bool,
    /// Messages that wait for the model at one time.
    pub queue: usize,
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Where nobody waits for the verdict.
    #[serde(with = "humantime_serde")]
    pub long_deadline: Duration,
    pub cache_entries: u64,
    /// Full windows that one message may fill where its sender waits; one that has more is not scored.
    pub windows_max: usize,
    /// The same where nobody waits.
    pub long_windows_max: usize,
    /// One message in so many that need no model is scored all the same; 0: none.
    pub audit_every: u64,
    /// Senders whose past is kept, the least recently heard are forgotten first. About 1 KiB each.
    pub senders_max: u64,
    /// How far words may lift a message that asks for nothing, 0 to 1.
    pub report_lift_max: f64,
    pub weights: Weights,
}

/// Who waits for a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A sender, for its verdict.
    RoundTrip,
    /// Who asks or is asked, so long at most: what is too long for a round trip is read as where nobody waits.
    Within(Duration),
    /// Nobody: what is governed by itself takes the time that its text needs.
    Lane,
}

/// How much of a message is read, and how long its score may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Full windows.
    pub windows: usize,
    /// From asking to giving up.
    pub deadline: Duration,
}

impl Settings {
    pub fn room(&self, patience: Patience) -> Room {
        let brief = Room { windows: self.windows_max, deadline: self.deadline };
        let long = Room {
            windows: self.long_windows_max.max(self.windows_max),
            deadline: self.long_deadline.max(self.deadline),
        };
        patience.room(brief, long)
    }
}

impl Patience {
    /// Which room it has, of that of a round trip and that of the durable lane.
    pub(super) fn room(self, brief: Room, long: Room) -> Room {
        match self {
            Patience::RoundTrip => brief,
            Patience::Within(limit) => Room { deadline: limit.min(long.deadline), ..long },
            Patience::Lane => long,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScorerKind {
    Model,
    Keywords,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    // The fastest that the processor has.
    #[default]
    Auto,
    F32,
    Bf16,
    Int8,
}

#[cfg(feature = "model")]
impl Precision {
    /// As a model takes it.
    pub fn asked(self) -> Option<super::model::Precision> {
        use super::model::Precision as Asked;
        match self {
            Precision::Auto => None,
            Precision::F32 => Some(Asked::F32),
            Precision::Bf16 => Some(Asked::Bf16),
            Precision::Int8 => Some(Asked::Int8),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            scorer: if cfg!(feature = "model") { ScorerKind::Model } else { ScorerKind::Keywords },
            model_dir: None,
            guards: Vec::new(),
            heads: BTreeMap::new(),
            guard_threads: 1,
            precision: Precision::Auto,
            threads: 0,
            nice: 5,
            idle: false,
            queue: 256,
            deadline: Duration::from_millis(500),
            long_deadline: LONG_DEADLINE_MAX,
            cache_entries: 65_536,
            // 410 ms of a thread by AVX2, the slowest kernels of int8; the deadline is 500.
            windows_max: 24,
            // 19.6 s of such a thread; the deadline is 20.
            long_windows_max: 1_152,
            audit_every: 1_000,
            senders_max: 65_536,
            report_lift_max: LIFT_ALL,
            weights: Weights::default(),
        }
    }
}

/// For a score where nobody waits: an attempt on the durable lane has an end.
pub const LONG_DEADLINE_MAX: Duration = Duration::from_secs(20);

/// Most heads beside the model's own: each has a thread.
pub const HEADS_MAX: usize = 16;

/// Most guards of a node: each has threads and a copy of its weights.
pub const GUARDS_MAX: usize = 4;

/// A list; from the environment or a flag, names with commas between them.
fn folders<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<PathBuf>, D::Error> {
    #[derive(serde::Deserialize)]
    #[serde(untagged, expecting = "a list of folders")]
    enum Folders {
        Text(String),
        List(Vec<PathBuf>),
    }
    Ok(match serde::Deserialize::deserialize(deserializer)? {
        Folders::Text(text) => {
            text.split(',').map(str::trim).filter(|it| !it.is_empty()).map(PathBuf::from).collect()
        }
        Folders::List(list) => list,
    })
}
