//! What a node does at an operator's word: what its breakers keep it from is tried, and what it asks by begins anew.

use serde::{Deserialize, Serialize};

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
