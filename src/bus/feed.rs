//! A consumer that the deliberations of every tenant have, pulled for all tenants: a loop for each, each
//! message a task.
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

use async_nats::{
    Client, Message as NatsMessage,
    connection::State,
    jetstream::{self, AckKind, Context, Message},
};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    each_tenant::{self, Pause, Presence, Served},
    pulls::{Ended, Pulls, Said, TELL_WITHIN},
};
use crate::{domain::TenantId, shutdown::Shutdown, supervisor::Supervisor, tenants::names};

/// The server ends a pull after this.
const EXPIRES: Duration = Duration::from_secs(30);
/// A loop looks whether its pull was lost with a connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What waits for room on the node says so this often: well below the consumer's `ack_wait`.
const STILL_HERE: Duration = Duration::from_secs(10);

/// One consumer of all tenants' streams of deliberations.
pub(super) struct Feed {
    context: Context,
    client: Client,
    consumer: &'static str,
    /// Messages of one tenant in hand at one time.
    share: usize,
    /// Messages of all tenants that are worked on at one time.
    room: Arc<Semaphore>,
    /// Tenants whose consumer is not there.
    absent: AtomicUsize,
}

impl Feed {
    pub(super) fn new(client: Client, consumer: &'static str, share: usize, room: usize) -> Arc<Self> {
        let context = jetstream::new(client.clone());
        let (room, absent) = (Arc::new(Semaphore::new(room)), AtomicUsize::new(0));
        Arc::new(Self { context, client, consumer, share, room, absent })
    }

    /// Tenants of the directory whose consumer is not there: not provisioned (yet).
    pub(super) fn absent(&self) -> usize {
        self.absent.load(Ordering::Relaxed)
    }

    /// Hands out messages until the shutdown. What was begun then is finished, what was not is given back.
    /// `handle` acknowledges, or gives back.
    pub(super) fn start<H, F>(
        self: &Arc<Self>,
        name: &'static str,
        served: Served,
        shutdown: &Shutdown,
        supervisor: &Supervisor,
        handle: H,
    ) where
        H: Fn(Message) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (feed, tasks) = (Arc::clone(self), shutdown.tracker().clone());
        let begin = move |tenant, stop| Arc::clone(&feed).serve(tenant, stop, tasks.clone(), handle.clone());
        each_tenant::keep(name, served, shutdown, supervisor, begin);
    }

    /// One tenant's loop, begun again whenever it ends, until the tenant goes or the node stops.
    async fn serve<H, F>(
        self: Arc<Self>,
        tenant: TenantId,
        stop: CancellationToken,
        tasks: TaskTracker,
        handle: H,
    ) where
        H: Fn(Message) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let stream = names::deliberations_stream(&tenant);
        let mut presence = Presence::new("deliberations", &tenant, &self.absent);
        let mut pause = Pause::default();
        while !stop.is_cancelled() {
            let mut pulling = Pulling {
                feed: &self,
                subject: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", self.consumer),
                share: Arc::new(Semaphore::new(self.share)),
                pulls: Pulls::new(EXPIRES),
                connects: 0,
            };
            let ended = pulling.run(&stop, &tasks, &handle, &mut presence).await;
            match ended {
                Ended::Stopped => return,
                Ended::Absent => presence.is_absent(),
                Ended::Failed(cause) => {
                    tracing::warn!(%tenant, consumer = self.consumer, cause, "pulled from anew");
                }
            }
            pause.wait(pulling.pulls.was_served(), &stop).await;
        }
    }

    /// Waits for a place on the node, and keeps the server from giving the message to another meanwhile. The
    /// semaphore is fair, and each who is before it works for a bounded time. `None`: the node stops.
    async fn place(&self, message: &Message, stop: &CancellationToken) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.room).acquire_owned();
        tokio::pin!(place);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                place = &mut place => return place.ok(),
                () = tokio::time::sleep(STILL_HERE) => tell(message, AckKind::Progress).await,
            }
        }
    }
}

