//! How often may an agent send in an hour, whatever it says of its messages? By its name, which NATS has stamped, so that
//! none can be forgotten, forged or begun anew.
//!
//! An hour's messages may come at once, and after them one each time that a part of the hour has passed. Where nodes share a
//! Redis they lease from one account of the agent; while it is away each goes by its own count.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use moka::sync::Cache;
use parking_lot::Mutex;

use super::{
    fleet::Fleet,
    lease::{Lease, Taken, Terms},
};
use crate::{
    domain::{AgentId, Reason, Tenant, TenantId},
    phrase::counted,
    recent::recent,
    rejection::Rejection,
};

const HOUR: Duration = Duration::from_secs(3_600);
/// What a node lets in before the answer of the others' account comes, at most.
const ON_CREDIT_MAX: u32 = 64;

/// What agents with a limit have sent of late.
pub struct Hours {
    /// Only agents of the directory get an entry; the one least recently heard is forgotten first.
    agents: Cache<(TenantId, AgentId), Arc<Mutex<Sent>>>,
    /// Absent: this node's count is the only one.
    fleet: Option<Fleet>,
}

struct Sent {
    /// Until when what this node let in is paid for.
    due: Instant,
    leased: Lease,
}

impl Hours {
    const AGENTS_MAX: u64 = 65_536;

    pub fn new(fleet: Option<Fleet>) -> Self {
        let agents = recent(Self::AGENTS_MAX).time_to_idle(HOUR).build();
        Self { agents, fleet }
    }

    /// Whether there is one, as far as this node knows: who is past its hour costs its tenant nothing.
    pub(super) fn may(&self, tenant: &Tenant, agent: &AgentId, now: Instant) -> Result<(), Rejection> {
        let Some(most) = tenant.limits.messages_per_agent_hour else { return Ok(()) };
        let Some(sent) = self.agents.get(&(tenant.id.clone(), agent.clone())) else { return Ok(()) };
        let sent = sent.lock();
        let (_, own) = sent.after_one_more(most, now);
        let leased = if self.fleet.is_some() { sent.leased.none_for(now) } else { Duration::ZERO };
        match own.max(leased) {
            Duration::ZERO => Ok(()),
            wait => Err(used_up(agent, most, wait)),
        }
    }

    /// Takes one, where the tenant has a limit.
    pub(super) fn take(&self, tenant: &Tenant, agent: &AgentId, now: Instant) -> Result<(), Rejection> {
        let Some(most) = tenant.limits.messages_per_agent_hour else { return Ok(()) };
        let sent = self.agents.get_with((tenant.id.clone(), agent.clone()), || {
            Arc::new(Mutex::new(Sent { due: now, leased: Lease::default() }))
        });
        self.lease(tenant, agent, (most, &sent), now).map_err(|wait| used_up(agent, most, wait))
    }

    fn lease(
        &self,
        tenant: &Tenant,
        agent: &AgentId,
        (most, sent): (u32, &Arc<Mutex<Sent>>),
        now: Instant,
    ) -> Result<(), Duration> {
        let mut counted = sent.lock();
        // No node lets in more than all may, whatever is leased.
        let (due, wait) = counted.after_one_more(most, now);
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(fleet) = &self.fleet {
            let terms = Terms::messages(most.min(ON_CREDIT_MAX));
            let Taken { let_in, ask_for } = counted.leased.take(terms, now);
            if let Some(wanted) = ask_for {
                let (sent, tenant, agent) = (Arc::clone(sent), tenant.id.clone(), agent.clone());
                fleet.ask(
                    |limits| async move { limits.lease_of_agent((&tenant, &agent), most, wanted).await },
                    move |answer| sent.lock().leased.told(answer, Instant::now()),
                );
            }
            let_in?;
        }
        counted.due = due;
        Ok(())
    }
}

impl Sent {
    /// Until when one more is paid for, and how long it has to wait.
    fn after_one_more(&self, most: u32, now: Instant) -> (Instant, Duration) {
        let due = self.due.max(now) + HOUR / most.max(1);
        (due, due.saturating_duration_since(now + HOUR))
    }
}

fn used_up(agent: &AgentId, most: u32, wait: Duration) -> Rejection {
    let detail = format!("{agent} has used its {} an hour", counted(most, "message"));
    Rejection::new(Reason::RateLimited, detail).after(wait.max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn tenant(most: Option<u32>) -> Tenant {
        let mut tenant = Tenant::new("acme".parse().unwrap());
        tenant.limits.messages_per_agent_hour = most;
        tenant
    }

    #[test]
    fn an_hours_messages_may_come_at_once_and_each_agent_has_its_own() {
        let (hours, now, acme) = (Hours::new(None), Instant::now(), tenant(Some(60)));
        let (planner, worker) = ("planner".parse().unwrap(), "worker".parse().unwrap());
        for _ in 0..60 {
            hours.take(&acme, &planner, now).unwrap();
        }
        let refused = hours.take(&acme, &planner, now).unwrap_err();
        assert_eq!(
            (refused.reason, refused.retry_after),
            (Reason::RateLimited, Some(Duration::from_secs(60)))
        );
        assert_eq!(refused.detail, "planner has used its 60 messages an hour");
        assert_eq!(hours.may(&acme, &planner, now).unwrap_err().detail, refused.detail);
        hours.may(&acme, &worker, now).unwrap();
        hours.may(&acme, &planner, now + Duration::from_secs(60)).unwrap();
        hours.take(&acme, &worker, now).unwrap();
        hours.take(&acme, &planner, now + Duration::from_secs(60)).unwrap();
        assert!(hours.take(&acme, &planner, now + Duration::from_secs(60)).is_err());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let (hours, now, planner) = (Hours::new(None), Instant::now(), "planner".parse().unwrap());
        for _ in 0..1_000 {
            hours.take(&tenant(None), &planner, now).unwrap();
        }
        assert_eq!(hours.agents.iter().count(), 0);
    }
}
