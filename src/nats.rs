//! NATS: takes requests in, hands them to the lanes or the registry, answers, and drains.
//!
//! Owns async-nats, and the reader of the connection that strangers can write to. The intake only takes in
//! or sheds; all work is in tracked tasks.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    config,
    domain::{Reason, Status, Verb},
    lanes::{
        Answer, Lanes, Request,
        backoff::{doubling, jittered},
    },
    review::{Agents, Reviewers},
    shutdown::Shutdown,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{self, BusUser, Seed, User, names},
    wire,
};

mod answers;
mod dead_letters;
mod deadlines;
mod deliberations;
mod each_tenant;
mod headers;
mod inbound;
mod intake;
mod jetstream;
mod judgements;
mod lane;
mod learned;
mod micro;
mod outbox;
mod peers;
mod records_probe;
mod round_trips;
mod server_list;
mod server_time;
mod stream_usage;
pub(crate) mod subjects;
mod tenant_consumers;
mod webhooks;

use intake::{Headers, Incoming, Intake, Subscription};
use server_list::Servers;

pub use dead_letters::DeadLetterStreams;
pub use deadlines::DeadlineWorker;
pub use deliberations::Deliberations;
pub use inbound::Inbound;
pub use judgements::KeptJudgements;
pub use lane::JetStreamLane;
pub use learned::LearnedBucket;
pub use micro::Micro;
pub use outbox::Outbox;
pub use peers::{Link, Peers};
pub use records_probe::RecordsProbe;
pub use round_trips::RoundTrips;
pub use server_time::watch_server_time;
pub use stream_usage::StreamUsage;
pub use webhooks::WebhookDispatcher;

/// For the server's word that no more requests come to a node that stops.
const LEAVE_WITHIN: Duration = Duration::from_secs(2);
/// Answers to requests that found no room, on their way at one time. NATS may take nothing at all, and
/// then more would only wait as well.
const SHEDDING_MAX: usize = 256;
/// How often a node that stops looks whether somebody still waits for an answer.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A W3C trace context has 55 characters; later versions may have more.
const TRACEPARENT_MAX: usize = 128;

/// Why the bus did not start.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("nats.nkey_file: {0}")]
    Key(#[from] tenants::keys::KeysError),
    #[error("nats.url: found {found}, expected nats://host:port, several separated by commas ({cause})")]
    Url { found: String, cause: std::io::Error },
    #[error("cannot connect to NATS at {url}: {cause}")]
    Connect { url: String, cause: async_nats::ConnectError },
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("cannot start the outbox's thread: {0}")]
    Thread(#[from] std::io::Error),
    #[error("the intake's subscriptions are not confirmed: NATS is gone again")]
    Intake,
}

/// Connects as a node, for JetStream and the directory: nothing on it is written by strangers.
pub async fn connect(name: &str, settings: &config::Nats, metrics: Arc<Metrics>) -> Result<Client, BusError> {
    let options = options(name, settings)?.event_callback(move |event| {
        let metrics = Arc::clone(&metrics);
        async move { observe(&metrics, &event) }
    });
    open(options, settings).await
}

/// Whether the settings can be used, without connecting. Reads the key.
pub fn check(settings: &config::Nats) -> Result<(), BusError> {
    options("", settings)?;
    settings.kicker_nkey_file.as_deref().map(Seed::read).transpose()?;
    servers(settings).map(drop)
}

fn servers(settings: &config::Nats) -> Result<Servers, BusError> {
    Servers::parse(&settings.url)
        .map_err(|cause| BusError::Url { found: config::without_secrets(&settings.url), cause })
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
    open_any(options, servers(settings)?.all(), settings).await
}

async fn open_any(
    options: ConnectOptions,
    servers: Vec<ServerAddr>,
    settings: &config::Nats,
) -> Result<Client, BusError> {
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
        Event::SlowConsumer(_) => {
            metrics.nats_slow_consumer.inc();
            tracing::warn!(%event, "messages dropped: this node does not keep up");
        }
        Event::Disconnected | Event::ServerError(_) | Event::ClientError(_) => {
            tracing::warn!(%event, "NATS, for JetStream");
        }
        Event::Connected | Event::Closed | Event::LameDuckMode | Event::Draining => {
            tracing::info!(%event, "NATS, for JetStream");
        }
    }
}

