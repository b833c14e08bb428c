//! What leaves the node: records, deliveries, and the proof that somebody listened.
//!
//! One task writes batches, all on one connection, so the server sees them in this order: the record
//! of each intent, then its deliveries, then a *fence*, a message to the node itself. Deliveries
//! carry a reply subject, so for an inbox without a subscription the server answers "no responders"
//! at once; when the fence comes back, every such answer has come before it, and every other
//! delivery is in a subscriber's connection. One fence serves all that was waiting: a round trip a
//! batch, not a message.
//!
//! The connection lives on a thread of its own, with the writer. There nothing can run between two
//! publishes of a batch, so a batch leaves in one write, and a node that is killed has sent a
//! record and its delivery, or neither.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_nats::{
    Client, Event, HeaderMap, Message as NatsMessage, PublishError, StatusCode, Subscriber,
    jetstream::{self, stream::LastRawMessageErrorKind},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    BusError, Link, headers,
    jetstream::publish::{PublishFailure, published},
    server_list::Servers,
    subjects,
};
use crate::{
    audit::{self, Entry, Record},
    config,
    lanes::{Courier, CourierError, Dispatch, Handover},
    state::MessageKey,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::names,
};

/// What the thread is called among the node's parts.
const PART: &str = "outbox";
/// Jobs that wait to be written.
const WAITING_MAX: usize = 4096;
/// Jobs written between two fences.
const BATCH_MAX: usize = 64;
/// Bytes of records and deliveries after which a batch is not filled further, so that it fits into
/// one write (async-nats writes at 64 KiB).
const BATCH_BYTES: usize = 24 * 1024;
/// What the headers of a delivery take at most.
const HEADERS_MAX: usize = 1024;
/// Publishes that wait for the connection; more than a full batch has, so that writing one does
/// not wait half-way.
const PUBLISHES_MAX: usize = 16_384;
/// Batches that wait for their fence.
const UNFENCED_MAX: usize = 256;
/// A delivery without a fence, or a record without an ack, is given up after this.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

enum Job {
    Deliver { dispatch: Box<Dispatch>, done: oneshot::Sender<Vec<Handover>> },
    Record(Entry),
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Job::Deliver { dispatch, .. } => {
                let parcels = dispatch.parcels.iter().map(|parcel| parcel.payload.len());
                dispatch.record.payload().len() + parcels.sum::<usize>()
            }
            Job::Record(entry) => entry.payload().len(),
        }
    }
}

/// The courier over NATS.
pub struct Outbox {
    /// The intake's connection, for reading records.
    reader: Client,
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

/// What the writer and the reader of answers share.
struct Shared {
    connected: AtomicBool,
    link: Mutex<Option<Link>>,
    /// What the server takes in one message.
    payload_max: AtomicUsize,
    /// Sent and not fenced yet, oldest first.
    unfenced: Mutex<VecDeque<Batch>>,
    /// Batches whose records JetStream has not acknowledged, oldest first.
    unacked: Mutex<VecDeque<(u64, Instant)>>,
    written: AtomicU64,
    metrics: Arc<Metrics>,
}

struct Batch {
    number: u64,
    sent: Instant,
    /// Of all parcels of the batch, in order.
    handovers: Vec<Handover>,
    /// Tokens of the questions among them, and which they are.
    questions: Vec<(String, usize)>,
    /// Who waits for how many of them, in order.
    waiting: Vec<(usize, oneshot::Sender<Vec<Handover>>)>,
}

impl Outbox {
    /// `asking` is this node's token in the subjects of answers. Starts the thread, which connects and reconnects by itself until the last handle is dropped.
    pub fn start(
        name: &str,
        settings: &config::Nats,
        reader: Client,
        metrics: Arc<Metrics>,
        asking: &str,
        supervisor: &Supervisor,
    ) -> Result<Self, BusError> {
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        let shared = Arc::new(Shared {
            connected: AtomicBool::new(false),
            link: Mutex::default(),
            payload_max: AtomicUsize::new(reader.max_payload()),
            unfenced: Mutex::default(),
            unacked: Mutex::default(),
            written: AtomicU64::new(0),
            metrics,
        });
        let options = Session {
            name: format!("{name} outbox"),
            settings: settings.clone(),
            servers: Mutex::new(super::servers(settings)?),
            unheard: names::unheard_questions(asking),
            supervisor: supervisor.clone(),
        };
        let keeper = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("outbox".to_owned())
            .spawn(move || keep(&options, queue, &keeper))?;
        Ok(Self { reader, jobs, shared })
    }

