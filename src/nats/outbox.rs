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
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{
    Client,
    jetstream::{self, stream::LastRawMessageErrorKind},
};
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::{BusError, Link};
use crate::{
    audit::{self, Entry, Record},
    config,
    lanes::{Dispatch, Handover, LiveError, LiveTransport},
    state::MessageKey,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::names,
};

mod batch;
mod confirmations;
mod session;

use batch::Job;
use confirmations::Shared;
use session::{Session, keep};

/// Jobs that wait to be written.
const WAITING_MAX: usize = 4096;
/// What the headers of a delivery take at most.
const HEADERS_MAX: usize = 1024;
/// A delivery without a fence, or a record without an ack, is given up after this.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// The live transport over NATS.
pub struct Outbox {
    /// The intake's connection, for reading records.
    reader: Client,
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
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

    fn submit(&self, job: Job) -> Result<(), LiveError> {
        if !self.connected() {
            return Err(LiveError::NotConnected);
        }
        self.jobs.try_send(job).map_err(|_| LiveError::Full { waiting: WAITING_MAX })
    }
}

#[async_trait]
impl LiveTransport for Outbox {
    async fn deliver(&self, dispatch: Dispatch) -> Result<Vec<Handover>, LiveError> {
        if let Some(late) = self.shared.records_late() {
            return Err(LiveError::RecordsUnconfirmed {
                unconfirmed_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            });
        }
        let (done, handovers) = oneshot::channel();
        self.submit(Job::Deliver { dispatch: Box::new(dispatch), done })?;
        handovers.await.map_err(|_| LiveError::Unconfirmed)
    }

    fn record(&self, entry: Entry) -> Result<(), LiveError> {
        self.submit(Job::Record(entry))
    }

    async fn last_intent(&self, key: &MessageKey) -> Result<Option<Record<'static>>, LiveError> {
        let mut context = jetstream::new(self.reader.clone());
        context.set_timeout(CONFIRM_WITHIN);
        let unreadable = |cause: String| {
            tracing::warn!(cause, "records unreadable");
            LiveError::RecordsUnreadable
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
