//! What do nodes share when there is only one: everything in this process's memory.
//!
//! Nothing survives the process, and no other node sees it. All operations are short and without
//! waiting, so each half is under one lock that is never held over an `.await`.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{
    Causes, Claim, ClaimToken, Clock, ConversationLabels, Counted, Digest, Followed, HandedBack, Idempotency,
    Invalidator, Known, Labelled, Lifetimes, MessageKey, Registration, Registry, Seen, SenderHistoryStore,
    Shared, StoreError, Tracked, clock::millis, verdict_fits,
};
use crate::domain::{
    AgentId, AgentRecord, CapabilityId, Conversation, ConversationLabel, DecisionId, MessageId, TenantId,
};

mod agents;
mod causes;
mod labels;
mod messages;
mod pasts;

use agents::Agents;
use causes::AllCauses;
use labels::AllLabels;
use messages::Messages;
use pasts::AllPasts;

/// All stores of one process.
#[derive(Debug)]
pub struct MemoryStore {
    lifetimes: Lifetimes,
    clock: Clock,
    agents: Mutex<Agents>,
    messages: Mutex<Messages>,
    pasts: AllPasts,
    labels: Mutex<AllLabels>,
    causes: AllCauses,
}

impl MemoryStore {
    /// Messages remembered within the window; more are refused with [`StoreError::Full`]. At about
    /// 0.5 KiB each this is half a gigabyte at the very most.
    pub const MESSAGES_MAX: usize = 1_000_000;

    /// Senders whose past is remembered; about 0.7 KiB each at most.
    pub const SENDERS_MAX: u64 = 65_536;

    pub fn new(lifetimes: Lifetimes) -> Self {
        Self::with(lifetimes, Self::MESSAGES_MAX, Clock::machine())
    }

    pub fn with(lifetimes: Lifetimes, messages_max: usize, clock: Clock) -> Self {
        Self {
            lifetimes,
            clock,
            agents: Mutex::default(),
            messages: Mutex::new(Messages::new(messages_max)),
            pasts: AllPasts::new(Self::SENDERS_MAX),
            labels: Mutex::default(),
            causes: AllCauses::new(lifetimes.window),
        }
    }

    /// Senders whose past is known, never more than [`Self::SENDERS_MAX`].
    pub fn senders(&self) -> u64 {
        self.pasts.count()
    }

    fn agent_deadline(&self, now: u64) -> u64 {
        now.saturating_add(millis(self.lifetimes.agent))
    }
}

#[async_trait]
impl Registry for MemoryStore {
    async fn register(
        &self,
        tenant: &TenantId,
        record: &AgentRecord,
        agents_max: usize,
    ) -> Result<Registration, StoreError> {
        let now = self.clock.now();
        let added = self.agents.lock().register(
            tenant,
            Arc::new(record.clone()),
            agents_max,
            now,
            self.agent_deadline(now),
        );
        Ok(match added {
            Ok(before) => Registration::Registered { ttl: self.lifetimes.agent, before },
            Err(agents) => Registration::QuotaExceeded { agents },
        })
    }

    async fn heartbeat(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        let now = self.clock.now();
        Ok(self.agents.lock().heartbeat(tenant, agent, now, self.agent_deadline(now)))
    }

    async fn unregister(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        Ok(self.agents.lock().unregister(tenant, agent, self.clock.now()))
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
    ) -> Result<Option<Arc<AgentRecord>>, StoreError> {
        Ok(self.agents.lock().agent(tenant, agent, self.clock.now()))
    }

    async fn holders(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
    ) -> Result<Arc<Vec<AgentId>>, StoreError> {
        Ok(self.agents.lock().holders(tenant, capability, self.clock.now()))
    }

    async fn agents(&self, tenant: &TenantId) -> Result<Arc<Vec<AgentId>>, StoreError> {
        Ok(self.agents.lock().all(tenant, self.clock.now()))
    }
}

#[async_trait]
impl Tracked for MemoryStore {
    async fn epoch(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        Ok(self.agents.lock().epoch(tenant, self.clock.now()))
    }

    fn feed(&self, invalidator: Invalidator) {
        self.agents.lock().feed(invalidator);
    }
}

#[async_trait]
impl Idempotency for MemoryStore {
    async fn claim(
        &self,
        key: &MessageKey,
        digest: &Digest,
        decision: Option<&DecisionId>,
    ) -> Result<Claim, StoreError> {
        self.messages.lock().claim(key, (digest, decision), self.clock.now(), &self.lifetimes)
    }

    async fn settle(
        &self,
        key: &MessageKey,
        _digest: &Digest,
        token: ClaimToken,
        verdict: &[u8],
        longer: Duration,
    ) -> Result<(), StoreError> {
        verdict_fits(verdict)?;
        let now = self.clock.now();
        let kept_until = (!longer.is_zero())
            .then(|| now.saturating_add(millis(longer)).saturating_add(millis(self.lifetimes.window)));
        self.messages.lock().settle(key, token, verdict, now, kept_until);
        Ok(())
    }

    async fn release(&self, key: &MessageKey, token: ClaimToken) -> Result<(), StoreError> {
        self.messages.lock().release(key, token, self.clock.now());
        Ok(())
    }
}

#[async_trait]
impl SenderHistoryStore for MemoryStore {
    async fn share(&self, tenant: &TenantId, sender: &AgentId, seen: &Seen) -> Result<Shared, StoreError> {
        Ok(self.pasts.share(tenant, sender, seen, self.clock.now()))
    }
}

#[async_trait]
impl ConversationLabels for MemoryStore {
    async fn labels(
        &self,
        tenant: &TenantId,
        conversation: &MessageId,
    ) -> Result<BTreeSet<ConversationLabel>, StoreError> {
        Ok(self.labels.lock().labels(tenant, conversation, self.clock.now()))
    }

    async fn label(
        &self,
        by: (&TenantId, &AgentId),
        conversation: &MessageId,
        labels: &BTreeSet<ConversationLabel>,
    ) -> Result<Labelled, StoreError> {
        self.labels.lock().label(by, conversation, labels, self.clock.now())
    }
}

#[async_trait]
impl Causes for MemoryStore {
    async fn cause(&self, tenant: &TenantId, handed: &HandedBack) -> Result<Known, StoreError> {
        let has_sent = |agent: &AgentId, message: &MessageId| {
            let (tenant, sender, message) = (tenant.clone(), agent.clone(), message.clone());
            self.messages.lock().knows(&MessageKey { tenant, sender, message }, self.clock.now())
        };
        Ok(self.causes.cause(tenant, handed, has_sent))
    }

    async fn follow(&self, tenant: &TenantId, followed: &Followed) -> Result<(), StoreError> {
        self.causes.follow(tenant, followed);
        Ok(())
    }

    async fn count(&self, tenant: &TenantId, counted: &Counted) -> Result<(), StoreError> {
        self.causes.count(tenant, counted);
        Ok(())
    }

    async fn renew(&self, tenant: &TenantId, conversation: &Conversation) -> Result<(), StoreError> {
        self.causes.renew(tenant, conversation);
        Ok(())
    }
}
