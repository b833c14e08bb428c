//! The durable lane over JetStream: what waits to be governed, durable inboxes, outcomes, dead letters.
//!
//! A message that goes well costs the server one publish when it is kept, and one each for its delivery,
//! its record and its outcome. Nothing is looked up: that nothing was stored before is a condition of the
//! publish (`Nats-Expected-Last-Subject-Sequence` 0), and only who comes late reads what stands.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_nats::jetstream::{
    self, Context,
    stream::{LastRawMessageErrorKind, RawMessageError},
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::{BusError, subjects};
use crate::{
    config,
    pipeline::{
        Accepted, DeadLetter, DurableLane, Evidence, LaneError, Noted, Notice, OutcomeStage, RecordPlace,
        Request, Shipment, Stored, Unless,
    },
    shutdown::Shutdown,
    state::{Digest, MessageKey},
    telemetry::Metrics,
    tenants::names,
    wire,
};

pub(super) mod headers;
mod requests;

use requests::Published;
pub(super) use requests::Requests;

/// For one answer to a look at what is stored.
const READ_WITHIN: Duration = Duration::from_secs(2);
/// Parcels of one broadcast that wait for their acknowledgement.
const PARCELS_AT_ONCE: usize = 32;
/// Recipients that are read of what is stored; a broadcast may have more.
const RECIPIENTS_READ_MAX: usize = 64;

/// The lane over a connection of its own.
pub struct JetStreamLane {
    requests: Requests,
    context: Context,
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
    ) -> Result<Self, BusError> {
        let requests = Requests::connect(name, settings, background).await?;
        let mut context = jetstream::new(requests.client().clone());
        context.set_timeout(READ_WITHIN);
        Ok(Self { requests, context, payload_max, metrics })
    }

    pub fn connected(&self) -> bool {
        self.requests.connected()
    }

    pub(super) fn requests(&self) -> &Requests {
        &self.requests
    }

    /// Returns when the server has read all that was acknowledged and given back; the caller bounds the
    /// wait.
    pub async fn fence(&self) {
        super::fence(self.requests.client()).await;
    }

    /// Publishes what may be there once only.
    async fn publish_first(
        &self,
        subject: String,
        none_of: &str,
        headers: async_nats::HeaderMap,
        payload: Bytes,
    ) -> Result<Published, LaneError> {
        self.requests.publish(subject, headers::expecting_none(headers, none_of), payload).await
    }

    /// One parcel into its inbox, unless it is there already.
    async fn store_parcel(&self, shipment: &Shipment, index: usize) -> Result<(), LaneError> {
        let Some(parcel) = shipment.parcels.get(index) else { return Ok(()) };
        let subject = subjects::stored_message(&shipment.key, parcel.permit.recipient());
        let headers = headers::delivery(shipment, index);
        self.publish_first(subject.clone(), &subject, headers, parcel.payload.clone()).await?;
        Ok(())
    }

    /// Whether what was kept before under this id has the same content.
    async fn compare(&self, key: &MessageKey, digest: &Digest, sequence: u64) -> Result<Accepted, LaneError> {
        let waiting = self.context.get_stream_no_info(names::inbound_stream(&key.tenant)).await;
        let waiting = waiting.map_err(|error| LaneError::Unreadable(error.to_string()))?;
        let (verdict, earlier) = match found(waiting.get_raw_message(sequence).await)? {
            Some(message) => (None, headers::digest(&message.headers)),
            // Governed by now. Without a verdict it is another node's at this moment.
            None => self.told(key).await?.map_or((None, None), |(verdict, digest)| (Some(verdict), digest)),
        };
        match earlier {
            Some(earlier) if earlier != *digest => Ok(Accepted::Conflict),
            _ => Ok(Accepted::Repeat(verdict.map(Box::new))),
        }
    }

    /// The verdict that the sender was told, and the digest of what it is about.
    async fn told(
        &self,
        key: &MessageKey,
    ) -> Result<Option<(crate::domain::Verdict, Option<Digest>)>, LaneError> {
        let stored = self.outbound(key).await?;
        let last = stored.get_last_raw_message_by_subject(&subjects::verdict(key)).await;
        let Some(message) = found(last)? else { return Ok(None) };
        let verdict = wire::decode_verdict(&message.payload)
            .map_err(|error| LaneError::Unreadable(format!("a verdict: {error}")))?;
        Ok(Some((verdict, headers::digest(&message.headers))))
    }

    async fn outbound(&self, key: &MessageKey) -> Result<jetstream::stream::Stream<()>, LaneError> {
        let stream = self.context.get_stream_no_info(names::outbound_stream(&key.tenant)).await;
        stream.map_err(|error| LaneError::Unreadable(error.to_string()))
    }
}

