//! The bucket of policies: one key, whose last value all nodes have in force, and the values before it for whoever
//! wants to go back.
//!
//! Nodes read it by `STREAM.INFO` and `STREAM.MSG.GET`, as they read the tenants (`tenants/published.rs`).

use std::time::Duration;

use async_nats::{
    Client, HeaderMap,
    error::Error,
    jetstream::{
        self, Context,
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use async_trait::async_trait;
use futures_util::StreamExt as _;
use parking_lot::Mutex;

use super::jetstream::publish::{Published, expecting, publish};
use crate::{
    policy::{BundleSource, Offer, SourceError},
    tenants::names::{POLICY_BUNDLE, POLICY_PUSHED, POLICY_STREAM},
};

/// For one answer of JetStream.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Between two looks, should no nudge come.
const CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Room for what stands beside a bundle.
const HEADERS_BYTES: usize = 4 * 1024;
/// The revision that is meant, though it is older than the one in force.
const FORCE: &str = "Agentbus-Policy-Force";

/// What was pushed, as it is in the bucket.
#[derive(Debug, Clone)]
pub struct Pushed {
    pub sequence: u64,
    /// When, in seconds since 1970, by the server.
    pub at: i64,
    pub offer: Offer,
}

pub struct PolicyBucket {
    client: Client,
    context: Context,
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

impl PolicyBucket {
    pub fn new(client: Client) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(ANSWER_WITHIN);
        Self { client, context, seen: Mutex::default() }
    }

    /// What is in it, the oldest first: the last is in force.
    pub async fn history(&self) -> Result<Vec<Pushed>, SourceError> {
        let stream = self.stream().await?;
        let state = stream.get_info().await.map_err(failed)?.state;
        let mut history = Vec::new();
        // As many as the stream keeps, and gaps where others were.
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let message = match stream.get_raw_message(sequence).await {
                Ok(message) => message,
                Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => continue,
                Err(error) => return Err(failed(error)),
            };
            let (at, force) = (message.time.unix_timestamp(), forced(&message.headers));
            let offer = Offer { packed: message.payload, force };
            history.push(Pushed { sequence, at, offer });
        }
        Ok(history)
    }

    /// Puts a bundle behind the one with this sequence, 0 for none. An error if another was faster.
    pub async fn push(&self, offer: Offer, behind: u64) -> Result<(), SourceError> {
        let most = self.client.max_payload().saturating_sub(HEADERS_BYTES);
        if offer.packed.len() > most {
            let found = offer.packed.len();
            return Err(SourceError(format!(
                "the bundle has {found} bytes, the bus takes at most {most}; let nodes read it from a file"
            )));
        }
        let mut headers = expecting(HeaderMap::new(), behind, POLICY_BUNDLE);
        if let Some(force) = offer.force {
            headers.insert(FORCE, force);
        }
        let subject = POLICY_BUNDLE.to_owned();
        match publish(&self.client, subject, headers, offer.packed, ANSWER_WITHIN).await {
            Ok(Published::Kept { .. }) => Ok(()),
            Ok(Published::Late) => {
                Err(SourceError("somebody else has pushed meanwhile; look again".to_owned()))
            }
            Err(failure) => Err(SourceError(failure.to_string())),
        }
    }

    async fn stream(&self) -> Result<Stream<()>, SourceError> {
        self.context.get_stream_no_info(POLICY_STREAM).await.map_err(failed)
    }

    /// The last value, if it was not told.
    async fn look(&self) -> Result<Option<Offer>, SourceError> {
        let stream = self.stream().await?;
        let info = stream.get_info().await.map_err(failed)?;
        let made = info.created.unix_timestamp_nanos();
        let state = (made, info.state.last_sequence);
        if self.seen.lock().state == Some(state) {
            return Ok(None);
        }
        let message = match stream.get_last_raw_message_by_subject(POLICY_BUNDLE).await {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Err(SourceError("none has been pushed; `agentbus policy push` does so".to_owned()));
            }
            Err(error) => return Err(failed(error)),
        };
        let mut seen = self.seen.lock();
        seen.state = Some(state);
        let found = (made, message.sequence);
        if seen.told.replace(found) == Some(found) {
            return Ok(None);
        }
        Ok(Some(Offer { force: forced(&message.headers), packed: message.payload }))
    }
}

#[async_trait]
impl BundleSource for PolicyBucket {
    async fn next(&self) -> Result<Option<Offer>, SourceError> {
        // Before the look, so that no change falls between the two.
        let nudges = self.client.subscribe(POLICY_PUSHED).await;
        let mut nudges = nudges.map_err(|error| SourceError(error.to_string()))?;
        if let Some(offer) = self.look().await? {
            return Ok(Some(offer));
        }
        match tokio::time::timeout(CHECK_INTERVAL, nudges.next()).await {
            Ok(None) => Err(SourceError("the connection is closed".to_owned())),
            Ok(Some(_)) | Err(_) => Ok(None),
        }
    }
}

fn forced(headers: &HeaderMap) -> Option<String> {
    headers.get(FORCE).map(|force| force.as_str().to_owned())
}

fn failed<K>(error: Error<K>) -> SourceError
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    SourceError(error.to_string())
}
