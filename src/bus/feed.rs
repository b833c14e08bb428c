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
    Client, Message as NatsMessage, StatusCode, Subscriber,
    connection::State,
    jetstream::{self, AckKind, Context, Message},
};
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::each_tenant::{Pause, Presence, follow};
use crate::{domain::TenantId, shutdown::Shutdown, tenants::Directory, tenants::names};

/// The server ends a pull after this.
const EXPIRES: Duration = Duration::from_secs(30);
/// Then an end that was not heard is assumed.
const GRACE: Duration = Duration::from_secs(2);
/// A loop looks whether its pull was lost with a connection.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A pull that the server refused is not repeated before the look after this.
const REFUSED_FOR: Duration = Duration::from_millis(250);
/// What waits for room on the node says so this often: well below the consumer's `ack_wait`.
const STILL_HERE: Duration = Duration::from_secs(10);
/// Nothing for so long: what had been pulled has come.
const QUIET: Duration = Duration::from_millis(50);
/// A stopping node reads what had been pulled for so long.
const LAST_WITHIN: Duration = Duration::from_secs(1);
/// For a word to the server, when it takes nothing.
const TELL_WITHIN: Duration = Duration::from_secs(2);

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

/// How a loop ended.
enum Ended {
    Stopped,
    /// There is no stream, or no consumer.
    Absent,
    Failed(String),
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
    pub(super) fn start<H, F>(self: &Arc<Self>, directory: Arc<Directory>, shutdown: &Shutdown, handle: H)
    where
        H: Fn(Message) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let (feed, tasks) = (Arc::clone(self), shutdown.tracker().clone());
        let begin = move |tenant, stop| Arc::clone(&feed).serve(tenant, stop, tasks.clone(), handle.clone());
        shutdown.tracker().spawn(follow(directory, shutdown.clone(), begin));
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
                pull: None,
                pulls: 0,
                connects: 0,
                refused_until: None,
                served: false,
            };
            let ended = pulling.run(&stop, &tasks, &handle, &mut presence).await;
            match ended {
                Ended::Stopped => return,
                Ended::Absent => presence.is_absent(),
                Ended::Failed(cause) => {
                    tracing::warn!(%tenant, consumer = self.consumer, cause, "pulled from anew");
                }
            }
            pause.wait(pulling.served, &stop).await;
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
    pull: Option<Pull>,
    /// Pulls so far, which number them.
    pulls: u64,
    /// Connections of the client so far: a pull is lost with its connection.
    connects: u64,
    refused_until: Option<Instant>,
    /// Whether JetStream has answered as it does when there is a consumer.
    served: bool,
}

/// A pull under way.
struct Pull {
    left: usize,
    until: Instant,
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
            let may_ask = self.pull.is_none() && self.refused_until.is_none() && self.connected();
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
                    Some(message) => {
                        if self.is_absent(&message) {
                            break Ended::Absent;
                        }
                        if self.served {
                            presence.is_there();
                        }
                        if message.status.is_none() {
                            self.hand_out(message, stop, tasks, handle).await;
                        }
                    }
                },
                () = tokio::time::sleep(LOOK_EVERY) => self.look(Instant::now()),
            }
        };
        self.give_back(messages).await;
        ended
    }

    fn connected(&self) -> bool {
        self.feed.client.connection_state() == State::Connected
    }

    async fn ask(&mut self, inbox: &str) -> Result<(), String> {
        let batch = self.share.available_permits();
        self.pulls += 1;
        self.connects = self.feed.client.statistics().connects.load(Ordering::Relaxed);
        self.pull = Some(Pull { left: batch, until: Instant::now() + EXPIRES + GRACE });
        let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let body = json!({ "batch": batch, "expires": expires }).to_string();
        let reply = format!("{inbox}.{}", self.pulls);
        let sent = self.feed.client.publish_with_reply(self.subject.clone(), reply, body.into());
        match tokio::time::timeout(TELL_WITHIN, sent).await {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err("NATS takes nothing".to_owned()),
        }
    }

    /// Forgets a pull that nobody fills any more.
    fn look(&mut self, now: Instant) {
        let connects = self.feed.client.statistics().connects.load(Ordering::Relaxed);
        self.pull.take_if(|pull| pull.until <= now || connects != self.connects);
        self.refused_until.take_if(|until| *until <= now);
    }

    /// Notes what the server says of a pull, or that it fills it. `true`: there is no consumer.
    fn is_absent(&mut self, message: &NatsMessage) -> bool {
        let Some(status) = message.status else {
            self.served = true;
            if let Some(pull) = &mut self.pull {
                pull.left = pull.left.saturating_sub(1);
            }
            self.pull.take_if(|pull| pull.left == 0);
            return false;
        };
        let number: Option<u64> = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        self.pull.take_if(|_| number == Some(self.pulls));
        match status {
            StatusCode::NO_RESPONDERS => true,
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => {
                self.served = true;
                false
            }
            _ => {
                let why = message.description.as_deref().unwrap_or_default();
                tracing::debug!(%status, why, "a pull has ended");
                self.refused_until = Some(Instant::now() + REFUSED_FOR);
                why.eq_ignore_ascii_case("consumer deleted")
            }
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

    /// What was pulled and not begun is for other nodes, now and not when JetStream misses it.
    async fn give_back(&mut self, mut messages: Subscriber) {
        let deadline = Instant::now() + LAST_WITHIN;
        while self.pull.is_some() && Instant::now() < deadline {
            let Ok(Some(message)) = tokio::time::timeout(QUIET, messages.next()).await else { break };
            if message.status.is_none() {
                let message = Message { message, context: self.feed.context.clone() };
                tell(&message, AckKind::Nak(None)).await;
            }
        }
        // Without interest the server forgets what is left of the pull.
        if let Err(error) = messages.unsubscribe().await {
            tracing::debug!(%error, "not unsubscribed");
        }
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
