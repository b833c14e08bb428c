//! What a node says of the constitutions that it has in force, to an operator who asks.

use serde::{Deserialize, Serialize};

use super::{Bus, intake::Incoming};
use crate::domain::{Constitution, ConstitutionHash};

/// A node's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeConstitutions {
    pub node: String,
    /// Which state is in force there; 0: as it is configured.
    pub revision: u64,
    pub accepted: Vec<Constitution>,
    /// Absent: none is in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred: Option<ConstitutionHash>,
}

impl Bus {
    /// Only operators can publish there (`tenants/permissions.rs`). Who asks may know of a later state than this
    /// node, which then looks at once.
    pub(super) fn tell_constitutions(&self, question: &Incoming) {
        let Some(reply) = &question.reply else { return };
        let constitutions = &self.lanes.constitutions;
        let last = std::str::from_utf8(&question.payload).ok().and_then(|last| last.parse().ok());
        constitutions.heard_of(last.unwrap_or_default());
        let in_force = constitutions.in_force();
        let answer = NodeConstitutions {
            node: self.lanes.node.clone(),
            revision: in_force.revision,
            accepted: in_force.accepted.clone(),
            preferred: in_force.preferred((self.lanes.clock)()),
        };
        let Ok(answer) = serde_json::to_vec(&answer) else { return };
        self.send(reply, &[], &answer);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::domain::{Act, Amendment, Amendments, Timestamp};

    #[test]
    fn what_is_kept_and_answered_of_constitutions_is_as_other_versions_know_it() {
        let [old, new] = ["cdd01ef066bc6cf2", "0123456789abcdef"].map(|hash| hash.parse().unwrap());
        let at = Timestamp(1_790_000_000_000);
        let accepted = vec![
            Constitution { hash: old, from: None, until: None },
            Constitution {
                hash: new,
                from: Some(at),
                until: Some(at.plus(std::time::Duration::from_secs(1))),
            },
        ];
        let act = Amendment {
            what: Act::Proposed,
            hash: new,
            why: "amendment 7".to_owned(),
            at,
            login: Some("root".to_owned()),
        };
        let state = Amendments { accepted: accepted.clone(), preferred: old, act };
        let bytes = crate::golden::same("constitutions.json", &serde_json::to_vec(&state).unwrap());
        assert_eq!(serde_json::from_slice::<Amendments>(&bytes).unwrap(), state);
        let answer =
            NodeConstitutions { node: "node-1".to_owned(), revision: 7, accepted, preferred: Some(old) };
        let bytes = crate::golden::same("constitutions-node.json", &serde_json::to_vec(&answer).unwrap());
        assert_eq!(serde_json::from_slice::<NodeConstitutions>(&bytes).unwrap(), answer);
    }
}
