//! What has each agent used? Counted where messages are answered, told now and then to whoever keeps it.
//!
//! Counting is an addition in memory that drops nothing and waits for nobody but who counts or is told of the same tenant at that
//! moment. What is told is the sum of an agent's hour so far: telling it twice changes nothing, and what could not be told is in the
//! next sum.

use std::{collections::HashMap, ops::AddAssign, sync::Arc};

use foldhash::fast::RandomState;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};

use crate::domain::{AgentId, TenantId, Timestamp};

const HOUR_MS: u64 = 3_600_000;
/// So long an hour is known after it is over.
const HOURS_LATE: u64 = 1;
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
    /// Tokens of these that models have read. What was read of late, and is known, is none; nor is what was not read in time.
    pub tokens: u64,
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
pub struct Usage(RwLock<HashMap<TenantId, Arc<Mutex<Agents>>, RandomState>>);

type Agents = HashMap<AgentId, Hours, RandomState>;
/// Oldest first, and mostly one: the smallest node of a tree has room for eleven.
type Hours = Vec<(u64, Counted)>;

#[derive(Default)]
struct Counted {
    used: Used,
    /// What is known to be kept of it.
    told: Used,
}

impl AddAssign for Used {
    fn add_assign(&mut self, other: Self) {
        let Self {
            messages,
            bytes,
            decisions,
            refused,
            deliveries,
            stored_bytes,
            deliberations,
            scored,
            tokens,
        } = other;
        for (sum, more) in [
            (&mut self.messages, messages),
            (&mut self.bytes, bytes),
            (&mut self.decisions, decisions),
            (&mut self.refused, refused),
            (&mut self.deliveries, deliveries),
            (&mut self.stored_bytes, stored_bytes),
            (&mut self.deliberations, deliberations),
            (&mut self.scored, scored),
            (&mut self.tokens, tokens),
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
        if !self.add(tenant, agent, at, used) {
            self.0.write().entry(tenant.clone()).or_default();
            self.add(tenant, agent, at, used);
        }
    }

    /// Whether there is an account of this tenant.
    fn add(&self, tenant: &TenantId, agent: &AgentId, at: Timestamp, used: Used) -> bool {
        // Held until it is counted: an account that is taken away meanwhile would take this with it.
        let all = self.0.read();
        let Some(agents) = all.get(tenant) else { return false };
        let mut agents = agents.lock();
        // Nothing is copied of an agent that is known.
        let hours = match agents.get_mut(agent) {
            Some(hours) => hours,
            None => agents.entry(agent.clone()).or_default(),
        };
        let hour = hour(at);
        let place = hours.partition_point(|(it, _)| *it < hour);
        if hours.get(place).is_none_or(|(it, _)| *it != hour) {
            hours.reserve_exact(1);
            hours.insert(place, (hour, Counted::default()));
        }
        if let Some((_, counted)) = hours.get_mut(place) {
            counted.used += used;
        }
        if hours.len() > HOURS_MAX {
            hours.remove(0);
        }
        true
    }

    /// Sums of which not all is known to be kept. One tenant is held up at a time, while its own are copied.
    pub fn untold(&self) -> Vec<Sum> {
        let tenants: Vec<_> =
            self.0.read().iter().map(|(tenant, agents)| (tenant.clone(), Arc::clone(agents))).collect();
        let mut sums = Vec::new();
        for (tenant, agents) in tenants {
            for (agent, hours) in &*agents.lock() {
                let changed = hours.iter().filter(|(_, counted)| counted.used != counted.told);
                sums.extend(changed.map(|(hour, counted)| Sum {
                    tenant: tenant.clone(),
                    agent: agent.clone(),
                    hour: *hour,
                    used: counted.used,
                }));
            }
        }
        sums
    }

    /// This sum is kept. Hours that are long over are forgotten then, and agents with none: a message of an hour may be counted a
    /// moment after it, and would begin its sum anew.
    pub fn told(&self, sum: &Sum, now: Timestamp) {
        let Some(agents) = self.0.read().get(&sum.tenant).map(Arc::clone) else { return };
        let mut agents = agents.lock();
        let Some(hours) = agents.get_mut(&sum.agent) else { return };
        if let Some((_, counted)) = hours.iter_mut().find(|(it, _)| *it == sum.hour) {
            counted.told = sum.used;
        }
        hours.retain(|(it, counted)| {
            it.saturating_add(HOURS_LATE) >= hour(now) || counted.used != counted.told
        });
        if hours.is_empty() {
            agents.remove(&sum.agent);
        }
        let nobody_left = agents.is_empty();
        drop(agents);
        if nobody_left {
            let mut all = self.0.write();
            if all.get(&sum.tenant).is_some_and(|agents| agents.lock().is_empty()) {
                all.remove(&sum.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const NOON: Timestamp = Timestamp(1_700_000_000_000);
    const NEXT: Timestamp = Timestamp(NOON.0 + HOUR_MS);
    const LATER: Timestamp = Timestamp(NOON.0 + 2 * HOUR_MS);

    fn one() -> Used {
        Used { messages: 1, bytes: 100, decisions: 1, ..Used::default() }
    }

    #[test]
    fn nothing_is_dropped_by_many_threads_at_once() {
        const EACH: u64 = 100_000;
        let (usage, tenant): (Usage, TenantId) = (Usage::default(), "acme".parse().unwrap());
        let agents: Vec<AgentId> = (0..100).map(|n| format!("agent-{n}").parse().unwrap()).collect();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for agent in agents.iter().cycle().take(usize::try_from(EACH).unwrap()) {
                        usage.count(&tenant, agent, NOON, one());
                    }
                });
            }
        });
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
        usage.told(&third[0], Timestamp(LATER.0 + HOUR_MS));
        assert!(usage.0.read().is_empty());
    }

    #[test]
    fn what_is_counted_while_accounts_are_taken_away_is_told() {
        const ALL: u64 = 5_000;
        let (usage, tenant): (Usage, TenantId) = (Usage::default(), "acme".parse().unwrap());
        let told = || {
            let sums = usage.untold();
            sums.iter().for_each(|sum| usage.told(sum, LATER));
            sums.iter().map(|sum| sum.used.messages).sum::<u64>()
        };
        let mut kept = 0;
        std::thread::scope(|scope| {
            // Each agent once: all of it is forgotten as soon as it is told.
            let counting = scope.spawn(|| {
                (0..ALL)
                    .for_each(|n| usage.count(&tenant, &format!("agent-{n}").parse().unwrap(), NOON, one()));
            });
            while !counting.is_finished() {
                kept += told();
            }
        });
        assert_eq!((kept + told(), told()), (ALL, 0));
        assert!(usage.0.read().is_empty());
    }

    #[test]
    fn what_is_late_for_an_hour_adds_to_what_was_told_of_it() {
        let (usage, tenant, agent) = (Usage::default(), "acme".parse().unwrap(), "planner".parse().unwrap());
        usage.count(&tenant, &agent, NOON, one());
        usage.told(&usage.untold()[0], NEXT);
        usage.count(&tenant, &agent, NOON, one());
        assert_eq!(usage.untold()[0].used.messages, 2);
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
