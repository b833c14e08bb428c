//! The stream of records, as the operator reads it: which decision was it, and what else is on record of its message?
//! No consumers: nobody may make one.

use std::{
    collections::BTreeSet,
    ops::ControlFlow,
    time::{Duration, SystemTime},
};

use async_nats::{
    Client,
    error::Error,
    jetstream::{self, Context, message::StreamMessage, stream::Stream},
};
use futures_util::{StreamExt as _, TryStreamExt as _, future::try_join_all};

use super::{
    jetstream::found::{found, next_on},
    subjects,
};
use crate::{
    audit::{self, BATCH_MESSAGES_MAX, Body, Record},
    domain::{AgentId, DecisionId, MessageId, TenantId},
    state::MessageKey,
    tenants::{
        names::{RECORDS_STREAM, own_records_stream},
        plan::TENANTS_MAX,
    },
};

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Names of streams that are read to find those of records: each tenant has at most five, and may have left.
const STREAMS_MAX: usize = 10 * TENANTS_MAX;
/// Records that are asked for at one time.
const ASKED_AT_ONCE: u64 = 256;
/// Records of one message that are read: a message has one for each try of a delivery, and two at the end.
const OF_MESSAGE_MAX: usize = 200;

/// The operator's way to the records.
pub struct RecordStream {
    context: Context,
    name: String,
}

/// One as it is kept: by itself, or in a batch.
pub struct StoredRecord {
    /// Where, and as which message of it.
    pub stream: String,
    pub sequence: u64,
    pub at: SystemTime,
    pub subject: String,
    pub record: Record<'static>,
}

impl StoredRecord {
    /// It is an intent, by where it stands: that of what is stored durably stands elsewhere, and what was submitted has none.
    pub fn is_of_live_delivery(&self) -> bool {
        let is_intent = matches!(self.record.body, Body::Intent(_));
        is_intent && (self.subject.ends_with(".intent") || self.subject.ends_with(".batch"))
    }

