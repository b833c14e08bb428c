//! What waits on the durable lane, pulled and governed: one loop for each tenant, each message a task.
//!
//! Nothing is shed: what finds no room is not pulled, and while the node refuses requests for want of room hardly
//! anything is. A tenant has a share of the node, so that its
//! backlog does not starve another's. An acknowledgement goes out plainly, without waiting for an answer:
//! if it is lost the message comes again, and what is stored for it shows that it is done.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{
    Bus,
    each_tenant::{self, Served},
    jetstream::consumer::Consumer,
};
use crate::{
    domain::TenantId,
    lanes::Lanes,
    nats::JetStreamLane,
    shutdown::Shutdown,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{Directory, names},
};

mod pace;
mod pulling;
mod task;

use pulling::Waiting;

/// Takes in what waits on the durable lane, for all tenants.
pub struct Inbound {
    bus: Arc<Bus>,
    lane: Arc<JetStreamLane>,
    lanes: Arc<Lanes>,
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
        bus: Arc<Bus>,
        lane: Arc<JetStreamLane>,
        in_flight: usize,
        in_flight_per_tenant: usize,
    ) -> Self {
        let (lanes, metrics) = (Arc::clone(&bus.lanes), Arc::clone(&bus.lanes.metrics));
        Self {
            bus,
            lane,
            lanes,
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
    pub fn start(self: &Arc<Self>, directory: Arc<Directory>, shutdown: &Shutdown, supervisor: &Supervisor) {
        let (inbound, serving) = (Arc::clone(self), shutdown.clone());
        let begin = move |tenant, stop| Arc::clone(&inbound).serve(tenant, stop, serving.clone());
        let skew = self.lanes.skew.clone();
        each_tenant::keep("lane", Served { directory, skew }, shutdown, supervisor, begin);
    }

    /// One tenant's loop, until the tenant goes or the node stops.
    async fn serve(self: Arc<Self>, tenant: TenantId, stop: CancellationToken, shutdown: Shutdown) {
        let consumer = Consumer {
            client: self.lane.client().clone(),
            stream: names::inbound_stream(&tenant),
            name: names::NODES_CONSUMER,
            share: self.share,
            expires: pulling::EXPIRES,
            look_every: pulling::LOOK_EVERY,
        };
        let waiting = || Waiting::new(Arc::clone(&self), &tenant, shutdown.tracker().clone());
        consumer.serve("durable lane", &tenant, &self.absent, &stop, waiting).await;
    }
}
