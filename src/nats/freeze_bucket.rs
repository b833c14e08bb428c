//! The bucket of what is frozen: one key, whose last value all nodes have in force, and the values before it as
//! evidence of who has stopped what, when and why.
//!
//! Nodes read it by `STREAM.INFO` and `STREAM.MSG.GET`, as they read the tenants (`tenants/published.rs`).

use std::time::Duration;

use async_nats::{
    Client, HeaderMap,
    jetstream::{self, Context, ErrorCode, message::StreamMessage, stream::LastRawMessageErrorKind},
};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};

use super::jetstream::publish::{Published, expecting, publish};
use crate::{
    domain::{
        Freeze,
        freeze::{FREEZES_MAX, WHY_BYTES_MAX},
    },
    freezes::Freezes,
    tenants::names::{FREEZE_STREAM, FREEZES, FREEZES_CHANGED},
};

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Between two looks, should no nudge come.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(500);

/// One state of the bucket, as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frozen {
    /// Counted by the stream; 0: nothing was ever frozen.
    #[serde(skip)]
    pub revision: u64,
    pub freezes: Vec<Freeze>,
    /// What has just been thawed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub thawed: Vec<Freeze>,
    /// Who did that, as their machine says; of a freeze its own field says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thawed_by: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    #[error("the bus has no place for what is frozen: `agentbus tenants apply` makes it")]
    NotProvisioned,
    #[error("what is frozen cannot be read: {0}")]
    Unreadable(String),
    #[error("it may be in force or not, for JetStream did not say; see `agentbus freezes`: {0}")]
    Unconfirmed(String),
    #[error("somebody else has frozen or thawed something meanwhile; nothing was done, look again")]
    Late,
    #[error("found {found} freezes, expected at most {FREEZES_MAX}; freeze a whole tenant, or everything")]
    TooMany { found: usize },
    #[error("found {found} bytes of why, expected 1 to {WHY_BYTES_MAX}")]
    Why { found: usize },
}

pub struct FreezeBucket {
    client: Client,
    context: Context,
}

impl FreezeBucket {
    pub fn new(client: Client) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Self { client, context }
    }

    /// What is frozen now.
    pub async fn last(&self) -> Result<Frozen, FreezeError> {
        let stream = self.context.get_stream_no_info(FREEZE_STREAM).await.map_err(unreadable)?;
        match stream.get_last_raw_message_by_subject(FREEZES).await {
            Ok(message) => read(&message),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(Frozen::default()),
                LastRawMessageErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Err(FreezeError::NotProvisioned)
                }
                _ => Err(unreadable(error)),
            },
        }
    }

    /// All that is kept, the oldest first, with the second since 1970 at which the server has kept it.
    pub async fn history(&self) -> Result<Vec<(i64, Frozen)>, FreezeError> {
        let last = self.last().await?.revision;
        let stream = self.context.get_stream_no_info(FREEZE_STREAM).await.map_err(unreadable)?;
        let first = stream.get_info().await.map_err(unreadable)?.state.first_sequence;
        let mut history = Vec::new();
        // As many as the stream keeps; the oldest may leave meanwhile.
        for sequence in first.max(1)..=last {
            match stream.get_raw_message(sequence).await {
                Ok(message) => history.push((message.time.unix_timestamp(), read(&message)?)),
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
                Err(error) => return Err(unreadable(error)),
            }
        }
        Ok(history)
    }

    /// Puts a state in the place of the one that it was made of. The revision that it has then.
    pub async fn replace(&self, state: &Frozen) -> Result<u64, FreezeError> {
        if state.freezes.len() > FREEZES_MAX {
            return Err(FreezeError::TooMany { found: state.freezes.len() });
        }
        if let Some(freeze) =
            state.freezes.iter().find(|freeze| !(1..=WHY_BYTES_MAX).contains(&freeze.why.len()))
        {
            return Err(FreezeError::Why { found: freeze.why.len() });
        }
        let bytes = serde_json::to_vec(state).map_err(unreadable)?;
        let headers = expecting(HeaderMap::new(), state.revision, FREEZES);
        match publish(&self.client, FREEZES.to_owned(), headers, bytes.into(), ANSWER_WITHIN).await {
            Ok(Published::Kept { sequence, .. }) => Ok(sequence),
            Ok(Published::Late) => Err(FreezeError::Late),
            Err(failure) => Err(FreezeError::Unconfirmed(failure.to_string())),
        }
    }

    /// Keeps a node's copy as it is here, until the future is dropped.
    pub async fn follow(&self, freezes: &Freezes) {
        loop {
            let why = self.follow_once(freezes).await.to_string();
            freezes.looked(Some(why));
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn follow_once(&self, freezes: &Freezes) -> FreezeError {
        // Before the first look, so that no change falls between the two.
        let mut nudges = match self.client.subscribe(FREEZES_CHANGED).await {
            Ok(nudges) => nudges,
            Err(error) => return unreadable(error),
        };
        loop {
            match self.last().await {
                Ok(Frozen { revision, freezes: frozen, .. }) => {
                    if revision != freezes.in_force().revision {
                        freezes.put_in_force(revision, frozen);
                    }
                    freezes.looked(None);
                }
                // A bus of an earlier version, on which nobody can freeze anything.
                Err(FreezeError::NotProvisioned) => freezes.looked(None),
                Err(error) => return error,
            }
            tokio::select! {
                nudge = nudges.next() => if nudge.is_none() {
                    return FreezeError::Unreadable("the connection is closed".to_owned());
                },
                () = freezes.wanted() => {}
                () = tokio::time::sleep(CHECK_INTERVAL) => {}
            }
        }
    }
}

fn read(message: &StreamMessage) -> Result<Frozen, FreezeError> {
    let read: Result<Frozen, _> = serde_json::from_slice(&message.payload);
    let frozen =
        read.map_err(|error| FreezeError::Unreadable(format!("revision {}: {error}", message.sequence)))?;
    Ok(Frozen { revision: message.sequence, ..frozen })
}

fn unreadable(error: impl std::fmt::Display) -> FreezeError {
    FreezeError::Unreadable(error.to_string())
}
