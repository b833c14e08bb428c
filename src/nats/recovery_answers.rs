//! The way of an operator's word to recover: done and answered at once.

use super::{Bus, intake::Incoming};
use crate::breakers::Kind;

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
