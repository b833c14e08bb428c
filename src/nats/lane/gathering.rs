//! Which records of the durable lane leave now, and together with which?

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use super::outgoing::CONFIRM_WITHIN;
use crate::{
    audit::{self, Entry, Part},
    domain::TenantId,
    lanes::LaneError,
};

/// Who waits for a record.
pub(super) type Told = oneshot::Sender<Result<(), LaneError>>;

/// Records of one message, and bytes of them: JetStream takes it in one piece.
const RECORDS_MAX: usize = 64;
const BYTES_MAX: usize = 64 * 1024;
/// Messages of one tenant that are under way: a second one while the first is late, or when there is a full one.
const UNDER_WAY_MAX: usize = 8;
/// A message that is under way for longer keeps the next one waiting no more.
const LATE: Duration = Duration::from_millis(50);
/// How often it is looked for what waits in vain.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(25);
/// What has not left by then does not leave; the rest of the time is for the answer.
const LEAVES_WITHIN: Duration = Duration::from_secs(1);

/// A record on its way.
pub(super) struct Waiting {
    pub(super) part: Part,
    pub(super) since: Instant,
    pub(super) done: Told,
}

/// A message that leaves now.
pub(super) struct Leaving {
    pub(super) tenant: TenantId,
    pub(super) entry: Entry,
    /// Who waits for its records.
    pub(super) told: Vec<Told>,
    /// For its answer.
    pub(super) within: Duration,
}

/// What waits and what is under way, of each tenant that has any.
#[derive(Default)]
pub(super) struct Gathering {
    tenants: HashMap<TenantId, Tenant>,
}

#[derive(Default)]
struct Tenant {
    waiting: VecDeque<Waiting>,
    /// Messages.
    under_way: usize,
    /// When the last of them has left.
    left: Option<Instant>,
}

impl Gathering {
    pub(super) fn extend(&mut self, waiting: impl Iterator<Item = Waiting>) {
        for waiting in waiting {
            match self.tenants.get_mut(waiting.part.tenant()) {
                Some(tenant) => tenant.waiting.push_back(waiting),
                None => {
                    let tenant = waiting.part.tenant().clone();
                    self.tenants.entry(tenant).or_default().waiting.push_back(waiting);
                }
            }
        }
    }

    /// Whether there is something to look after.
    pub(super) fn waits(&self) -> bool {
        self.tenants.values().any(|tenant| !tenant.waiting.is_empty())
    }

    /// A message of this tenant is answered.
    pub(super) fn ended(&mut self, tenant: &TenantId) {
        let Some(its) = self.tenants.get_mut(tenant) else { return };
        its.under_way = its.under_way.saturating_sub(1);
        if its.is_done() {
            self.tenants.remove(tenant);
        }
    }

    /// Whoever has waited for too long hears it, and who no longer waits is forgotten.
    pub(super) fn give_up(&mut self, now: Instant) {
        self.tenants.retain(|_, tenant| {
            // Who came first waits longest.
            let late = |waiting: &Waiting| now.duration_since(waiting.since) > LEAVES_WITHIN;
            while let Some(waiting) = tenant.waiting.pop_front_if(|waiting| late(waiting)) {
                let _ = waiting.done.send(Err(LaneError::Away));
            }
            !tenant.is_done()
        });
    }

    /// What leaves now.
    pub(super) fn leaving(&mut self, now: Instant) -> Vec<Leaving> {
        let mut leaving = Vec::new();
        for (id, tenant) in &mut self.tenants {
            while tenant.may_begin(now) {
                let (parts, oldest) = tenant.take(now);
                let within = CONFIRM_WITHIN.saturating_sub(now.duration_since(oldest));
                for (entry, told) in audit::batches(parts) {
                    tenant.under_way += 1;
                    tenant.left = Some(now);
                    leaving.push(Leaving { tenant: id.clone(), entry, told, within });
                }
            }
        }
        self.tenants.retain(|_, tenant| !tenant.is_done());
        leaving
    }
}

impl Tenant {
    fn is_done(&self) -> bool {
        self.waiting.is_empty() && self.under_way == 0
    }

    fn may_begin(&self, now: Instant) -> bool {
        let is_late = || self.left.is_none_or(|left| now.duration_since(left) > LATE);
        let beside = || self.under_way < UNDER_WAY_MAX && (self.waiting.len() >= RECORDS_MAX || is_late());
        !self.waiting.is_empty() && (self.under_way == 0 || beside())
    }

