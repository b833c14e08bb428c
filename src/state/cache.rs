//! Who is live and can do what, without asking the store for each message?
//!
//! A node's local copy of what it has read of each tenant's agents: its *view*. Three things end a
//! view: word from the store that the tenant changed; loss of that word (the store's connection
//! lagged or was re-made), which ends all views; and age, because a view older than half its time
//! to live is checked against the tenant's epoch, and one older than all of it is not used.
//!
//! What was read before a change cannot be kept after it: a reader takes hold of the view before it
//! asks the store, and puts the answer there; a change takes the view away from all later readers.
//!
//! While nobody tells of changes, each read asks the store, and views only help out when the store
//! does not answer, until their time to live is over.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::RwLock;

use super::{Clock, Registration, Registry, StoreError, Tracked, clock::millis};
use crate::domain::{AgentId, AgentRecord, CapabilityId, TenantId};

mod views;

use views::{Asking, View, Views};

/// A registry with a local cache in front of it.
#[derive(Debug)]
pub struct CachedRegistry<R> {
    store: Arc<R>,
    views: Arc<Views>,
}

/// Bounds of the cache, counted in entries: an agent's record, or an id in a list. An entry costs
/// about 250 bytes at the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Above this, everything is forgotten.
    pub entries: usize,
    /// Above this, what is known of the tenant is forgotten, and nothing of other tenants.
    pub entries_per_tenant: usize,
    /// How long what was read may be used without asking the store for the epoch.
    pub ttl: Duration,
    /// How long a reader waits for another reader's question to the store.
    pub wait: Duration,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            entries_per_tenant: 500_000,
            ttl: Duration::from_secs(5),
            wait: Duration::from_millis(500),
        }
    }
}

/// Tells a cache what it can no longer rely on. Held by the store; the cache may be gone.
#[derive(Debug, Clone)]
pub struct Invalidator(Weak<Views>);

impl Invalidator {
    /// The tenant's agents or their capabilities changed.
    pub fn tenant_changed(&self, tenant: &TenantId) {
        if let Some(views) = self.0.upgrade() {
            views.forget(tenant);
        }
    }

    /// Changes may have gone unnoticed.
    pub fn clear(&self) {
        if let Some(views) = self.0.upgrade() {
            views.forget_all();
        }
    }

    /// From now on all changes are told, and all before are forgotten.
    pub fn trust(&self) {
        if let Some(views) = self.0.upgrade() {
            views.forget_all();
            views.trusted.store(true, Ordering::Release);
        }
    }

    /// Changes are no longer told.
    pub fn distrust(&self) {
        if let Some(views) = self.0.upgrade() {
            views.trusted.store(false, Ordering::Release);
        }
    }
}

impl<R: Tracked> CachedRegistry<R> {
    pub fn new(store: Arc<R>) -> Self {
        Self::with(store, CacheLimits::default(), Clock::machine())
    }

    pub fn with(store: Arc<R>, limits: CacheLimits, clock: Clock) -> Self {
        let views = Arc::new(Views {
            tenants: RwLock::default(),
            trusted: AtomicBool::new(false),
            weight: Arc::default(),
            limits,
            clock,
        });
        store.feed(Invalidator(Arc::downgrade(&views)));
        Self { store, views }
    }

    /// How many records and listed ids are held.
    pub fn entries(&self) -> usize {
        self.views.weight.load(Ordering::Relaxed)
    }

    /// Whether changes are told, so that reads are answered from the cache.
    pub fn is_trusted(&self) -> bool {
        self.views.trusted.load(Ordering::Acquire)
    }

    /// A view that is as new as the store within the time to live.
    async fn view(&self, tenant: &TenantId) -> Result<Arc<View>, StoreError> {
        let Views { limits: CacheLimits { ttl, wait, .. }, clock, .. } = &*self.views;
        let now = clock.now();
        let mut view = self.views.get_or_open(tenant);
        if view.epoch.initialized() {
            let age = now.saturating_sub(view.verified.load(Ordering::Acquire));
            if age < millis(*ttl) / 2 {
                return Ok(view);
            }
            if age < millis(*ttl) {
                return self.verify(tenant, view, now).await;
            }
            view = self.views.replace(tenant, &view);
        }
        let ask = view.epoch.get_or_try_init(|| async {
            let epoch = self.store.epoch(tenant).await?;
            view.verified.store(now, Ordering::Release);
            Ok(epoch)
        });
        tokio::time::timeout(*wait, ask).await.unwrap_or(Err(StoreError::Timeout { limit: *wait }))?;
        Ok(view)
    }

