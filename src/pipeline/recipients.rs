//! Who is registered of those that a message could reach, and what does the policy say of each?

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, Reason, TenantId},
    governance::{Addressed, Lookup, Unaddressed, View},
    policy::{Gate, Permit},
    rejection::Rejection,
    state::{Registry, StoreError},
};

/// Holders tried for one message to a capability.
const HOLDERS_TRIED_MAX: usize = 8;
/// Recipients about whom the policy is asked at one time: each may be a hand-over to another thread, and if
/// none is, four decisions are no long time.
const ASKED_AT_ONCE: usize = 4;
/// Looked up in one go.
const RECORDS_AT_ONCE: usize = 128;

/// Looks up whom the message is for.
pub(super) async fn find(
    registry: &dyn Registry,
    rotation: &Rotation,
    asks: &Unaddressed<'_>,
) -> Result<View, Rejection> {
    let (message, tenant) = (asks.decoded().message(), &asks.decoded().tenant().id);
    let sender = registry.agent(tenant, &message.sender).await.map_err(unavailable)?;
    let recipients = match asks.lookup() {
        Lookup::Agent(id) => registry.agent(tenant, id).await.map_err(unavailable)?.into_iter().collect(),
        Lookup::Holders(capability) => {
            let holders = registry.holders(tenant, capability).await.map_err(unavailable)?;
            let chosen = rotation.choose(tenant, capability, &holders, &message.sender, HOLDERS_TRIED_MAX);
            records(registry, tenant, chosen, Some(capability)).await?
        }
        Lookup::Everybody(filter) => {
            let ids = match &filter.capability {
                Some(capability) => registry.holders(tenant, capability).await,
                None => registry.agents(tenant).await,
            };
            let matching = asks.matching(&ids.map_err(unavailable)?, filter)?;
            records(registry, tenant, matching, filter.capability.as_ref()).await?
        }
    };
    Ok(View { sender, recipients })
}

/// Asks the policy about each recipient, up to the first that it gives no clear answer about.
pub(super) async fn ask(gate: &Gate, asks: &Addressed<'_>) -> Vec<Result<Permit, Rejection>> {
    let recipients = asks.recipients();
    let mut answers = Vec::with_capacity(recipients.len());
    // The first alone: no clear answer about one is none about the next, and each may take long.
    let (first, others) = recipients.split_at(recipients.len().min(1));
    for (at, together) in std::iter::once(first).chain(others.chunks(ASKED_AT_ONCE)).enumerate() {
        if at > 0 {
            // Deciding may not wait for anything, so the deadline and others get their turn here.
            tokio::task::yield_now().await;
        }
        let questions: Vec<_> = together.iter().map(|recipient| asks.question(recipient)).collect();
        answers.extend(join_all(questions.iter().map(|question| gate.decide(question))).await);
        if answers.iter().any(|answer| matches!(answer, Err(why) if why.reason != Reason::PolicyDenied)) {
            break;
        }
    }
    answers
}

/// The records of those that are still registered, and with the capability: an index only says where to look.
async fn records(
    registry: &dyn Registry,
    tenant: &TenantId,
    ids: Vec<AgentId>,
    capability: Option<&CapabilityId>,
) -> Result<Vec<Arc<AgentRecord>>, Rejection> {
    let mut found = Vec::with_capacity(ids.len());
    for (at, id) in ids.into_iter().enumerate() {
        // What is remembered is not waited for, and there may be a thousand: others get their turn.
        if at % RECORDS_AT_ONCE == RECORDS_AT_ONCE - 1 {
            tokio::task::yield_now().await;
        }
        let record = registry.agent(tenant, &id).await.map_err(unavailable)?;
        found.extend(record.filter(|record| capability.is_none_or(|it| record.capabilities.contains(it))));
    }
    Ok(found)
}

fn unavailable(error: StoreError) -> Rejection {
    tracing::warn!(%error, "registry unavailable");
    Rejection::new(Reason::RegistryUnavailable, "the registry of agents does not answer")
        .after(Duration::from_millis(500))
}

