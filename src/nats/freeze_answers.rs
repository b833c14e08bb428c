//! What a node says of what it has frozen, to an operator who asks.

use serde::{Deserialize, Serialize};

use super::{Bus, intake::Incoming};
use crate::{domain::Freeze, freezes::Held};

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFreezes {
    pub node: String,
    /// Which state of it is in force there.
    pub revision: u64,
    pub freezes: Vec<NodeFreeze>,
    /// Whether it can end connections of whom is cut off. Nodes of the last version cannot, and do not say so.
    #[serde(default)]
    pub cuts_off: bool,
}

/// One freeze, as a node has it in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFreeze {
    #[serde(flatten)]
    pub freeze: Freeze,
    /// Messages that the node has refused or put off by it; each try of one counts.
    pub stopped: u64,
}

impl Bus {
    /// Only operators can publish there (`tenants/permissions.rs`). Who asks may know of a later state than this
    /// node, which then looks at once.
    pub(super) fn tell_freezes(&self, question: &Incoming) {
        let Some(reply) = &question.reply else { return };
        let freezes = &self.lanes.freezes;
        let last = std::str::from_utf8(&question.payload).ok().and_then(|last| last.parse().ok());
        freezes.heard_of(last.unwrap_or_default());
        let in_force = freezes.in_force();
        let told =
            |held: &std::sync::Arc<Held>| NodeFreeze { freeze: held.freeze.clone(), stopped: held.stopped() };
        let answer = NodeFreezes {
            node: self.lanes.node.clone(),
            revision: in_force.revision,
            freezes: in_force.frozen.iter().map(told).collect(),
            cuts_off: freezes.cuts_off(),
        };
        let Ok(answer) = serde_json::to_vec(&answer) else { return };
        self.send(reply, &[], &answer);
    }
}
