//! Which threshold of deliberation is in force? The configured one, or for tenants that let reviewers'
//! judgements move it, what was learned.
//!
//! [`Thresholds`] stands before the directory: the tenant that a message is governed by already has the
//! threshold in force, so every stage sees the same number. What is learned is kept where all nodes read it,
//! one key for each tenant; `teaching.rs` writes it.
//!
//! Unknown never means lax: as long as a node does not know what was learned, it takes the strictest
//! that it can be, the floor.

use std::{collections::HashMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use parking_lot::RwLock;
use rand::Rng as _;
use serde_json::{Map, Value, json};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    audit,
    deliberation::lessons::{Entry, Reading},
    domain::{Scales, Tenant, TenantId, Timestamp},
    lanes::Tenants,
    telemetry::Metrics,
};

/// How often it is looked whether something was learned.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Between two looks, also if a tenant is waited for that has just begun to learn.
const CHECK_PAUSE: Duration = Duration::from_millis(200);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(1);
/// What was read counts so long without being confirmed.
const FRESH: Duration = Duration::from_secs(30);
/// Keys asked for at one time.
const READS_AT_ONCE: usize = 16;

/// The operator's directory, with all that is in it.
#[async_trait]
pub trait AllTenants: Tenants {
    fn tenants(&self) -> Arc<HashMap<TenantId, Arc<Tenant>>>;

    /// Waits until it was read once.
    async fn ready(&self);
}

/// Where what is learned is kept. `nats::LearnedBucket` is the one over JetStream.
#[async_trait]
pub trait LearnedStore: Send + Sync {
    /// Changes with whatever is written.
    async fn version(&self) -> Result<Version, LearnedError>;

    /// What is kept of a tenant, and its revision; 0 for nothing.
    async fn read(&self, tenant: &TenantId) -> Result<(u64, Reading), LearnedError>;

    /// Writes it, if the revision is still this one.
    async fn write(&self, tenant: &TenantId, revision: u64, entry: &Entry) -> Result<Written, LearnedError>;

    /// Keeps the record of a change, once however often it is sent.
    async fn record(&self, record: audit::Entry) -> Result<(), LearnedError>;
}

/// Why the store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LearnedError(pub String);

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Written {
    Now,
    /// Somebody else was faster, or it is not known: read again.
    Again(String),
}

/// Tells one state of the store from another, also after it was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    pub created_ns: i128,
    pub last_sequence: u64,
}

/// The directory, with the thresholds in force.
pub struct Thresholds {
    pub(super) store: Arc<dyn LearnedStore>,
    pub(super) directory: Arc<dyn AllTenants>,
    pub(super) node: String,
    pub(super) clock: fn() -> Timestamp,
    pub(super) metrics: Arc<Metrics>,
    /// What is learned on another scale is not in force here.
    pub(super) scales: Scales,
    known: ArcSwap<Known>,
    /// Of tenants whose threshold is another than the configured one. A lock, as it is written only
    /// when a threshold or a tenant has changed; never more entries than the directory has.
    in_force: RwLock<HashMap<TenantId, InForce>>,
    /// Somebody needs a reading that is not there.
    pub(super) wanted: Notify,
    ready: watch::Sender<bool>,
}

/// What was read, and when.
#[derive(Default)]
struct Known {
    at: Option<Instant>,
    version: Option<Version>,
    readings: HashMap<TenantId, Reading>,
}

/// A tenant as it is governed.
struct InForce {
    configured: Arc<Tenant>,
    governed: Arc<Tenant>,
}

impl Thresholds {
    pub fn new(
        store: Arc<dyn LearnedStore>,
        directory: Arc<dyn AllTenants>,
        node: &str,
        clock: fn() -> Timestamp,
        metrics: Arc<Metrics>,
        scales: Scales,
    ) -> Arc<Self> {
        Arc::new(Self {
            store,
            directory,
            node: node.to_owned(),
            clock,
            metrics,
            scales,
            known: ArcSwap::default(),
            in_force: RwLock::default(),
            wanted: Notify::new(),
            ready: watch::Sender::new(false),
        })
    }

    /// Waits until everything was read once; the caller bounds the wait.
    pub async fn ready(&self) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Why the floor is in force for tenants that learn, if it is.
    pub fn trouble(&self) -> Option<String> {
        let fresh = self.known.load().at.is_some_and(|at| at.elapsed() < FRESH);
        (!fresh && !self.learning().is_empty()).then(|| {
            "learned thresholds cannot be read: for tenants that learn, the floor is in force".to_owned()
        })
    }

