//! What a tenant's stream of deliberations holds of decisions, as an operator may read it.

use std::{error::Error, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self, Context,
        message::StreamMessage,
        stream::{LastRawMessageError, LastRawMessageErrorKind, Stream},
    },
};
use async_trait::async_trait;
use serde::de::DeserializeOwned;

use super::subjects;
use crate::{
    deliberation::Case,
    domain::{DeliberationId, Event, Parked, Tenant, TenantId},
    phrase::causes,
    review::{Decided, JudgementError, JudgementStore},
    tenants::names::{TENANTS_BUCKET, TENANTS_STREAM, deliberations_stream},
};

/// One question to JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Of one deliberation: a vote of each of its voters, and four more.
const EVENTS_MAX: usize = 2_000;

/// The operator's way to decisions.
pub struct KeptJudgements {
    context: Context,
}

impl KeptJudgements {
    pub fn new(client: Client) -> Self {
        let mut context = jetstream::new(client);
        context.set_timeout(ANSWER_WITHIN);
        Self { context }
    }

    /// A deliberation with all that happened to it. `None`: it is not kept any more.
    pub async fn case(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<Case>, JudgementError> {
        let stream = self.stream(deliberations_stream(tenant)).await?;
        let (all, mut next, mut events) = (subjects::deliberation(tenant, id), 1, Vec::new());
        while events.len() < EVENTS_MAX {
            let stored = deliberation(stream.get_first_raw_message_by_subject(&all, next).await)?;
            let Some(stored) = stored else { break };
            next = stored.sequence + 1;
            events.push((stored.sequence, read(&stored.subject, &stored.payload)?));
        }
        Case::replay(events).map_err(|error| within("a deliberation", &error))
    }

    async fn stream(&self, name: String) -> Result<Stream<()>, JudgementError> {
        self.context.get_stream_no_info(name).await.map_err(|error| JudgementError::Store(causes(&error)))
    }
}

#[async_trait]
impl JudgementStore for KeptJudgements {
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, JudgementError> {
        let stream = self.stream(TENANTS_STREAM.to_owned()).await?;
        let entry = stream.get_last_raw_message_by_subject(&format!("$KV.{TENANTS_BUCKET}.{id}")).await;
        let entry = found("the tenants that are published", entry)?;
        // Removed, or never there.
        let entry = entry.filter(|entry| entry.headers.get("KV-Operation").is_none());
        entry.map(|entry| read(&format!("tenant {id} as published"), &entry.payload)).transpose()
    }

    async fn next(&self, tenant: &TenantId, from: u64) -> Result<Option<Decided>, JudgementError> {
        let stream = self.stream(deliberations_stream(tenant)).await?;
        let decisions = subjects::deliberations_with(tenant, "decided");
        let stored = deliberation(stream.get_first_raw_message_by_subject(&decisions, from).await)?;
        let decided = |stored: StreamMessage| {
            let (_, id) = subjects::deliberation_of(&stored.subject)
                .map_err(|error| JudgementError::Store(error.to_string()))?;
            Ok(Decided { place: stored.sequence, id, event: read(&stored.subject, &stored.payload)? })
        };
        stored.map(decided).transpose()
    }

    async fn parked(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<Parked>, JudgementError> {
        let (stream, subject) =
            (self.stream(deliberations_stream(tenant)).await?, subjects::parked(tenant, id));
        let stored = deliberation(stream.get_last_raw_message_by_subject(&subject).await)?;
        let parked = |stored: StreamMessage| match read(&subject, &stored.payload)? {
            Event::Parked(parked) => Ok(*parked),
            other => Err(JudgementError::Store(format!("{subject} holds the event {}", other.kind()))),
        };
        stored.map(parked).transpose()
    }
}

fn deliberation(
    answer: Result<StreamMessage, LastRawMessageError>,
) -> Result<Option<StreamMessage>, JudgementError> {
    found("the tenant's deliberations", answer)
}

fn found(
    what: &str,
    answer: Result<StreamMessage, LastRawMessageError>,
) -> Result<Option<StreamMessage>, JudgementError> {
    match answer {
        Ok(stored) => Ok(Some(stored)),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(within(what, &error)),
    }
}

fn read<T: DeserializeOwned>(what: &str, json: &[u8]) -> Result<T, JudgementError> {
    serde_json::from_slice(json).map_err(|error| within(what, &error))
}

fn within(what: &str, error: &(dyn Error + 'static)) -> JudgementError {
    JudgementError::Store(format!("{what}: {}", causes(error)))
}