    /// As many as one message has, without those that nobody waits for, and since when the oldest waits.
    fn take(&mut self, now: Instant) -> (Vec<(Part, Told)>, Instant) {
        let (mut parts, mut bytes, mut oldest) = (Vec::new(), 0, now);
        while parts.len() < RECORDS_MAX {
            let fits = |waiting: &mut Waiting| bytes == 0 || bytes + waiting.part.size() <= BYTES_MAX;
            let Some(Waiting { part, since, done }) = self.waiting.pop_front_if(fits) else { break };
            if done.is_closed() {
                continue;
            }
            bytes += part.size();
            oldest = oldest.min(since);
            parts.push((part, done));
        }
        (parts, oldest)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::borrow::Cow;

    use super::*;
    use crate::{
        audit::{Body, Change, Record, Registration},
        domain::{AgentId, DecisionId, Timestamp},
    };

    type Heard = oneshot::Receiver<Result<(), LaneError>>;

    /// A record of this tenant and turn.
    fn record(tenant: &str, turn: u64, since: Instant) -> (Waiting, Heard) {
        let (tenant, agent): (TenantId, AgentId) = (tenant.parse().unwrap(), "planner".parse().unwrap());
        let (agent, capabilities) = (Cow::Borrowed(&agent), Cow::default());
        let body = Body::Registration(Registration { agent, change: Change::Left, capabilities, changes: 1 });
        let part = Record::new(Timestamp(7), &tenant, "node-1", body).part(&DecisionId::new(9, turn, 0));
        let (done, heard) = oneshot::channel();
        (Waiting { part, since, done }, heard)
    }

    fn records(count: usize, tenant: &str, since: Instant) -> (Vec<Waiting>, Vec<Heard>) {
        (0..count).map(|_| record(tenant, 1, since)).unzip()
    }

    /// How many records each message has.
    fn sizes(leaving: &[Leaving]) -> Vec<usize> {
        leaving.iter().map(|leaving| leaving.told.len()).collect()
    }

    #[test]
    fn what_waits_while_one_is_under_way_leaves_together_and_each_tenant_by_itself() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let (first, _first) = records(1, "acme", now);
        gathering.extend(first.into_iter());
        let alone = gathering.leaving(now);
        assert_eq!(sizes(&alone), [1]);
        let (more, _more) = records(5, "acme", now);
        let (others, _others) = records(2, "globex", now);
        gathering.extend(more.into_iter().chain(others));
        let beside = gathering.leaving(now);
        assert_eq!((sizes(&beside), beside[0].tenant.as_str()), (vec![2], "globex"));
        gathering.ended(&alone[0].tenant);
        assert_eq!(sizes(&gathering.leaving(now)), [5]);
        gathering.ended(&alone[0].tenant);
        gathering.ended(&beside[0].tenant);
        assert!(gathering.tenants.is_empty(), "a tenant with nothing under way is kept");
    }

    #[test]
    fn one_that_is_late_or_full_lets_others_by_up_to_a_bound() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let (many, _many) = records(1 + 3 * RECORDS_MAX, "acme", now);
        gathering.extend(many.into_iter());
        assert_eq!(sizes(&gathering.leaving(now)), [RECORDS_MAX; 3], "three full ones, and one record waits");
        let late = now + LATE + Duration::from_millis(1);
        assert_eq!(sizes(&gathering.leaving(late)), [1]);
        let (many, _many) = records(40 * RECORDS_MAX, "acme", late);
        gathering.extend(many.into_iter());
        assert_eq!(gathering.leaving(late + 2 * LATE).len(), UNDER_WAY_MAX - 4);
    }

    #[test]
    fn who_waits_in_vain_hears_it_and_who_has_gone_is_not_recorded() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let (both, mut heard) = records(2, "acme", now);
        gathering.extend(both.into_iter());
        drop(heard.pop());
        let leaving = gathering.leaving(now + LEAVES_WITHIN / 2);
        assert_eq!(sizes(&leaving), [1]);
        assert_eq!(leaving[0].within, CONFIRM_WITHIN - LEAVES_WITHIN / 2, "one limit for all of it");
        let (late, mut heard) = records(1, "globex", now);
        gathering.extend(late.into_iter());
        gathering.give_up(now + LEAVES_WITHIN + Duration::from_millis(1));
        assert_eq!(heard.pop().unwrap().try_recv(), Ok(Err(LaneError::Away)));
        assert!(!gathering.waits());
    }

    #[test]
    fn records_of_two_turns_are_two_messages() {
        let (mut gathering, now) = (Gathering::default(), Instant::now());
        let ((one, _one), (two, _two)) = (record("acme", 1, now), record("acme", 2, now));
        gathering.extend([one, two].into_iter());
        assert_eq!(sizes(&gathering.leaving(now)), [1, 1]);
    }
}
