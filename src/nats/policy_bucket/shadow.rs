//! The key of the candidate: the last value judges beside the policy in force, on all nodes, wherever they have that from.

use std::{str::FromStr, time::Duration};

use async_nats::{Client, HeaderMap, jetstream::message::StreamMessage};
use bytes::Bytes;

use super::key::{Found, Key};
use crate::{
    domain::{Timestamp, id::shown},
    policy::{Rollout, ShadowOffer, ShadowPlan, SourceError},
    tenants::names::POLICY_SHADOW,
};

const SHARE: &str = "Agentbus-Shadow-Share";
const UNTIL: &str = "Agentbus-Shadow-Until";
/// After the bus could not be asked.
const RETRY: Duration = Duration::from_secs(5);

pub struct ShadowBucket(Key);

impl ShadowBucket {
    pub fn new(client: Client) -> Self {
        Self(Key::new(client, POLICY_SHADOW))
    }

    /// What is to be tried. `None`: nothing ever was.
    pub async fn last(&self) -> Result<Option<ShadowOffer>, SourceError> {
        self.0.last().await?.map(|message| read(&message)).transpose()
    }

    /// Puts a candidate in the place of the one with the plan's sequence, 0 for none; an empty one ends it. Its own
    /// sequence; an error if another was faster.
    pub async fn put(&self, offer: ShadowOffer) -> Result<u64, SourceError> {
        let ShadowPlan { sequence, share, until } = offer.plan;
        let mut headers = HeaderMap::new();
        headers.insert(SHARE, share.to_string());
        headers.insert(UNTIL, until.0.to_string());
        self.0.put(headers, offer.packed, sequence).await
    }

    /// Ends what is tried, if something is.
    pub async fn stop(&self, last: &ShadowOffer) -> Result<u64, SourceError> {
        self.put(ShadowOffer { plan: last.plan, packed: Bytes::new() }).await
    }

    /// Has a node try what is to be tried, until the future is dropped.
    pub async fn follow(&self, rollout: &Rollout) {
        let mut trouble = None;
        loop {
            let why = match self.0.next().await {
                Ok(Found::Same | Found::Nothing) => None,
                Ok(Found::Value(message)) => match read(&message) {
                    Ok(offer) => {
                        rollout.try_beside(offer).await;
                        None
                    }
                    Err(why) => Some(why),
                },
                Err(why) => {
                    tokio::time::sleep(RETRY).await;
                    Some(why)
                }
            };
            if let Some(why) = why.as_ref().filter(|why| trouble.as_ref() != Some(*why)) {
                tracing::warn!(%why, "no candidate can be looked for; trying again without end");
            }
            trouble = why;
        }
    }
}

fn read(message: &StreamMessage) -> Result<ShadowOffer, SourceError> {
    let plan = ShadowPlan {
        sequence: message.sequence,
        share: header(message, SHARE, "a share, 0 to 1")?,
        until: Timestamp(header(message, UNTIL, "milliseconds since 1970")?),
    };
    Ok(ShadowOffer { plan, packed: message.payload.clone() })
}

fn header<T: FromStr>(message: &StreamMessage, name: &str, expected: &str) -> Result<T, SourceError> {
    let found = message.headers.get(name).map(|value| value.as_str()).unwrap_or_default();
    found.parse().map_err(|_| {
        let found = shown(found);
        SourceError(format!("candidate {}: {name}: found {found}, expected {expected}", message.sequence))
    })
}
