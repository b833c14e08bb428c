//! Does JetStream hold what the bus needs? Creates the streams and their consumers, and publishes the
//! tenants. What the streams are is in `streams.rs`.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{
    Client,
    jetstream::{
        self, Context, ErrorCode,
        consumer::pull,
        context::{CreateStreamError, CreateStreamErrorKind, GetStreamErrorKind},
        stream::{Config, RetentionPolicy},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};

use crate::domain::TenantId;

use super::{
    names::{DECISIONS_STREAM, RECORDS_STREAM, TENANTS_BUCKET, is_own_consumer},
    plan::{AGENTS_MAX, Plan, TENANTS_MAX},
    published::{self, ReadError},
    streams::{self, Present, Settled, StoreSettings, Wanted},
};

/// For one answer of JetStream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A cluster elects a leader before it answers to the creation of a stream.
const STREAM_TIMEOUT: Duration = Duration::from_secs(15);
/// Consumers asked for at one time.
const CONSUMERS_AT_ONCE: usize = 16;
/// Names of streams that are read, to find those that nobody needs any more.
const STREAMS_MAX: usize = 10 * TENANTS_MAX;
/// Names of consumers of one stream that are read, for the same.
const CONSUMERS_MAX: usize = 10 * AGENTS_MAX;

/// What a run changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// New tenants, and those that differ from what was published.
    pub put: Vec<TenantId>,
    pub unchanged: Vec<TenantId>,
    /// Keys of the bucket that the plan no longer has. Text, since anything may have been there.
    pub removed: Vec<String>,
    /// Settings of streams that were there, such as `OUT_acme: max_bytes 1048576 → 2097152`.
    pub changed: Vec<String>,
    /// Streams and consumers that are new, such as `OUT_acme` or `OUT_acme/worker`.
    pub created: Vec<String>,
    /// The same, of tenants and agents that left the plan. They may hold messages, so they stay.
    pub left: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error("JetStream refused {what}: {cause}")]
    Refused { what: String, cause: String },
    /// A stream reserves on disk what it may hold.
    #[error(
        "JetStream has no room for {what} of {bytes} bytes ({replicas} copies): {cause}; all streams of the \
         tenants file together reserve {reserved} bytes on a server that has a copy of each: let the server \
         have more (max_file_store in its configuration), or let the streams have less"
    )]
    NoRoom { what: String, bytes: i64, replicas: usize, reserved: u64, cause: String },
    #[error(
        "no answer from JetStream for {what} within {limit:?}; do the servers run with the accounts of this tenants file?"
    )]
    TimedOut { what: String, limit: Duration },
    #[error("the published tenants cannot be read: {cause}")]
    Unreadable { cause: String },
}

impl From<ReadError> for ProvisionError {
    fn from(error: ReadError) -> Self {
        ProvisionError::Unreadable { cause: error.to_string() }
    }
}

/// Creates or updates the streams and consumers, and makes the bucket hold exactly the plan's
/// tenants. Running it again changes nothing, and what `settings` do not say stays as it is. Nothing that could
/// hold a message is removed.
pub async fn provision(
    client: &Client,
    plan: &Plan,
    settings: &StoreSettings,
) -> Result<Provisioned, ProvisionError> {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(STREAM_TIMEOUT);
    let found = async |name: &str| present(&context, name, &format!("stream {name}")).await;
    let there = Present { records: found(RECORDS_STREAM).await?, decisions: found(DECISIONS_STREAM).await? };
    let settled = settings.over(&there);
    let reserved = settled.reserved_bytes(plan);
    let replicas = settings.replicas;
    let run = Run { context: &context, reserved, replicas, done: Provisioned::default() };
    run.all(plan, &settled).await
}

struct Run<'a> {
    context: &'a Context,
    /// Bytes on disk, for the error.
    reserved: u64,
    /// Copies that a stream must have, whatever it has; `None`: those that it has.
    replicas: Option<usize>,
    done: Provisioned,
}

