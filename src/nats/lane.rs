//! The durable lane over JetStream: what waits to be governed, durable inboxes, outcomes, dead letters.
//!
//! A message that goes well costs the server one publish when it is kept, and one each for its delivery,
//! its record and its outcome. Nothing is looked up: what was stored before is a condition of the publish
//! (`once.rs`), and only who comes late reads what stands.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::{
    Client, Subject,
    jetstream::{
        self, AckKind, Context,
        stream::{LastRawMessageErrorKind, RawMessageError},
    },
};
use async_trait::async_trait;
use moka::sync::Cache;

use super::{BusError, Link, headers, jetstream::publish::Published, subjects};
use crate::{
    audit, config,
    domain::{AgentId, TenantId, Verdict},
    lanes::{
        Accepted, DeadLetter, DurableLane, DurableWrite, Evidence, LaneError, Noted, Notice, OutcomeStage,
        Stored, Submission,
    },
    recent::recent,
    shutdown::Shutdown,
    state::{Digest, MessageKey},
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::names,
};

mod evidence;
mod gathering;
mod once;
mod outgoing;
mod records;
mod requests;
mod room;
mod session;

pub use evidence::InboxEvidence;
use records::Records;
use requests::{Message, Requests};
use room::{Store, StoreRoom};

/// Verdicts that are known to be stored, until somebody looks for them as evidence.
const TOLD_MAX: u64 = 16_384;
const TOLD_FOR: Duration = Duration::from_secs(60);
/// For one answer to a look at what is stored.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// The lane over connections of its own.
pub struct JetStreamLane {
    requests: Arc<Requests>,
    records: Records,
    context: Context,
    inboxes: StoreRoom,
    dead_letters: StoreRoom,
    /// Whom the verdicts name that say of a message that it was delivered to one, and where they stand, of those that
    /// were stored here of late.
    told: Cache<MessageKey, (AgentId, u64)>,
    payload_max: usize,
    metrics: Arc<Metrics>,
}

impl JetStreamLane {
    /// `payload_max`: what the server takes in one message.
    pub async fn connect(
        name: &str,
        settings: &config::Nats,
        payload_max: usize,
        metrics: Arc<Metrics>,
        background: &Shutdown,
        supervisor: &Supervisor,
    ) -> Result<Self, BusError> {
        let requests =
            Arc::new(Requests::connect(name, settings, payload_max, background, supervisor).await?);
        let records = Records::start(Arc::clone(&requests), background, supervisor);
        let mut context = jetstream::new(requests.client().clone());
        context.set_timeout(READ_WITHIN);
        let inboxes = StoreRoom::new(context.clone(), Store::Inboxes);
        let dead_letters = StoreRoom::new(context.clone(), Store::DeadLetters);
        let told = recent(TOLD_MAX).time_to_live(TOLD_FOR).build();
        Ok(Self { requests, records, context, inboxes, dead_letters, told, payload_max, metrics })
    }

    pub fn connected(&self) -> bool {
        self.requests.connected()
    }

    /// Whether what is published leaves now.
    pub(super) fn writes(&self) -> bool {
        self.requests.writes()
    }

    /// Waits for the first connection; the caller bounds the wait.
    pub async fn ready(&self) {
        while !self.connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the server calls the connections.
    pub fn links(&self) -> Vec<Link> {
        self.requests.links()
    }

    /// For how long no message has come back over the connection.
    pub fn silent_for(&self) -> Duration {
        self.requests.silent_for()
    }

    pub(super) fn client(&self) -> &Client {
        self.requests.client()
    }

    /// Returns when the server has read all that was acknowledged and given back; the caller bounds the
    /// wait.
    pub async fn fence(&self) {
        tokio::join!(super::fence(self.requests.client()), self.requests.fence());
    }

    /// Says what becomes of a message that was pulled.
    pub(super) fn acknowledge(&self, reply: &Subject, kind: AckKind) {
        self.requests.acknowledge(reply, kind);
    }

    /// Whether what was kept before under this id has the same content.
    async fn compare(&self, key: &MessageKey, digest: &Digest, sequence: u64) -> Result<Accepted, LaneError> {
        let waiting = self.context.get_stream_no_info(names::inbound_stream(&key.tenant)).await;
        let waiting = waiting.map_err(|error| LaneError::Unreadable(error.to_string()))?;
        let (verdict, earlier) = match found(waiting.get_raw_message(sequence).await)? {
            Some(message) => (None, headers::digest(&message.headers)),
            // Governed by now. Without a verdict it is another node's at this moment.
            None => match self.verdict_on(key, &subjects::verdict(key)).await? {
                Some((verdict, digest)) => (Some(verdict), digest),
                None => (None, None),
            },
        };
        match earlier {
            Some(earlier) if earlier != *digest => Ok(Accepted::Conflict),
            _ => Ok(Accepted::Repeat(verdict.map(Box::new))),
        }
    }
}

#[async_trait]
impl DurableLane for JetStreamLane {
    async fn room(&self, key: &MessageKey, to: &[AgentId], bytes: usize) -> Result<(), LaneError> {
        let Err(full) = self.inboxes.take(&key.tenant, &key.sender, to, bytes).await else { return Ok(()) };
        let waiting = self.context.get_stream_no_info(names::inbound_stream(&key.tenant)).await;
        let waiting = waiting.map_err(|error| LaneError::Unreadable(error.to_string()))?;
        // A repeat finds its own also when there is no room for others.
        let kept = found(waiting.get_last_raw_message_by_subject(&subjects::submitted(key)).await)?.is_some();
        if kept || self.read(key).await?.is_some() { Ok(()) } else { Err(full) }
    }

