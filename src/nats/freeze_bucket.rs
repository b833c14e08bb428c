//! The bucket of what is frozen: one key, whose last value all nodes have in force, and the values before it as
//! evidence of who has stopped what, when and why. Operators change it, and nodes where the policy or an agent of itself
//! has stopped somebody.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

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
/// Looks in a row that find an older state than is in force, after which the stream was made anew.
const OLDER_LOOKS: u32 = 3;

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
        let (mut wait, mut again) = (RETRY_MIN, false);
        loop {
            freezes.something_wanted().await;
            match self.keep_all(freezes, again).await {
                Ok(()) => (wait, again) = (RETRY_MIN, false),
                Err(error) => {
                    tracing::warn!(%error, retry_in = ?wait, "what the policy or an agent has stopped is so on this node alone");
                    tokio::time::sleep(wait).await;
                    (wait, again) = (RETRY_MAX.min(wait * 2), true);
                }
            }
        }
    }

    /// `again`: an earlier try may have come further than was confirmed.
    async fn keep_all(&self, freezes: &Freezes, again: bool) -> Result<(), FreezeError> {
        for freeze in freezes.wanted() {
            let scope = &freeze.scope;
            if again && thawed_in(self.history().await?.iter().map(|(_, state)| state), &freeze) {
                freezes.give_up(scope);
                continue;
            }
            match self.keep(&freeze, || freezes.is_wanted(scope)).await? {
                Kept::InForce(state) => freezes.put_in_force(state.revision, state.freezes),
                Kept::NotWanted => {}
                Kept::Thawed => freezes.give_up(scope),
                Kept::NoPlace(why) => {
                    tracing::error!(frozen = %scope, %why, "it is not stopped any more");
                    freezes.give_up(scope);
                }
            }
            if freezes.is_wanted(scope) {
                // What was read is older than what is in force, by a server that has fallen behind.
                tokio::time::sleep(RETRY_MIN).await;
            }
        }
        Ok(())
    }

    /// What became of it, also by somebody else.
    async fn keep(&self, freeze: &Freeze, is_wanted: impl Fn() -> bool) -> Result<Kept, FreezeError> {
        let mut tries = 1;
        loop {
            let mut state = self.last().await?;
            if state.freezes.iter().any(|other| other.scope == freeze.scope) {
                return Ok(Kept::InForce(state));
            }
            // The state that had it was seen here meanwhile, and an operator may have thawed it since. Who thaws it from
            // now on makes this one late.
            if !is_wanted() {
                return Ok(Kept::NotWanted);
            }
            if thawed_in(std::iter::once(&state), freeze) {
                return Ok(Kept::Thawed);
            }
            if let Err(why) = freeze.finds_place(&state.freezes) {
                return Ok(Kept::NoPlace(why));
            }
            (state.thawed, state.thawed_by) = (Vec::new(), None);
            state.freezes.push(freeze.clone());
            match self.replace(&state).await {
                Ok(revision) => return Ok(Kept::InForce(Frozen { revision, ..state })),
                Err(FreezeError::Value(ValueError::Late)) if tries < TRIES => tries += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps a node's copy as it is here, until the future is dropped.
    pub async fn follow(&self, freezes: &Freezes) {
        let looks = AtomicU32::new(0);
        let take = |last: Option<(u64, Frozen)>| {
            let (revision, frozen) = last.unwrap_or_default();
            let is_older = revision < freezes.in_force().revision;
            let older = if is_older { looks.load(Ordering::Relaxed) + 1 } else { 0 };
            looks.store(older, Ordering::Relaxed);
            match older {
                0 => freezes.put_in_force(revision, frozen.freezes),
                // Read while a later one was put in force, or from a server that has fallen behind.
                1..OLDER_LOOKS => {}
                _ => freezes.begin_anew(revision, frozen.freezes),
            }
        };
        self.0.follow(&freezes.following, take).await;
    }
}

/// What became of a freeze that a node wants of all nodes.
enum Kept {
    InForce(Frozen),
    NoPlace(NoPlace),
    /// An operator has let it go on meanwhile.
    Thawed,
    NotWanted,
}

/// Whether one of these states says that an operator has thawed it, or one that came later.
fn thawed_in<'a>(mut states: impl Iterator<Item = &'a Frozen>, freeze: &Freeze) -> bool {
    let is_it = |thawed: &Freeze| thawed.scope == freeze.scope && thawed.at >= freeze.at;
    states.any(|state| state.thawed.iter().any(is_it))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::{FrozenBy, Timestamp};

    #[test]
    fn what_an_operator_has_thawed_is_not_kept_again_and_what_is_stopped_after_a_thaw_is() {
        let at = |agent: &str, at| {
            let of = (&"acme".parse().unwrap(), &agent.parse().unwrap());
            Freeze::automatic(of, FrozenBy::Agent, "why", Timestamp(at))
        };
        let thawed = |freeze| Frozen { thawed: vec![freeze], ..Frozen::default() };
        let states = [Frozen::default(), thawed(at("planner", 10)), thawed(at("worker", 30))];
        assert!(thawed_in(states.iter(), &at("planner", 10)));
        assert!(!thawed_in(states.iter(), &at("planner", 20)), "stopped anew since");
        assert!(!thawed_in(states.iter(), &at("judge", 10)));
    }
}
