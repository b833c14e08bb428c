//! The store that nodes share, behind one breaker.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    breakers::{Breaker, Call, Open},
    domain::{
        AgentId, AgentRecord, CapabilityId, Conversation, ConversationLabel, DecisionId, MessageId, TenantId,
    },
    state::{
        Causes, Claim, ClaimToken, ConversationLabels, Counted, Digest, Followed, HandedBack, Idempotency,
        Invalidator, Known, Labelled, MessageKey, Registration, Registry, Seen, SenderHistoryStore, Shared,
        StoreError, Tracked,
    },
};

/// A store and its breaker.
pub struct GuardedStore<S> {
    store: Arc<S>,
    breaker: Arc<Breaker>,
}

impl<S> GuardedStore<S> {
    pub fn new(store: Arc<S>, breaker: Arc<Breaker>) -> Self {
        Self { store, breaker }
    }

    fn admit(&self) -> Result<Call<'_>, StoreError> {
        self.breaker.admit().map_err(|Open { retry_after }| StoreError::BreakerOpen { retry_after })
    }
}

/// Tells the breaker what became of a call.
fn ended<T>(call: Call<'_>, answer: Result<T, StoreError>) -> Result<T, StoreError> {
    match &answer {
        Ok(_) => call.good(),
        Err(fault @ (StoreError::Timeout { .. } | StoreError::Disconnected)) => call.bad(fault),
        // It has answered, to this one.
        Err(StoreError::Unexpected { .. } | StoreError::Full | StoreError::BreakerOpen { .. }) => {
            call.neither();
        }
    }
    answer
}

#[async_trait]
impl<S: Idempotency> Idempotency for GuardedStore<S> {
    async fn claim(
        &self,
        key: &MessageKey,
        digest: &Digest,
        decision: Option<&DecisionId>,
    ) -> Result<Claim, StoreError> {
        ended(self.admit()?, self.store.claim(key, digest, decision).await)
    }

    async fn settle(
        &self,
        key: &MessageKey,
        digest: &Digest,
        token: ClaimToken,
        verdict: &[u8],
        longer: Duration,
    ) -> Result<(), StoreError> {
        ended(self.admit()?, self.store.settle(key, digest, token, verdict, longer).await)
    }

    async fn settle_recorded(
        &self,
        key: &MessageKey,
        digest: &Digest,
        token: ClaimToken,
        verdict: &[u8],
    ) -> Result<(), StoreError> {
        ended(self.admit()?, self.store.settle_recorded(key, digest, token, verdict).await)
    }

    async fn release(&self, key: &MessageKey, token: ClaimToken) -> Result<(), StoreError> {
        ended(self.admit()?, self.store.release(key, token).await)
    }
}

#[async_trait]
impl<S: Registry> Registry for GuardedStore<S> {
    async fn register(
        &self,
        tenant: &TenantId,
        record: &AgentRecord,
        agents_max: usize,
    ) -> Result<Registration, StoreError> {
        ended(self.admit()?, self.store.register(tenant, record, agents_max).await)
    }

    async fn heartbeat(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        ended(self.admit()?, self.store.heartbeat(tenant, agent).await)
    }

    async fn unregister(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        ended(self.admit()?, self.store.unregister(tenant, agent).await)
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
    ) -> Result<Option<Arc<AgentRecord>>, StoreError> {
        ended(self.admit()?, self.store.agent(tenant, agent).await)
    }

    async fn holders(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
    ) -> Result<Arc<Vec<AgentId>>, StoreError> {
        ended(self.admit()?, self.store.holders(tenant, capability).await)
    }

    async fn agents(&self, tenant: &TenantId) -> Result<Arc<Vec<AgentId>>, StoreError> {
        ended(self.admit()?, self.store.agents(tenant).await)
    }
}

#[async_trait]
impl<S: Tracked> Tracked for GuardedStore<S> {
    async fn epoch(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        ended(self.admit()?, self.store.epoch(tenant).await)
    }

    fn feed(&self, invalidator: Invalidator) {
        self.store.feed(invalidator);
    }
}

#[async_trait]
impl<S: SenderHistoryStore> SenderHistoryStore for GuardedStore<S> {
    async fn share(&self, tenant: &TenantId, sender: &AgentId, seen: &Seen) -> Result<Shared, StoreError> {
        ended(self.admit()?, self.store.share(tenant, sender, seen).await)
    }
}

#[async_trait]
impl<S: ConversationLabels> ConversationLabels for GuardedStore<S> {
    async fn labels(
        &self,
        tenant: &TenantId,
        conversation: &MessageId,
    ) -> Result<BTreeSet<ConversationLabel>, StoreError> {
        ended(self.admit()?, self.store.labels(tenant, conversation).await)
    }

    async fn label(
        &self,
        by: (&TenantId, &AgentId),
        conversation: &MessageId,
        labels: &BTreeSet<ConversationLabel>,
    ) -> Result<Labelled, StoreError> {
        ended(self.admit()?, self.store.label(by, conversation, labels).await)
    }
}

#[async_trait]
impl<S: Causes> Causes for GuardedStore<S> {
    async fn cause(&self, tenant: &TenantId, handed: &HandedBack) -> Result<Known, StoreError> {
        ended(self.admit()?, self.store.cause(tenant, handed).await)
    }

    async fn follow(&self, tenant: &TenantId, followed: &Followed) -> Result<(), StoreError> {
        ended(self.admit()?, self.store.follow(tenant, followed).await)
    }

    async fn count(&self, tenant: &TenantId, counted: &Counted) -> Result<(), StoreError> {
        ended(self.admit()?, self.store.count(tenant, counted).await)
    }

    async fn renew(&self, tenant: &TenantId, conversation: &Conversation) -> Result<(), StoreError> {
        ended(self.admit()?, self.store.renew(tenant, conversation).await)
    }
}