impl Run<'_> {
    async fn all(mut self, plan: &Plan, settings: &Settled) -> Result<Provisioned, ProvisionError> {
        let mut known = BTreeSet::new();
        for wanted in streams::shared(settings) {
            known.insert(wanted.name.clone());
            let what = format!("stream {}", wanted.name);
            self.stream((wanted, None), &what).await?;
        }
        // Before the tenants are published: a node that learns of one finds its streams.
        for tenant in plan.tenants() {
            let store = plan.store(&tenant.id);
            let own = streams::of_tenant(&tenant.id, tenant.agents.keys(), &store, settings);
            for wanted in own {
                known.insert(wanted.0.name.clone());
                let what = format!("stream {} of tenant {}", wanted.0.name, tenant.id);
                self.stream(wanted, &what).await?;
            }
        }
        self.tenants(plan).await?;
        self.left_streams(&known).await?;
        Ok(self.done)
    }

    /// The stream as it is wanted, with the consumers that it must have.
    async fn stream(&mut self, (mut config, consumers): Wanted, what: &str) -> Result<(), ProvisionError> {
        let before = present(self.context, &config.name, what).await?;
        if let (Some(before), None) = (&before, self.replicas) {
            config.num_replicas = before.num_replicas;
        }
        let (name, bytes, replicas) = (config.name.clone(), config.max_bytes, config.num_replicas);
        let reserved = self.reserved;
        let refused = |error: CreateStreamError| match error.kind() {
            CreateStreamErrorKind::JetStream(cause) if no_room(cause.error_code()) => {
                ProvisionError::NoRoom {
                    what: what.to_owned(),
                    bytes,
                    replicas,
                    reserved,
                    cause: cause.to_string(),
                }
            }
            CreateStreamErrorKind::TimedOut => late(what, STREAM_TIMEOUT),
            _ => ProvisionError::Refused { what: what.to_owned(), cause: error.to_string() },
        };
        // What is kept for consumers alone goes where there are none yet: so they come first.
        let wanted = config.retention;
        config.retention = match (&before, wanted) {
            (Some(before), _) => before.retention,
            (None, RetentionPolicy::Interest) => RetentionPolicy::Limits,
            (None, other) => other,
        };
        let turned = wanted != config.retention;
        match &before {
            Some(_) => {
                self.context.update_stream(config.clone()).await.map_err(&refused)?;
            }
            None => {
                self.context.create_stream(config.clone()).await.map_err(&refused)?;
                self.done.created.push(name.clone());
            }
        }
        if let Some(consumers) = consumers {
            self.consumers(&name, consumers, what).await?;
        }
        config.retention = wanted;
        if turned {
            self.context.update_stream(config.clone()).await.map_err(&refused)?;
        }
        if let Some(before) = before {
            let changed = streams::differences(&before, &config);
            self.done.changed.extend(changed.into_iter().map(|change| format!("{name}: {change}")));
        }
        Ok(())
    }

    /// A consumer that exists keeps its place, and gets the settings of the new one.
    async fn consumers(
        &mut self,
        stream: &str,
        wanted: Vec<pull::Config>,
        what: &str,
    ) -> Result<(), ProvisionError> {
        let mut before = consumer_names(self.context, stream, what).await?;
        let context = self.context;
        // The bus's own keep what agents have settled: so they are there before the first of these.
        let (own, agents): (Vec<_>, Vec<_>) = wanted
            .into_iter()
            .partition(|config| config.durable_name.as_deref().is_some_and(is_own_consumer));
        for some in [own, agents] {
            let created = futures_util::stream::iter(some)
                .map(|config| {
                    let name = config.durable_name.clone().unwrap_or_default();
                    let new = !before.remove(&name);
                    async move {
                        let what = format!("consumer {name} of {what}");
                        bounded(&what, context.create_consumer_on_stream(config, stream)).await?;
                        Ok::<_, ProvisionError>(new.then(|| format!("{stream}/{name}")))
                    }
                })
                .buffered(CONSUMERS_AT_ONCE)
                .try_filter_map(async |created| Ok(created))
                .try_collect::<Vec<_>>()
                .await?;
            self.done.created.extend(created);
        }
        self.done.left.extend(before.into_iter().map(|name| format!("{stream}/{name}")));
        Ok(())
    }

    /// Streams of tenants that the plan does not have.
    async fn left_streams(&mut self, known: &BTreeSet<String>) -> Result<(), ProvisionError> {
        let names = stream_names(self.context).await?;
        self.done.left.extend(names.into_iter().filter(|name| !known.contains(name)));
        Ok(())
    }

    async fn tenants(&mut self, plan: &Plan) -> Result<(), ProvisionError> {
        let store = bounded("the bucket of tenants", self.context.get_key_value(TENANTS_BUCKET)).await?;
        let published = published::read(self.context, None).await?;
        let mut before = published.map(|published| published.entries).unwrap_or_default();
        for tenant in plan.tenants() {
            let what = || format!("tenant {}", tenant.id);
            let json = serde_json::to_vec(tenant)
                .map_err(|e| ProvisionError::Refused { what: what(), cause: e.to_string() })?;
            if before.remove(tenant.id.as_str()).is_some_and(|published| published == json) {
                self.done.unchanged.push(tenant.id.clone());
            } else {
                bounded(&what(), store.put(tenant.id.as_str(), Bytes::from(json))).await?;
                self.done.put.push(tenant.id.clone());
            }
        }
        for key in before.into_keys() {
            bounded(&format!("removing {key}"), store.delete(&key)).await?;
            self.done.removed.push(key);
        }
        Ok(())
    }
}