    /// Waits for the first connection; the caller bounds the wait.
    pub async fn ready(&self) {
        while !self.connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the server calls the connection.
    pub fn link(&self) -> Option<Link> {
        self.shared.link.lock().clone()
    }

    pub fn connected(&self) -> bool {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// For how long JetStream has not acknowledged records, if that is too long.
    pub fn records_late(&self) -> Option<Duration> {
        self.shared.records_late()
    }

    /// Waits until everything handed in so far is written, fenced and acknowledged. `false`: not
    /// within the limit.
    pub async fn flush(&self, limit: Duration) -> bool {
        let done = async {
            loop {
                let idle = self.jobs.capacity() == self.jobs.max_capacity();
                if idle && self.shared.unfenced.lock().is_empty() && self.shared.unacked.lock().is_empty() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, done).await.is_ok()
    }

    fn submit(&self, job: Job) -> Result<(), CourierError> {
        if !self.connected() {
            return Err(CourierError::NotConnected);
        }
        self.jobs.try_send(job).map_err(|_| CourierError::Full { waiting: WAITING_MAX })
    }
}

#[async_trait]
impl Courier for Outbox {
    async fn deliver(&self, dispatch: Dispatch) -> Result<Vec<Handover>, CourierError> {
        if let Some(late) = self.shared.records_late() {
            return Err(CourierError::RecordsUnconfirmed {
                unconfirmed_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            });
        }
        let (done, handovers) = oneshot::channel();
        self.submit(Job::Deliver { dispatch: Box::new(dispatch), done })?;
        handovers.await.map_err(|_| CourierError::Unconfirmed)
    }

    fn record(&self, entry: Entry) -> Result<(), CourierError> {
        self.submit(Job::Record(entry))
    }

    async fn last_intent(&self, key: &MessageKey) -> Result<Option<Record<'static>>, CourierError> {
        let mut context = jetstream::new(self.reader.clone());
        context.set_timeout(CONFIRM_WITHIN);
        let unreadable = |cause: String| {
            tracing::warn!(cause, "records unreadable");
            CourierError::RecordsUnreadable
        };
        let stream = context
            .get_stream_no_info(names::RECORDS_STREAM)
            .await
            .map_err(|cause| unreadable(cause.to_string()))?;
        match stream.get_last_raw_message_by_subject(&audit::intent_subject(key)).await {
            Ok(message) => {
                audit::decode(&message.payload).map(Some).map_err(|cause| unreadable(cause.to_string()))
            }
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    fn payload_max(&self) -> usize {
        self.shared.payload_max.load(Ordering::Relaxed).saturating_sub(HEADERS_MAX)
    }
}

/// How the thread connects.
struct Session {
    name: String,
    settings: config::Nats,
    /// A session begins with what those before it were told.
    servers: Mutex<Servers>,
    /// Where the server says that nobody listens to a question.
    unheard: String,
    supervisor: Supervisor,
}

/// Why a session ended.
enum End {
    /// Nobody has a handle any more.
    Closed,
    /// The connection is lost, or could not be had.
    Lost,
}

/// The life of the thread: one session after the other.
///
/// Each session has a runtime of its own, and its end drops all that the connection still held: what
/// was not on the wire when it was lost will never be, and whoever waits for it hears that it is not
/// confirmed. async-nats' own reconnect would send it late, when another node may have acted.
fn keep(session: &Session, mut queue: mpsc::Receiver<Job>, shared: &Arc<Shared>) {
    let mut lost = 0;
    loop {
        let end = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let run = session.supervisor.within(PART, session.run(&mut queue, shared));
                std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run))).ok()
            }
            Err(error) => {
                tracing::error!(%error, "no runtime for the outbox");
                Some(End::Lost)
            }
        };
        lost = if shared.connected.swap(false, Ordering::Relaxed) { 1 } else { lost + 1 };
        shared.unfenced.lock().clear();
        shared.unacked.lock().clear();
        match end {
            Some(End::Closed) => return,
            Some(End::Lost) => std::thread::sleep(super::reconnect_delay(lost)),
            // It has panicked.
            None => match session.supervisor.restart(PART) {
                Some(pause) => std::thread::sleep(pause),
                None => return,
            },
        }
    }
}

impl Session {
    async fn run(&self, queue: &mut mpsc::Receiver<Job>, shared: &Arc<Shared>) -> End {
        let disconnected = Arc::new(Notify::new());
        let (client, inbox, answers, unheard) = match self.open(Arc::clone(&disconnected)).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "the outbox does not reach NATS");
                // A handle may be gone while there is nothing to connect to.
                return if queue.is_closed() { End::Closed } else { End::Lost };
            }
        };
        shared.payload_max.store(client.max_payload(), Ordering::Relaxed);
        shared.connected.store(true, Ordering::Relaxed);
        *shared.link.lock() = Some(Link::of(&client));
        tokio::select! {
            end = write(&client, &inbox, queue, shared) => end,
            () = read(answers, unheard, shared) => End::Lost,
            () = disconnected.notified() => End::Lost,
        }
    }

    async fn open(
        &self,
        disconnected: Arc<Notify>,
    ) -> Result<(Client, String, Subscriber, Subscriber), BusError> {
        let options = super::options(&self.name, &self.settings)?
            .client_capacity(PUBLISHES_MAX)
            .event_callback(move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    disconnected.notify_one();
                }
                std::future::ready(())
            });
        let servers = self.servers.lock().all();
        let client = super::open_any(options, servers, &self.settings).await?;
        self.servers.lock().learn(&client.server_info());
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*.*")).await?;
        let unheard = client.subscribe(self.unheard.clone()).await?;
        Ok((client, inbox, answers, unheard))
    }
}

