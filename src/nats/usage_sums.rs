//! Where sums of usage are kept: a stream with one message for each agent, hour and run of a node, which a later sum of the
//! same replaces. Nodes write it, operators read it.

use std::{sync::Arc, time::Duration};

use async_nats::{
    Client, HeaderMap,
    jetstream::{self, Context, stream::LastRawMessageErrorKind},
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::jetstream::publish::{Published, publish};
use crate::{
    domain::{AgentId, TenantId, Timestamp},
    tenants::names,
    usage::{Sum, Usage, Used},
};

/// A node that is killed takes what it has counted for so long with it.
const TELL_EVERY: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Sums that are on their way, or asked for, at one time.
const AT_ONCE: usize = 16;
/// Sums that one question reads.
pub const SUMS_MAX: usize = 200_000;

/// Tells a node's sums.
pub struct UsageSums {
    client: Client,
    usage: Arc<Usage>,
    /// One run of one node: sums of the next begin anew.
    writer: String,
    clock: fn() -> Timestamp,
}

impl UsageSums {
    pub fn new(client: Client, usage: Arc<Usage>, node: &str, clock: fn() -> Timestamp) -> Self {
        Self { client, usage, writer: format!("{node}~{}", nuid::next()), clock }
    }

    /// Tells them now and then, until the future is dropped.
    pub async fn keep(self: Arc<Self>) {
        loop {
            tokio::time::sleep(TELL_EVERY).await;
            self.tell().await;
        }
    }

    /// Tells what is not known to be kept. What cannot be told now is in the next sum.
    async fn tell(&self) {
        let told = stream::iter(self.usage.untold()).map(|sum| self.tell_one(sum)).buffer_unordered(AT_ONCE);
        let failed: Vec<_> = told.filter_map(std::future::ready).collect().await;
        if let Some(error) = failed.first() {
            tracing::warn!(error, sums = failed.len(), "usage could not be told; trying again");
        }
    }

    /// Why it could not be told.
    async fn tell_one(&self, sum: Sum) -> Option<String> {
        let Ok(payload) = serde_json::to_vec(&sum.used) else { return None };
        let subject = names::usage(&sum.tenant, &sum.agent, sum.hour, &self.writer);
        match publish(&self.client, subject, HeaderMap::new(), payload.into(), ANSWER_WITHIN).await {
            Ok(Published::Kept { .. }) => {
                self.usage.told(&sum, (self.clock)());
                None
            }
            Ok(Published::Late) => None,
            Err(error) => Some(error.to_string()),
        }
    }

    /// Tells all of it, when nothing more is counted. Whether it was in time.
    pub async fn flush(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.tell()).await.is_ok() && self.usage.untold().is_empty()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("usage cannot be read: {0}")]
    Unreadable(String),
    #[error("found {found} sums, expected at most {SUMS_MAX}; ask for one tenant, or for less time")]
    TooMany { found: usize },
}

/// What is kept, since an hour, of a tenant or an agent of it if one is named.
pub async fn kept_usage(
    client: &Client,
    tenant: Option<&TenantId>,
    agent: Option<&AgentId>,
    since: u64,
) -> Result<Vec<Sum>, UsageError> {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(ANSWER_WITHIN);
    let subjects = subjects(&context, &names::usage_of(tenant, agent), since).await?;
    let stream = &context.get_stream_no_info(names::USAGE_STREAM).await.map_err(unreadable)?;
    let sums = stream::iter(subjects).map(|subject| async move {
        match stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => {
                let used: Used = serde_json::from_slice(&message.payload).map_err(unreadable)?;
                Ok(read(&subject).map(|(tenant, agent, hour)| Sum { tenant, agent, hour, used }))
            }
            // It was the oldest, and has just left.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unreadable(error)),
        }
    });
    sums.buffer_unordered(AT_ONCE).try_filter_map(async |sum| Ok(sum)).try_collect().await
}

async fn subjects(context: &Context, filter: &str, since: u64) -> Result<Vec<String>, UsageError> {
    let stream = context.get_stream_no_info(names::USAGE_STREAM).await.map_err(unreadable)?;
    let all = stream.info_with_subjects(filter).await.map_err(unreadable)?;
    let wanted = all.try_filter_map(async |(subject, _)| {
        Ok(read(&subject).filter(|(_, _, hour)| *hour >= since).map(|_| subject))
    });
    let subjects: Vec<_> = wanted.take(SUMS_MAX + 1).try_collect().await.map_err(unreadable)?;
    match subjects.len() {
        found if found > SUMS_MAX => Err(UsageError::TooMany { found }),
        _ => Ok(subjects),
    }
}

/// Whose it is, and of which hour.
fn read(subject: &str) -> Option<(TenantId, AgentId, u64)> {
    let mut tokens = subject.split('.').skip(1);
    Some((tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?, tokens.next()?.parse().ok()?))
}

fn unreadable(error: impl std::fmt::Display) -> UsageError {
    UsageError::Unreadable(error.to_string())
}
