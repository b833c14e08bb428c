//! What a node says of the candidate that judges beside its policy, to an operator who asks.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Bus, intake::Incoming};
use crate::{
    policy::{Rollout, ShadowStanding, comparison::Summary},
    shutdown::Shutdown,
};

/// Of an answer; the bus takes no more than twice as much.
const SUMMARY_BYTES_MAX: usize = 128 * 1024;

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeShadow {
    pub node: String,
    /// Absent: nothing was tried since it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowStanding>,
    /// Absent: no candidate was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

impl NodeShadow {
    fn of(node: &str, rollout: &Rollout) -> Self {
        let gate = rollout.gate();
        let shadow = gate.shadow();
        Self {
            node: node.to_owned(),
            shadow: shadow.and_then(|shadow| shadow.standing(&gate.revision())),
            summary: shadow.and_then(|shadow| shadow.summary(SUMMARY_BYTES_MAX)),
        }
    }
}

impl Bus {
    /// Only operators can publish there (`tenants/permissions.rs`). Who asks too often hears nothing.
    pub(super) fn tell_shadow(self: &Arc<Self>, question: &Incoming, shutdown: &Shutdown) {
        let (Some(reply), Ok(place)) =
            (question.reply.clone(), Arc::clone(&self.policy.summaries).try_acquire_owned())
        else {
            return;
        };
        let bus = Arc::clone(self);
        // Thousands of names are put in order.
        let answering = async move {
            let _place = place;
            let (node, rollout) = (bus.lanes.node.clone(), Arc::clone(&bus.policy.rollout));
            let answer =
                tokio::task::spawn_blocking(move || serde_json::to_vec(&NodeShadow::of(&node, &rollout)));
            if let Ok(Ok(answer)) = answer.await {
                bus.send(&reply, &[], &answer);
            }
        };
        shutdown.tracker().spawn_on(answering, &self.others);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::policy::{
        Decision, Obligations,
        comparison::{Compared, Comparison},
    };

    #[test]
    fn answers_about_a_candidate_are_as_other_versions_know_them() {
        let mut comparison = Comparison::new(1);
        let (before, after) = (
            Ok(Decision::Allowed(Obligations::default())),
            Ok(Decision::Denied { reasons: vec!["own: it is on leave".to_owned()] }),
        );
        comparison.add(&Compared {
            number: 1_700_000_000_000,
            decision_id: "kwgBtD6dd5f4LfCUqfSfEk",
            tenant: "acme",
            sender: "planner",
            recipient: "scribe",
            message_type: "event",
            before: &before,
            after: &after,
        });
        let given = NodeShadow {
            node: "node-1".to_owned(),
            shadow: None,
            summary: Some(Summary::of(&comparison, SUMMARY_BYTES_MAX)),
        };
        let bytes = crate::golden::same("policy-diff.json", &serde_json::to_vec(&given).unwrap());
        assert_eq!(serde_json::from_slice::<NodeShadow>(&bytes).unwrap(), given);
        let other_version: NodeShadow = serde_json::from_slice(br#"{"node":"node-1"}"#).unwrap();
        assert_eq!((other_version.shadow, other_version.summary), (None, None));
    }
}