    async fn crowded(&self, tenant: &TenantId, to: &[AgentId]) -> Vec<(AgentId, LaneError)> {
        self.inboxes.crowded(tenant, to).await
    }

    async fn accept(&self, submission: Submission<'_>) -> Result<Accepted, LaneError> {
        let fields = headers::submitted(&submission);
        let Submission { key, digest, payload, .. } = &submission;
        let (subject, headers) = (&subjects::submitted(key), &headers::slices(&fields));
        let message = Message { subject, headers, payload, not_after: None };
        match self.requests.publish(message).await? {
            Published::Kept { duplicate: false, .. } => Ok(Accepted::New),
            Published::Kept { duplicate: true, sequence } => self.compare(key, digest, sequence).await,
            Published::Late => Err(LaneError::Refused("it expects no sequence".to_owned())),
        }
    }

    async fn store(&self, write: DurableWrite) -> Result<Stored, LaneError> {
        if write.deliveries.is_empty() {
            return Err(LaneError::Refused("a write without a delivery".to_owned()));
        }
        self.store_once(&write).await
    }

    async fn evidence(&self, key: &MessageKey) -> Result<Option<Evidence>, LaneError> {
        self.read(key).await
    }

    async fn judged(&self, key: &MessageKey) -> Result<Option<Verdict>, LaneError> {
        let subject = subjects::stored_outcome(key, &key.sender, OutcomeStage::Judged);
        Ok(self.verdict_on(key, &subject).await?.map(|(verdict, _)| verdict))
    }

    async fn outcome(&self, notice: Notice) -> Result<Noted, LaneError> {
        self.notify_once(&notice).await
    }

    async fn record(&self, record: audit::Written) -> Result<(), LaneError> {
        match record {
            audit::Written::Part(part) => self.records.keep(part).await,
            audit::Written::Alone(entry) => {
                let (subject, payload) = (entry.subject(), entry.payload());
                let message = Message { subject, headers: &[], payload, not_after: None };
                self.requests.publish(message).await.map(drop)
            }
        }
    }

    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), LaneError> {
        let died_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let headers = headers::dead_letter(&letter, died_at);
        if letter.tenant == subjects::UNREADABLE {
            // Streams are tenants', and so is what lies in them: no tenant's stream could hold it.
            tracing::error!(bytes = letter.payload.len(), "a message of no tenant is dropped");
            return Ok(());
        }
        // A sender that cannot be read is none that could have its share.
        if let (Ok(tenant), Ok(sender)) = (letter.tenant.parse(), letter.sender.parse()) {
            let bytes = letter.payload.len();
            self.dead_letters.take(&tenant, &sender, &[], bytes).await?;
        }
        let subject = &subjects::dead(&letter.tenant, &letter.sender, &letter.message);
        let (headers, payload) = (&headers::slices_of(&headers), &letter.payload);
        self.requests.publish(Message { subject, headers, payload, not_after: None }).await?;
        tracing::warn!(
            tenant = letter.tenant,
            sender = letter.sender,
            message = letter.message,
            reason = letter.reason,
            attempts = letter.attempts,
            "a message is put aside"
        );
        self.metrics.lane.buried();
        Ok(())
    }

    fn payload_max(&self) -> usize {
        self.payload_max.saturating_sub(headers::HEADERS_MAX)
    }
}

/// What JetStream has found, if there is anything.
fn found<T>(answer: Result<T, RawMessageError>) -> Result<Option<T>, LaneError> {
    match answer {
        Ok(message) => Ok(Some(message)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(LaneError::Unreadable(error.to_string())),
    }
}
