//! Does JetStream hold what the bus needs? Creates the streams and publishes the tenants.

use std::time::Duration;

use async_nats::{
    Client,
    jetstream::{
        self, kv,
        stream::{self, DiscardPolicy, RetentionPolicy, StorageType},
    },
};
use bytes::Bytes;

use crate::domain::TenantId;

use super::{
    names::{RECORDS_STREAM, RECORDS_SUBJECTS, TENANTS_BUCKET, TENANTS_CHANGED},
    plan::{Plan, TENANT_BYTES_MAX, TENANTS_MAX},
    published::{self, ReadError},
};

/// For one answer of JetStream.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes the bucket reserves on disk: every tenant at its largest, and a replacement.
const BUCKET_BYTES: i64 = 2 * (TENANTS_MAX * TENANT_BYTES_MAX) as i64;

/// How much the streams may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    pub records_bytes: u64,
    pub records_age: Duration,
    /// Copies of each stream; 3 in a cluster.
    pub replicas: usize,
}

impl Default for StoreSettings {
    fn default() -> Self {
        Self { records_bytes: 1 << 30, records_age: Duration::from_secs(24 * 60 * 60), replicas: 1 }
    }
}

/// What a run changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provisioned {
    /// New tenants, and those that differ from what was published.
    pub put: Vec<TenantId>,
    pub unchanged: Vec<TenantId>,
    /// Keys of the bucket that the plan no longer has. Text, since anything may have been there.
    pub removed: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ProvisionError {
    #[error("JetStream refused {what}: {cause}")]
    Refused { what: String, cause: String },
    #[error("no answer from JetStream for {what} within {limit:?}")]
    TimedOut { what: String, limit: Duration },
    #[error("the published tenants cannot be read: {cause}")]
    Unreadable { cause: String },
}

impl From<ReadError> for ProvisionError {
    fn from(error: ReadError) -> Self {
        ProvisionError::Unreadable { cause: error.to_string() }
    }
}

/// Creates or updates the streams, and makes the bucket hold exactly the plan's tenants. Running it
/// again changes nothing.
pub async fn provision(
    client: &Client,
    plan: &Plan,
    settings: &StoreSettings,
) -> Result<Provisioned, ProvisionError> {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER_TIMEOUT);
    bounded("the stream of records", context.create_or_update_stream(records(settings))).await?;
    let bucket = kv::Config {
        bucket: TENANTS_BUCKET.to_owned(),
        description: "Tenants as `agentbus tenants apply` published them; nodes watch this.".to_owned(),
        max_value_size: TENANT_BYTES_MAX as i32,
        history: 1,
        max_bytes: BUCKET_BYTES,
        storage: StorageType::File,
        num_replicas: settings.replicas,
        // After it was stored, unlike the publish itself, which nodes could hear too early.
        republish: Some(stream::Republish {
            source: format!("$KV.{TENANTS_BUCKET}.*"),
            destination: TENANTS_CHANGED.replace('*', "{{wildcard(1)}}"),
            headers_only: true,
        }),
        ..kv::Config::default()
    };
    let store = bounded("the bucket of tenants", context.create_or_update_key_value(bucket)).await?;

    let published = published::read(&context, None).await?;
    let mut before = published.map(|published| published.entries).unwrap_or_default();
    let mut done = Provisioned::default();
    for tenant in plan.tenants() {
        let what = || format!("tenant {}", tenant.id);
        let json = serde_json::to_vec(tenant)
            .map_err(|e| ProvisionError::Refused { what: what(), cause: e.to_string() })?;
        if before.remove(tenant.id.as_str()).is_some_and(|published| published == json) {
            done.unchanged.push(tenant.id.clone());
        } else {
            bounded(&what(), store.put(tenant.id.as_str(), Bytes::from(json))).await?;
            done.put.push(tenant.id.clone());
        }
    }
    for key in before.into_keys() {
        bounded(&format!("removing {key}"), store.delete(&key)).await?;
        done.removed.push(key);
    }
    Ok(done)
}

fn records(settings: &StoreSettings) -> stream::Config {
    stream::Config {
        name: RECORDS_STREAM.to_owned(),
        description: Some("One record for each decision of the fast lane.".to_owned()),
        subjects: vec![RECORDS_SUBJECTS.to_owned()],
        storage: StorageType::File,
        retention: RetentionPolicy::Limits,
        max_age: settings.records_age,
        max_bytes: i64::try_from(settings.records_bytes).unwrap_or(i64::MAX),
        discard: DiscardPolicy::Old,
        num_replicas: settings.replicas,
        // Nobody may use `DIRECT.GET` (`published.rs`), so nothing should answer to it.
        allow_direct: false,
        // Records leave by age and size only; nobody takes out a single one.
        deny_delete: true,
        deny_purge: true,
        allow_rollup: false,
        ..stream::Config::default()
    }
}

async fn bounded<T, E: std::error::Error>(
    what: &str,
    answer: impl Future<Output = Result<T, E>>,
) -> Result<T, ProvisionError> {
    match tokio::time::timeout(ANSWER_TIMEOUT, answer).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(ProvisionError::Refused { what: what.to_owned(), cause: error.to_string() }),
        Err(_) => Err(ProvisionError::TimedOut { what: what.to_owned(), limit: ANSWER_TIMEOUT }),
    }
}