/// A round trip to the server: it has read everything that was written on this connection. `None`: its task
/// is gone, and nothing will ever be written again.
async fn fence(client: &Client) -> Option<bool> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.ok()?;
    client.publish(inbox, Bytes::new()).await.ok()?;
    let echoed = tokio::time::timeout(Duration::from_secs(2), echo.next()).await;
    Some(echoed.is_ok_and(|echo| echo.is_some()))
}

/// What the intake hands requests to.
pub struct Bus {
    intake: OnceLock<Intake>,
    client: Client,
    lanes: Arc<Lanes>,
    agents: Arc<Agents>,
    reviewers: Arc<Reviewers>,
    micro: Micro,
    /// Bounds the requests that are being worked on, so that tasks cannot pile up.
    places: Arc<Semaphore>,
    /// Bounds the requests that are being told that there is no room.
    shedding: Arc<Semaphore>,
}

/// What a subscription of the intake is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Requests(Verb),
    /// Also of verbs that are none.
    AnyRequests,
    /// To this node's own questions.
    Answers,
    /// From an operator who looks at the nodes.
    Micro(micro::Question),
}

impl Bus {
    pub fn new(
        client: Client,
        lanes: Arc<Lanes>,
        agents: Agents,
        reviewers: Reviewers,
        micro: Micro,
        places: usize,
    ) -> Self {
        Self {
            intake: OnceLock::new(),
            client,
            lanes,
            agents: Arc::new(agents),
            reviewers: Arc::new(reviewers),
            micro,
            places: Arc::new(Semaphore::new(places)),
            shedding: Arc::new(Semaphore::new(SHEDDING_MAX)),
        }
    }

