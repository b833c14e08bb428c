//! The way of an operator's request about the policy: answered at once, or when the folder is read.

use std::sync::Arc;

use super::{
    Bus,
    intake::Incoming,
    policy_requests::{NodePolicy, PolicyRequest},
};
use crate::shutdown::Shutdown;

impl Bus {
    /// Only operators can publish there (`tenants/permissions.rs`).
    pub(super) fn take_policy_request(
        self: &Arc<Self>,
        request: PolicyRequest,
        message: &Incoming,
        shutdown: &Shutdown,
    ) {
        let Some(reply) = message.reply.clone() else { return };
        let policy = &self.policy;
        match (request, Arc::clone(&policy.places).try_acquire_owned()) {
            (PolicyRequest::Status, _) => self.answer_policy(&reply, &policy.answer(None, false)),
            (PolicyRequest::Reload, Err(_)) => self.answer_policy(&reply, &policy.answer(None, true)),
            (PolicyRequest::Reload, Ok(place)) => {
                let bus = Arc::clone(self);
                let reloading = async move {
                    // Why it came to nothing is part of the standing.
                    let loaded = bus.policy.rollout.reload().await.ok();
                    bus.answer_policy(&reply, &bus.policy.answer(loaded, false));
                    drop(place);
                };
                shutdown.tracker().spawn_on(reloading, &self.others);
            }
        }
    }

    fn answer_policy(&self, reply: &[u8], answer: &NodePolicy) {
        let Ok(answer) = serde_json::to_vec(answer) else { return };
        self.send(reply, &[], &answer);
    }
}
