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
