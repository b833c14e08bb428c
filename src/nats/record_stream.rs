//! The stream of records, as the operator reads it: which decision was it, and what else is on record of its message?
//! No consumers: nobody may make one.

use std::time::{Duration, SystemTime};

use async_nats::{
    Client,
    error::Error,
    jetstream::{self, Context, message::StreamMessage, stream::Stream},
};
use futures_util::future::try_join_all;

use super::{jetstream::found::found, subjects};
use crate::{
    audit::{self, Body, Record},
    domain::{AgentId, MessageId, TenantId},
    state::MessageKey,
    tenants::names::RECORDS_STREAM,
};

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Records that are asked for at one time.
const ASKED_AT_ONCE: u64 = 256;
/// Records of one message that are read: a message has one for each try of a delivery, and two at the end.
const OF_MESSAGE_MAX: usize = 200;

/// The operator's way to the records.
pub struct RecordStream {
    context: Context,
}

/// One as it is kept.
pub struct StoredRecord {
    pub sequence: u64,
    pub at: SystemTime,
    pub subject: String,
    pub record: Record<'static>,
}

impl StoredRecord {
    /// The message that it is about, if it was readable enough to say which.
    pub fn message(&self) -> Option<MessageKey> {
        let mut tokens = self.subject.split('.').skip(1);
        let tenant: TenantId = tokens.next()?.parse().ok()?;
        let sender: AgentId = tokens.next()?.parse().ok()?;
        let message: MessageId = tokens.next()?.parse().ok()?;
        Some(MessageKey { tenant, sender, message })
    }
}

/// What was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Looked {
    pub records: u64,
    /// When the first of them was kept.
    pub since: Option<SystemTime>,
}

/// Why it cannot be read. For the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {RECORDS_STREAM}: {0}")]
pub struct RecordStreamError(String);

impl RecordStream {
    pub fn new(client: Client) -> Self {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_WITHIN);
        Self { context }
    }

    async fn stream(&self) -> Result<Stream<()>, RecordStreamError> {
        self.context.get_stream_no_info(RECORDS_STREAM).await.map_err(failed)
    }

    /// The newest record that names this decision, looked for from the newest on, back to `since` at most. Of one tenant
    /// or of all.
    ///
    /// No subject bears a decision's id, so that each record is looked at.
    pub async fn find(
        &self,
        decision_id: &str,
        tenant: Option<&TenantId>,
        since: Option<SystemTime>,
    ) -> Result<(Option<StoredRecord>, Looked), RecordStreamError> {
        let stream = self.stream().await?;
        let state = stream.get_info().await.map_err(failed)?.state;
        let of = tenant.map(subjects::records_of);
        let (mut looked, mut end) = (Looked::default(), state.last_sequence);
        while end >= state.first_sequence && end > 0 {
            let begin = state.first_sequence.max(end.saturating_sub(ASKED_AT_ONCE - 1));
            let asked = (begin..=end).map(|sequence| message(&stream, sequence));
            let found: Vec<StreamMessage> = try_join_all(asked).await?.into_iter().flatten().collect();
            let first = found.first().map(|message| SystemTime::from(message.time));
            for message in found.into_iter().rev() {
                looked.records += 1;
                let is_theirs = of.as_ref().is_none_or(|of| message.subject.starts_with(of.as_str()));
                if !is_theirs || !could_name(&message.payload, decision_id) {
                    continue;
                }
                if let Some(kept) = kept(message).filter(|kept| names(&kept.record, decision_id)) {
                    return Ok((Some(kept), looked));
                }
            }
            looked.since = first.or(looked.since);
            if since.zip(first).is_some_and(|(since, first)| first < since) {
                break;
            }
            end = begin - 1;
        }
        Ok((None, looked))
    }

    /// All that is on record of a message, the oldest first.
    pub async fn of_message(&self, key: &MessageKey) -> Result<Vec<StoredRecord>, RecordStreamError> {
        let stream = self.stream().await?;
        let (of, mut next, mut all) = (subjects::records_about(key), 1, Vec::new());
        while all.len() < OF_MESSAGE_MAX {
            let stored = found(stream.get_first_raw_message_by_subject(&of, next).await).map_err(failed)?;
            let Some(message) = stored else { break };
            next = message.sequence + 1;
            all.extend(kept(message));
        }
        Ok(all)
    }
}

/// Whether it is worth reading: most are of other decisions. What is not text is of another form.
fn could_name(payload: &[u8], decision_id: &str) -> bool {
    std::str::from_utf8(payload).map_or(true, |json| json.contains(decision_id))
}

/// `None`: it has gone by its age, or by the stream's size.
async fn message(stream: &Stream<()>, sequence: u64) -> Result<Option<StreamMessage>, RecordStreamError> {
    found(stream.get_raw_message(sequence).await).map_err(failed)
}

/// `None`: it is a probe, or of a kind that this version does not know.
fn kept(message: StreamMessage) -> Option<StoredRecord> {
    let record = audit::decode(&message.payload).ok()?;
    let (sequence, at) = (message.sequence, message.time.into());
    Some(StoredRecord { sequence, at, subject: message.subject.to_string(), record })
}

/// Whether it is of this decision: the one that it tells, or the one that its message was queued by.
fn names(record: &Record<'_>, decision_id: &str) -> bool {
    match &record.body {
        Body::Intent(it) | Body::Verdict(it) => {
            it.verdict.decision_id == decision_id || it.submitted_as.as_deref() == Some(decision_id)
        }
        Body::Batch(records) => records.iter().any(|record| names(record, decision_id)),
        Body::Vote(_) | Body::Threshold(_) | Body::Registration(_) | Body::DeadLetter(_) => false,
    }
}

fn failed<K>(error: Error<K>) -> RecordStreamError
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    RecordStreamError(error.to_string())
}
