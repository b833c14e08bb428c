//! What a node does at an operator's word: what its breakers keep it from is tried, and what it asks by begins anew.

use serde::{Deserialize, Serialize};

use super::{Bus, intake::Incoming};
use crate::breakers::Kind;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRecovery {
    pub node: String,
    /// Breakers that were not closed. The next call of each finds out whether it is well.
    pub released: usize,
    /// Parts that have begun anew.
    pub renewed: Vec<String>,
}

/// Who can do that. Never waits.
pub trait Recoverable: Send + Sync {
    fn recover(&self, kind: Kind) -> NodeRecovery;
}

impl Bus {
    /// Only operators can publish there (`tenants/permissions.rs`). A kind that this version does not know is for others.
    pub(super) fn recover(&self, word: &Incoming) {
        let kind = std::str::from_utf8(&word.payload).ok().and_then(Kind::parse);
        let (Some(reply), Some(kind)) = (&word.reply, kind) else { return };
        let done = self.recoverable.recover(kind);
        let (released, renewed) = (done.released, done.renewed.join(", "));
        tracing::warn!(kind = kind.as_str(), released, renewed, "an operator has this node recover");
        let Ok(done) = serde_json::to_vec(&done) else { return };
        self.send(reply, &[], &done);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_was_done_is_told_as_other_versions_know_it() {
        let done =
            NodeRecovery { node: "node-1".to_owned(), released: 2, renewed: vec!["outbox".to_owned()] };
        let bytes = crate::golden::same("recovery.json", &serde_json::to_vec(&done).unwrap());
        assert_eq!(serde_json::from_slice::<NodeRecovery>(&bytes).unwrap(), done);
    }
}