#[async_trait]
impl DurableLane for JetStreamLane {
    async fn accept(
        &self,
        key: &MessageKey,
        digest: &Digest,
        request: &Request,
    ) -> Result<Accepted, LaneError> {
        let headers = headers::submitted(key, digest, request);
        let published =
            self.requests.publish(subjects::submitted(key), headers, request.payload.clone()).await?;
        match published {
            Published::Kept { duplicate: false, .. } => Ok(Accepted::New),
            Published::Kept { duplicate: true, sequence } => self.compare(key, digest, sequence).await,
            Published::Late => Err(LaneError::Refused("it expects no sequence".to_owned())),
        }
    }

    async fn store(&self, shipment: Shipment) -> Result<Stored, LaneError> {
        let Some(first) = shipment.parcels.first() else {
            return Err(LaneError::Refused("a shipment without a parcel".to_owned()));
        };
        let subject = subjects::stored_message(&shipment.key, first.permit.recipient());
        let none_of = match shipment.unless {
            Unless::Decided => subjects::all_stored(&shipment.key),
            Unless::Delivered => subjects::all_deliveries(&shipment.key),
        };
        let headers = headers::delivery(&shipment, 0);
        let begun = self.publish_first(subject, &none_of, headers, first.payload.clone()).await?;
        let left = match begun {
            Published::Kept { .. } => 1,
            Published::Late => {
                // Nothing there any more: it has become too old in this instant.
                let evidence = self.evidence(&shipment.key).await?.ok_or(LaneError::Unconfirmed)?;
                let decided = shipment.unless == Unless::Decided && evidence.verdict.is_some();
                if decided || !shipment.to_each {
                    return Ok(Stored::Before(Box::new(evidence)));
                }
                0
            }
        };
        // That it is decided holds for all of a broadcast; who has it already does not get it again.
        stream::iter((left..shipment.parcels.len()).map(|index| self.store_parcel(&shipment, index)))
            .buffer_unordered(PARCELS_AT_ONCE)
            .try_collect::<()>()
            .await?;
        Ok(Stored::Now)
    }

    async fn evidence(&self, key: &MessageKey) -> Result<Option<Evidence>, LaneError> {
        let stored = self.outbound(key).await?;
        let told = self.told(key).await?;
        let mut evidence =
            Evidence { recipients: Vec::new(), decision_id: None, verdict: None, digest: None };
        let (mut from, deliveries) = (1, subjects::all_deliveries(key));
        while evidence.recipients.len() < RECIPIENTS_READ_MAX {
            let next = stored.get_first_raw_message_by_subject(&deliveries, from).await;
            let Some(message) = found(next)? else { break };
            from = message.sequence + 1;
            evidence.recipients.extend(subjects::delivered_to(&message.subject));
            if evidence.decision_id.is_none() {
                evidence.decision_id =
                    message.headers.get(headers::DECISION).map(|id| id.as_str().to_owned());
            }
        }
        if let Some((verdict, digest)) = told {
            evidence.verdict = Some(verdict);
            evidence.digest = digest;
        }
        Ok((evidence.verdict.is_some() || !evidence.recipients.is_empty()).then_some(evidence))
    }

    async fn outcome(&self, notice: Notice) -> Result<Noted, LaneError> {
        let Notice { tenant, to, sender, message, stage, .. } = &notice;
        let subject = subjects::stored_outcome(tenant, to, sender, message, *stage);
        let none_of = match stage {
            OutcomeStage::Governed => subjects::all_stored(&MessageKey {
                tenant: tenant.clone(),
                sender: sender.clone(),
                message: message.clone(),
            }),
            OutcomeStage::Delivered
            | OutcomeStage::Judged
            | OutcomeStage::Repeated(_)
            | OutcomeStage::Redriven(_) => subject.clone(),
        };
        let payload = wire::encode_verdict(&notice.verdict, notice.encoding).into();
        match self.publish_first(subject, &none_of, headers::outcome(&notice), payload).await? {
            Published::Kept { .. } => Ok(Noted::Now),
            Published::Late => Ok(Noted::Before),
        }
    }

    async fn record(&self, place: RecordPlace<'_>, record: Bytes) -> Result<(), LaneError> {
        self.requests.publish(subjects::record(place), async_nats::HeaderMap::new(), record).await?;
        Ok(())
    }

    async fn bury(&self, letter: DeadLetter) -> Result<(), LaneError> {
        let died_at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let headers = headers::dead_letter(&letter, died_at);
        let reason = letter.reason.as_str();
        tracing::warn!(
            tenant = letter.tenant,
            sender = letter.sender,
            message = letter.message,
            reason,
            attempts = letter.attempts,
            "a message is put aside"
        );
        self.requests.publish(subjects::dead(&letter), headers, letter.payload).await?;
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
