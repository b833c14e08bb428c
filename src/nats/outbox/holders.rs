//! What have the holders of a claim written before they delivered? Whoever takes it over reads that.
//!
//! A holder whose decision has a name writes into that batch, all others on the message's own subject. What came to nothing
//! is written behind its intent.

use async_nats::{
    Client,
    error::Error,
    jetstream::{self, Context, message::StreamMessage, stream::Stream},
};
use futures_util::future::try_join_all;
use tokio::sync::Semaphore;

use super::CONFIRM_WITHIN;
use crate::{
    audit::{self, BATCH_MESSAGES_MAX, Body, Record},
    domain::DecisionId,
    lanes::Named,
    nats::jetstream::found::{found, next_on},
    state::MessageKey,
    tenants::names,
};

/// Messages that are looked through where it is not known which it is.
const LOST_MAX: u64 = 1_024;
/// Of them at one time.
const ASKED_AT_ONCE: u64 = 64;
/// Messages of which that is done at one time.
const LOST_AT_ONCE: usize = 2;

/// Reads what they have written.
pub(super) struct Holders {
    context: Context,
    /// Places for those who look among the newest records: each reads up to a thousand messages.
    lost: Semaphore,
}

/// Why it cannot be told what they have written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("{0}")]
    Stream(String),
    #[error("a record that cannot be read: {0}")]
    Record(String),
    #[error("more than {BATCH_MESSAGES_MAX} messages stand under one name")]
    TooMany,
    #[error("{LOST_AT_ONCE} others are looked for among the newest records already")]
    Busy,
}

impl<K> From<Error<K>> for Unreadable
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    fn from(error: Error<K>) -> Self {
        Self::Stream(error.to_string())
    }
}

impl Holders {
    pub(super) fn new(client: Client) -> Self {
        let mut context = jetstream::new(client);
        context.set_timeout(CONFIRM_WITHIN);
        Self { context, lost: Semaphore::new(LOST_AT_ONCE) }
    }

    pub(super) async fn last_intent(
        &self,
        key: &MessageKey,
        named: Named<'_>,
    ) -> Result<Option<Record<'static>>, Unreadable> {
        let stream = self.context.get_stream_no_info(names::RECORDS_STREAM).await?;
        let intent = match named {
            Named::Nothing => None,
            Named::Decision(decision) => of_decision(&stream, key, decision).await?,
            Named::Lost => {
                let _place = self.lost.try_acquire().map_err(|_| Unreadable::Busy)?;
                among_newest(&stream, key).await?
            }
        };
        // The first holder's, if it has sent the message: then nobody has since.
        if intent.is_some() {
            return Ok(intent);
        }
        let own = audit::intent_subject(key);
        let last = found(stream.get_last_raw_message_by_subject(&own).await)?;
        Ok(last.map(|message| read(&message)).transpose()?.and_then(|mut records| records.pop()))
    }
}

async fn of_decision(
    stream: &Stream<()>,
    key: &MessageKey,
    decision: &DecisionId,
) -> Result<Option<Record<'static>>, Unreadable> {
    let (subject, mut next) = (audit::batch_subject(Some(&key.tenant), decision), 1);
    let mut intent = None;
    for _ in 0..BATCH_MESSAGES_MAX {
        let Some(message) = next_on(stream, &subject, &mut next).await? else { return Ok(intent) };
        for record in read(&message)?.into_iter().filter(|record| is_of(record, key)) {
            match &record.body {
                Body::Intent(it) if it.verdict.decision_id == decision.as_str() => intent = Some(record),
                Body::Verdict(it) if it.verdict.decision_id == decision.as_str() => intent = None,
                _ => {}
            }
        }
    }
    Err(Unreadable::TooMany)
}

/// The newest intent that did not come to nothing, as far as it is among the last.
async fn among_newest(stream: &Stream<()>, key: &MessageKey) -> Result<Option<Record<'static>>, Unreadable> {
    let batches = audit::batches_of(&key.tenant);
    let last = found(stream.get_last_raw_message_by_subject(&batches).await)?;
    let Some(mut end) = last.map(|message| message.sequence) else { return Ok(None) };
    let (of_tenant, mut came_to_nothing) = (batches.trim_end_matches("*.batch").to_owned(), Vec::new());
    let begin = end.saturating_sub(LOST_MAX);
    while end > begin {
        let from = begin.max(end.saturating_sub(ASKED_AT_ONCE));
        let asked = (from + 1..=end).map(async |sequence| found(stream.get_raw_message(sequence).await));
        let messages = try_join_all(asked).await?;
        for message in messages.iter().rev().flatten().filter(|it| it.subject.starts_with(&of_tenant)) {
            for record in read(message)?.into_iter().rev().filter(|record| is_of(record, key)) {
                match &record.body {
                    Body::Verdict(it) => came_to_nothing.push(it.verdict.decision_id.clone()),
                    Body::Intent(it) if came_to_nothing.contains(&it.verdict.decision_id) => {}
                    _ => return Ok(Some(record)),
                }
            }
        }
        end = from;
    }
    Ok(None)
}

/// What stands in a message, in order.
fn read(message: &StreamMessage) -> Result<Vec<Record<'static>>, Unreadable> {
    audit::decode(&message.payload).map(Record::each).map_err(|error| Unreadable::Record(error.to_string()))
}

/// It tells a decision about this message.
fn is_of(record: &Record<'_>, key: &MessageKey) -> bool {
    match &record.body {
        Body::Intent(it) | Body::Verdict(it) => {
            *record.tenant == key.tenant
                && *it.sender == key.sender
                && it.verdict.message_id.as_ref() == Some(&key.message)
        }
        _ => false,
    }
}
