//! What do nodes tell each other of what they ask behind breakers?

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;

/// Breakers of which something is kept at one time.
pub const BREAKERS_MAX: usize = 256;

/// What all nodes have seen of late, counted by the store's clock.
///
/// Faults of one node among good calls of others open it for nobody else. Whoever could write there could have nodes
/// refuse, and never allow.
#[async_trait]
pub trait SharedBreakers: Send + Sync {
    /// Tells what this node has seen, and learns of all that have faults.
    async fn share(&self, seen: &[BreakerSeen]) -> Result<Vec<BreakerStanding>, StoreError>;
}

/// What one node has seen of one since it told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerSeen {
    /// The same on all nodes.
    pub name: String,
    pub good: u64,
    pub bad: u64,
    /// So many faults within ten seconds open it for all, where they are half of all calls.
    pub failures: u32,
    /// For so long it is open yet on this node; zero: it is closed here.
    pub open_for: Duration,
    /// A probe of this node has closed it.
    pub closed: bool,
    /// This node would try it now.
    pub due: bool,
}

/// How one is for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreakerStanding {
    pub name: String,
    /// For so long yet; zero: it is not open for all.
    pub open_for: Duration,
    /// This node is to try it, and no other does.
    pub tries: bool,
}
