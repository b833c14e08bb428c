//! What does the bucket of tenants hold? Read with two requests that can do nothing else.
//!
//! Deliberately without `DIRECT.GET` and without a consumer. A node that asks for a message that
//! does not exist by `DIRECT.GET`, with reply `$JS.API.STREAM.DELETE.…`, has deleted the stream
//! (tried on 2.15.1): the empty answer is routed as a request. A consumer delivers to a subject of
//! its maker's choice just so. `STREAM.INFO` and `STREAM.MSG.GET` answer through the service import
//! that leads to the streams' administration, and a message never passes one import twice
//! (`tests/it/tenancy/attacks.rs`).

use std::{collections::BTreeMap, time::Duration};

use async_nats::jetstream::{Context, stream::LastRawMessageErrorKind};
use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use super::{
    names::{TENANTS_BUCKET, TENANTS_STREAM},
    plan::TENANTS_MAX,
};

/// For reading the whole bucket.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Entries read, marks of removed ones included.
const ENTRIES_MAX: usize = 10 * TENANTS_MAX;
/// Entries asked for at one time.
const READS_AT_ONCE: usize = 16;

/// Tells one state of the bucket from another, also after it was deleted and made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    created_ns: i128,
    last_sequence: u64,
}

/// The bucket at one version, or a later one that came while it was being read.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) version: Version,
    /// Values by key. Nothing is known of either but its bytes.
    pub(super) entries: BTreeMap<String, Bytes>,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error("the tenants are not published yet, or not reachable: {cause}")]
    Unavailable { cause: String },
    #[error("no answer within {limit:?}")]
    TimedOut { limit: Duration },
    #[error("more than {limit} entries among the tenants")]
    TooMany { limit: usize },
}

/// Reads everything, unless it is still at `known`.
pub(super) async fn read(context: &Context, known: Option<Version>) -> Result<Option<Published>, ReadError> {
    let late = |_| ReadError::TimedOut { limit: READ_TIMEOUT };
    timeout(READ_TIMEOUT, read_unbounded(context, known)).await.map_err(late)?
}

async fn read_unbounded(context: &Context, known: Option<Version>) -> Result<Option<Published>, ReadError> {
    let bucket = context.get_stream_no_info(TENANTS_STREAM).await.map_err(unavailable)?;
    let info = bucket.get_info().await.map_err(unavailable)?;
    let version =
        Version { created_ns: info.created.unix_timestamp_nanos(), last_sequence: info.state.last_sequence };
    if known == Some(version) {
        return Ok(None);
    }
    if info.state.subjects_count > ENTRIES_MAX as u64 {
        return Err(ReadError::TooMany { limit: ENTRIES_MAX });
    }
    let subjects = bucket.info_with_subjects(">").await.map_err(unavailable)?;
    let subjects: Vec<_> = subjects.take(ENTRIES_MAX).try_collect().await.map_err(unavailable)?;
    let prefix = format!("$KV.{TENANTS_BUCKET}.");
    let (bucket, prefix) = (&bucket, prefix.as_str());
    let entries = stream::iter(subjects)
        .map(|(subject, _)| async move {
            let Some(key) = subject.strip_prefix(prefix) else { return Ok(None) };
            match bucket.get_last_raw_message_by_subject(&subject).await {
                // A key-value delete is a message with this header and no value.
                Ok(message) if message.headers.get("KV-Operation").is_some() => Ok(None),
                Ok(message) => Ok(Some((key.to_owned(), message.payload))),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
                Err(error) => Err(unavailable(error)),
            }
        })
        .buffer_unordered(READS_AT_ONCE)
        .try_filter_map(async |entry| Ok(entry))
        .try_collect()
        .await?;
    Ok(Some(Published { version, entries }))
}

fn unavailable(error: impl std::fmt::Display) -> ReadError {
    ReadError::Unavailable { cause: error.to_string() }
}
