//! The bucket of policies: under one key the policy that all nodes have in force, with the values before it for whoever
//! wants to go back; under another the candidate that judges beside it.

use async_nats::{Client, HeaderMap, jetstream::stream::LastRawMessageErrorKind};
use async_trait::async_trait;

use crate::{
    policy::{BundleSource, Offer, SourceError},
    tenants::names::POLICY_BUNDLE,
};

mod key;
mod shadow;

use key::{Found, Key, failed};
pub use shadow::ShadowBucket;

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

pub struct PolicyBucket(Key);

impl PolicyBucket {
    pub fn new(client: Client) -> Self {
        Self(Key::new(client, POLICY_BUNDLE))
    }

    /// What is in it, the oldest first: the last is in force.
    pub async fn history(&self) -> Result<Vec<Pushed>, SourceError> {
        let stream = self.0.stream().await?;
        let state = stream.get_info().await.map_err(failed)?.state;
        let mut history = Vec::new();
        // As many as the stream keeps, and gaps where others were.
        for sequence in state.first_sequence.max(1)..=state.last_sequence {
            let message = match stream.get_raw_message(sequence).await {
                Ok(message) if message.subject.as_str() == POLICY_BUNDLE => message,
                // A candidate.
                Ok(_) => continue,
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
        let mut headers = HeaderMap::new();
        if let Some(force) = offer.force {
            headers.insert(FORCE, force);
        }
        self.0.put(headers, offer.packed, behind).await.map(|_| ())
    }
}

#[async_trait]
impl BundleSource for PolicyBucket {
    async fn next(&self) -> Result<Option<Offer>, SourceError> {
        match self.0.next().await? {
            Found::Same => Ok(None),
            Found::Nothing => {
                Err(SourceError("none has been pushed; `agentbus policy push` does so".to_owned()))
            }
            Found::Value(message) => {
                Ok(Some(Offer { force: forced(&message.headers), packed: message.payload }))
            }
        }
    }
}

fn forced(headers: &HeaderMap) -> Option<String> {
    headers.get(FORCE).map(|force| force.as_str().to_owned())
}
