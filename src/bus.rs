//! NATS: takes requests in, hands them to the pipeline or the registry, answers, and drains.
//!
//! Owns async-nats. The subscriber loops only take in or shed; all work is in tracked tasks.

use std::{sync::Arc, time::Duration, time::Instant};

use async_nats::{Client, ConnectOptions, Event, HeaderMap, Message as NatsMessage, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config,
    domain::{Reason, Status, Verb},
    pipeline::{
        Answer, Pipeline, Request,
        backoff::{doubling, jittered},
    },
    rejection::Rejection,
    shutdown::Shutdown,
    telemetry::Metrics,
    tenants::{self, BusUser, Seed, User, names},
    wire,
};

mod agents;
mod answers;
mod clerk;
mod deliberations;
mod each_tenant;
mod feed;
mod fill;
mod heads;
mod hooks;
mod inbound;
mod lane;
mod lists;
mod micro;
mod outbox;
mod pulls;
mod reviewers;
pub(crate) mod subjects;
mod thresholds;

pub use agents::Agents;
pub use clerk::Clerk;
pub use deliberations::Deliberations;
pub use fill::Fill;
pub use hooks::Hooks;
pub use inbound::Inbound;
pub use lane::JetStreamLane;
pub use lists::Lists;
pub use micro::Micro;
pub use outbox::Outbox;
pub use reviewers::Reviewers;
pub use thresholds::Thresholds;

/// Requests that a stopping node still takes: more than the server can have sent and it not have read.
const LAST_REQUESTS: u64 = 2048;
const LAST_REQUESTS_WITHIN: Duration = Duration::from_secs(2);
/// Answers to requests that found no room, on their way at one time. NATS may take nothing at all, and
/// then more would only wait as well.
const SHEDDING_MAX: usize = 256;
/// Nothing for so long, and the odds that a request comes within the next round trip are small.
const QUIET: Duration = Duration::from_millis(50);