async fn write(client: &Client, inbox: &str, queue: &mut mpsc::Receiver<Job>, shared: &Shared) -> End {
    let mut jobs = Vec::with_capacity(BATCH_MAX);
    while let Some(first) = queue.recv().await {
        let mut bytes = first.bytes();
        jobs.push(first);
        while jobs.len() < BATCH_MAX && bytes < BATCH_BYTES {
            let Ok(job) = queue.try_recv() else { break };
            bytes += job.bytes();
            jobs.push(job);
        }
        while shared.unfenced.lock().len() >= UNFENCED_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Unconstrained: tokio would else let the connection write after some 128 publishes.
        let batch = tokio::task::unconstrained(write_batch(client, inbox, shared, jobs.drain(..)));
        match tokio::time::timeout(CONFIRM_WITHIN, batch).await {
            Ok(Ok(())) => {}
            // Half a batch must not be confirmed by the fence of the next.
            Ok(Err(error)) => {
                tracing::error!(%error, "a batch could not be written");
                return End::Lost;
            }
            Err(_) => {
                tracing::warn!("a batch could not be written within {CONFIRM_WITHIN:?}");
                return End::Lost;
            }
        }
    }
    End::Closed
}

async fn write_batch(
    client: &Client,
    inbox: &str,
    shared: &Shared,
    jobs: impl Iterator<Item = Job>,
) -> Result<(), PublishError> {
    let number = shared.written.fetch_add(1, Ordering::Relaxed);
    let answer_to = |what: &str| format!("{inbox}.{number}.{what}");
    let mut publishes: Vec<(String, Option<String>, HeaderMap, Bytes)> = Vec::with_capacity(2 * BATCH_MAX);
    let mut batch = Batch {
        number,
        sent: Instant::now(),
        handovers: Vec::new(),
        questions: Vec::new(),
        waiting: Vec::with_capacity(BATCH_MAX),
    };

    for job in jobs {
        // One acknowledgement a batch shows that records get through.
        let ack = publishes.is_empty().then(|| answer_to("r"));
        match job {
            Job::Record(entry) => {
                let (subject, record) = entry.into_parts();
                publishes.push((subject, ack, HeaderMap::new(), record));
            }
            Job::Deliver { dispatch, .. } if Instant::now() > dispatch.not_after => {
                // Whoever waits for it hears that it is not confirmed. A claim lasts longer than this,
                // so what a node does after it was stalled cannot double what another did meanwhile.
                tracing::warn!(decision_id = dispatch.decision_id, "too late to be delivered");
            }
            Job::Deliver { dispatch, done } => {
                let (subject, record) = dispatch.record.clone().into_parts();
                publishes.push((subject, ack, HeaderMap::new(), record));
                batch.waiting.push((dispatch.parcels.len(), done));
                for (index, parcel) in dispatch.parcels.iter().enumerate() {
                    let inbox = subjects::inbox(&dispatch.key.tenant, parcel.permit.recipient());
                    let missed = match &dispatch.answer_to {
                        None => answer_to(&batch.handovers.len().to_string()),
                        Some(to) => {
                            batch.questions.push((to.token.clone(), batch.handovers.len()));
                            subjects::reply_of(parcel.permit.recipient(), to)
                        }
                    };
                    batch.handovers.push(Handover::Taken);
                    let headers = headers::delivery(
                        &dispatch.key,
                        &dispatch.decision_id,
                        &dispatch.traceparent,
                        index,
                        parcel,
                    );
                    publishes.push((inbox, Some(missed), headers, parcel.payload.clone()));
                }
            }
        }
    }

    if publishes.is_empty() {
        return Ok(()); // all of it was too late
    }
    shared.unacked.lock().push_back((number, batch.sent));
    let fence = (!batch.waiting.is_empty()).then(|| answer_to("f"));
    // In the ledger before it is on the wire, so that no answer can come too early.
    if fence.is_some() {
        shared.unfenced.lock().push_back(batch);
    }
    for (subject, reply, headers, payload) in publishes {
        publish(client, subject, reply, headers, payload).await?;
    }
    match fence {
        Some(fence) => publish(client, fence, None, HeaderMap::new(), Bytes::new()).await,
        None => Ok(()),
    }
}

