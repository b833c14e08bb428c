//! Which agents are live in this process's memory, and who holds which capability?

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, TenantId},
    state::{Before, Invalidator},
};

/// Bounded by the quota of each tenant.
#[derive(Debug, Default)]
pub(super) struct Agents {
    tenants: HashMap<TenantId, Members>,
    /// Over all tenants, so that a tenant that comes back never repeats one.
    changes: u64,
    watchers: Vec<Invalidator>,
}

/// The live agents of one tenant.
#[derive(Debug, Default)]
struct Members {
    agents: BTreeMap<AgentId, (Arc<AgentRecord>, u64)>,
    expiries: BTreeSet<(u64, AgentId)>,
    holders: HashMap<CapabilityId, Listed>,
    listed: Option<Arc<Vec<AgentId>>>,
    epoch: u64,
}

/// The ids as a set that changes, and as the list that is handed out until it does.
#[derive(Debug, Default)]
struct Listed {
    ids: BTreeSet<AgentId>,
    list: Option<Arc<Vec<AgentId>>>,
}

impl Agents {
    /// `Err`: how many the tenant has.
    pub(super) fn register(
        &mut self,
        tenant: &TenantId,
        record: Arc<AgentRecord>,
        agents_max: usize,
        now: u64,
        deadline: u64,
    ) -> Result<Before, usize> {
        self.trim(tenant, now);
        let members = self.tenants.entry(tenant.clone()).or_default();
        let known = members.agents.get(&record.id);
        if known.is_none() && members.agents.len() >= agents_max {
            let agents = members.agents.len();
            if agents == 0 {
                self.tenants.remove(tenant);
            }
            return Err(agents);
        }
        let before = match known {
            None => Before::Nothing,
            Some((known, _)) if *known == record => Before::Same,
            Some(_) => Before::Other,
        };
        if before == Before::Same {
            members.renew(&record.id, deadline);
        } else {
            members.remove(&record.id);
            members.insert(record, deadline);
            self.changed(tenant);
        }
        Ok(before)
    }

    pub(super) fn heartbeat(&mut self, tenant: &TenantId, agent: &AgentId, now: u64, deadline: u64) -> bool {
        self.trim(tenant, now);
        self.tenants.get_mut(tenant).is_some_and(|members| members.renew(agent, deadline))
    }

    pub(super) fn unregister(&mut self, tenant: &TenantId, agent: &AgentId, now: u64) -> bool {
        self.trim(tenant, now);
        let removed = self.tenants.get_mut(tenant).is_some_and(|members| members.remove(agent));
        if removed {
            self.changed(tenant);
        }
        removed
    }

    pub(super) fn agent(&mut self, tenant: &TenantId, agent: &AgentId, now: u64) -> Option<Arc<AgentRecord>> {
        self.trim(tenant, now);
        let (record, _) = self.tenants.get(tenant)?.agents.get(agent)?;
        Some(Arc::clone(record))
    }

    pub(super) fn holders(
        &mut self,
        tenant: &TenantId,
        capability: &CapabilityId,
        now: u64,
    ) -> Arc<Vec<AgentId>> {
        self.trim(tenant, now);
        let listed = self.tenants.get_mut(tenant).and_then(|members| members.holders.get_mut(capability));
        listed.map(Listed::list).unwrap_or_default()
    }

    pub(super) fn all(&mut self, tenant: &TenantId, now: u64) -> Arc<Vec<AgentId>> {
        self.trim(tenant, now);
        let Some(members) = self.tenants.get_mut(tenant) else { return Arc::default() };
        let list = members.listed.get_or_insert_with(|| Arc::new(members.agents.keys().cloned().collect()));
        Arc::clone(list)
    }

    pub(super) fn epoch(&mut self, tenant: &TenantId, now: u64) -> u64 {
        self.trim(tenant, now);
        self.tenants.get(tenant).map_or(0, |members| members.epoch)
    }

    pub(super) fn feed(&mut self, invalidator: Invalidator) {
        invalidator.trust();
        self.watchers.push(invalidator);
    }

    /// Each agent is removed once, so the cost per call is constant on average.
    fn trim(&mut self, tenant: &TenantId, now: u64) {
        let Some(members) = self.tenants.get_mut(tenant) else { return };
        let mut removed = false;
        while let Some((deadline, _)) = members.expiries.first() {
            if *deadline > now {
                break;
            }
            if let Some((_, agent)) = members.expiries.pop_first() {
                removed |= members.remove(&agent);
            }
        }
        if removed {
            self.changed(tenant);
        }
    }

    fn changed(&mut self, tenant: &TenantId) {
        self.changes += 1;
        for watcher in &self.watchers {
            watcher.tenant_changed(tenant);
        }
        if let Some(members) = self.tenants.get_mut(tenant) {
            members.epoch = self.changes;
            if members.agents.is_empty() {
                self.tenants.remove(tenant);
            }
        }
    }
}

impl Members {
    fn insert(&mut self, record: Arc<AgentRecord>, deadline: u64) {
        for capability in record.capabilities.iter() {
            let listed = self.holders.entry(capability.clone()).or_default();
            listed.ids.insert(record.id.clone());
            listed.list = None;
        }
        self.listed = None;
        self.expiries.insert((deadline, record.id.clone()));
        self.agents.insert(record.id.clone(), (record, deadline));
    }

    fn renew(&mut self, agent: &AgentId, deadline: u64) -> bool {
        let Some((_, until)) = self.agents.get_mut(agent) else { return false };
        self.expiries.remove(&(*until, agent.clone()));
        self.expiries.insert((deadline, agent.clone()));
        *until = deadline;
        true
    }

    fn remove(&mut self, agent: &AgentId) -> bool {
        let Some((record, deadline)) = self.agents.remove(agent) else { return false };
        self.expiries.remove(&(deadline, agent.clone()));
        self.listed = None;
        for capability in record.capabilities.iter() {
            if let Some(listed) = self.holders.get_mut(capability) {
                listed.ids.remove(agent);
                listed.list = None;
                if listed.ids.is_empty() {
                    self.holders.remove(capability);
                }
            }
        }
        true
    }
}

impl Listed {
    fn list(&mut self) -> Arc<Vec<AgentId>> {
        Arc::clone(self.list.get_or_insert_with(|| Arc::new(self.ids.iter().cloned().collect())))
    }
}