/// Why the bus did not start.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("nats.nkey_file: {0}")]
    Key(#[from] tenants::keys::KeysError),
    #[error("cannot connect to NATS at {url}: {cause}")]
    Connect { url: String, cause: async_nats::ConnectError },
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("cannot start the outbox's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Connects as a node to take requests in.
pub async fn connect(
    name: &str,
    settings: &config::Nats,
    capacity: usize,
    metrics: Arc<Metrics>,
) -> Result<Client, BusError> {
    let options = options(name, settings)?.subscription_capacity(capacity).event_callback(move |event| {
        let metrics = Arc::clone(&metrics);
        async move { observe(&metrics, &event) }
    });
    open(options, settings).await
}

/// How a node connects: bounded waits and jittered, endless reconnects.
fn options(name: &str, settings: &config::Nats) -> Result<ConnectOptions, BusError> {
    let user = User::Bus(BusUser::Node);
    let options = match &settings.nkey_file {
        Some(path) => tenants::connect::options(&user, &Seed::read(path)?),
        None => ConnectOptions::new().custom_inbox_prefix(user.inbox_prefix()),
    };
    Ok(options
        .name(format!("agentbus node {name}"))
        .ping_interval(settings.ping_interval)
        .connection_timeout(settings.timeout)
        .request_timeout(Some(settings.timeout))
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay))
}

async fn open(options: ConnectOptions, settings: &config::Nats) -> Result<Client, BusError> {
    let servers: Vec<String> = settings.url.split(',').map(|url| url.trim().to_owned()).collect();
    options
        .connect(servers)
        .await
        .map_err(|cause| BusError::Connect { url: config::without_secrets(&settings.url), cause })
}

/// 50 ms doubling to 2 s, and up to half as long again.
pub fn reconnect_delay(attempts: usize) -> Duration {
    jittered(doubling(Duration::from_millis(50), Duration::from_secs(2), attempts as u64))
}

fn observe(metrics: &Metrics, event: &Event) {
    match event {
        Event::Connected => {
            if metrics.nats_connected.set(1) == 0 {
                metrics.nats_reconnects.inc();
            }
            tracing::info!("connected to NATS");
        }
        Event::Disconnected => {
            metrics.nats_connected.set(0);
            tracing::warn!(%event, "not connected to NATS");
        }
        // Only on purpose: it is tried to connect again without end.
        Event::Closed => {
            metrics.nats_connected.set(0);
            tracing::info!(%event, "NATS");
        }
        Event::SlowConsumer(_) => {
            metrics.nats_slow_consumer.inc();
            tracing::warn!(%event, "messages dropped: this node does not keep up");
        }
        Event::LameDuckMode | Event::Draining => tracing::info!(%event, "NATS"),
        Event::ServerError(_) | Event::ClientError(_) => tracing::warn!(%event, "NATS"),
    }
}

/// A round trip to the server: it has read everything that was written on this connection.
async fn fence(client: &Client) {
    let inbox = client.new_inbox();
    let Ok(mut echo) = client.subscribe(inbox.clone()).await else { return };
    if client.publish(inbox, Bytes::new()).await.is_ok() {
        let _ = tokio::time::timeout(Duration::from_secs(2), echo.next()).await;
    }
}

/// Acts on a request that is not a message within its deadline, and counts how that ended.
async fn answered<T>(
    verb: Verb,
    request: &Request,
    acting: impl Future<Output = Result<T, Rejection>>,
    deadline: Duration,
    metrics: &Metrics,
) -> (Result<T, Rejection>, Reason) {
    let outcome = tokio::time::timeout(deadline, acting).await.unwrap_or_else(|_| {
        let limit = deadline.as_millis();
        Err(Rejection::new(Reason::TimedOut, format!("not done within {limit} ms")))
    });
    let (status, reason) = match &outcome {
        Ok(_) => (Status::Delivered, Reason::Delivered),
        Err(rejection) => (rejection.status(), rejection.reason),
    };
    metrics.answered(verb, status, reason, request.received.elapsed());
    (outcome, reason)
}

/// What the subscriber loops hand requests to.
pub struct Bus {
    client: Client,
    pipeline: Arc<Pipeline>,
    agents: Arc<Agents>,
    reviewers: Arc<Reviewers>,
    micro: Arc<Micro>,
    /// Bounds the requests that are being worked on, so that tasks cannot pile up.
    intake: Arc<Semaphore>,
    /// Bounds the requests that are being told that there is no room.
    shedding: Arc<Semaphore>,
}

impl Bus {
    pub fn new(
        client: Client,
        pipeline: Arc<Pipeline>,
        agents: Agents,
        reviewers: Reviewers,
        micro: Micro,
        intake: usize,
    ) -> Self {
        Self {
            client,
            pipeline,
            agents: Arc::new(agents),
            reviewers: Arc::new(reviewers),
            micro: Arc::new(micro),
            intake: Arc::new(Semaphore::new(intake)),
            shedding: Arc::new(Semaphore::new(SHEDDING_MAX)),
        }
    }

    /// Subscribes to every verb and serves until the shutdown; then drains. Returns when the server
    /// has confirmed the subscriptions.
    pub async fn start(self: &Arc<Self>, shutdown: &Shutdown) -> Result<(), BusError> {
        // First: where a question is taken in, its answer is heard.
        self.start_answers(shutdown).await?;
        for &verb in Verb::ALL {
            let requests = self
                .client
                .queue_subscribe(names::requests_of_all_tenants(verb), names::NODES_QUEUE.to_owned())
                .await?;
            shutdown.tracker().spawn(Arc::clone(self).serve(verb, requests, shutdown.clone()));
        }
        self.micro.start(&self.client, shutdown).await?;
        // A flush writes to the socket; the server has read it when this request comes back.
        self.fence().await;
        Ok(())
    }

    /// A round trip to the server: it has read everything written before.
    pub async fn fence(&self) {
        fence(&self.client).await;
    }

    /// After the last answer: tells the server goodbye.
    pub async fn close(&self) {
        self.fence().await;
        if self.client.drain().await.is_ok() {
            // async-nats tells of it by its event; the client's state stays as it was.
            let closed = async {
                while self.pipeline.metrics.nats_connected.get() != 0 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let _ = tokio::time::timeout(Duration::from_millis(500), closed).await;
        }
    }

    async fn serve(self: Arc<Self>, verb: Verb, mut requests: Subscriber, shutdown: Shutdown) {
        let mut taken = 0;
        loop {
            let request = tokio::select! {
                request = requests.next() => request,
                () = shutdown.requested() => break,
            };
            let Some(request) = request else { return };
            taken += 1;
            self.take(verb, request, &shutdown);
        }
        self.finish(verb, requests, taken, &shutdown).await;
    }

    /// Takes what is still on its way, and leaves the queue group.
    ///
    /// async-nats forgets a drained subscription when it next wakes up, and with it every request
    /// that the server had sent by then. The end after a number of messages is counted by the server
    /// too, so nothing falls in between; only a subscription to which next to nothing comes is drained.
    async fn finish(self: &Arc<Self>, verb: Verb, mut requests: Subscriber, taken: u64, shutdown: &Shutdown) {
        if requests.unsubscribe_after(taken + LAST_REQUESTS).await.is_err() {
            return;
        }
        let deadline = Instant::now() + LAST_REQUESTS_WITHIN;
        while Instant::now() < deadline {
            match tokio::time::timeout(QUIET, requests.next()).await {
                Ok(Some(request)) => self.take(verb, request, shutdown),
                Ok(None) => return,
                Err(_) => break,
            }
        }
        if requests.drain().await.is_err() {
            return;
        }
        while let Some(request) = requests.next().await {
            self.take(verb, request, shutdown);
        }
    }

    /// Admits or sheds; never waits, neither for the work nor for an answer.
    fn take(self: &Arc<Self>, verb: Verb, request: NatsMessage, shutdown: &Shutdown) {
        let received = Instant::now();
        let Some(reply) = request.reply.clone() else {
            // Without a reply subject nobody could learn the verdict.
            tracing::debug!(verb = verb.as_str(), "request without reply subject dropped");
            return;
        };
        if request.headers.as_ref().is_some_and(|headers| headers.get("Agentbus-Verdict").is_some()) {
            // A verdict that a requester has directed to the bus: answering it could go round for ever.
            tracing::warn!(verb = verb.as_str(), "a verdict came as a request and was dropped");
            return;
        }
        let request = match Self::read(&request, received) {
            Ok(request) => request,
            Err(error) => {
                // The server has let a subject through that no agent of ours can have.
                tracing::warn!(%error, "request on a malformed subject dropped");
                return;
            }
        };
        let slot = Arc::clone(&self.intake).try_acquire_owned().ok();
        let bus = Arc::clone(self);
        match slot {
            Some(slot) => {
                let stop = shutdown.clone();
                let handling = async move {
                    let task = bus.handle(verb, request, reply, slot, stop);
                    bus.pipeline.metrics.polls.watch(verb.as_str(), task).await;
                };
                shutdown.tracker().spawn(handling);
            }
            None => {
                let Ok(slot) = Arc::clone(&self.shedding).try_acquire_owned() else {
                    // The sender hears nothing, and asks again.
                    self.pipeline.metrics.requests_unanswered.inc();
                    return;
                };
                let answer =
                    self.pipeline.shed(verb, &request, Reason::Overloaded, "the node is at its limit");
                shutdown.tracker().spawn(async move {
                    bus.answer(reply, &answer).await;
                    drop(slot);
                });
            }
        }
    }

    async fn handle(
        &self,
        verb: Verb,
        request: Request,
        reply: async_nats::Subject,
        slot: OwnedSemaphorePermit,
        shutdown: Shutdown,
    ) {
        let received = request.received;
        match verb {
            Verb::Ask => self.ask(request, reply, slot, &shutdown).await,
            Verb::Send | Verb::Submit | Verb::Answer => {
                let answer = match verb {
                    Verb::Submit => self.pipeline.submit(request).await,
                    // An answer to a question has two tokens more, and a subscription of its own.
                    Verb::Answer => self.pipeline.not_asked(&request),
                    _ => self.pipeline.send(request).await,
                };
                let refused = matches!(answer.verdict.status, Status::Rejected | Status::Shed);
                self.micro.count(verb, refused, received.elapsed());
                self.answer(reply, &answer).await;
            }
            Verb::Deliberations | Verb::Vote => {
                let (payload, reason) = self.reviewers.handle(verb, &request).await;
                self.micro.count(verb, reason.code() >= 300, received.elapsed());
                self.reply(reply, payload, reason, HeaderMap::new()).await;
            }
            Verb::Register | Verb::Heartbeat | Verb::Unregister | Verb::Find => {
                let (payload, reason) = self.agents.handle(verb, &request).await;
                self.micro.count(verb, reason.code() >= 300, received.elapsed());
                self.reply(reply, payload, reason, HeaderMap::new()).await;
            }
        }
    }

    fn read(message: &NatsMessage, received: Instant) -> Result<Request, crate::domain::IdError> {
        let (tenant, sender) = subjects::asker(&message.subject)?;
        let traceparent = message.headers.as_ref().and_then(|headers| headers.get("traceparent"));
        Ok(Request {
            tenant,
            sender,
            payload: message.payload.clone(),
            traceparent: traceparent.map(|value| value.as_str().to_owned()),
            received,
        })
    }

    async fn answer(&self, reply: async_nats::Subject, answer: &Answer) {
        let payload = wire::encode_verdict(&answer.verdict, answer.encoding).into();
        self.verdict(reply, answer, payload).await;
    }

    /// `payload` is the verdict, or begins with it.
    async fn verdict(&self, reply: async_nats::Subject, answer: &Answer, payload: Bytes) {
        let verdict = &answer.verdict;
        let mut headers = HeaderMap::new();
        headers.insert("Agentbus-Verdict", verdict.status.as_str());
        headers.insert("Agentbus-Decision", verdict.decision_id.as_str());
        if answer.repeat {
            headers.insert("Agentbus-Repeat", "true");
        }
        self.reply(reply, payload, verdict.reason, headers).await;
    }

    /// Errors carry the headers of NATS' service API (ADR-32) beside the body.
    async fn reply(
        &self,
        reply: async_nats::Subject,
        payload: Bytes,
        reason: Reason,
        mut headers: HeaderMap,
    ) {
        if headers.is_empty() {
            headers.insert("Agentbus-Verdict", if reason.code() < 300 { "ok" } else { "rejected" });
        }
        if reason.code() >= 300 {
            headers.insert("Nats-Service-Error", reason.as_str());
            headers.insert("Nats-Service-Error-Code", reason.code().to_string());
        }
        let sent = self.client.publish_with_headers(reply, headers, payload);
        match tokio::time::timeout(Duration::from_secs(2), sent).await {
            Ok(Ok(())) => {}
            // The sender asks again with the same message id, and gets the stored verdict.
            Ok(Err(error)) => tracing::warn!(%error, "answer not sent"),
            Err(_) => tracing::warn!("answer not sent: NATS takes nothing"),
        }
    }
}
