//! What has each agent used? Counted where messages are answered, told now and then to whoever keeps it.
//!
//! Counting is an addition in memory that waits for nothing and drops nothing. What is told is the sum of an agent's hour so
//! far: telling it twice changes nothing, and what could not be told is in the next sum.

use std::{
    collections::{BTreeMap, HashMap},
    ops::AddAssign,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::domain::{AgentId, TenantId, Timestamp};

const HOUR_MS: u64 = 3_600_000;
/// Hours that are kept of an agent while nobody takes them; the oldest goes first.
const HOURS_MAX: usize = 48;

/// What one agent has used as a sender.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    /// Sent, asked, answered and submitted, those that were refused as well.
    pub messages: u64,
    /// Of these, as they came.
    pub bytes: u64,
    /// Verdicts, without repeats of one.
    pub decisions: u64,
    /// Refused or shed.
    pub refused: u64,
    /// Inboxes that got one.
    pub deliveries: u64,
    /// Put into durable inboxes.
    pub stored_bytes: u64,
    /// Parked for reviewers.
    pub deliberations: u64,
    /// Messages whose words were read for a score.
    pub scored: u64,
}

/// The sum of one agent's hour, on this node since it began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sum {
    pub tenant: TenantId,
    pub agent: AgentId,
    /// Since 1970.
    pub hour: u64,
    pub used: Used,
}

/// Of all agents that NATS lets in: no more entries than those.
#[derive(Default)]
pub struct Usage(Mutex<HashMap<TenantId, HashMap<AgentId, Hours>>>);

type Hours = BTreeMap<u64, Counted>;

#[derive(Default)]
struct Counted {
    used: Used,
    /// What is known to be kept of it.
    told: Used,
}

impl AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        let Self { messages, bytes, decisions, refused, deliveries, stored_bytes, deliberations, scored } =
            other;
        for (sum, more) in [
            (&mut self.messages, messages),
            (&mut self.bytes, bytes),
            (&mut self.decisions, decisions),
            (&mut self.refused, refused),
            (&mut self.deliveries, deliveries),
            (&mut self.stored_bytes, stored_bytes),
            (&mut self.deliberations, deliberations),
            (&mut self.scored, scored),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}

/// Hours since 1970.
pub fn hour(at: Timestamp) -> u64 {
    at.0 / HOUR_MS
}

impl Usage {
    pub fn count(&self, tenant: &TenantId, agent: &AgentId, at: Timestamp, used: Used) {
        let mut all = self.0.lock();
        // Nothing is copied of an agent that is known.
        let agents = match all.get_mut(tenant) {
            Some(agents) => agents,
            None => all.entry(tenant.clone()).or_default(),
        };
        let hours = match agents.get_mut(agent) {
            Some(hours) => hours,
            None => agents.entry(agent.clone()).or_default(),
        };
        hours.entry(hour(at)).or_default().used += used;
        if hours.len() > HOURS_MAX {
            hours.pop_first();
        }
    }

    /// Sums of which not all is known to be kept.
    pub fn untold(&self) -> Vec<Sum> {
        let all = self.0.lock();
        let sums = all
            .iter()
            .flat_map(|(tenant, agents)| agents.iter().map(move |(agent, hours)| (tenant, agent, hours)));
        let untold = sums.flat_map(|(tenant, agent, hours)| {
            let changed = hours.iter().filter(|(_, counted)| counted.used != counted.told);
            changed.map(|(hour, counted)| Sum {
                tenant: tenant.clone(),
                agent: agent.clone(),
                hour: *hour,
                used: counted.used,
            })
        });
        untold.collect()
    }

    /// This sum is kept. Hours that are over are forgotten then, and agents with none.
    pub fn told(&self, sum: &Sum, now: Timestamp) {
        let mut all = self.0.lock();
        let Some(agents) = all.get_mut(&sum.tenant) else { return };
        let Some(hours) = agents.get_mut(&sum.agent) else { return };
        if let Some(counted) = hours.get_mut(&sum.hour) {
            counted.told = sum.used;
        }
        hours.retain(|&it, counted| it >= hour(now) || counted.used != counted.told);
        if hours.is_empty() {
            agents.remove(&sum.agent);
        }
        if agents.is_empty() {
            all.remove(&sum.tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Instant;

    use super::*;

    const NOON: Timestamp = Timestamp(1_700_000_000_000);
    const NEXT: Timestamp = Timestamp(NOON.0 + HOUR_MS);

    fn one() -> Used {
        Used { messages: 1, bytes: 100, decisions: 1, ..Used::default() }
    }

    /// `cargo test --lib usage --release -- --nocapture` says how long one takes (P9: 100 ns).
    #[test]
    fn nothing_is_dropped_by_many_threads_at_once() {
        const EACH: u64 = 100_000;
        let (usage, tenant): (Usage, TenantId) = (Usage::default(), "acme".parse().unwrap());
        let agents: Vec<AgentId> = (0..100).map(|n| format!("agent-{n}").parse().unwrap()).collect();
        let started = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for agent in agents.iter().cycle().take(usize::try_from(EACH).unwrap()) {
                        usage.count(&tenant, agent, NOON, one());
                    }
                });
            }
        });
        println!("{} ns each", started.elapsed().as_nanos() / u128::from(2 * EACH));
        let sums = usage.untold();
        assert_eq!((sums.len(), sums.iter().map(|sum| sum.used.messages).sum::<u64>()), (100, 2 * EACH));
    }

    #[test]
    fn a_sum_is_told_until_it_is_kept_and_forgotten_when_its_hour_is_over() {
        let (usage, tenant, agent) = (Usage::default(), "acme".parse().unwrap(), "planner".parse().unwrap());
        usage.count(&tenant, &agent, NOON, one());
        let first = usage.untold();
        assert_eq!(usage.untold(), first, "nobody has said that it is kept");
        usage.count(&tenant, &agent, NOON, one());
        usage.told(&first[0], NOON);
        assert_eq!(usage.untold()[0].used.messages, 2, "the whole sum, with what came meanwhile");
        let second = usage.untold();
        usage.told(&second[0], NOON);
        assert_eq!(usage.untold(), []);
        usage.count(&tenant, &agent, NEXT, one());
        let third = usage.untold();
        assert_eq!((third.len(), third[0].hour, third[0].used.messages), (1, hour(NEXT), 1));
        usage.told(&third[0], Timestamp(NEXT.0 + HOUR_MS));
        assert!(usage.0.lock().is_empty());
    }

    #[test]
    fn hours_that_nobody_takes_are_bounded() {
        let (usage, tenant, agent) = (Usage::default(), "acme".parse().unwrap(), "planner".parse().unwrap());
        for n in 0..1_000 {
            usage.count(&tenant, &agent, Timestamp(n * HOUR_MS), one());
        }
        assert_eq!(usage.untold().len(), HOURS_MAX);
    }
}
