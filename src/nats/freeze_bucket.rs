//! The bucket of what is frozen: one key, whose last value all nodes have in force, and the values before it as
//! evidence of who has stopped what, when and why. Operators change it, and nodes where the policy or an agent of itself
//! has stopped somebody.

use std::time::Duration;

use async_nats::Client;
use serde::{Deserialize, Serialize};

use super::shared_value::{Place, SharedValue, ValueError};
use crate::{
    domain::{
        Freeze, NoPlace,
        freeze::{FREEZES_MAX, WHY_BYTES_MAX},
    },
    freezes::Freezes,
    tenants::names::{FREEZE_STREAM, FREEZES, FREEZES_CHANGED},
};

const PLACE: Place = Place { stream: FREEZE_STREAM, subject: FREEZES, changed: FREEZES_CHANGED };

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

/// Of nodes that keep the same at the same time.
const TRIES: u32 = 8;
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(20);

#[derive(Debug, thiserror::Error)]
pub enum FreezeError {
    #[error("what is frozen: {0}")]
    Value(#[from] ValueError),
    #[error("found {found} freezes, expected at most {FREEZES_MAX}; freeze a whole tenant, or everything")]
    TooMany { found: usize },
    #[error("found {found} bytes of why, expected 1 to {WHY_BYTES_MAX}")]
    Why { found: usize },
}

pub struct FreezeBucket(SharedValue);

impl FreezeBucket {
    pub fn new(client: Client) -> Self {
        Self(SharedValue::new(client, PLACE))
    }

    /// What is frozen now.
    pub async fn last(&self) -> Result<Frozen, FreezeError> {
        let last = self.0.last().await?;
        Ok(last.map(|(revision, frozen)| Frozen { revision, ..frozen }).unwrap_or_default())
    }

    /// All that is kept, the oldest first, with the second since 1970 at which the server has kept it.
    pub async fn history(&self) -> Result<Vec<(i64, Frozen)>, FreezeError> {
        let history = self.0.history().await?.into_iter();
        Ok(history.map(|(at, revision, frozen)| (at, Frozen { revision, ..frozen })).collect())
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
        Ok(self.0.replace(state.revision, state).await?)
    }

    /// Has all nodes stop what this one wants to be stopped, until the future is dropped. What cannot be kept is tried
    /// again: meanwhile it is in force on this node alone.
    pub async fn keep_wanted(&self, freezes: &Freezes) {
        let mut wait = RETRY_MIN;
        loop {
            freezes.something_wanted().await;
            match self.keep_all(freezes).await {
                Ok(()) => wait = RETRY_MIN,
                Err(error) => {
                    tracing::warn!(%error, retry_in = ?wait, "what the policy or an agent has stopped is so on this node alone");
                    tokio::time::sleep(wait).await;
                    wait = RETRY_MAX.min(wait * 2);
                }
            }
        }
    }

    async fn keep_all(&self, freezes: &Freezes) -> Result<(), FreezeError> {
        for freeze in freezes.wanted() {
            match self.keep(&freeze).await? {
                Ok(state) => freezes.put_in_force(state.revision, state.freezes),
                Err(why) => {
                    tracing::error!(frozen = %freeze.scope, %why, "it is not stopped any more");
                    freezes.give_up(&freeze.scope);
                }
            }
        }
        Ok(())
    }

    /// The state that has it in force, also if somebody else has put it there.
    async fn keep(&self, freeze: &Freeze) -> Result<Result<Frozen, NoPlace>, FreezeError> {
        let mut tries = 1;
        loop {
            let mut state = self.last().await?;
            if state.freezes.iter().any(|other| other.scope == freeze.scope) {
                return Ok(Ok(state));
            }
            if let Err(why) = freeze.finds_place(&state.freezes) {
                return Ok(Err(why));
            }
            (state.thawed, state.thawed_by) = (Vec::new(), None);
            state.freezes.push(freeze.clone());
            match self.replace(&state).await {
                Ok(revision) => return Ok(Ok(Frozen { revision, ..state })),
                Err(FreezeError::Value(ValueError::Late)) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps a node's copy as it is here, until the future is dropped.
    pub async fn follow(&self, freezes: &Freezes) {
        let take = |last: Option<(u64, Frozen)>| {
            let (revision, frozen) = last.unwrap_or_default();
            if revision != freezes.in_force().revision {
                freezes.put_in_force(revision, frozen.freezes);
            }
        };
        self.0.follow(&freezes.following, take).await;
    }
}
