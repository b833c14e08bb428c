//! In which order are the holders of a capability tried?

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use moka::sync::Cache;
use parking_lot::Mutex;

use crate::{
    domain::{AgentId, CapabilityId, TenantId},
    recent::recent,
};

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
        Self { queues: recent(Self::CAPABILITIES_MAX).time_to_idle(Duration::from_secs(600)).build() }
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
    pub(super) fn choose(
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