async fn publish(
    client: &Client,
    subject: String,
    reply: Option<String>,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<(), PublishError> {
    match (reply, headers.is_empty()) {
        (Some(reply), true) => client.publish_with_reply(subject, reply, payload).await,
        (Some(reply), false) => client.publish_with_reply_and_headers(subject, reply, headers, payload).await,
        (None, _) => client.publish(subject, payload).await,
    }
}

async fn read(mut answers: Subscriber, mut unheard: Subscriber, shared: &Shared) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            // In this order: the connection, on this same thread, has what came before a fence in hand
            // before the fence.
            biased;
            question = unheard.next() => match question {
                Some(question) => shared.unheard(&question),
                None => return,
            },
            answer = answers.next() => match answer {
                Some(answer) => shared.answered(&answer),
                None => return,
            },
            _ = tick.tick() => shared.give_up_late(),
        }
    }
}

impl Shared {
    fn answered(&self, answer: &NatsMessage) {
        let mut tokens = answer.subject.rsplit('.');
        let (what, number) = (tokens.next(), tokens.next().and_then(|n| n.parse::<u64>().ok()));
        let (Some(what), Some(number)) = (what, number) else { return };
        let nobody = answer.status == Some(StatusCode::NO_RESPONDERS);
        match what {
            "f" => self.fenced(number),
            "r" => self.acked(number, answer),
            index if nobody => self.missed(number, index),
            // An agent that answers a delivery here is refused by its permissions.
            _ => {}
        }
    }

    fn fenced(&self, number: u64) {
        let mut done = Vec::new();
        {
            let mut unfenced = self.unfenced.lock();
            while unfenced.front().is_some_and(|batch| batch.number <= number) {
                done.extend(unfenced.pop_front());
            }
        }
        for batch in done {
            let mut handovers = batch.handovers.into_iter();
            for (count, waiting) in batch.waiting {
                // One who no longer waits has passed its deadline.
                let _ = waiting.send(handovers.by_ref().take(count).collect());
            }
        }
    }

    /// Nobody listens to a question. Nothing but the server's own word comes here: no user of the bus's
    /// account may publish on these subjects.
    fn unheard(&self, question: &NatsMessage) {
        if question.status != Some(StatusCode::NO_RESPONDERS) {
            return;
        }
        let Some(token) = question.subject.rsplit('.').next() else { return };
        let mut unfenced = self.unfenced.lock();
        for batch in unfenced.iter_mut() {
            let asked = batch.questions.iter().find(|(asked, _)| asked == token);
            if let Some(handover) = asked.and_then(|(_, index)| batch.handovers.get_mut(*index)) {
                *handover = Handover::NobodyListens;
            }
        }
    }

    fn missed(&self, number: u64, index: &str) {
        let mut unfenced = self.unfenced.lock();
        let batch = unfenced.iter_mut().find(|batch| batch.number == number);
        let index = index.parse::<usize>().ok();
        if let Some(handover) = batch.zip(index).and_then(|(batch, index)| batch.handovers.get_mut(index)) {
            *handover = Handover::NobodyListens;
        }
    }

    fn acked(&self, number: u64, answer: &NatsMessage) {
        match published(answer) {
            Ok(_) => {
                let mut unacked = self.unacked.lock();
                while unacked.front().is_some_and(|(first, _)| *first <= number) {
                    unacked.pop_front();
                }
                self.metrics.records_unconfirmed.set(i64::try_from(unacked.len()).unwrap_or(i64::MAX));
            }
            Err(PublishFailure::NoStream) => tracing::warn!("there is no stream for records"),
            Err(error) => tracing::warn!(%error, "record refused"),
        }
    }

    fn give_up_late(&self) {
        let mut unfenced = self.unfenced.lock();
        // Dropping the batch tells those who wait.
        while unfenced.front().is_some_and(|batch| batch.sent.elapsed() > CONFIRM_WITHIN) {
            unfenced.pop_front();
        }
        drop(unfenced);
        // Only the oldest matters for lateness, and an acknowledgement of a later one clears it.
        let mut unacked = self.unacked.lock();
        let excess = unacked.len().saturating_sub(WAITING_MAX);
        unacked.drain(1.min(excess)..excess);
        self.metrics.records_unconfirmed.set(i64::try_from(unacked.len()).unwrap_or(i64::MAX));
    }

    /// For how long records have not been confirmed, if that is too long.
    fn records_late(&self) -> Option<Duration> {
        let oldest = self.unacked.lock().front().map(|(_, sent)| sent.elapsed());
        oldest.filter(|late| *late > CONFIRM_WITHIN)
    }
}