/// One pull at a time, for as much as the tenant has free of its share.
struct Pulling<'a> {
    feed: &'a Arc<Feed>,
    subject: String,
    share: Arc<Semaphore>,
    pulls: Pulls,
    /// Connections of the client so far: a pull is lost with its connection.
    connects: u64,
}

impl Pulling<'_> {
    async fn run<H, F>(
        &mut self,
        stop: &CancellationToken,
        tasks: &TaskTracker,
        handle: &H,
        presence: &mut Presence<'_>,
    ) -> Ended
    where
        H: Fn(Message) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let client = &self.feed.client;
        let inbox = client.new_inbox();
        let mut messages = match client.subscribe(format!("{inbox}.*")).await {
            Ok(messages) => messages,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        // A pull for one message after the other would be a question for each.
        let worth = u32::try_from(self.feed.share.div_ceil(2)).unwrap_or(1);
        let share = Arc::clone(&self.share);
        let ended = loop {
            let may_ask =
                self.pulls.outstanding() == 0 && !self.pulls.refused(Instant::now()) && self.connected();
            tokio::select! {
                biased;
                () = stop.cancelled() => break Ended::Stopped,
                Ok(free) = share.acquire_many(worth), if may_ask => {
                    drop(free);
                    if let Err(cause) = self.ask(&inbox).await {
                        break Ended::Failed(cause);
                    }
                }
                message = messages.next() => match message {
                    None => break Ended::Failed("the subscription has ended".to_owned()),
                    Some(message) => match message.status.map(|status| self.pulls.told(status, &message)) {
                        Some(Said::Absent) => break Ended::Absent,
                        Some(Said::Served) => presence.is_there(),
                        Some(Said::Nothing) => {}
                        None => {
                            self.pulls.arrived();
                            presence.is_there();
                            self.hand_out(message, stop, tasks, handle).await;
                        }
                    },
                },
                () = tokio::time::sleep(LOOK_EVERY) => self.look(Instant::now()),
            }
        };
        let context = &self.feed.context;
        let back = |message, _| {
            let message = Message { message, context: context.clone() };
            async move { tell(&message, AckKind::Nak(None)).await }
        };
        self.pulls.give_back(messages, back).await;
        ended
    }

    fn connected(&self) -> bool {
        self.feed.client.connection_state() == State::Connected
    }

    async fn ask(&mut self, inbox: &str) -> Result<(), String> {
        self.connects = self.feed.client.statistics().connects.load(Ordering::Relaxed);
        let batch = self.share.available_permits();
        self.pulls.ask(&self.feed.client, &self.subject, inbox, batch, Instant::now()).await
    }

    /// Forgets a pull that nobody fills any more.
    fn look(&mut self, now: Instant) {
        self.pulls.expire(now);
        if self.feed.client.statistics().connects.load(Ordering::Relaxed) != self.connects {
            self.pulls.forget();
        }
    }

    async fn hand_out<H, F>(
        &self,
        message: NatsMessage,
        stop: &CancellationToken,
        tasks: &TaskTracker,
        handle: &H,
    ) where
        H: Fn(Message) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let message = Message { message, context: self.feed.context.clone() };
        // More than was asked for: a pull that was taken for lost was not.
        let Ok(slot) = Arc::clone(&self.share).try_acquire_owned() else {
            tell(&message, AckKind::Nak(None)).await;
            return;
        };
        let (feed, stop, handle) = (Arc::clone(self.feed), stop.clone(), handle.clone());
        tasks.spawn(async move {
            match feed.place(&message, &stop).await {
                Some(_place) => handle(message).await,
                None => tell(&message, AckKind::Nak(None)).await,
            }
            drop(slot);
        });
    }
}

/// Tells the consumer. If that is lost, it gives the message to somebody after its `ack_wait`.
pub(super) async fn tell(message: &Message, kind: AckKind) {
    match tokio::time::timeout(TELL_WITHIN, message.ack_with(kind)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "not acknowledged"),
        Err(_) => tracing::debug!("not acknowledged: NATS takes nothing"),
    }
}
