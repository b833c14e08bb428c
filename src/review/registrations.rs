//! Which changes of the registry are recorded, and how often? Each, but an agent that changes its entry all the time has one
//! record a second, which says how many changes it tells of.

use std::{
    borrow::Cow,
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    audit::{Body, Change, Place, Record, Registration},
    domain::{AgentId, CapabilityId, TenantId, Timestamp},
    lanes::LiveTransport,
    telemetry::Metrics,
};

/// Between two records of one agent.
const EVERY: Duration = Duration::from_secs(1);
/// Agents that have changed their entry within [`EVERY`]. Of more, the changes are counted as records that were dropped.
const AGENTS_MAX: usize = 65_536;

/// The records of a node's registry.
pub struct Registrations {
    live: Arc<dyn LiveTransport>,
    metrics: Arc<Metrics>,
    node: String,
    clock: fn() -> Timestamp,
    recent: Mutex<HashMap<(TenantId, AgentId), Recent>>,
}

/// An agent that has a record of late.
struct Recent {
    recorded: Instant,
    /// What has changed since then.
    since: Option<Changed>,
}

/// The last change, and how many it stands for.
struct Changed {
    change: Change,
    capabilities: Arc<BTreeSet<CapabilityId>>,
    at: Timestamp,
    count: u64,
}

impl Registrations {
    pub fn new(
        live: Arc<dyn LiveTransport>,
        metrics: Arc<Metrics>,
        node: &str,
        clock: fn() -> Timestamp,
    ) -> Self {
        Self { live, metrics, node: node.to_owned(), clock, recent: Mutex::default() }
    }

    /// Records a change, now or together with those that follow within a second. Does not wait.
    pub fn changed(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        change: Change,
        capabilities: &Arc<BTreeSet<CapabilityId>>,
    ) {
        let mut changed =
            Changed { change, capabilities: Arc::clone(capabilities), at: (self.clock)(), count: 1 };
        let key = (tenant.clone(), agent.clone());
        {
            let mut recent = self.recent.lock();
            if let Some(known) = recent.get_mut(&key) {
                changed.count += known.since.as_ref().map_or(0, |since| since.count);
                known.since = Some(changed);
                return;
            }
            if recent.len() >= AGENTS_MAX {
                self.metrics.record_dropped();
                return;
            }
            recent.insert(key, Recent { recorded: Instant::now(), since: None });
        }
        self.record(tenant, agent, &changed);
    }

    /// Records in time what agents have changed in the meantime.
    pub async fn keep(self: Arc<Self>, stop: CancellationToken) {
        let ticks = async {
            loop {
                tokio::time::sleep(EVERY).await;
                self.record_all(|recent| recent.recorded.elapsed() >= EVERY);
            }
        };
        stop.run_until_cancelled(ticks).await;
    }

    /// Records all that is left: nothing changes any more.
    pub fn flush(&self) {
        self.record_all(|_| true);
    }

    fn record_all(&self, due: impl Fn(&Recent) -> bool) {
        let mut changes = Vec::new();
        self.recent.lock().retain(|key, recent| {
            if !due(recent) {
                return true;
            }
            let Some(changed) = recent.since.take() else { return false };
            recent.recorded = Instant::now();
            changes.push((key.clone(), changed));
            true
        });
        for ((tenant, agent), changed) in &changes {
            self.record(tenant, agent, changed);
        }
    }

    fn record(&self, tenant: &TenantId, agent: &AgentId, changed: &Changed) {
        let body = Body::Registration(Registration {
            agent: Cow::Borrowed(agent),
            change: changed.change,
            capabilities: Cow::Borrowed(&changed.capabilities),
            changes: changed.count,
        });
        let record = Record::new(changed.at, tenant, &self.node, body);
        if let Err(error) = self.live.record(record.entry(Place::Registration(agent)).into()) {
            self.metrics.record_dropped();
            tracing::warn!(%error, %tenant, %agent, "registration not recorded");
        }
    }
}

#[cfg(test)]
mod tests;
