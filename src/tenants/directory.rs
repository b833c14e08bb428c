//! Who are the tenants right now? A node's own copy, kept up to date.
//!
//! A node that starts before anything was provisioned waits: [`Directory::is_ready`] is false and
//! every tenant unknown, so it serves nobody. Once it has read the whole list it stays ready; when
//! the connection is lost it keeps the last list, for the accounts guard the tenants meanwhile.
//!
//! The server nudges when a tenant changed. A nudge can be lost, so the version is looked at every
//! few seconds as well; the whole list is read only when it differs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use async_nats::{
    Client,
    jetstream::{self, Context},
};
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use rand::Rng;
use tokio::{sync::watch, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{error, info, warn};

use crate::domain::{Tenant, TenantId, TenantLimits, Weights, id::shown};

use super::{
    names::TENANTS_CHANGED,
    plan::{TENANT_BYTES_MAX, TENANTS_MAX},
    published::{self, Published, Version},
};

/// For one answer of JetStream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);
/// How often the version is looked at without a nudge.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Nudges within this share one reading.
const GATHER: Duration = Duration::from_millis(50);

type Tenants = HashMap<TenantId, Arc<Tenant>>;

/// All tenants of the bus, as last published. Cheap to read, from any task.
#[derive(Debug)]
pub struct Directory {
    tenants: ArcSwap<Tenants>,
    ready: watch::Sender<bool>,
}

impl Directory {
    /// Empty, and not ready.
    pub fn new() -> Arc<Directory> {
        Arc::new(Directory { tenants: ArcSwap::default(), ready: watch::Sender::new(false) })
    }

    /// Follows what is published, until the future is dropped.
    pub async fn follow(self: &Arc<Self>, client: &Client) {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_TIMEOUT);
        Keeper { client: client.clone(), context, directory: Arc::clone(self) }.run().await;
    }

    /// Begins to follow, in a task of `tasks` that ends with `stop`. Returns at once, not ready.
    pub fn watch(client: &Client, stop: CancellationToken, tasks: &TaskTracker) -> Arc<Directory> {
        let (directory, client) = (Directory::new(), client.clone());
        let followed = Arc::clone(&directory);
        tasks.spawn(async move { stop.run_until_cancelled(followed.follow(&client)).await });
        directory
    }

    pub fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        self.tenants.load().get(id).cloned()
    }

    pub fn tenants(&self) -> Arc<HashMap<TenantId, Arc<Tenant>>> {
        self.tenants.load_full()
    }

    /// The whole list was read at least once.
    pub fn is_ready(&self) -> bool {
        *self.ready.borrow()
    }

    /// Waits until [`Directory::is_ready`]; the caller bounds the wait.
    pub async fn ready(&self) {
        // Cannot fail: the sender lives in `self`.
        let _ = self.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

/// The task that keeps the directory.
struct Keeper {
    client: Client,
    context: Context,
    directory: Arc<Directory>,
}

impl Keeper {
    async fn run(&self) {
        let mut known = None;
        let mut wait = RETRY_MIN;
        loop {
            let cause = self.follow(&mut known, &mut wait).await;
            // Once per wait, soon every five seconds: a bus without tenants must be heard.
            warn!(%cause, retry_in = ?wait, "tenants cannot be read");
            // Jitter, so that many nodes do not ask at one instant.
            let share = rand::rng().random_range(0.5..1.0);
            time::sleep(wait.mul_f64(share)).await;
            wait = RETRY_MAX.min(wait * 2);
        }
    }

    /// Follows changes until something fails, and says what.
    async fn follow(&self, known: &mut Option<Version>, wait: &mut Duration) -> String {
        // Before the first look, so that no change falls between the two.
        let mut nudges = match self.client.subscribe(TENANTS_CHANGED).await {
            Ok(nudges) => nudges,
            Err(error) => return error.to_string(),
        };
        loop {
            match published::read(&self.context, *known).await {
                Ok(Some(Published { version, entries })) => {
                    self.publish(tenants(entries));
                    *known = Some(version);
                }
                Ok(None) => {}
                Err(error) => return error.to_string(),
            }
            *wait = RETRY_MIN;
            match time::timeout(CHECK_INTERVAL, nudges.next()).await {
                Ok(None) => return "the connection is closed".to_owned(),
                Ok(Some(_)) => {
                    time::sleep(GATHER).await;
                    // At most what the subscription can hold.
                    while let Some(Some(_)) = nudges.next().now_or_never() {}
                }
                Err(_) => {}
            }
        }
    }

    fn publish(&self, tenants: Tenants) {
        if **self.directory.tenants.load() != tenants {
            info!(tenants = tenants.len(), "tenants changed");
            self.directory.tenants.store(Arc::new(tenants));
        }
        self.directory.ready.send_if_modified(|ready| !std::mem::replace(ready, true));
    }
}

/// What can be read of what was published. The rest stays unknown, and unknown is never allowed.
fn tenants(entries: BTreeMap<String, Bytes>) -> Tenants {
    let mut tenants = Tenants::new();
    for (key, json) in entries {
        if tenants.len() == TENANTS_MAX {
            error!(limit = TENANTS_MAX, "too many tenants, the last in order are left out");
            break;
        }
        match read(&key, &json) {
            Ok(tenant) => {
                tenants.insert(tenant.id.clone(), Arc::new(tenant));
            }
            Err(cause) => {
                error!(key = %shown(&key), %cause, "a published tenant cannot be read, it is unknown");
            }
        }
    }
    tenants
}

fn read(key: &str, json: &[u8]) -> Result<Tenant, String> {
    if json.len() > TENANT_BYTES_MAX {
        return Err(format!("{} bytes, at most {TENANT_BYTES_MAX}", json.len()));
    }
    let tenant: Tenant = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    if tenant.id.as_str() != key {
        return Err(format!("it says it is {}", tenant.id));
    }
    // As `Plan` checks it: whoever published this may have been another version, or no `apply` at all.
    let TenantLimits { deliberation_threshold: threshold, report_lift_max, weights, .. } = &tenant.limits;
    if !(0.0..=1.0).contains(threshold) {
        return Err(format!("limits.deliberation_threshold is {threshold}, expected 0 to 1"));
    }
    if let Some(found) = report_lift_max.filter(|found| !(0.0..=1.0).contains(found)) {
        return Err(format!("limits.report_lift_max is {found}, expected 0 to 1"));
    }
    weights.as_ref().map_or(Ok(()), Weights::check).map_err(|cause| format!("limits.weights: {cause}"))?;
    tenant.deliberation.check().map_err(|cause| format!("deliberation.{cause}"))?;
    Ok(tenant)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_entry_without_weights_reads_and_one_that_makes_no_score_is_refused() {
        let entry = |limits: &str| read("acme", format!(r#"{{"id":"acme","limits":{limits}}}"#).as_bytes());
        assert_eq!(entry(r#"{"agents":7,"deliberation_threshold":0.5}"#).unwrap().limits.weights, None);
        let weights = entry(r#"{"weights":{"semantic":0.5}}"#).unwrap().limits.weights;
        assert_eq!(weights, Some(Weights { semantic: 0.5, ..Weights::default() }));
        for (limits, expected) in [
            (r#"{"weights":{"volume":-1}}"#, "the weight of volume is -1"),
            (r#"{"weights":{"volume":1e300}}"#, "the weight of volume is"),
            (r#"{"weights":{"words":1}}"#, "unknown field `words`"),
            (r#"{"weights":7}"#, "invalid type"),
            (r#"{"deliberation_threshold":1.5}"#, "1.5, expected 0 to 1"),
            (r#"{"report_lift_max":-1}"#, "limits.report_lift_max is -1, expected 0 to 1"),
        ] {
            let cause = entry(limits).unwrap_err();
            assert!(cause.contains(expected), "{cause:?} does not say {expected:?}");
        }
        let cause = read("acme", br#"{"id":"acme","deliberation":{"open_max":0}}"#).unwrap_err();
        assert!(cause.contains("deliberation.open_max must be 1 to"), "{cause:?}");
    }
}
