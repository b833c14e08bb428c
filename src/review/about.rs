//! What must an agent know of the bus before it sends? So that nobody writes down a hash, or guesses at a limit.

use std::{sync::Arc, time::Duration};

use crate::{
    constitutions::Constitutions,
    domain::{Tenant, Timestamp},
    wire,
};

/// What a node tells of itself to an agent that asks.
pub struct About {
    pub node: String,
    pub clock: fn() -> Timestamp,
    pub constitutions: Arc<Constitutions>,
    /// How long a message is worked on before its sender hears.
    pub deadline: Duration,
    /// How long the answer to a question is waited for.
    pub answer: Duration,
    pub clock_skew: Duration,
    pub request_bytes: usize,
}

impl About {
    /// For an agent of this tenant: nothing here is another's.
    pub fn tell(&self, tenant: &Tenant) -> wire::About {
        let (now, in_force) = ((self.clock)(), self.constitutions.in_force());
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        wire::About {
            node: self.node.clone(),
            time: now,
            constitutions: in_force.at(now).collect(),
            preferred: in_force.preferred(now),
            limits: vec![
                ("request_bytes", bytes(self.request_bytes)),
                ("content_bytes", bytes(tenant.limits.content_bytes)),
                ("messages_per_minute", tenant.limits.messages_per_minute.into()),
                ("agents", bytes(tenant.limits.agents)),
                ("deadline_ms", ms(self.deadline)),
                ("answer_ms", ms(self.answer)),
                ("clock_skew_ms", ms(self.clock_skew)),
            ],
        }
    }
}
