//! Who decides on a parked message, by which rule, and when is it decided? Pure functions over a log of
//! events, and the log as a trait.
//!
//! A deliberation is its log: [`Case::replay`] adds the events up, [`Case::vote`] and [`Case::tick`] say
//! which event comes next. Whoever appends an event names the version of the log it has read
//! (compare-and-set), so of two nodes that decide at the same instant one wins and the other reads again.
//! Knows nothing of NATS and of delivering.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    domain::{DeliberationId, Event, MessageType, Parked, Priority, Recipient, TenantId},
    state::MessageKey,
};

mod case;
mod electorate;
pub mod learning;
pub mod lessons;
mod rules;

pub use case::{COMMENT_BYTES_MAX, Case, Conclusion, Decision, ReplayError, VoteRefused};
pub use electorate::{Electorate, NoReviewers, VOTERS_MAX, electorate};
pub use rules::Tally;

/// The deliberation of a message, the same whenever it is asked for: a repeat finds the first one.
pub fn id_of(key: &MessageKey) -> DeliberationId {
    use sha2::{Digest as _, Sha256};
    let mut digest = Sha256::new();
    for part in [key.tenant.as_str(), key.sender.as_str(), key.message.as_str()] {
        // Identifiers are ASCII without this separator.
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let hash: [u8; 32] = digest.finalize().into();
    let hex = hex::encode(hash.get(..12).unwrap_or_default());
    #[allow(clippy::expect_used, reason = "24 hex digits are an id")]
    hex.parse().expect("24 hex digits")
}

/// Where the logs are kept. `nats::Deliberations` is the one over JetStream.
#[async_trait]
pub trait DeliberationLog: Send + Sync {
    /// Begins a log, if it is not there already. Returns when it is kept.
    async fn park(&self, parked: &Parked, priority: Priority) -> Result<Appended, LogError>;

    async fn load(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<Case>, LogError>;

    /// Adds an event to the log that `case` was read from, unless somebody has added one since.
    async fn append(&self, case: &Case, event: &Event) -> Result<Appended, LogError>;

    /// Those of a tenant that are not decided, oldest first, at most `limit`.
    async fn open(&self, tenant: &TenantId, limit: usize) -> Result<Vec<Arc<Summary>>, LogError>;
}

/// An open deliberation without its message.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// `parked.message` is empty.
    pub case: Case,
    /// The stream's sequence of its first event: the order of lists.
    pub place: u64,
    pub message_type: MessageType,
    pub to: Recipient,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    Now,
    /// The log was longer than the caller knew: read again.
    Conflict,
}

/// Why the log did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It may be appended or not.
    #[error("JetStream did not confirm in time")]
    Unconfirmed,
    #[error("JetStream has no room for it: {0}")]
    Full(String),
    #[error("{open_max} of the tenant's messages are parked, its limit")]
    TooManyParked { open_max: usize },
    /// Others have nothing or little, and would find no room.
    #[error("the sender has {held} of the tenant's parked messages, and {left} places are left")]
    ShareParked { held: usize, left: usize },
    #[error("JetStream refused: {0}")]
    Refused(String),
    #[error("{bytes} bytes are more than the {limit} that a record of a parked message may have")]
    TooLarge { bytes: usize, limit: usize },
    #[error("the log cannot be read: {0}")]
    Unreadable(String),
    /// JetStream has answered, and no thread of this node has read it in time.
    #[error("the node has too much to compute")]
    NotComputed,
    /// It has not answered of late, and was not asked.
    #[error("its breaker is open")]
    BreakerOpen { retry_after: Duration },
}

#[cfg(test)]
mod walk;
