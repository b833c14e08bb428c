//! One value that operators replace and all nodes follow: the one key of a bucket, with the values before it as evidence.
//!
//! Nodes read it by `STREAM.INFO` and `STREAM.MSG.GET`, as they read the tenants (`tenants/published.rs`).

use std::time::Duration;

use async_nats::{
    Client, HeaderMap,
    jetstream::{self, Context, ErrorCode, message::StreamMessage, stream::LastRawMessageErrorKind},
};
use futures_util::StreamExt as _;
use serde::{Serialize, de::DeserializeOwned};

use super::jetstream::{
    found::found,
    publish::{Published, expecting, publish},
};
use crate::following::Following;

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks, should no nudge come.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    #[error("the bus has no place for it: `agentbus tenants apply` makes it")]
    NotProvisioned,
    #[error("it cannot be read: {0}")]
    Unreadable(String),
    #[error("it may be in force or not, for JetStream did not say; look again: {0}")]
    Unconfirmed(String),
    #[error("somebody else has changed it meanwhile; nothing was done, look again")]
    Late,
}

/// Where a value is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub(super) stream: &'static str,
    pub(super) subject: &'static str,
    /// What the server publishes when it is replaced.
    pub(super) changed: &'static str,
}

pub(super) struct SharedValue {
    client: Client,
    context: Context,
    place: Place,
}

impl SharedValue {
    pub(super) fn new(client: Client, place: Place) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Self { client, context, place }
    }

    /// The value now, and which it is, counted by the stream. `None`: there was never one.
    pub(super) async fn last<T: DeserializeOwned>(&self) -> Result<Option<(u64, T)>, ValueError> {
        let stream = self.context.get_stream_no_info(self.place.stream).await.map_err(unreadable)?;
        match stream.get_last_raw_message_by_subject(self.place.subject).await {
            Ok(message) => Ok(Some((message.sequence, read(&message)?))),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Err(ValueError::NotProvisioned)
                }
                _ => Err(unreadable(error)),
            },
        }
    }

    /// All that is kept, the oldest first, with the second since 1970 at which the server has kept it.
    pub(super) async fn history<T: DeserializeOwned>(&self) -> Result<Vec<(i64, u64, T)>, ValueError> {
        let last = self.last::<T>().await?.map_or(0, |(revision, _)| revision);
        let stream = self.context.get_stream_no_info(self.place.stream).await.map_err(unreadable)?;
        let first = stream.get_info().await.map_err(unreadable)?.state.first_sequence;
        let mut history = Vec::new();
        // As many as the stream keeps; the oldest may leave meanwhile.
        for sequence in first.max(1)..=last {
            if let Some(message) = found(stream.get_raw_message(sequence).await).map_err(unreadable)? {
                history.push((message.time.unix_timestamp(), sequence, read(&message)?));
            }
        }
        Ok(history)
    }

    /// Puts a value in the place of the one that it was made of. Which it is then.
    pub(super) async fn replace<T: Serialize>(&self, after: u64, value: &T) -> Result<u64, ValueError> {
        let (subject, bytes) = (self.place.subject, serde_json::to_vec(value).map_err(unreadable)?);
        let headers = expecting(HeaderMap::new(), after, subject);
        match publish(&self.client, subject.to_owned(), headers, bytes.into(), ANSWER_WITHIN).await {
            Ok(Published::Kept { sequence, .. }) => Ok(sequence),
            Ok(Published::Late) => Err(ValueError::Late),
            Err(failure) => Err(ValueError::Unconfirmed(failure.to_string())),
        }
    }

    /// Hands on the value whenever it may be another, until the future is dropped.
    pub(super) async fn follow<T: DeserializeOwned>(
        &self,
        following: &Following,
        take: impl Fn(Option<(u64, T)>),
    ) {
        loop {
            let why = self.follow_once(following, &take).await.to_string();
            following.looked(Some(why));
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_once<T: DeserializeOwned>(
        &self,
        following: &Following,
        take: &impl Fn(Option<(u64, T)>),
    ) -> ValueError {
        // Before the first look, so that no change falls between the two.
        let mut nudges = match self.client.subscribe(self.place.changed).await {
            Ok(nudges) => nudges,
            Err(error) => return unreadable(error),
        };
        loop {
            match self.last().await {
                Ok(value) => take(value),
                // A bus of an earlier version, on which nobody can change it.
                Err(ValueError::NotProvisioned) => {}
                Err(error) => return error,
            }
            following.looked(None);
            tokio::select! {
                nudge = nudges.next() => if nudge.is_none() {
                    return ValueError::Unreadable("the connection is closed".to_owned());
                },
                () = following.wanted() => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
        }
    }
}

fn read<T: DeserializeOwned>(message: &StreamMessage) -> Result<T, ValueError> {
    let read = serde_json::from_slice(&message.payload);
    read.map_err(|error| ValueError::Unreadable(format!("revision {}: {error}", message.sequence)))
}

fn unreadable(error: impl std::fmt::Display) -> ValueError {
    ValueError::Unreadable(error.to_string())
}
