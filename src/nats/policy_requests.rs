//! What an operator asks all nodes about their policy, and tells them to do with it.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::policy::{Loaded, Rollout, ShadowStanding, Standing, opa::ServerStanding};

/// Reloads that a node is told of at one time: they are done one after the other.
const RELOADS_MAX: usize = 4;
/// Answers about a candidate that a node writes at one time.
const SUMMARIES_MAX: usize = 2;

/// One for each subject `nodes.policy.<word>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyRequest {
    /// Which policy is in force?
    Status,
    /// Read the folder again.
    Reload,
}

impl PolicyRequest {
    pub(super) const ALL: [Self; 2] = [Self::Status, Self::Reload];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Reload => "reload",
        }
    }
}

/// A node's answer.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct NodePolicy {
    pub node: String,
    pub version: String,
    #[serde(flatten)]
    pub standing: Standing,
    /// What came of a reload; absent where it came to nothing, see `refused`, and where none was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loaded: Option<Loaded>,
    /// So many reloads wait that this one was not begun.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub busy: bool,
    /// What is tried beside it, or was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStanding>,
    /// The OPA servers that it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub opa: Vec<ServerStanding>,
}

/// What they are answered from.
pub struct PolicyRequests {
    node: String,
    pub(super) rollout: Arc<Rollout>,
    pub(super) places: Arc<Semaphore>,
    pub(super) summaries: Arc<Semaphore>,
}

impl PolicyRequests {
    pub fn new(node: &str, rollout: Arc<Rollout>) -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        let (places, summaries) = (places(RELOADS_MAX), places(SUMMARIES_MAX));
        Self { node: node.to_owned(), rollout, places, summaries }
    }

    pub(super) fn answer(&self, loaded: Option<Loaded>, busy: bool) -> NodePolicy {
        let (node, standing) = (self.node.clone(), self.rollout.standing());
        let opa = self.rollout.modes().opa().map(|opa| opa.standing(&standing.revision)).unwrap_or_default();
        let shadow = self.rollout.gate().shadow().and_then(|shadow| shadow.standing(&standing.revision));
        NodePolicy {
            node,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            standing,
            loaded,
            busy,
            shadow,
            opa,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{
        domain::Timestamp,
        policy::{Label, Refused, ShadowPlan, ShadowState, Trial},
    };

    #[test]
    fn answers_about_the_policy_are_as_other_versions_know_them() {
        let standing = |refused| Standing {
            revision: "0123456789abcdef".into(),
            since: Timestamp(1_700_000_000_000),
            refused,
            follows: false,
            bundle: None,
            unreachable: None,
        };
        let answer = |standing, loaded, busy| NodePolicy {
            node: "node-1".to_owned(),
            version: "0.1.0".to_owned(),
            standing,
            loaded,
            busy,
            shadow: None,
            opa: Vec::new(),
        };
        let refused =
            Refused { at: Timestamp(1_700_000_000_001), why: "own.rego:3:1: expected `if`".to_owned() };
        let loaded = Loaded {
            revision: "0123456789abcdef".into(),
            changed: true,
            tests: 12,
            trial: Trial { tried: 64, changed: 3 },
        };
        let built_at = Some(Timestamp(1_700_000_000_000));
        let followed = Standing {
            follows: true,
            bundle: Some(Label { revision: "v42".into(), built_at }),
            unreachable: Some("none has been pushed".to_owned()),
            ..standing(None)
        };
        let beside = ShadowStanding {
            plan: ShadowPlan { sequence: 3, share: 0.1, until: Timestamp(1_700_000_086_400) },
            since: Timestamp(1_700_000_000_002),
            state: ShadowState::Judging,
            revision: "fedcba9876543210".into(),
            bundle: Some(Label { revision: "v43".into(), built_at }),
            refused: None,
            against: "0123456789abcdef".into(),
            decisions: 200,
            changed: 3,
            lost: 2,
            undecided: 1,
        };
        let tried = NodePolicy { shadow: Some(beside), ..answer(standing(None), None, false) };
        let server = |name: &str, problem: Option<&str>| ServerStanding {
            name: name.into(),
            problem: problem.map(str::to_owned),
        };
        let opa = vec![server("opa-1:8181", None), server("opa-2:8181", Some("not reachable"))];
        let asking = NodePolicy { opa, ..answer(standing(None), None, false) };
        for (form, given) in [
            ("policy-shadow.json", tried),
            ("policy-opa.json", asking),
            ("policy-followed.json", answer(followed, None, false)),
            ("policy-status.json", answer(standing(None), None, false)),
            ("policy-loaded.json", answer(standing(None), Some(loaded), false)),
            ("policy-refused.json", answer(standing(Some(refused)), None, false)),
            ("policy-busy.json", answer(standing(None), None, true)),
        ] {
            let bytes = crate::golden::same(form, &serde_json::to_vec(&given).unwrap());
            assert_eq!(serde_json::from_slice::<NodePolicy>(&bytes).unwrap(), given);
        }
    }
}
