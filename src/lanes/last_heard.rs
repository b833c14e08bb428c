//! Which conversation did an agent hear of last? For those that say of nothing what it follows from, where an operator
//! wants them to be counted all the same.
//!
//! In this node's memory: what other nodes have delivered it does not know. Only what is counted goes by it, never how
//! many messages led to one: an agent that talks with many would stop them all.

use std::time::{Duration, Instant};

use moka::sync::Cache;

use crate::{
    domain::{AgentId, Conversation, TenantId},
    recent::recent,
};

/// Of agents whose tenant wants it; the one least recently heard is forgotten first.
const AGENTS_MAX: u64 = 65_536;

/// What was delivered last, and when.
pub struct LastHeard(Cache<(TenantId, AgentId), (Conversation, Instant)>);

impl Default for LastHeard {
    fn default() -> Self {
        Self(recent(AGENTS_MAX).build())
    }
}

impl LastHeard {
    pub(super) fn note(
        &self,
        (tenant, agents): (&TenantId, &[AgentId]),
        conversation: &Conversation,
        now: Instant,
    ) {
        for agent in agents {
            self.0.insert((tenant.clone(), agent.clone()), (conversation.clone(), now));
        }
    }

    /// Unless that is longer ago.
    pub(super) fn of(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
        within: Duration,
        now: Instant,
    ) -> Option<Conversation> {
        let (conversation, at) = self.0.get(&(tenant.clone(), agent.clone()))?;
        (now.saturating_duration_since(at) <= within).then_some(conversation)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_last_conversation_counts_for_a_while_and_each_agent_has_its_own() {
        let (heard, now) = (LastHeard::default(), Instant::now());
        let (acme, globex): (TenantId, TenantId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let (worker, judge): (AgentId, AgentId) = ("worker".parse().unwrap(), "judge".parse().unwrap());
        let within = Duration::from_secs(10);
        for name in ["planner/first", "planner/last"] {
            heard.note((&acme, std::slice::from_ref(&worker)), &name.parse().unwrap(), now);
        }
        let last = Some("planner/last".parse().unwrap());
        assert_eq!(heard.of(&acme, &worker, within, now + within), last);
        assert_eq!(heard.of(&acme, &worker, within, now + within + Duration::from_millis(1)), None);
        assert_eq!(heard.of(&acme, &judge, within, now), None);
        assert_eq!(heard.of(&globex, &worker, within, now), None);
    }
}
