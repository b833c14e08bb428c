//! How often may a sender, by the policy's rules? Counted in this node's memory, each sender's rules apart.
//!
//! Each message moves the moment at which its sender has nothing left to pay for by its part of the window; one that
//! would move it further ahead than a window has to wait. So a full window's messages may come at once, and after them
//! one each time that a part has passed. One number for each rule, however many messages there are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;

use crate::{
    domain::{AgentId, Reason, TenantId},
    policy::Rate,
    rejection::Rejection,
};

/// Until when what was sent is paid for, by module.
type Due = Mutex<HashMap<String, Instant>>;

/// What has counted against rates of late.
pub struct Rates {
    /// Only agents of the directory get an entry; the one least recently heard is forgotten first.
    senders: Cache<(TenantId, AgentId), Arc<Due>>,
}

impl Default for Rates {
    fn default() -> Self {
        let senders = Cache::builder()
            .max_capacity(Self::SENDERS_MAX)
            .eviction_policy(EvictionPolicy::lru())
            .time_to_idle(Duration::from_secs(Rate::SECONDS_MAX.into()))
            .build();
        Self { senders }
    }
}

impl Rates {
    const SENDERS_MAX: u64 = 65_536;

    /// Counts a message against all of them, or against none if one has no room for it.
    pub(super) fn count(
        &self,
        (tenant, sender): (&TenantId, &AgentId),
        rates: &BTreeMap<String, Rate>,
        now: Instant,
    ) -> Result<(), Rejection> {
        if rates.is_empty() {
            return Ok(());
        }
        let due = self.senders.get_with((tenant.clone(), sender.clone()), Arc::default);
        let mut due = due.lock();
        // What is paid for is as if it had never been, so there are only rules of late.
        due.retain(|_, due| *due > now);
        for (module, rate) in rates {
            let after = due.get(module).map_or(now, |due| *due) + rate.each();
            let wait = after.saturating_duration_since(now + rate.window());
            if !wait.is_zero() {
                let detail = format!("the policy's rule {module} lets a sender send {rate} on this node");
                return Err(Rejection::new(Reason::RateLimited, detail).after(wait));
            }
        }
        for (module, rate) in rates {
            let due = due.entry(module.clone()).or_insert(now);
            *due += rate.each();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    struct Sender(Rates, Instant);

    impl Sender {
        fn sends(&self, agent: &str, at_ms: u64, rates: &[(&str, u32, u32)]) -> Result<(), Duration> {
            let rates = rates.iter().map(|(module, messages, seconds)| {
                ((*module).to_owned(), Rate::new(*messages, *seconds).unwrap())
            });
            let of = (&"acme".parse().unwrap(), &agent.parse().unwrap());
            let counted = self.0.count(of, &rates.collect(), self.1 + Duration::from_millis(at_ms));
            counted.map_err(|refused| {
                assert_eq!(refused.reason, Reason::RateLimited);
                refused.retry_after.unwrap()
            })
        }
    }

    #[test]
    fn a_windows_messages_may_come_at_once_and_then_one_each_part_of_it() {
        let sender = Sender(Rates::default(), Instant::now());
        let ten = [("own", 10, 60)];
        for _ in 0..10 {
            assert_eq!(sender.sends("planner", 0, &ten), Ok(()));
        }
        assert_eq!(sender.sends("planner", 0, &ten), Err(Duration::from_secs(6)));
        // What was refused has not counted.
        assert_eq!(sender.sends("planner", 5_000, &ten), Err(Duration::from_secs(1)));
        assert_eq!(sender.sends("planner", 6_000, &ten), Ok(()));
        assert_eq!(sender.sends("planner", 6_000, &ten), Err(Duration::from_secs(6)));
        assert_eq!(sender.sends("worker", 6_000, &ten), Ok(()), "each sender has its own");
        assert_eq!(sender.sends("planner", 70_000, &ten), Ok(()));
    }

    #[test]
    fn a_message_counts_against_all_of_its_rules_or_none_and_each_rule_counts_for_itself() {
        let sender = Sender(Rates::default(), Instant::now());
        assert_eq!(sender.sends("planner", 0, &[("few", 1, 10), ("many", 2, 10)]), Ok(()));
        let both = [("few", 1, 10), ("many", 2, 10)];
        assert_eq!(sender.sends("planner", 0, &both), Err(Duration::from_secs(10)));
        assert_eq!(sender.sends("planner", 0, &[("many", 2, 10)]), Ok(()), "the refused one was not counted");
        assert!(sender.sends("planner", 0, &[("many", 2, 10)]).is_err());
    }

    #[test]
    fn another_limit_of_the_same_rule_does_not_begin_anew() {
        let sender = Sender(Rates::default(), Instant::now());
        assert_eq!(sender.sends("planner", 0, &[("own", 1, 60)]), Ok(()));
        assert_eq!(sender.sends("planner", 0, &[("own", 2, 60)]), Err(Duration::from_secs(30)));
        assert_eq!(sender.sends("planner", 0, &[("own", 1, 60)]), Err(Duration::from_secs(60)));
    }

    #[test]
    fn what_is_remembered_of_a_sender_is_rules_of_late() {
        let sender = Sender(Rates::default(), Instant::now());
        for n in 0..1_000_u64 {
            sender.sends("planner", n * 2_000, &[(&format!("rule{n}"), 1, 1)]).unwrap();
        }
        let due = sender.0.senders.get(&("acme".parse().unwrap(), "planner".parse().unwrap())).unwrap();
        assert_eq!(due.lock().len(), 1);
    }
}