/// The order in which this node has used the holders of each capability.
///
/// Choosing costs O(1) in the number of holders; a change of the holders costs O(n) once.
pub struct Rotation {
    queues: Cache<(TenantId, CapabilityId), Arc<Mutex<Queue>>>,
}

#[derive(Default)]
struct Queue {
    holders: Arc<Vec<AgentId>>,
    /// Least recently used first.
    order: VecDeque<AgentId>,
}

impl Rotation {
    const CAPABILITIES_MAX: u64 = 65_536;

    pub fn new() -> Self {
        Self {
            queues: Cache::builder()
                .max_capacity(Self::CAPABILITIES_MAX)
                .time_to_idle(Duration::from_secs(600))
                .build(),
        }
    }

    /// These did not listen: others come first from now on.
    pub(super) fn passed_over(&self, tenant: &TenantId, capability: &CapabilityId, agents: &[AgentId]) {
        let Some(queue) = self.queues.get(&(tenant.clone(), capability.clone())) else { return };
        let mut queue = queue.lock();
        let (absent, mut order): (VecDeque<_>, VecDeque<_>) =
            queue.order.drain(..).partition(|id| agents.contains(id));
        order.extend(absent);
        queue.order = order;
    }

    /// At most `limit` holders, the least recently chosen first, never `sender`. Only the first
    /// counts as used now; the others are there in case it does not listen.
    fn choose(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
        holders: &Arc<Vec<AgentId>>,
        sender: &AgentId,
        limit: usize,
    ) -> Vec<AgentId> {
        let queue = self.queues.get_with((tenant.clone(), capability.clone()), Arc::default);
        // A plain lock: held for a few moves in memory, never over an await.
        let mut queue = queue.lock();
        if !Arc::ptr_eq(&queue.holders, holders) {
            queue.renew(holders);
        }
        let chosen: Vec<AgentId> =
            queue.order.iter().filter(|id| *id != sender).take(limit).cloned().collect();
        if let Some(first) = chosen.first() {
            // At most one other, the sender, stands before it.
            if let Some(at) = queue.order.iter().take(2).position(|id| id == first) {
                queue.order.remove(at).into_iter().for_each(|id| queue.order.push_back(id));
            }
        }
        chosen
    }
}

impl Default for Rotation {
    fn default() -> Self {
        Self::new()
    }
}

impl Queue {
    /// New holders come first: they were never used. Those that stay keep their order.
    fn renew(&mut self, holders: &Arc<Vec<AgentId>>) {
        let now: HashSet<&AgentId> = holders.iter().collect();
        let mut order: VecDeque<AgentId> = self.order.iter().filter(|id| now.contains(id)).cloned().collect();
        let known: HashSet<&AgentId> = self.order.iter().collect();
        for id in holders.iter().rev().filter(|id| !known.contains(id)) {
            order.push_front(id.clone());
        }
        self.order = order;
        self.holders = Arc::clone(holders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::IdError;

    fn ids(names: &[&str]) -> Result<Arc<Vec<AgentId>>, IdError> {
        Ok(Arc::new(names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?))
    }

    #[test]
    fn the_least_recently_used_holder_comes_first_and_the_sender_never() -> Result<(), IdError> {
        let rotation = Rotation::new();
        let (tenant, capability) = ("acme".parse()?, "sum".parse()?);
        let holders = ids(&["a", "b", "c"])?;
        let first = |holders: &Arc<Vec<AgentId>>, sender: &str| -> Result<String, IdError> {
            let chosen = rotation.choose(&tenant, &capability, holders, &sender.parse()?, 2);
            Ok(chosen.iter().map(AgentId::as_str).collect::<Vec<_>>().join(","))
        };
        assert_eq!(first(&holders, "z")?, "a,b");
        assert_eq!(first(&holders, "z")?, "b,c");
        assert_eq!(first(&holders, "c")?, "a,b", "c would be next, but is the sender");
        assert_eq!(first(&holders, "z")?, "c,b");
        let grown = ids(&["b", "c", "d"])?;
        assert_eq!(first(&grown, "z")?, "d,b", "a left; d is new and was never used");
        assert_eq!(first(&ids(&["b"])?, "b")?, "", "the sender does not answer itself");
        Ok(())
    }
}
