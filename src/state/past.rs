//! What do nodes tell each other of a sender's recent past? How often it sent and how it was scored.
//!
//! Nothing here has a time of day: a node says how many seconds ago something was, by its own clock,
//! and hears the same. So clocks may differ by any amount; only their pace must agree.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{AgentId, TenantId};

/// Seconds for which a message counts: a window of a minute, and the second that has begun.
pub const PAST_SECONDS: u64 = 61;
/// Semantic scores that are kept of a sender.
pub const PAST_SCORES: usize = 20;

/// A sender of whom nothing is heard for so long is forgotten.
pub const SCORES_LIFE: Duration = Duration::from_secs(3_600);

/// Each sender's past, as all nodes together have seen it.
///
/// Counts are forgotten when they leave the window, scores with the whole sender.
#[async_trait]
pub trait SenderHistoryStore: Send + Sync {
    /// Adds what a node has seen and tells what all have. Answers or gives up within a time of its
    /// own; what was not answered may have been heard, and is added once however often it is told.
    async fn share(&self, tenant: &TenantId, sender: &AgentId, seen: &Seen) -> Result<Shared, StoreError>;
}

/// What one node has seen and not told yet.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Seen {
    /// Names the node's process.
    pub teller: u64,
    /// Larger with each telling of new facts; the same for the same facts. 0: nothing to tell.
    pub sequence: u64,
    pub messages: Vec<Count>,
    /// Semantic scores, oldest first, at most [`PAST_SCORES`].
    pub scores: Vec<f64>,
    /// Of the scores: pasts on different scales do not mix. At most 32 bytes of ASCII.
    pub scale: Arc<str>,
}

/// What all nodes have seen.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shared {
    /// The last of the teller's own sequences that is in this; 0 if none is, of late.
    pub applied: u64,
    pub messages: Vec<Count>,
    /// The last semantic scores, oldest first, at most [`PAST_SCORES`].
    pub scores: Vec<f64>,
}

/// Messages of one second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Seconds ago, below [`PAST_SECONDS`].
    pub age: u64,
    pub messages: u64,
}
