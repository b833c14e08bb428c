//! What a node says of itself, to an operator who looks at the whole fleet.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::breakers::Standing;

/// A node at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: String,
    pub version: String,
    pub uptime_s: u64,
    pub level: Level,
    /// Parts that are up count 1, degraded ones ½, of all: 0 to 1.
    pub score: f64,
    /// What is not up, and why.
    pub parts: BTreeMap<String, PartStatus>,
    /// Its breakers that keep calls away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakers: Vec<Standing>,
    /// Revision of the policy in force.
    pub policy: String,
    /// What the words are scored with.
    pub model: String,
    /// Hashes in force, by commas.
    pub constitutions: String,
    /// How far its clock is ahead of the one that it differs from most; absent if nobody has told the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_ahead_ms: Option<i64>,
    pub in_flight: u64,
    /// Messages that wait on the durable lanes of all tenants, as it has heard last.
    pub waiting: i64,
    /// Since it began.
    pub requests: u64,
    /// Of those, refused or shed.
    pub refused: u64,
    /// Requests a second, over the last 10 s.
    pub per_second: f64,
    /// In RAM; 0 where the system does not say.
    pub memory_bytes: u64,
    /// What it may have, or its machine has; 0 where nobody says.
    #[serde(default)]
    pub memory_limit_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStatus {
    pub state: String,
    pub note: String,
    /// The part that it is not up for; absent: for a reason of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub because_of: Option<String>,
}

/// How well a node is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// All of it is up.
    Healthy,
    /// It works with less than all.
    Degraded,
    /// It takes no requests, or hardly anything of it is up.
    Critical,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }
}

/// Who knows how the node is. Never waits.
pub trait StatusSource: Send + Sync {
    fn status(&self) -> NodeStatus;
}
