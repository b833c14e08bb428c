//! What nodes share: the registry of live agents and the record of what was already decided.
//!
//! Traits here, implementations in `state/`; `app` alone names one. Every implementation passes the
//! same contract suite (`tests/it/state.rs`).

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::domain::{AgentId, AgentRecord, CapabilityId, MessageId, TenantId};

pub mod memory;
pub mod redis;

/// Why a store gave no answer. "Could not ask" only: an absent entry is not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    #[error("no answer from the store within {limit:?}")]
    Timeout { limit: Duration },
    #[error("the store is not reachable")]
    Disconnected,
    /// The store answered with something this version does not understand.
    #[error("unexpected answer from the store: {found}")]
    Unexpected { found: String },
}

/// Live agents, per tenant. An entry lives for a time to live and is renewed by heartbeats.
///
/// Ownership: an entry belongs to the NATS user whose id it bears; callers pass the stamped sender
/// as `record.id`, so another's entry cannot be touched.
#[async_trait]
pub trait Registry: Send + Sync {
    /// Adds or replaces the agent's entry, unless it is new and the tenant has `agents_max` already.
    async fn register(
        &self,
        tenant: &TenantId,
        record: &AgentRecord,
        agents_max: usize,
    ) -> Result<Registration, StoreError>;

    /// Renews the agent's time to live. `false`: not registered (any more).
    async fn heartbeat(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError>;

    /// `false`: was not registered.
    async fn unregister(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError>;

    async fn agent(&self, tenant: &TenantId, agent: &AgentId)
    -> Result<Option<Arc<AgentRecord>>, StoreError>;

    /// The live holders of a capability, sorted by id.
    async fn holders(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
    ) -> Result<Arc<Vec<AgentId>>, StoreError>;

    /// All live agents of the tenant, sorted by id.
    async fn agents(&self, tenant: &TenantId) -> Result<Arc<Vec<AgentId>>, StoreError>;
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// New, or known and replaced; renew within the time to live.
    Registered { ttl: Duration },
    /// The tenant has as many agents as it may have.
    QuotaExceeded { agents: usize },
}

/// Who sent which message: the key under which a message has one outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MessageKey {
    pub tenant: TenantId,
    pub sender: AgentId,
    pub message: MessageId,
}

/// One outcome for each message within a window, across all nodes.
///
/// A node claims a message just before the effect, and settles it with the verdict after. A claim
/// that is neither settled nor released within its lease can be taken over; the taker must find out
/// by other means whether the effect happened (see `bus::records`).
#[async_trait]
pub trait Idempotency: Send + Sync {
    /// Exactly one of any number of concurrent callers gets `Claim::Mine`.
    async fn claim(&self, key: &MessageKey, digest: &Digest) -> Result<Claim, StoreError>;

    /// Stores the verdict for the rest of the window. Only the claim's holder can; a token that is
    /// no longer the current one changes nothing.
    async fn settle(&self, key: &MessageKey, token: ClaimToken, verdict: &[u8]) -> Result<(), StoreError>;

    /// Gives the claim back, as if it had never been made.
    async fn release(&self, key: &MessageKey, token: ClaimToken) -> Result<(), StoreError>;
}

/// SHA-256 of a message's canonical form.
pub type Digest = [u8; 32];

/// Proves that a claim is the current one. Unique per claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimToken(pub u64);

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller may act, and must settle or release.
    Mine { token: ClaimToken },
    /// The caller may act, but an earlier holder's lease ran out: it may have acted already.
    TakenOver { token: ClaimToken },
    /// Another holder is acting now; its lease runs this long.
    Pending { lease_left: Duration },
    /// Decided before: the stored verdict.
    Settled { verdict: Vec<u8> },
    /// The id was used before, for another content.
    Conflict,
}
