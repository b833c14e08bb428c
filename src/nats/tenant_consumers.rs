//! A consumer that every tenant has, of its deliberations or of its durable inboxes, pulled for all tenants: a loop for
//! each, each message a task.
//!
//! A pull of a quiet tenant waits long at the server, so that many of them cost little. A tenant has a share
//! of the node, and what it has circulating is in a consumer of its own: it delays nobody else's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{Client, Message, jetstream::AckKind};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    each_tenant::{self, Served},
    jetstream::{
        acknowledge::acknowledge,
        consumer::{Consumer, Handler, Slot},
        delivery_info::DeliveryInfo,
    },
};
use crate::{domain::TenantId, shutdown::Shutdown, supervisor::Supervisor, tenants::names};

/// The server ends a pull after this.
const EXPIRES: Duration = Duration::from_secs(30);
/// A loop looks whether its pull was lost with a connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What waits for room on the node says so this often: well below the consumer's `ack_wait`.
const STILL_HERE: Duration = Duration::from_secs(10);

/// What is pulled from: in words, which stream of a tenant, and the consumer that each of these has.
#[derive(Clone, Copy)]
pub(super) struct Source {
    pub(super) what: &'static str,
    pub(super) stream: fn(&TenantId) -> String,
    pub(super) consumer: &'static str,
}

impl Source {
    pub(super) fn deliberations(consumer: &'static str) -> Self {
        Self { what: "deliberations", stream: names::deliberations_stream, consumer }
    }
}

/// One consumer of all tenants' streams of one kind.
pub(super) struct TenantConsumers {
    client: Client,
    from: Source,
    /// Messages of one tenant in hand at one time.
    share: usize,
    /// Messages of all tenants that are worked on at one time.
    room: Semaphore,
    /// Tenants whose consumer is not there.
    absent: AtomicUsize,
}

/// An event that JetStream has handed to this node.
pub(super) struct Event {
    pub(super) message: Message,
    /// From 1.
    pub(super) attempt: u64,
}

impl TenantConsumers {
    pub(super) fn new(client: Client, from: Source, share: usize, room: usize) -> Arc<Self> {
        let (room, absent) = (Semaphore::new(room), AtomicUsize::new(0));
        Arc::new(Self { client, from, share, room, absent })
    }

    /// Tenants of the directory whose consumer is not there: not provisioned (yet).
    pub(super) fn absent(&self) -> usize {
        self.absent.load(Ordering::Relaxed)
    }

    /// Hands out messages until the shutdown. What was begun then is finished, what was not is given back.
    /// `handle` says what to tell the consumer.
    pub(super) fn start<H, F>(
        self: &Arc<Self>,
        name: &'static str,
        served: Served,
        shutdown: &Shutdown,
        supervisor: &Supervisor,
        handle: H,
    ) where
        H: Fn(Event) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = AckKind> + Send + 'static,
    {
        let (consumers, tasks) = (Arc::clone(self), shutdown.tracker().clone());
        let begin =
            move |tenant, stop| Arc::clone(&consumers).serve(tenant, stop, tasks.clone(), handle.clone());
        each_tenant::keep(name, served, shutdown, supervisor, begin);
    }

    /// One tenant's loop, until the tenant goes or the node stops.
    async fn serve<H, F>(
        self: Arc<Self>,
        tenant: TenantId,
        stop: CancellationToken,
        tasks: TaskTracker,
        handle: H,
    ) where
        H: Fn(Event) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = AckKind> + Send + 'static,
    {
        let consumer = Consumer {
            client: self.client.clone(),
            stream: (self.from.stream)(&tenant),
            name: self.from.consumer,
            share: self.share,
            expires: EXPIRES,
            look_every: LOOK_EVERY,
        };
        let events = || Events { consumers: &self, tasks: &tasks, handle: &handle };
        consumer.serve(self.from.what, &tenant, &self.absent, &stop, events).await;
    }

    /// Waits for a place on the node, and keeps the server from giving the message to another meanwhile. The
    /// semaphore is fair, and each who is before it works for a bounded time. `None`: the node stops.
    async fn place(&self, message: &Message, stop: &CancellationToken) -> Option<SemaphorePermit<'_>> {
        let place = self.room.acquire();
        tokio::pin!(place);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                place = &mut place => return place.ok(),
                () = tokio::time::sleep(STILL_HERE) => self.acknowledge(message, AckKind::Progress).await,
            }
        }
    }

    async fn acknowledge(&self, message: &Message, kind: AckKind) {
        if let Some(reply) = message.reply.clone() {
            acknowledge(&self.client, reply, kind).await;
        }
    }
}

/// One tenant's events. One pull at a time, for as much as it has free of its share.
struct Events<'a, H> {
    consumers: &'a Arc<TenantConsumers>,
    tasks: &'a TaskTracker,
    handle: &'a H,
}

impl<H, F> Handler for Events<'_, H>
where
    H: Fn(Event) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = AckKind> + Send + 'static,
{
    type Outcome = ();

    fn wanted(&mut self, in_hand: usize, outstanding: usize, _: Instant) -> usize {
        let free = self.consumers.share.saturating_sub(in_hand);
        // A pull for one message after the other would be a question for each.
        let worth = self.consumers.share.div_ceil(2);
        if outstanding == 0 && free >= worth { free } else { 0 }
    }

    async fn take(&mut self, message: Message, slot: Slot<()>, stop: &CancellationToken) {
        let (consumers, stop, handle) = (Arc::clone(self.consumers), stop.clone(), self.handle.clone());
        self.tasks.spawn(async move {
            let kind = match consumers.place(&message, &stop).await {
                Some(_place) => {
                    let delivery = message.reply.as_deref().and_then(DeliveryInfo::read);
                    let attempt = delivery.map_or(1, |delivery| delivery.attempt);
                    handle(Event { message: message.clone(), attempt }).await
                }
                None => AckKind::Nak(None),
            };
            consumers.acknowledge(&message, kind).await;
            drop(slot);
        });
    }

    async fn give_back(&self, message: Message) {
        self.consumers.acknowledge(&message, AckKind::Nak(None)).await;
    }
}
