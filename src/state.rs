//! What nodes share: the registry of live agents, the record of what was already decided,
//! each sender's recent past, what conversations are labelled with, what led to
//! messages, and what is left of limits.
//!
//! Traits here, implementations in `state/`; `app` alone names one. Every implementation passes the
//! same contract suite (`tests/it/survival/state.rs`).

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;

use crate::domain::{AgentId, AgentRecord, CapabilityId, DecisionId, MessageId, TenantId};

mod breakers;
mod cache;
mod causes;
mod clock;
mod labels;
mod limits;
mod memory;
mod past;
mod redis;
mod seal;

pub use breakers::{BREAKERS_MAX, BreakerSeen, BreakerStanding, SharedBreakers};
pub use cache::{CacheLimits, CachedRegistry, Invalidator};
pub use causes::{Causes, Counted, Followed, HandedBack, Known, Name};
pub use clock::{Clock, ManualClock};
pub use labels::{ConversationLabels, Labelled};
pub use limits::{Leased, RuleAccount, SharedLimits, SharedRate};
pub use memory::MemoryStore;
pub use past::{Count, PAST_SCORES, PAST_SECONDS, Seen, SenderHistoryStore, Shared};
pub use redis::{Forgery, Health, RedisSettings, RedisStore, RedisUrlError};
pub use seal::{CLOCK_LEEWAY, SealKeyError, SealKeys, Trust};

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
    /// At its bound. Refusing is the safe answer: forgetting an older entry could deliver twice.
    #[error("the store is full")]
    Full,
    /// It has not answered of late, and was not asked.
    #[error("its breaker is open")]
    BreakerOpen { retry_after: Duration },
}

/// How long what is stored lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// A registration without a heartbeat.
    pub agent: Duration,
    /// A repeat of a message within this time gets the stored verdict.
    pub window: Duration,
    /// A claim that is neither settled nor released can be taken over after this time.
    pub lease: Duration,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self {
            agent: Duration::from_secs(30),
            window: Duration::from_secs(600),
            lease: Duration::from_secs(2),
        }
    }
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

/// A registry that says when a tenant's agents change, so that what was read can be kept.
#[async_trait]
pub trait Tracked: Registry {
    /// Names the present state of the tenant's agents: any change of who is live, or of what they
    /// can do, gives another epoch. Heartbeats do not. Agents whose time is over are removed first.
    async fn epoch(&self, tenant: &TenantId) -> Result<u64, StoreError>;

    /// From now on tells `invalidator` of changes, by whichever node, and whether it can tell.
    fn feed(&self, invalidator: Invalidator);
}

/// What became of a registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration {
    /// New, or known and replaced; renew within the time to live.
    Registered { ttl: Duration, before: Before },
    /// The tenant has as many agents as it may have.
    QuotaExceeded { agents: usize },
}

/// What stood in the registry of an agent that registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// The same entry.
    Same,
    /// One that says something else.
    Other,
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
/// by other means whether the effect happened (`nats/outbox.rs` looks for its record).
#[async_trait]
pub trait Idempotency: Send + Sync {
    /// Exactly one of any number of concurrent callers gets `Claim::Mine`. `decision`: by whose name the caller is
    /// going to record what it does, should it be the first; whoever takes the claim over hears it.
    async fn claim(
        &self,
        key: &MessageKey,
        digest: &Digest,
        decision: Option<&DecisionId>,
    ) -> Result<Claim, StoreError>;

    /// Stores the verdict for the rest of the window; if `longer` is not zero, for so long and a window
    /// more. It is about the content with this digest, which was claimed. Only the claim's holder can; a token that is no longer the current one changes nothing.
    async fn settle(
        &self,
        key: &MessageKey,
        digest: &Digest,
        token: ClaimToken,
        verdict: &[u8],
        longer: Duration,
    ) -> Result<(), StoreError>;

    /// The same of a verdict that whoever took the claim over would find elsewhere, and tell as well: then who holds
    /// the claim need not be looked at while it cannot have been taken over yet. Not after a `release`.
    async fn settle_recorded(
        &self,
        key: &MessageKey,
        digest: &Digest,
        token: ClaimToken,
        verdict: &[u8],
    ) -> Result<(), StoreError> {
        self.settle(key, digest, token, verdict, Duration::ZERO).await
    }

    /// Gives the claim back, as if it had never been made: the next claim is `Mine`, or `TakenOver`
    /// if this one was, because the doubt about the first holder remains.
    async fn release(&self, key: &MessageKey, token: ClaimToken) -> Result<(), StoreError>;
}

/// Answers of the policy that one node was given and others can use, each for a while.
///
/// By the digest of the question. Only what a node has sealed comes back: a stranger who could answer could let a
/// message pass.
#[async_trait]
pub trait SharedAnswers: Send + Sync {
    /// A JSON object as it was put there.
    async fn get(&self, tenant: &TenantId, question: &Digest) -> Result<Option<Vec<u8>>, StoreError>;

    /// `json`: an object that is not empty, of at most [`SHARED_BYTES_MAX`].
    async fn put(
        &self,
        tenant: &TenantId,
        question: &Digest,
        json: Vec<u8>,
        life: Duration,
    ) -> Result<(), StoreError>;
}

/// Bytes of an answer that nodes share.
pub const SHARED_BYTES_MAX: usize = 1024;

/// SHA-256 of a message's canonical form, or of another thing.
pub type Digest = [u8; 32];

/// Bytes of a verdict that a store accepts.
pub const VERDICT_BYTES_MAX: usize = 64 * 1024;

/// Proves that a claim is the current one. Unique per claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClaimToken {
    number: u64,
    /// Before it was. So its lease ends no sooner than one from here.
    asked: Instant,
}

impl ClaimToken {
    /// Unique enough: only claims on one key within one window could be mistaken for each other.
    fn random() -> Self {
        Self { number: rand::random(), asked: Instant::now() }
    }
}

fn verdict_fits(verdict: &[u8]) -> Result<(), StoreError> {
    if verdict.len() <= VERDICT_BYTES_MAX {
        return Ok(());
    }
    let found = format!("a verdict of {} bytes to store, at most {VERDICT_BYTES_MAX}", verdict.len());
    Err(StoreError::Unexpected { found })
}

/// The answer to a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The caller may act, and must settle or release.
    Mine { token: ClaimToken },
    /// The caller may act, but an earlier holder's lease ran out: it may have acted already. `first`: the decision that
    /// the first holder has named.
    TakenOver { token: ClaimToken, first: Option<DecisionId> },
    /// Another holder is acting now; its lease runs this long.
    Pending { lease_left: Duration },
    /// Decided before: the stored verdict.
    Settled { verdict: Vec<u8> },
    /// The id was used before, for another content.
    Conflict,
    /// Something stands there that no node wrote, so nothing can be told by it: neither that the message was
    /// decided nor that it was not. The caller may not act.
    Doubtful,
}
