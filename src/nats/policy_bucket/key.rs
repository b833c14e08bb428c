//! One key of the bucket of policies, read by `STREAM.INFO` and `STREAM.MSG.GET`, as nodes read the tenants
//! (`tenants/published.rs`), and written by compare-and-set.

use std::time::Duration;

use async_nats::{
    Client, HeaderMap,
    error::Error,
    jetstream::{
        self, Context, ErrorCode,
        message::StreamMessage,
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;

use crate::{
    nats::jetstream::publish::{Published, expecting, publish},
    policy::SourceError,
    tenants::names::{POLICY_PUSHED, POLICY_STREAM},
};

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks, should no nudge come.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Room for what stands beside a bundle.
const HEADERS_BYTES: usize = 4 * 1024;

pub(super) struct Key {
    client: Client,
    context: Context,
    subject: &'static str,
    seen: Mutex<Seen>,
}

/// A bucket's sequence, with when the bucket was made: it may be made anew.
type At = (i128, u64);

#[derive(Default)]
struct Seen {
    /// The last sequence when it was looked at.
    state: Option<At>,
    /// What was told.
    told: Option<At>,
}

/// What a look has found.
pub(super) enum Found {
    /// What was found before.
    Same,
    /// No value was ever put there.
    Nothing,
    Value(Box<StreamMessage>),
}

impl Key {
    pub(super) fn new(client: Client, subject: &'static str) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Self { client, context, subject, seen: Mutex::default() }
    }

    pub(super) async fn stream(&self) -> Result<Stream<()>, SourceError> {
        self.context.get_stream_no_info(POLICY_STREAM).await.map_err(failed)
    }

    /// Its last value. `None`: there is none, or no bucket.
    pub(super) async fn last(&self) -> Result<Option<StreamMessage>, SourceError> {
        match self.stream().await?.get_last_raw_message_by_subject(self.subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) => match error.kind() {
                LastRawMessageErrorKind::NoMessageFound => Ok(None),
                LastRawMessageErrorKind::JetStream(cause)
                    if cause.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(failed(error)),
            },
        }
    }

    /// Puts a value behind the one with this sequence, 0 for none. Its own sequence; an error if another was faster.
    pub(super) async fn put(
        &self,
        headers: HeaderMap,
        value: Bytes,
        behind: u64,
    ) -> Result<u64, SourceError> {
        let most = self.client.max_payload().saturating_sub(HEADERS_BYTES);
        if value.len() > most {
            let found = value.len();
            return Err(SourceError(format!(
                "the bundle has {found} bytes, the bus takes at most {most}; nodes can have a larger policy from a file or a web server"
            )));
        }
        let headers = expecting(headers, behind, self.subject);
        match publish(&self.client, self.subject.to_owned(), headers, value, ANSWER_WITHIN).await {
            Ok(Published::Kept { sequence, .. }) => Ok(sequence),
            Ok(Published::Late) => {
                Err(SourceError("somebody else has pushed meanwhile; look again".to_owned()))
            }
            Err(failure) => Err(SourceError(failure.to_string())),
        }
    }

    /// Its last value, if it is another than the one before. Waits a while where it is not.
    pub(super) async fn next(&self) -> Result<Found, SourceError> {
        // Before the look, so that no change falls between the two.
        let nudges = self.client.subscribe(POLICY_PUSHED).await;
        let mut nudges = nudges.map_err(|error| SourceError(error.to_string()))?;
        let found = match self.look().await? {
            found @ Found::Value(_) => return Ok(found),
            found => found,
        };
        match tokio::time::timeout(CHECK_INTERVAL, nudges.next()).await {
            Ok(None) => Err(SourceError("the connection is closed".to_owned())),
            Ok(Some(_)) => Ok(Found::Same),
            Err(_) => Ok(found),
        }
    }

    async fn look(&self) -> Result<Found, SourceError> {
        let info = self.stream().await?.get_info().await.map_err(failed)?;
        let made = info.created.unix_timestamp_nanos();
        let state = (made, info.state.last_sequence);
        if self.seen.lock().state == Some(state) {
            return Ok(Found::Same);
        }
        let Some(message) = self.last().await? else { return Ok(Found::Nothing) };
        let mut seen = self.seen.lock();
        seen.state = Some(state);
        let found = (made, message.sequence);
        if seen.told.replace(found) == Some(found) {
            return Ok(Found::Same);
        }
        Ok(Found::Value(Box::new(message)))
    }
}

pub(super) fn failed<K>(error: Error<K>) -> SourceError
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    SourceError(error.to_string())
}
