//! The tenants' streams of dead letters, by requests that the operator's user may make: no consumers.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self, Context,
        message::StreamMessage,
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use async_trait::async_trait;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

use super::{headers, jetstream::publish::publish, subjects};
use crate::{
    audit::Entry,
    domain::TenantId,
    phrase::causes,
    review::{Address, DeadLetterError, DeadLetterStore, Letter, Redriven},
    tenants::{names::dead_letters_stream, plan::TENANTS_MAX},
};

/// Names of streams that are read to find those of dead letters: each tenant has at most five, and may have left.
const STREAMS_MAX: usize = 10 * TENANTS_MAX;
/// For one answer of JetStream, and for the server to keep what is put back.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The operator's way to the streams.
pub struct DeadLetterStreams {
    client: Client,
    context: Context,
}

impl DeadLetterStreams {
    pub fn new(client: Client) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Self { client, context }
    }

    async fn stream(&self, tenant: &TenantId) -> Result<Stream<()>, DeadLetterError> {
        self.context.get_stream_no_info(dead_letters_stream(tenant)).await.map_err(|error| store(&error))
    }
}

#[async_trait]
impl DeadLetterStore for DeadLetterStreams {
    async fn tenants(&self) -> Result<Vec<TenantId>, DeadLetterError> {
        let names = self.context.stream_names().take(STREAMS_MAX).try_collect::<BTreeSet<String>>().await;
        let names = names.map_err(within("JetStream does not say which streams there are"))?;
        let tenant = |name: &String| {
            let tenant: TenantId = name.strip_prefix("DEAD_")?.parse().ok()?;
            (dead_letters_stream(&tenant) == *name).then_some(tenant)
        };
        Ok(names.iter().filter_map(tenant).collect())
    }

    async fn count(&self, tenant: &TenantId) -> Result<u64, DeadLetterError> {
        let stream = dead_letters_stream(tenant);
        let answer = self.client.request(format!("$JS.API.STREAM.INFO.{stream}"), "".into()).await;
        let answer = answer.map_err(within("JetStream does not answer"))?;
        let info: Value = serde_json::from_slice(&answer.payload).map_err(within("JetStream's answer"))?;
        match info.pointer("/error/description").and_then(Value::as_str) {
            Some(fault) => Err(DeadLetterError::Store(format!(
                "stream {stream}: {fault}; `agentbus tenants apply` makes it for a tenant in the file"
            ))),
            None => Ok(info.pointer("/state/messages").and_then(Value::as_u64).unwrap_or(0)),
        }
    }

    async fn next(&self, tenant: &TenantId, from: u64) -> Result<Option<Letter>, DeadLetterError> {
        let stream = self.stream(tenant).await?;
        match stream.get_first_raw_message_by_subject(subjects::all_dead(tenant), from).await {
            Ok(stored) => letter(stored).map(Some),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(of_stream(tenant)(error)),
        }
    }

    async fn find(&self, address: &Address) -> Result<Option<Letter>, DeadLetterError> {
        let stream = self.stream(address.tenant()).await?;
        match stream.get_last_raw_message_by_subject(&subject(address)).await {
            Ok(stored) => letter(stored).map(Some),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(of_stream(address.tenant())(error)),
        }
    }

    async fn record(&self, entry: Entry) -> Result<(), DeadLetterError> {
        let (subject, payload) = entry.into_parts();
        match publish(&self.client, subject, HeaderMap::new(), payload, ANSWER_WITHIN).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(DeadLetterError::Unrecorded(failure.to_string())),
        }
    }

    async fn resubmit(&self, message: Redriven) -> Result<(), DeadLetterError> {
        let (subject, headers) = (subjects::submitted(&message.key), headers::redriven(&message));
        match publish(&self.client, subject, headers, message.payload, ANSWER_WITHIN).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(DeadLetterError::NotTaken(failure.to_string())),
        }
    }

    async fn delete(&self, tenant: &TenantId, place: u64) -> Result<(), DeadLetterError> {
        let stream = self.stream(tenant).await?;
        stream.delete_message(place).await.map(drop).map_err(within("JetStream did not delete it"))
    }
}

fn subject(address: &Address) -> String {
    subjects::dead(address.tenant().as_str(), address.sender(), address.message())
}

fn letter(stored: StreamMessage) -> Result<Letter, DeadLetterError> {
    let address = stored.subject.strip_prefix("dead.").unwrap_or_default().replace('.', "/");
    let address: Address = address.parse().map_err(|error| {
        DeadLetterError::Store(format!("subject {:?} among dead letters: {error}", stored.subject.as_str()))
    })?;
    Ok(headers::given_up(&stored.headers, address, stored.payload, stored.sequence))
}

fn store(error: &(dyn std::error::Error + 'static)) -> DeadLetterError {
    DeadLetterError::Store(causes(error))
}

fn of_stream<E: std::error::Error + 'static>(tenant: &TenantId) -> impl FnOnce(E) -> DeadLetterError {
    let what = format!("stream {}", dead_letters_stream(tenant));
    move |error| within(&what)(error)
}

fn within<E: std::error::Error + 'static>(what: &str) -> impl FnOnce(E) -> DeadLetterError + use<'_, E> {
    move |error| DeadLetterError::Store(format!("{what}: {}", causes(&error)))
}
