//! What has a node read of its tenants' agents, and how is it forgotten and kept small?

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::OnceCell;

use super::CacheLimits;
use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, TenantId},
    state::{Clock, clock::millis},
};

/// What is known of all tenants. Locks are held for single operations on maps only.
#[derive(Debug)]
pub(super) struct Views {
    pub(super) tenants: RwLock<HashMap<TenantId, Arc<View>>>,
    pub(super) trusted: AtomicBool,
    pub(super) weight: Arc<AtomicUsize>,
    pub(super) limits: CacheLimits,
    pub(super) clock: Clock,
}

impl Views {
    pub(super) fn get_or_open(&self, tenant: &TenantId) -> Arc<View> {
        if let Some(view) = self.tenants.read().get(tenant) {
            return Arc::clone(view);
        }
        let mut tenants = self.tenants.write();
        Arc::clone(tenants.entry(tenant.clone()).or_insert_with(|| View::new(&self.weight)))
    }

    /// An empty view in place of `old`, or what another reader has put there.
    pub(super) fn replace(&self, tenant: &TenantId, old: &Arc<View>) -> Arc<View> {
        let mut tenants = self.tenants.write();
        let view = tenants.entry(tenant.clone()).or_insert_with(|| View::new(&self.weight));
        if Arc::ptr_eq(view, old) {
            *view = View::new(&self.weight);
        }
        Arc::clone(view)
    }

    pub(super) fn is_usable(&self, view: &View) -> bool {
        let age = self.clock.now().saturating_sub(view.verified.load(Ordering::Acquire));
        view.epoch.initialized() && age < millis(self.limits.ttl)
    }

    /// Views are dropped outside the lock: a large one takes a while.
    pub(super) fn forget(&self, tenant: &TenantId) {
        let view = self.tenants.write().remove(tenant);
        drop(view);
    }

    pub(super) fn forget_all(&self) {
        let views = std::mem::take(&mut *self.tenants.write());
        drop(views);
    }

    pub(super) fn add_weight(&self, tenant: &TenantId, view: &View, entries: usize) {
        let total = self.weight.fetch_add(entries, Ordering::Relaxed) + entries;
        let of_tenant = view.weight.fetch_add(entries, Ordering::Relaxed) + entries;
        if of_tenant > self.limits.entries_per_tenant {
            tracing::warn!(%tenant, entries = of_tenant, "registry cache of the tenant is full: forgotten");
            self.forget(tenant);
        } else if total > self.limits.entries {
            tracing::warn!(entries = total, "registry cache is full: forgotten");
            self.forget_all();
        }
    }
}

/// What has been read of one tenant since its agents were in the state that `epoch` names.
#[derive(Debug)]
pub(super) struct View {
    pub(super) epoch: OnceCell<u64>,
    /// When the epoch was last known to be the present one.
    pub(super) verified: AtomicU64,
    pub(super) verifying: AtomicBool,
    /// `None`: known not to be registered.
    records: RwLock<HashMap<AgentId, Option<Arc<AgentRecord>>>>,
    /// The holders of a capability, or all agents. A cell is filled by one reader for all.
    lists: RwLock<HashMap<Option<CapabilityId>, Arc<ListCell>>>,
    /// Those of the records, each once.
    capability_sets: Mutex<HashSet<Arc<BTreeSet<CapabilityId>>>>,
    pub(super) weight: AtomicUsize,
    weight_of_all: Arc<AtomicUsize>,
}

pub(super) type ListCell = OnceCell<Arc<Vec<AgentId>>>;

impl View {
    pub(super) fn new(weight_of_all: &Arc<AtomicUsize>) -> Arc<Self> {
        weight_of_all.fetch_add(1, Ordering::Relaxed);
        Arc::new(Self {
            epoch: OnceCell::new(),
            verified: AtomicU64::new(0),
            verifying: AtomicBool::new(false),
            records: RwLock::default(),
            lists: RwLock::default(),
            capability_sets: Mutex::default(),
            weight: AtomicUsize::new(1),
            weight_of_all: Arc::clone(weight_of_all),
        })
    }

    pub(super) fn record(&self, agent: &AgentId) -> Option<Option<Arc<AgentRecord>>> {
        self.records.read().get(agent).cloned()
    }

    pub(super) fn list(&self, capability: Option<&CapabilityId>) -> Option<Arc<Vec<AgentId>>> {
        // Cloning an id is counting a reference.
        self.lists.read().get(&capability.cloned())?.get().cloned()
    }

    pub(super) fn list_cell(&self, capability: Option<&CapabilityId>) -> Arc<ListCell> {
        Arc::clone(self.lists.write().entry(capability.cloned()).or_default())
    }

    pub(super) fn keep(
        &self,
        agent: &AgentId,
        mut record: Option<Arc<AgentRecord>>,
    ) -> Option<Arc<AgentRecord>> {
        // A record that the store holds as well is not ours to change, and costs nothing.
        if let Some(record) = record.as_mut().and_then(Arc::get_mut) {
            self.share_parts(record);
        }
        let key = record.as_ref().map_or(agent, |record| &record.id).clone();
        self.records.write().insert(key, record.clone());
        record
    }

    /// The same record, with its id and capabilities in one place in memory as far as they are known.
    fn share_parts(&self, record: &mut AgentRecord) {
        let mut capability_sets = self.capability_sets.lock();
        match capability_sets.get(&record.capabilities) {
            Some(known) => record.capabilities = Arc::clone(known),
            None => {
                capability_sets.insert(Arc::clone(&record.capabilities));
            }
        }
        drop(capability_sets);
        let lists = self.lists.read();
        let named = record.capabilities.iter().map(|capability| Some(capability.clone()));
        let listed = named.chain([None]).find_map(|name| {
            let list = lists.get(&name)?.get()?;
            list.binary_search(&record.id).ok().and_then(|at| list.get(at))
        });
        if let Some(id) = listed {
            record.id = id.clone();
        }
    }

    /// The same ids, each in one place in memory as far as it is known: from a record or a list.
    pub(super) fn share_ids(&self, mut list: Arc<Vec<AgentId>>) -> Arc<Vec<AgentId>> {
        let all = self.list(None).unwrap_or_default();
        if let Some(ids) = Arc::get_mut(&mut list) {
            let records = self.records.read();
            for id in ids {
                let listed = || all.binary_search(id).ok().and_then(|at| all.get(at));
                if let Some(known) = records.get_key_value(id).map(|(known, _)| known).or_else(listed) {
                    *id = known.clone();
                }
            }
        }
        list
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.weight_of_all.fetch_sub(*self.weight.get_mut(), Ordering::Relaxed);
    }
}

/// Lets the next reader ask when this one is done, or gave up.
pub(super) struct Asking<'a>(pub(super) &'a AtomicBool);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}