    /// Subscribes to every verb and serves until the shutdown; then gives the subscriptions up. Returns when
    /// the server has confirmed them. The connection lives as long as `background`, for the last answers.
    pub async fn start(
        self: &Arc<Self>,
        name: &str,
        settings: &config::Nats,
        shutdown: &Shutdown,
        background: &Shutdown,
        supervisor: &Supervisor,
    ) -> Result<(), BusError> {
        let subscriptions = self.subscriptions();
        let sources: Vec<Source> = subscriptions.iter().map(|subscription| subscription.source).collect();
        let (bus, stop) = (Arc::clone(self), shutdown.clone());
        let handler = move |source: &Source, message: Incoming| bus.hear(*source, message, &stop);
        let metrics = Arc::clone(&self.lanes.metrics);
        let (intake, life) = Intake::new(name, settings, subscriptions, handler, metrics)?;
        let life = Arc::new(life);
        let _ = self.intake.set(intake.clone());
        let refused = supervisor.clone();
        supervisor.keep("intake", background.tracker(), background.token().clone(), move || {
            let (life, refused) = (Arc::clone(&life), refused.clone());
            async move { refused.fail(format!("NATS does not let the node in: {}", life.run().await)) }
        });
        // The server has read the subscriptions when a message comes back that was sent behind them.
        while intake.silent_for().is_none() {
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(10)) => {}
                () = shutdown.requested() => return Err(BusError::Intake),
            }
        }
        let (bus, stop, sources) = (Arc::clone(self), shutdown.clone(), Arc::new(sources));
        supervisor.keep_draining("attendance", shutdown.tracker(), shutdown.token().clone(), move || {
            let (bus, intake, stop) = (Arc::clone(&bus), intake.clone(), stop.clone());
            let sources = Arc::clone(&sources);
            async move { bus.attend(&intake, &sources, &stop).await }
        });
        Ok(())
    }

    /// First the answers: where a question is taken in, its answer is heard.
    fn subscriptions(&self) -> Vec<Subscription<Source>> {
        let queue = Some(names::NODES_QUEUE);
        let mut subscriptions = vec![Subscription {
            subject: names::answers_to(self.lanes.questions.node()),
            queue,
            source: Source::Answers,
        }];
        subscriptions.extend(Verb::ALL.iter().map(|&verb| Subscription {
            subject: names::requests_of_all_tenants(verb),
            queue,
            source: Source::Requests(verb),
        }));
        subscriptions.push(Subscription {
            subject: names::REQUESTS_OF_ANY_VERB.to_owned(),
            queue,
            source: Source::AnyRequests,
        });
        subscriptions.extend(self.micro.subjects().map(|(subject, question)| Subscription {
            subject,
            queue: None,
            source: Source::Micro(question),
        }));
        subscriptions
    }

    /// No requests are taken while this node's clock is off: others of the queue group get them. When the node
    /// stops: no more requests, and no more answers when nobody waits for one.
    async fn attend(&self, intake: &Intake, sources: &[Source], shutdown: &Shutdown) {
        // What is heard of any verb is of the same queue group: while it is, requests come by it.
        let is_request =
            |index: usize| matches!(sources.get(index), Some(Source::Requests(_) | Source::AnyRequests));
        let mut off = self.lanes.skew.changes();
        while !shutdown.is_requested() {
            if *off.borrow_and_update() {
                intake.leave(is_request, LEAVE_WITHIN).await;
            } else {
                intake.enter(is_request);
            }
            tokio::select! {
                _ = off.changed() => {}
                () = shutdown.requested() => {}
            }
        }
        let is_answers = |index: usize| sources.get(index) == Some(&Source::Answers);
        intake.leave(|index| !is_answers(index), LEAVE_WITHIN).await;
        self.nobody_waits().await;
        intake.leave(is_answers, LEAVE_WITHIN).await;
    }

    /// For how long no message to ourselves has come back over the intake. `None`: none ever has.
    pub fn silent_for(&self) -> Option<Duration> {
        self.intake.get()?.silent_for()
    }

    /// What the server calls the intake's connection.
    pub fn link(&self) -> Option<Link> {
        self.intake.get()?.link()
    }

    pub fn connected(&self) -> bool {
        self.intake.get().is_some_and(Intake::connected)
    }

    /// After the last answer: the server has read it.
    pub async fn close(&self) {
        if let Some(intake) = self.intake.get() {
            tokio::join!(intake.fence(), fence(&self.client));
        }
    }

    /// Takes what the intake has read; never waits.
    fn hear(self: &Arc<Self>, source: Source, message: Incoming, shutdown: &Shutdown) {
        match source {
            Source::Requests(verb) => self.take(verb, &message, shutdown),
            Source::AnyRequests => match subjects::verb(&message.subject()) {
                Some(verb) => self.take(verb, &message, shutdown),
                None => self.refuse_verb(&message),
            },
            Source::Answers => self.take_answer(&message, shutdown),
            Source::Micro(question) => {
                if let Some(reply) = &message.reply {
                    let answer = self.micro.answer(question).to_string();
                    self.send(reply, &[], answer.as_bytes());
                }
            }
        }
    }

    /// Admits or sheds; never waits, neither for the work nor for an answer.
    fn take(self: &Arc<Self>, verb: Verb, message: &Incoming, shutdown: &Shutdown) {
        let received = Instant::now();
        let Some(reply) = message.reply.clone() else {
            // Without a reply subject nobody could learn the verdict.
            tracing::debug!(verb = verb.as_str(), "request without reply subject dropped");
            return;
        };
        let Some(traceparent) = self.trace(verb.as_str(), message) else { return };
        let (tenant, sender) = match subjects::asker(&message.subject()) {
            Ok(asker) => asker,
            Err(error) => {
                // The server has let a subject through that no agent of ours can have.
                self.lanes.metrics.requests_malformed.inc();
                tracing::debug!(%error, "request on a malformed subject dropped");
                return;
            }
        };
        let request = Request { tenant, sender, payload: message.payload.clone(), traceparent, received };
        let slot = Arc::clone(&self.places).try_acquire_owned().ok();
        let bus = Arc::clone(self);
        match slot {
            Some(slot) => {
                let stop = shutdown.clone();
                let handling = async move {
                    let task = bus.handle(verb, request, reply, slot, stop);
                    bus.lanes.metrics.polls.watch(verb.as_str(), task).await;
                };
                shutdown.tracker().spawn(handling);
            }
            None => {
                let Ok(slot) = Arc::clone(&self.shedding).try_acquire_owned() else {
                    // The sender hears nothing, and asks again.
                    self.lanes.metrics.requests_unanswered.inc();
                    return;
                };
                let answer = self.lanes.shed(verb, &request, Reason::Overloaded, "the node is at its limit");
                bus.answer(&reply, &answer);
                drop(slot);
            }
        }
    }

    /// Tells which verbs there are. Costs no more than a request that is shed, and has the same places.
    fn refuse_verb(&self, message: &Incoming) {
        let Ok(_place) = self.shedding.try_acquire() else {
            self.lanes.metrics.requests_unanswered.inc();
            return;
        };
        let (Some(reply), Some(traceparent)) = (&message.reply, self.trace("unknown", message)) else {
            return;
        };
        let Ok((tenant, sender)) = subjects::asker(&message.subject()) else {
            self.lanes.metrics.requests_malformed.inc();
            return;
        };
        let payload = message.payload.clone();
        let request = Request { tenant, sender, payload, traceparent, received: Instant::now() };
        self.answer(reply, &self.lanes.unknown_verb(&request));
    }

    /// The trace context that a request continues. `None`: it is a verdict of the bus, which a requester has
    /// directed here, and answering it could go round for ever.
    fn trace(&self, verb: &str, message: &Incoming) -> Option<Option<String>> {
        let Ok(headers) = Headers::read(&message.headers) else {
            self.lanes.metrics.headers_unreadable.inc();
            return Some(None);
        };
        if headers.get("Agentbus-Verdict").is_some() {
            tracing::debug!(verb, "a verdict came as a request and was dropped");
            self.lanes.metrics.requests_malformed.inc();
            return None;
        }
        let traceparent = headers.get("traceparent").filter(|value| value.len() <= TRACEPARENT_MAX);
        Some(traceparent.map(str::to_owned))
    }

    async fn handle(
        &self,
        verb: Verb,
        request: Request,
        reply: Bytes,
        slot: OwnedSemaphorePermit,
        shutdown: Shutdown,
    ) {
        let received = request.received;
        match verb {
            Verb::Ask => self.ask(request, reply, slot, &shutdown).await,
            Verb::Send | Verb::Submit | Verb::Answer => {
                let answer = match verb {
                    Verb::Submit => self.lanes.submit(request).await,
                    // An answer to a question has two tokens more, and a subscription of its own.
                    Verb::Answer => self.lanes.not_asked(&request),
                    _ => self.lanes.send(request).await,
                };
                let refused = matches!(answer.verdict.status, Status::Rejected | Status::Shed);
                self.micro.count(verb, refused, received.elapsed());
                self.answer(&reply, &answer);
            }
            Verb::Deliberations | Verb::Vote => {
                let (payload, reason) = self.reviewers.handle(verb, &request).await;
                self.micro.count(verb, reason.code() >= 300, received.elapsed());
                self.reply(&reply, &payload, reason, Vec::new());
            }
            Verb::Register | Verb::Heartbeat | Verb::Unregister | Verb::Find => {
                let (payload, reason) = self.agents.handle(verb, &request).await;
                self.micro.count(verb, reason.code() >= 300, received.elapsed());
                // What a sender must agree with, for whoever looks around.
                let told = (verb == Verb::Find).then(|| self.lanes.in_force());
                let told = told.iter().flat_map(|(hashes, now)| {
                    [("Agentbus-Constitution", hashes.as_str()), ("Agentbus-Time", now.as_str())]
                });
                self.reply(&reply, &payload, reason, told.collect());
            }
        }
    }

    fn answer(&self, reply: &[u8], answer: &Answer) {
        let payload = wire::encode_verdict(&answer.verdict, answer.encoding);
        self.verdict(reply, answer, &payload);
    }

    /// `payload` is the verdict, or begins with it.
    fn verdict(&self, reply: &[u8], answer: &Answer, payload: &[u8]) {
        let verdict = &answer.verdict;
        let mut headers = vec![
            ("Agentbus-Verdict", verdict.status.as_str()),
            ("Agentbus-Decision", verdict.decision_id.as_str()),
        ];
        if answer.repeat {
            headers.push(("Agentbus-Repeat", "true"));
        }
        self.reply(reply, payload, verdict.reason, headers);
    }

    /// Errors carry the headers of NATS' service API (ADR-32) beside the body.
    fn reply(&self, reply: &[u8], payload: &[u8], reason: Reason, headers: Vec<(&str, &str)>) {
        let code = reason.code().to_string();
        let mut headers = headers;
        if !headers.iter().any(|(name, _)| *name == "Agentbus-Verdict") {
            headers.push(("Agentbus-Verdict", if reason.code() < 300 { "ok" } else { "rejected" }));
        }
        if reason.code() >= 300 {
            headers.extend([("Nats-Service-Error", reason.as_str()), ("Nats-Service-Error-Code", &code)]);
        }
        self.send(reply, &headers, payload);
    }

    fn send(&self, reply: &[u8], headers: &[(&str, &str)], payload: &[u8]) {
        let sent = self.intake.get().map(|intake| intake.publish(reply, headers, payload));
        // The sender asks again with the same message id, and gets the stored verdict.
        if let Some(Err(error)) = sent {
            self.lanes.metrics.requests_unanswered.inc();
            tracing::debug!(%error, "answer not sent");
        }
    }
}
