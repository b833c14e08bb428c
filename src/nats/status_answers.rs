//! The way of an operator's question how a node is: answered at once.

use super::{Bus, intake::Incoming};

impl Bus {
    /// Only operators can publish there (`tenants/permissions.rs`).
    pub(super) fn tell_status(&self, question: &Incoming) {
        let (Some(reply), Ok(status)) = (&question.reply, serde_json::to_vec(&self.status.status())) else {
            return;
        };
        self.send(reply, &[], &status);
    }
}
