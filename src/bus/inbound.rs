//! What waits on the durable lane, pulled and governed: one loop for each tenant, each message a task.
//!
//! Nothing is shed: what finds no room is not pulled. A tenant has a share of the node, so that its
//! backlog does not starve another's. An acknowledgement goes out plainly, without waiting for an answer:
//! if it is lost the message comes again, and what is stored for it shows that it is done.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use rand::Rng as _;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    bus::JetStreamLane, domain::TenantId, pipeline::Pipeline, shutdown::Shutdown, telemetry::Metrics,
    tenants::Directory,
};

mod delivery;
mod pace;
mod pulling;
mod pulls;
mod task;

use pulling::{Ended, Pulling};

/// How often the directory is looked at for tenants that came or went.
const FOLLOW_EVERY: Duration = Duration::from_millis(500);
/// A tenant without its streams is asked for again after this, doubling.
const ABSENT_MIN: Duration = Duration::from_millis(500);
const ABSENT_MAX: Duration = Duration::from_secs(15);

/// Takes in what waits on the durable lane, for all tenants.
pub struct Inbound {
    lane: Arc<JetStreamLane>,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    /// Messages of one tenant in hand at one time.
    share: usize,
    /// Messages of all tenants in hand at one time.
    room: Arc<Semaphore>,
    /// Tenants whose streams are not there.
    absent: AtomicUsize,
}

impl Inbound {
    /// With half the node's places in flight, and half a tenant's: the fast lane has the rest.
    pub fn new(
        lane: Arc<JetStreamLane>,
        pipeline: Arc<Pipeline>,
        in_flight: usize,
        in_flight_per_tenant: usize,
    ) -> Self {
        let metrics = Arc::clone(&pipeline.metrics);
        Self {
            lane,
            pipeline,
            metrics,
            share: (in_flight_per_tenant / 2).max(1),
            room: Arc::new(Semaphore::new((in_flight / 2).max(1))),
            absent: AtomicUsize::new(0),
        }
    }

    /// Tenants of the directory whose streams are not there: not provisioned (yet).
    pub fn absent(&self) -> usize {
        self.absent.load(Ordering::Relaxed)
    }

    /// Follows the directory until the shutdown, with a loop for every tenant.
    pub fn start(self: &Arc<Self>, directory: Arc<Directory>, shutdown: &Shutdown) {
        shutdown.tracker().spawn(Arc::clone(self).follow(directory, shutdown.clone()));
    }

    async fn follow(self: Arc<Self>, directory: Arc<Directory>, shutdown: Shutdown) {
        let mut loops: HashMap<TenantId, CancellationToken> = HashMap::new();
        let mut seen = None;
        while !shutdown.is_requested() {
            let tenants = directory.tenants();
            if !seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, &tenants)) {
                loops.retain(|tenant, stop| {
                    let stays = tenants.contains_key(tenant);
                    if !stays {
                        stop.cancel();
                    }
                    stays
                });
                for tenant in tenants.keys() {
                    if !loops.contains_key(tenant) {
                        let stop = shutdown.token().child_token();
                        loops.insert(tenant.clone(), stop.clone());
                        let serving = Arc::clone(&self).serve(tenant.clone(), stop, shutdown.clone());
                        shutdown.tracker().spawn(serving);
                    }
                }
                seen = Some(tenants);
            }
            tokio::select! {
                () = tokio::time::sleep(FOLLOW_EVERY) => {}
                () = shutdown.requested() => {}
            }
        }
    }

    /// One tenant's loop, begun again whenever it ends, until the tenant goes or the node stops.
    async fn serve(self: Arc<Self>, tenant: TenantId, stop: CancellationToken, shutdown: Shutdown) {
        let mut presence = Presence { inbound: &self, tenant: &tenant, absent: false };
        let mut wait = ABSENT_MIN;
        while !stop.is_cancelled() {
            let mut pulling = Pulling::new(Arc::clone(&self), &tenant, shutdown.tracker().clone());
            let ended = pulling.run(&stop, &mut presence).await;
            match ended {
                Ended::Stopped => return,
                Ended::Absent => presence.is_absent(),
                Ended::Failed(cause) => tracing::warn!(%tenant, cause, "the lane is pulled from anew"),
            }
            let jittered = wait.mul_f64(rand::rng().random_range(0.5..1.0));
            wait = if pulling.was_served() { ABSENT_MIN } else { ABSENT_MAX.min(wait * 2) };
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Whether a tenant's streams are there, told once when that changes.
struct Presence<'a> {
    inbound: &'a Inbound,
    tenant: &'a TenantId,
    absent: bool,
}

impl Presence<'_> {
    fn is_absent(&mut self) {
        if !std::mem::replace(&mut self.absent, true) {
            self.inbound.absent.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(tenant = %self.tenant, "its durable lane is not there; apply the tenants to make it");
        }
    }

    fn is_there(&mut self) {
        if std::mem::replace(&mut self.absent, false) {
            self.inbound.absent.fetch_sub(1, Ordering::Relaxed);
            tracing::info!(tenant = %self.tenant, "its durable lane is there");
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if self.absent {
            self.inbound.absent.fetch_sub(1, Ordering::Relaxed);
        }
    }
}
