//! What does a node say of the candidate beside its policy?

use std::sync::{Arc, atomic::Ordering};

use serde::{Deserialize, Serialize};

use super::Last;
use crate::{
    domain::Timestamp,
    policy::{Label, PolicyEngine as _},
};

/// Which messages a candidate judges, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ShadowPlan {
    /// Counted by the bus: a candidate that is tried again is another shadow.
    pub sequence: u64,
    /// Of the messages, 0 to 1.
    pub share: f64,
    /// In milliseconds since 1970.
    pub until: Timestamp,
}

/// What an operator wanted last, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowStanding {
    #[serde(flatten)]
    pub plan: ShadowPlan,
    /// Since when, by the node's clock: it may have started later than others.
    pub since: Timestamp,
    pub state: ShadowState,
    /// Of the candidate; empty: it could not be loaded.
    pub revision: Arc<str>,
    /// What its bundle calls itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Label>,
    /// Why it could not be loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The policy in force that it is compared with.
    pub against: Arc<str>,
    /// Questions that both have answered, and those whose message would fare otherwise.
    pub decisions: u64,
    pub changed: u64,
    /// Decisions that came faster than the candidate judges.
    pub lost: u64,
    /// Those where one of both gave no answer, since the processor or a server was busy.
    pub undecided: u64,
}

/// What it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShadowState {
    Judging,
    /// Its time has come.
    Over,
    Stopped,
    /// It has become the policy in force.
    InForce,
    /// It could not be loaded.
    Refused,
}

impl ShadowState {
    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Judging => "judging",
            Self::Over => "its time is over",
            Self::Stopped => "stopped",
            Self::InForce => "it is in force now",
            Self::Refused => "refused",
        }
    }
}

impl ShadowStanding {
    pub(super) fn of(last: &Last, now: Timestamp, in_force: &str) -> Self {
        let Last { plan, since, candidate, stopped } = last;
        let mut standing = Self {
            plan: *plan,
            since: *since,
            state: ShadowState::Refused,
            revision: "".into(),
            bundle: None,
            refused: None,
            against: in_force.into(),
            decisions: 0,
            changed: 0,
            lost: 0,
            undecided: 0,
        };
        match candidate {
            Err(why) => standing.refused = Some(why.clone()),
            Ok(judging) => {
                let counted = judging.counted.lock();
                let all = counted.comparison.all();
                (standing.decisions, standing.changed) = (all.decisions, all.changed());
                standing.against = Arc::clone(&counted.against);
                standing.lost = judging.lost.load(Ordering::Relaxed);
                standing.undecided = judging.undecided.load(Ordering::Relaxed);
                standing.revision = Arc::clone(judging.engine.revision());
                standing.bundle = Some(judging.label.clone()).filter(|label| !label.revision.is_empty());
                standing.state = ShadowState::Judging;
            }
        }
        if *standing.revision == *in_force {
            standing.state = ShadowState::InForce;
        } else if *stopped {
            standing.state = ShadowState::Stopped;
        } else if standing.state == ShadowState::Judging && now >= plan.until {
            standing.state = ShadowState::Over;
        }
        standing
    }
}
