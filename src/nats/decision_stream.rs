//! The stream of logged decisions: nodes write it, operators read it. No consumers: nobody may make one.

use std::{
    collections::VecDeque,
    time::{Duration, SystemTime},
};

use async_nats::{
    Client, HeaderMap,
    error::Error,
    header::NATS_MESSAGE_ID,
    jetstream::{self, Context, stream::Stream},
};
use bytes::Bytes;
use futures_util::{StreamExt as _, future::try_join_all, stream::FuturesUnordered};

use super::{
    jetstream::{
        found::found,
        publish::{PublishFailure, publish},
    },
    subjects,
};
use crate::{
    domain::TenantId,
    policy::decision_log::{Written, WrittenEvents},
    tenants::names::DECISIONS_STREAM,
};

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Events that are on their way to JetStream at one time.
const UNCONFIRMED_MAX: usize = 64;
/// For one event, and between two.
const ATTEMPTS_MAX: u32 = 5;
const RETRY: Duration = Duration::from_millis(500);
/// Events that are asked for at one time.
const ASKED_AT_ONCE: u64 = 256;
/// Events of one decision that are read: it has one for each of its recipients.
const OF_DECISION_MAX: usize = 32;

pub struct DecisionStream {
    client: Client,
    context: Context,
}

/// Why it cannot be read. For the operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stream {DECISIONS_STREAM}: {0}")]
pub struct DecisionStreamError(String);

impl DecisionStream {
    pub fn new(client: Client) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Self { client, context }
    }

    /// Keeps what the log writes, until the log ends. While JetStream is slow the log waits, and then loses, counted.
    pub async fn keep(&self, events: &WrittenEvents) {
        let mut unconfirmed = FuturesUnordered::new();
        loop {
            tokio::select! {
                event = events.next(), if unconfirmed.len() < UNCONFIRMED_MAX => match event {
                    Some(event) => unconfirmed.push(self.store(event, events)),
                    None => break,
                },
                Some(()) = unconfirmed.next() => {}
            }
        }
        while unconfirmed.next().await.is_some() {}
    }

    /// Tries until it is kept. One that comes twice within the stream's window is kept once.
    async fn store(&self, event: Written, events: &WrittenEvents) {
        let subject = subjects::decision(&event.tenant, &event.sender, &event.decision_id);
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, nuid::next().as_str());
        let mut why = String::new();
        for attempt in 1..=ATTEMPTS_MAX {
            let (subject, headers) = (subject.clone(), headers.clone());
            match publish(&self.client, subject, headers, event.event.clone(), ANSWER_WITHIN).await {
                Ok(_) => return events.kept(),
                Err(PublishFailure::NoStream) => {
                    why = format!("there is no stream {DECISIONS_STREAM}; `agentbus tenants apply` makes it");
                }
                Err(failure) => why = failure.to_string(),
            }
            if attempt < ATTEMPTS_MAX {
                tokio::time::sleep(RETRY).await;
            }
        }
        events.lost(&why);
    }

    /// What was logged since then, of one tenant or of all. What comes meanwhile is no part of it.
    pub async fn since(
        &self,
        since: SystemTime,
        tenant: Option<&TenantId>,
    ) -> Result<LoggedEvents, DecisionStreamError> {
        let stream = self.context.get_stream_no_info(DECISIONS_STREAM).await.map_err(failed)?;
        let state = stream.get_info().await.map_err(failed)?.state;
        let next = match state.messages {
            0 => state.last_sequence + 1,
            _ => first_since(&stream, since, state.first_sequence, state.last_sequence).await?,
        };
        let of = tenant.map(subjects::decisions_of);
        Ok(LoggedEvents { stream, next, last: state.last_sequence, of, found: VecDeque::new() })
    }

    /// What was logged of one decision, whoever's it is: at most so many recipients of it.
    pub async fn of_decision(&self, decision_id: &str) -> Result<Vec<Bytes>, DecisionStreamError> {
        let stream = self.context.get_stream_no_info(DECISIONS_STREAM).await.map_err(failed)?;
        let (of, mut next, mut events) = (subjects::decision_by(decision_id), 1, Vec::new());
        while events.len() < OF_DECISION_MAX {
            let stored = found(stream.get_first_raw_message_by_subject(&of, next).await).map_err(failed)?;
            let Some(event) = stored else { break };
            next = event.sequence + 1;
            events.push(event.payload);
        }
        Ok(events)
    }
}

/// Events of the stream, the oldest first.
pub struct LoggedEvents {
    stream: Stream<()>,
    next: u64,
    last: u64,
    /// What their subjects begin with.
    of: Option<String>,
    found: VecDeque<Bytes>,
}

impl LoggedEvents {
    pub async fn next(&mut self) -> Result<Option<Bytes>, DecisionStreamError> {
        while self.found.is_empty() && self.next <= self.last {
            let end = self.last.min(self.next + ASKED_AT_ONCE - 1);
            let asked = (self.next..=end).map(|sequence| message(&self.stream, sequence));
            for (_, subject, event) in try_join_all(asked).await?.into_iter().flatten() {
                if self.of.as_ref().is_none_or(|of| subject.starts_with(of)) {
                    self.found.push_back(event);
                }
            }
            self.next = end + 1;
        }
        Ok(self.found.pop_front())
    }
}

type Found = (SystemTime, String, Bytes);

/// `None`: it has gone by its age, or by the stream's size.
async fn message(stream: &Stream<()>, sequence: u64) -> Result<Option<Found>, DecisionStreamError> {
    let stored = found(stream.get_raw_message(sequence).await).map_err(failed)?;
    Ok(stored.map(|message| (message.time.into(), message.subject.to_string(), message.payload)))
}

/// The sequence of the first since then, or the one after the last. They are ordered by time.
async fn first_since(
    stream: &Stream<()>,
    since: SystemTime,
    mut low: u64,
    last: u64,
) -> Result<u64, DecisionStreamError> {
    let mut high = last + 1;
    while low < high {
        let middle = low + (high - low) / 2;
        match message(stream, middle).await? {
            Some((at, ..)) if at >= since => high = middle,
            Some(_) | None => low = middle + 1,
        }
    }
    Ok(low)
}

fn failed<K>(error: Error<K>) -> DecisionStreamError
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    DecisionStreamError(error.to_string())
}