pub(super) async fn stream_names(context: &Context) -> Result<BTreeSet<String>, ProvisionError> {
    let names = context.stream_names().take(STREAMS_MAX).try_collect();
    bounded("the names of the streams", names).await
}

pub(super) async fn consumer_names(
    context: &Context,
    stream: &str,
    what: &str,
) -> Result<BTreeSet<String>, ProvisionError> {
    let handle = bounded(what, context.get_stream_no_info(stream)).await?;
    let names = handle.consumer_names().take(CONSUMERS_MAX).try_collect();
    bounded(&format!("the consumers of {what}"), names).await
}

/// A stream as it is, if it is.
pub(super) async fn present(
    context: &Context,
    name: &str,
    what: &str,
) -> Result<Option<Config>, ProvisionError> {
    match tokio::time::timeout(STREAM_TIMEOUT, context.get_stream(name)).await {
        Ok(Ok(stream)) => Ok(Some(stream.cached_info().config.clone())),
        Ok(Err(error)) => match error.kind() {
            GetStreamErrorKind::JetStream(cause) if cause.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                Ok(None)
            }
            _ => Err(ProvisionError::Refused { what: what.to_owned(), cause: error.to_string() }),
        },
        Err(_) => Err(late(what, STREAM_TIMEOUT)),
    }
}

/// Whether JetStream says that it lacks disk, servers or its account's share of them.
fn no_room(code: ErrorCode) -> bool {
    [
        ErrorCode::ACCOUNT_RESOURCES_EXCEEDED,
        ErrorCode::CLUSTER_NO_PEERS,
        ErrorCode::INSUFFICIENT_RESOURCES,
        ErrorCode::STORAGE_RESOURCES_EXCEEDED,
        ErrorCode::MEMORY_RESOURCES_EXCEEDED,
    ]
    .contains(&code)
}

fn late(what: &str, limit: Duration) -> ProvisionError {
    ProvisionError::TimedOut { what: what.to_owned(), limit }
}

pub(super) async fn bounded<T, E: std::error::Error>(
    what: &str,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, ProvisionError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ProvisionError::Refused { what: what.to_owned(), cause: error.to_string() }),
        Err(_) => Err(late(what, ANSWER_TIMEOUT)),
    }
}
