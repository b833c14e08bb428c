//! The bucket of what is learned, one key for each tenant, written by compare-and-set.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap,
    error::Error,
    header::NATS_MESSAGE_ID,
    jetstream::{
        self, Context,
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use async_trait::async_trait;
use bytes::Bytes;

use super::{
    jetstream::publish::{PublishFailure, Published, expecting, publish},
    subjects,
};
use crate::{
    audit,
    deliberation::lessons::{Entry, Reading},
    domain::TenantId,
    review::{LearnedError, LearnedStore, Version, Written},
    tenants::names::THRESHOLDS_STREAM,
};

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// What nodes have learned, over one connection.
pub struct LearnedBucket {
    client: Client,
    context: Context,
}

impl LearnedBucket {
    pub fn new(client: Client) -> Arc<Self> {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Arc::new(Self { client, context })
    }

    async fn bucket(&self) -> Result<Stream<()>, LearnedError> {
        self.context.get_stream_no_info(THRESHOLDS_STREAM).await.map_err(failed)
    }

    async fn publish(
        &self,
        subject: String,
        headers: HeaderMap,
        payload: Bytes,
    ) -> Result<Published, PublishFailure> {
        publish(&self.client, subject, headers, payload, ANSWER_WITHIN).await
    }
}

#[async_trait]
impl LearnedStore for LearnedBucket {
    async fn version(&self) -> Result<Version, LearnedError> {
        let info = self.bucket().await?.get_info().await.map_err(failed)?;
        Ok(Version {
            created_ns: info.created.unix_timestamp_nanos(),
            last_sequence: info.state.last_sequence,
        })
    }

    async fn read(&self, tenant: &TenantId) -> Result<(u64, Reading), LearnedError> {
        let found = self.bucket().await?.get_last_raw_message_by_subject(&subjects::learned(tenant)).await;
        let message = match found {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok((0, Reading::Nothing));
            }
            Err(error) => return Err(failed(error)),
        };
        // Deleted: the operator wants it forgotten.
        let reading = match message.headers.get("KV-Operation") {
            Some(_) => Reading::Nothing,
            None => entry(tenant, &message.payload),
        };
        Ok((message.sequence, reading))
    }

    async fn write(&self, tenant: &TenantId, revision: u64, entry: &Entry) -> Result<Written, LearnedError> {
        let json = serde_json::to_vec(entry).map_err(|error| LearnedError(error.to_string()))?;
        let subject = subjects::learned(tenant);
        let headers = expecting(HeaderMap::new(), revision, &subject);
        match self.publish(subject, headers, json.into()).await {
            Ok(Published::Kept { .. }) => Ok(Written::Now),
            Ok(Published::Late) => Ok(Written::Again("another node has written meanwhile".to_owned())),
            Err(failure @ PublishFailure::Unconfirmed) => Ok(Written::Again(failure.to_string())),
            Err(failure) => Err(LearnedError(failure.to_string())),
        }
    }

    async fn record(&self, record: audit::Entry) -> Result<(), LearnedError> {
        let (subject, record) = record.into_parts();
        // Stored once, however often it is sent within the stream's window.
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, subject.as_str());
        match self.publish(subject, headers, record).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(LearnedError(failure.to_string())),
        }
    }
}

fn entry(tenant: &TenantId, json: &[u8]) -> Reading {
    match serde_json::from_slice(json) {
        Ok(entry) => Reading::Entry(Box::new(entry)),
        Err(error) => {
            tracing::error!(%tenant, %error, "what was learned cannot be read; the floor is in force");
            Reading::Unreadable
        }
    }
}

fn failed<K>(error: Error<K>) -> LearnedError
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    LearnedError(error.to_string())
}