    /// The message that it is about, if it was readable enough to say which.
    pub fn message(&self) -> Option<MessageKey> {
        if let Body::Intent(it) | Body::Verdict(it) = &self.record.body {
            let message = it.verdict.message_id.clone()?;
            let (tenant, sender) = (self.record.tenant.clone(), it.sender.clone());
            return Some(MessageKey { tenant: tenant.into_owned(), sender: sender.into_owned(), message });
        }
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
#[error("records: {0}")]
pub struct RecordStreamError(String);

impl RecordStream {
    /// That of all tenants.
    pub fn new(client: Client) -> Self {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_WITHIN);
        Self { context, name: RECORDS_STREAM.to_owned() }
    }

    /// Where to look for a tenant's, what goes further back first: where they are kept apart, if they are, and among those of
    /// all. For no one tenant's: among those of all, and then in what is kept apart of each.
    pub async fn where_to_look(
        client: Client,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<Self>, RecordStreamError> {
        let shared = Self::new(client);
        let names = shared.context.stream_names().take(STREAMS_MAX).try_collect::<BTreeSet<String>>().await;
        let names = names.map_err(failed)?;
        let is_own = |name: &String| match tenant {
            Some(tenant) => *name == own_records_stream(tenant),
            None => name.strip_prefix(RECORDS_STREAM).is_some_and(|rest| rest.starts_with('_')),
        };
        let own = names.into_iter().filter(is_own).map(|name| Self { context: shared.context.clone(), name });
        let mut all: Vec<_> = own.collect();
        // A copy has the time at which it was made.
        let own_first = match (tenant, all.first()) {
            (Some(_), Some(own)) => own.begins().await? < shared.begins().await?,
            _ => false,
        };
        let at = if own_first { all.len() } else { 0 };
        all.insert(at, shared);
        Ok(all)
    }

    /// When the first message was kept, in nanoseconds since 1970.
    async fn begins(&self) -> Result<i128, RecordStreamError> {
        let state = self.stream().await?.get_info().await.map_err(failed)?.state;
        Ok(state.first_timestamp.unix_timestamp_nanos())
    }

    async fn stream(&self) -> Result<Stream<()>, RecordStreamError> {
        self.context.get_stream_no_info(&self.name).await.map_err(failed)
    }

    /// The newest record that names this decision. Of one tenant or of all.
    ///
    /// Where the id says in which batch that is, it is there; else each record is looked at from the newest on, back to
    /// `since` at most.
    pub async fn find(
        &self,
        decision_id: &str,
        tenant: Option<&TenantId>,
        since: Option<SystemTime>,
    ) -> Result<(Option<StoredRecord>, Looked), RecordStreamError> {
        if let Some(newest) = self.in_batch(decision_id, tenant).await?.pop() {
            return Ok((Some(newest), Looked::default()));
        }
        let of = tenant.map(subjects::records_of);
        self.each_message(since, |message| {
            let is_theirs = of.as_ref().is_none_or(|of| message.subject.starts_with(of.as_str()));
            if !is_theirs || !could_name(&message.payload, decision_id) {
                return ControlFlow::Continue(());
            }
            match self.kept(message).into_iter().rfind(|kept| names(&kept.record, decision_id)) {
                Some(kept) => ControlFlow::Break(kept),
                None => ControlFlow::Continue(()),
            }
        })
        .await
    }

    /// Hands over each record from the newest on, back to `since` at most, until it is told to stop. Of one tenant or of all.
    pub async fn newest_first<T>(
        &self,
        tenant: Option<&TenantId>,
        since: Option<SystemTime>,
        mut see: impl FnMut(StoredRecord) -> ControlFlow<T>,
    ) -> Result<(Option<T>, Looked), RecordStreamError> {
        let of = tenant.map(subjects::records_of);
        self.each_message(since, |message| {
            let is_theirs = of.as_ref().is_none_or(|of| message.subject.starts_with(of.as_str()));
            let records = if is_theirs { self.kept(message) } else { Vec::new() };
            records.into_iter().rev().try_for_each(&mut see)
        })
        .await
    }

    async fn each_message<T>(
        &self,
        since: Option<SystemTime>,
        mut see: impl FnMut(StreamMessage) -> ControlFlow<T>,
    ) -> Result<(Option<T>, Looked), RecordStreamError> {
        let stream = self.stream().await?;
        let state = stream.get_info().await.map_err(failed)?.state;
        let (mut looked, mut end) = (Looked::default(), state.last_sequence);
        while end >= state.first_sequence && end > 0 {
            let begin = state.first_sequence.max(end.saturating_sub(ASKED_AT_ONCE - 1));
            let asked = (begin..=end).map(|sequence| message(&stream, sequence));
            let found: Vec<StreamMessage> = try_join_all(asked).await?.into_iter().flatten().collect();
            for message in found.into_iter().rev() {
                let at = SystemTime::from(message.time);
                if since.is_some_and(|since| at < since) {
                    return Ok((None, looked));
                }
                looked = Looked { records: looked.records + 1, since: Some(at) };
                if let ControlFlow::Break(seen) = see(message) {
                    return Ok((Some(seen), looked));
                }
            }
            end = begin - 1;
        }
        Ok((None, looked))
    }

    /// What is on record of a decision in the batch that its id names, the oldest first. Nothing, if it names none.
    pub async fn in_batch(
        &self,
        decision_id: &str,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<StoredRecord>, RecordStreamError> {
        let Some(decision) = DecisionId::parse(decision_id) else { return Ok(Vec::new()) };
        let all = self.all_of(&audit::batch_subject(tenant, &decision), BATCH_MESSAGES_MAX).await?;
        Ok(all.into_iter().filter(|kept| names(&kept.record, decision_id)).collect())
    }

    /// All that is on record of a message by itself, the oldest first.
    pub async fn of_message(&self, key: &MessageKey) -> Result<Vec<StoredRecord>, RecordStreamError> {
        self.all_of(&subjects::records_about(key), OF_MESSAGE_MAX).await
    }

    /// What stands in so many messages on a subject, the oldest first.
    async fn all_of(&self, of: &str, messages_max: usize) -> Result<Vec<StoredRecord>, RecordStreamError> {
        let stream = self.stream().await?;
        let (mut next, mut all) = (1, Vec::new());
        for _ in 0..messages_max {
            let Some(message) = next_on(&stream, of, &mut next).await.map_err(failed)? else { break };
            all.extend(self.kept(message));
        }
        Ok(all)
    }

    /// What stands in a message. Nothing: it is a probe, or of a kind that this version does not know.
    fn kept(&self, message: StreamMessage) -> Vec<StoredRecord> {
        let records = audit::decode(&message.payload).map(Record::each).unwrap_or_default();
        let (sequence, at, subject) = (message.sequence, SystemTime::from(message.time), message.subject);
        let stored = |record| StoredRecord {
            stream: self.name.clone(),
            sequence,
            at,
            subject: subject.to_string(),
            record,
        };
        records.into_iter().map(stored).collect()
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

/// Whether it is of this decision: the one that it tells, or the one that its message was queued by.
fn names(record: &Record<'_>, decision_id: &str) -> bool {
    match &record.body {
        Body::Intent(it) | Body::Verdict(it) => {
            it.verdict.decision_id == decision_id || it.submitted_as.as_deref() == Some(decision_id)
        }
        Body::Vote(_)
        | Body::Threshold(_)
        | Body::Registration(_)
        | Body::DeadLetter(_)
        | Body::Recovery(_)
        | Body::Batch(_) => false,
    }
}

fn failed<K>(error: Error<K>) -> RecordStreamError
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    RecordStreamError(error.to_string())
}
