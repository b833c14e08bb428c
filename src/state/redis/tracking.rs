//! How does a node hear that a tenant's agents changed, and how does it know that it hears?
//!
//! Redis tells of writes to the epoch keys (client tracking in broadcast mode, by prefix). A
//! connection that was lost, even for a moment, has missed some: all is forgotten, and only trusted
//! again when Redis has confirmed the tracking on the new connection. In a cluster each primary tells of
//! its own keys, so there all of them have to.

use std::{collections::HashMap, sync::Arc, time::Duration};

use fred::{
    clients::Client,
    error::Error,
    interfaces::{ClientInterface as _, ClusterInterface as _, TrackingInterface as _},
    prelude::{ClientLike as _, EventInterface as _},
    types::{
        Key,
        client::{Invalidation, Toggle},
        config::Server,
    },
};
use tokio::{
    sync::{Notify, broadcast::error::RecvError},
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    alarm::{Alarm, Forgery},
    refusal::Refusals,
};
use crate::{domain::TenantId, state::Invalidator};

const EPOCH_PREFIX: &str = "agentbus:epoch:";

/// A connection that broke silently, and other primaries of a cluster, are noticed after twice this time.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Tracking is tried again after this time while it fails.
const RETRY_EVERY: Duration = Duration::from_millis(100);

/// Apart from the other keys by its prefix, so that it alone can be listened to; in the same slot.
pub(super) fn epoch_key(tenant: &TenantId) -> Key {
    format!("{EPOCH_PREFIX}{{{tenant}}}").into()
}

/// The tenant of an epoch's key.
fn tenant_of(key: &Key) -> Option<TenantId> {
    let tenant = key.as_str()?.strip_prefix(EPOCH_PREFIX)?.strip_prefix('{')?.strip_suffix('}')?;
    tenant.parse().ok()
}

/// Whoever listens no more, for whatever reason, is not to be trusted.
struct Distrusted<'a>(&'a Invalidator);

impl Drop for Distrusted<'_> {
    fn drop(&mut self) {
        self.0.distrust();
    }
}

/// Feeds the cache until it is dropped. Start it before the client connects.
pub(super) async fn listen(
    client: Client,
    invalidator: Invalidator,
    alarm: Arc<Alarm>,
    refusals: Arc<Refusals>,
    moved: Arc<Notify>,
) {
    let _distrusted = Distrusted(&invalidator);
    let mut invalidations = client.invalidation_rx();
    let mut reconnects = client.reconnect_rx();
    let mut errors = client.error_rx();
    let mut probe = ticks(PROBE_EVERY);
    let mut retry = ticks(RETRY_EVERY);
    let mut tracking = None;
    loop {
        let lost = tokio::select! {
            // In this order: a change is told before a loss is noticed before trust is renewed.
            biased;
            changes = invalidations.recv() => match changes {
                Ok(changes) => {
                    invalidate(&invalidator, &alarm, &changes);
                    false
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "behind with registry changes: cache cleared");
                    invalidator.clear();
                    false
                }
                Err(RecvError::Closed) => {
                    invalidations = client.invalidation_rx();
                    true
                }
            },
            event = errors.recv() => {
                if matches!(event, Err(RecvError::Closed)) {
                    errors = client.error_rx();
                }
                true
            }
            event = reconnects.recv() => {
                if matches!(event, Err(RecvError::Closed)) {
                    reconnects = client.reconnect_rx();
                }
                true
            }
            () = moved.notified() => {
                let _ = timeout(PROBE_EVERY, client.force_reconnection()).await;
                true
            }
            _ = probe.tick(), if tracking.is_some() => !still_told(&client, tracking.as_ref()).await,
            _ = retry.tick(), if tracking.is_none() => {
                tracking = start(&client, &refusals).await;
                if tracking.is_some() {
                    invalidator.trust();
                    tracing::debug!("registry changes are told");
                }
                false
            }
        };
        if lost {
            if tracking.take().is_some() {
                tracing::debug!("registry changes are not told");
            }
            invalidator.distrust();
            retry.reset_immediately();
        }
    }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// The primaries of a cluster that a client is connected to, and the number that each gave the connection: one that
/// was made anew has another. Empty for a server that stands alone.
type Primaries = HashMap<Server, i64>;

/// `None` while there is no connection, or not one to each primary: what changed there nobody would tell.
fn primaries(client: &Client) -> Option<Primaries> {
    if !client.is_connected() {
        return None;
    }
    if !client.is_clustered() {
        return Some(Primaries::new());
    }
    let (connected, needed) =
        (client.connection_ids(), client.cached_cluster_state()?.unique_primary_nodes());
    let told_by_all = !needed.is_empty() && needed.iter().all(|server| connected.contains_key(server));
    told_by_all.then_some(connected)
}

/// Has each server tell. Off first: Redis refuses a prefix that is tracked already on the same connection.
async fn start(client: &Client, refusals: &Refusals) -> Option<Primaries> {
    let primaries = primaries(client)?;
    let on = async {
        if !client.is_clustered() {
            client.stop_tracking().await?;
            client.start_tracking(EPOCH_PREFIX, true, false, false, false).await?;
        }
        // Of a cluster fred would ask one server alone.
        for server in primaries.keys() {
            let (at, none) = (client.with_cluster_node(server), Vec::<&str>::new());
            at.client_tracking::<(), _, _>(Toggle::Off, None, none, false, false, false, false).await?;
            at.client_tracking::<(), _, _>(Toggle::On, None, EPOCH_PREFIX, true, false, false, false).await?;
        }
        Ok::<_, Error>(())
    };
    let on = on.await.inspect_err(|error| {
        tracing::debug!(%error, "tracking not started");
        refusals.note(error);
    });
    on.is_ok().then_some(primaries)
}

/// Whether those who were asked to tell still can, and are all that there are.
async fn still_told(client: &Client, told_by: Option<&Primaries>) -> bool {
    let answers = async {
        if !client.is_clustered() {
            return client.ping::<()>(None).await;
        }
        client.sync_cluster().await?;
        for server in told_by.into_iter().flat_map(Primaries::keys) {
            client.with_cluster_node(server).ping::<()>(None).await?;
        }
        Ok(())
    };
    // fred tries without end to reach each server of a cluster.
    let answers = timeout(PROBE_EVERY, answers).await;
    matches!(answers, Ok(Ok(()))) && primaries(client).as_ref() == told_by
}

fn invalidate(invalidator: &Invalidator, alarm: &Alarm, changes: &Invalidation) {
    if changes.keys.is_empty() {
        // The server forgot all keys. fred 10.1 drops this word in RESP3 (it looks for a list and
        // Redis sends null), so until it does not, the check of the epochs finds out.
        invalidator.clear();
    }
    for key in &changes.keys {
        match tenant_of(key) {
            Some(tenant) => invalidator.tenant_changed(&tenant),
            // No node writes it, so it says nothing of what nodes have written.
            None => alarm.raise(Forgery::Change, 1),
        }
    }
}