    /// All tenants that learn, for the operator: what is in force, and why.
    pub fn shown(&self) -> Value {
        let known = self.known.load();
        let shown = self.learning().into_iter().map(|tenant| {
            let configured = tenant.limits.deliberation_threshold;
            let adaptive = tenant.deliberation.adaptive;
            let mut text = Map::new();
            let mut add = |key: &str, value: Value| text.insert(key.to_owned(), value);
            add("in_force", self.threshold(&tenant).into());
            add("configured", configured.into());
            add("floor", adaptive.floor.into());
            add("ceiling", adaptive.ceiling.into());
            let scale = self.scales.of_tenant(&tenant);
            let reading = known.readings.get(&tenant.id);
            if let Some(entry) = reading.and_then(|reading| reading.of(configured, scale)) {
                add("judged", entry.learned.judged.len().into());
                add("changes", entry.learned.changes.into());
                if let Some(change) = &entry.last_change {
                    add("last_change", json!(change));
                }
            }
            (tenant.id.to_string(), Value::Object(text))
        });
        let shown: Map<String, Value> = shown.collect();
        json!({ "node": self.node, "thresholds": shown })
    }

    /// The threshold in force for a tenant.
    fn threshold(&self, tenant: &Tenant) -> f64 {
        let configured = tenant.limits.deliberation_threshold;
        let adaptive = &tenant.deliberation.adaptive;
        if !adaptive.enabled {
            return configured;
        }
        let known = self.known.load();
        let fresh = known.at.is_some_and(|at| at.elapsed() < FRESH);
        match known.readings.get(&tenant.id).filter(|_| fresh) {
            Some(reading @ (Reading::Nothing | Reading::Entry(_))) => {
                let scale = self.scales.of_tenant(tenant);
                let learned = reading.of(configured, scale).map(|entry| &entry.learned);
                crate::deliberation::learning::threshold(configured, learned, adaptive)
            }
            Some(Reading::Unreadable) => strictest(tenant),
            None => {
                self.wanted.notify_one();
                strictest(tenant)
            }
        }
    }

    fn learning(&self) -> Vec<Arc<Tenant>> {
        let tenants = self.directory.tenants();
        let mut learning: Vec<_> =
            tenants.values().filter(|tenant| tenant.deliberation.adaptive.enabled).cloned().collect();
        learning.sort_by(|a, b| a.id.cmp(&b.id));
        learning
    }

    /// Follows what is learned, without end.
    pub async fn follow(self: Arc<Self>) {
        self.directory.ready().await;
        loop {
            match self.read().await {
                Ok(()) => {
                    self.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
                }
                Err(cause) => {
                    tracing::warn!(%cause, retry_in = ?RETRY, "learned thresholds cannot be read");
                    tokio::time::sleep(RETRY).await;
                }
            }
            let tenants = self.directory.tenants();
            self.in_force.write().retain(|id, _| tenants.contains_key(id));
            // Jitter, so that many nodes do not ask at one instant.
            let interval = CHECK_INTERVAL.mul_f64(rand::rng().random_range(0.8..1.0));
            let _ = tokio::time::timeout(interval, self.wanted.notified()).await;
            tokio::time::sleep(CHECK_PAUSE).await;
        }
    }

    /// Reads what tenants that learn have learned, unless it is known.
    async fn read(&self) -> Result<(), LearnedError> {
        let learning = self.learning();
        if learning.is_empty() {
            self.known.store(Arc::new(Known { at: Some(Instant::now()), ..Known::default() }));
            return Ok(());
        }
        let version = Some(self.store.version().await?);
        let known = self.known.load_full();
        let covered = learning.iter().all(|tenant| known.readings.contains_key(&tenant.id));
        let readings = if known.version == version && covered {
            known.readings.clone()
        } else {
            let reads = stream::iter(learning).map(|tenant| async move {
                let (_, reading) = self.store.read(&tenant.id).await?;
                Ok::<_, LearnedError>((tenant.id.clone(), reading))
            });
            let mut readings = HashMap::new();
            let mut reads = reads.buffer_unordered(READS_AT_ONCE);
            while let Some(read) = reads.next().await {
                let (tenant, reading) = read?;
                readings.insert(tenant, reading);
            }
            readings
        };
        self.known.store(Arc::new(Known { at: Some(Instant::now()), version, readings }));
        Ok(())
    }
}

impl Tenants for Thresholds {
    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        let configured = self.directory.tenant(id)?;
        let threshold = self.threshold(&configured);
        if configured.limits.deliberation_threshold.total_cmp(&threshold).is_eq() {
            return Some(configured);
        }
        let same = |in_force: &InForce| {
            Arc::ptr_eq(&in_force.configured, &configured)
                && in_force.governed.limits.deliberation_threshold.total_cmp(&threshold).is_eq()
        };
        if let Some(in_force) = self.in_force.read().get(id).filter(|in_force| same(in_force)) {
            return Some(Arc::clone(&in_force.governed));
        }
        let mut governed = configured.as_ref().clone();
        governed.limits.deliberation_threshold = threshold;
        let governed = Arc::new(governed);
        let in_force = InForce { configured, governed: Arc::clone(&governed) };
        self.in_force.write().insert(id.clone(), in_force);
        Some(governed)
    }
}

fn strictest(tenant: &Tenant) -> f64 {
    tenant.limits.deliberation_threshold.min(tenant.deliberation.adaptive.floor)
}

#[cfg(test)]
pub(super) mod tests;