    /// Checks the view while it may still be used: one reader asks, the others go on meanwhile.
    async fn verify(&self, tenant: &TenantId, view: Arc<View>, now: u64) -> Result<Arc<View>, StoreError> {
        if view.verifying.swap(true, Ordering::AcqRel) {
            return Ok(view);
        }
        let asking = Asking(&view.verifying);
        let epoch = self.store.epoch(tenant).await;
        match epoch {
            Ok(epoch) if view.epoch.get() == Some(&epoch) => view.verified.store(now, Ordering::Release),
            Ok(epoch) => {
                let fresh = self.views.replace(tenant, &view);
                fresh.verified.store(now, Ordering::Release);
                // Another reader may have been faster; its answer is as good.
                let _ = fresh.epoch.set(epoch);
                return Ok(fresh);
            }
            // Deliberate: within the time to live a store that does not answer changes nothing.
            Err(_) => {}
        }
        drop(asking);
        Ok(view)
    }

    async fn list(
        &self,
        tenant: &TenantId,
        capability: Option<&CapabilityId>,
    ) -> Result<Arc<Vec<AgentId>>, StoreError> {
        if !self.is_trusted() {
            let answer = self.read_list(tenant, capability).await;
            return self.or_known(tenant, answer, |view| view.list(capability));
        }
        let view = self.view(tenant).await?;
        if let Some(list) = view.list(capability) {
            return Ok(list);
        }
        let cell = view.list_cell(capability);
        let wait = self.views.limits.wait;
        let ask = cell.get_or_try_init(|| async {
            let list = view.share_ids(self.read_list(tenant, capability).await?);
            self.views.add_weight(tenant, &view, 1 + list.len());
            Ok(list)
        });
        let list =
            tokio::time::timeout(wait, ask).await.unwrap_or(Err(StoreError::Timeout { limit: wait }))?;
        Ok(Arc::clone(list))
    }

    async fn read_list(
        &self,
        tenant: &TenantId,
        capability: Option<&CapabilityId>,
    ) -> Result<Arc<Vec<AgentId>>, StoreError> {
        match capability {
            Some(capability) => self.store.holders(tenant, capability).await,
            None => self.store.agents(tenant).await,
        }
    }

    /// What the store answered, or what is known from before if it cannot be asked.
    fn or_known<T>(
        &self,
        tenant: &TenantId,
        answer: Result<T, StoreError>,
        known: impl FnOnce(&View) -> Option<T>,
    ) -> Result<T, StoreError> {
        match answer {
            Err(
                error @ (StoreError::Timeout { .. }
                | StoreError::Disconnected
                | StoreError::BreakerOpen { .. }),
            ) => {
                let view = self.views.tenants.read().get(tenant).cloned();
                view.filter(|view| self.views.is_usable(view)).and_then(|view| known(&view)).ok_or(error)
            }
            answer => answer,
        }
    }
}

#[async_trait]
impl<R: Tracked> Registry for CachedRegistry<R> {
    async fn register(
        &self,
        tenant: &TenantId,
        record: &AgentRecord,
        agents_max: usize,
    ) -> Result<Registration, StoreError> {
        let answer = self.store.register(tenant, record, agents_max).await;
        // This node reads its own writes, without waiting for the store to tell.
        let known = self.views.tenants.read().get(tenant).and_then(|view| view.record(&record.id)).flatten();
        if known.is_none_or(|known| *known != *record) {
            self.views.forget(tenant);
        }
        answer
    }

    async fn heartbeat(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        self.store.heartbeat(tenant, agent).await
    }

    async fn unregister(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        let answer = self.store.unregister(tenant, agent).await;
        self.views.forget(tenant);
        answer
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
    ) -> Result<Option<Arc<AgentRecord>>, StoreError> {
        if !self.is_trusted() {
            let answer = self.store.agent(tenant, agent).await;
            return self.or_known(tenant, answer, |view| view.record(agent));
        }
        let view = self.view(tenant).await?;
        if let Some(record) = view.record(agent) {
            return Ok(record);
        }
        let record = self.store.agent(tenant, agent).await?;
        let record = view.keep(agent, record);
        self.views.add_weight(tenant, &view, 1);
        Ok(record)
    }

    async fn holders(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
    ) -> Result<Arc<Vec<AgentId>>, StoreError> {
        self.list(tenant, Some(capability)).await
    }

    async fn agents(&self, tenant: &TenantId) -> Result<Arc<Vec<AgentId>>, StoreError> {
        self.list(tenant, None).await
    }
}
