//! Is there room for this request? Known tenants, their rate, the work in flight.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use moka::sync::Cache;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    backoff::jittered,
    fleet::Fleet,
    lease::{Lease, Taken, Terms},
    places::{NoPlace, Place, Places},
    request::Tenants,
};
use crate::{
    domain::{AgentId, Reason, Tenant, TenantId},
    governance::Admitted,
    memory::{Memory, Pressure},
    phrase::counted,
    recent::recent,
    rejection::Rejection,
    state::SharedRate,
};

/// Memory is looked at twice a second.
const SHED_FOR: Duration = Duration::from_millis(500);

/// Of all places one in so many is kept for what was let in before.
const KEPT_OF: usize = 10;

/// How much work a node takes on.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    pub in_flight: usize,
    pub in_flight_per_tenant: usize,
}

/// Counts what is in flight and what each tenant has used of its rate.
pub struct Admission {
    limits: AdmissionLimits,
    slots: Arc<Semaphore>,
    /// Only tenants of the directory get an entry, and idle ones leave.
    tenants: Cache<TenantId, Arc<Usage>>,
    /// Absent: this node's count is the only one.
    fleet: Option<Fleet>,
    memory: Memory,
}

struct Usage {
    rate: SharedRate,
    /// No node lets in more than all may, whatever is leased.
    own: DefaultDirectRateLimiter,
    leased: Arc<Mutex<Lease>>,
    places: Places,
}

/// A place among the work in flight; given back when dropped.
pub struct Slot {
    _tenant: Place,
    _node: OwnedSemaphorePermit,
}

impl Admission {
    const TENANTS_MAX: u64 = 65_536;

    pub fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            slots: Arc::new(Semaphore::new(limits.in_flight)),
            tenants: recent(Self::TENANTS_MAX).time_to_idle(Duration::from_secs(600)).build(),
            fleet: None,
            memory: Memory::new(None),
        }
    }

    /// Nothing new is taken while this is short.
    #[must_use]
    pub fn within(self, memory: Memory) -> Self {
        Self { memory, ..self }
    }

    /// The node takes nothing new, whoever sends it.
    pub fn is_shedding(&self) -> bool {
        self.memory.pressure() == Pressure::Short
    }

    /// With rates that count for all nodes.
    #[must_use]
    pub fn shared(self, fleet: Fleet) -> Self {
        Self { fleet: Some(fleet), ..self }
    }

    /// So many nodes are heard, this one included.
    pub fn heard(&self, nodes: usize) {
        if let Some(fleet) = &self.fleet {
            fleet.heard(nodes);
        }
    }

    pub fn in_flight(&self) -> usize {
        self.limits.in_flight.saturating_sub(self.slots.available_permits())
    }

    /// The tenant as the directory knows it, and a slot to hold until the answer is out.
    pub fn admit(
        &self,
        tenants: &dyn Tenants,
        tenant: &TenantId,
        sender: &AgentId,
    ) -> Result<(Admitted, Slot), Rejection> {
        self.admit_if(tenants, (tenant, sender), |_| Ok(()))
    }

    /// The same where nothing else is against it, which is asked before anything is paid.
    pub(super) fn admit_if(
        &self,
        tenants: &dyn Tenants,
        (tenant, sender): (&TenantId, &AgentId),
        may: impl FnOnce(&Tenant) -> Result<(), Rejection>,
    ) -> Result<(Admitted, Slot), Rejection> {
        with_slot(tenants, (tenant, sender), |tenant| {
            may(tenant)?;
            self.rated(tenant, sender)
        })
    }

    /// As [`Self::admit`], but outside of the tenant's rate and beside the sender's messages: for what keeps agents
    /// alive while they or their tenant send too much.
    pub fn admit_beside(
        &self,
        tenants: &dyn Tenants,
        tenant: &TenantId,
        sender: &AgentId,
    ) -> Result<(Admitted, Slot), Rejection> {
        with_slot(tenants, (tenant, sender), |tenant| {
            self.slot(self.usage(tenant).places.take_beside(sender))
        })
    }

    /// As [`Self::admit`], for what was paid for before and is in the bus's hands: it counts for no sender.
    pub fn admit_unrated(
        &self,
        tenants: &dyn Tenants,
        tenant: &TenantId,
        sender: &AgentId,
    ) -> Result<(Admitted, Slot), Rejection> {
        with_slot(tenants, (tenant, sender), |tenant| self.slot(self.usage(tenant).places.take_any()))
    }

    fn rated(&self, tenant: &Tenant, sender: &AgentId) -> Result<Slot, Rejection> {
        if self.is_shedding() {
            let detail = "the node is short of memory".to_owned();
            return Err(Rejection::new(Reason::Overloaded, detail).after(jittered(SHED_FOR)));
        }
        // What was let in before, as on the durable lane, has room yet.
        let AdmissionLimits { in_flight, .. } = self.limits;
        if self.slots.available_permits() <= in_flight / KEPT_OF {
            return Err(overloaded("node", in_flight));
        }
        let usage = self.usage(tenant);
        // What finds no room pays nothing.
        let slot = self.slot(usage.places.take(sender))?;
        let now = Instant::now();
        let alone = self.fleet.as_ref().and_then(|fleet| usage.nodes_apart(fleet));
        usage.count(alone.unwrap_or(NonZeroU32::MIN)).map_err(|wait| usage.used_up(wait))?;
        if let Some(fleet) = &self.fleet {
            usage.take(fleet, &tenant.id, now).map_err(|wait| usage.used_up(wait))?;
        }
        Ok(slot)
    }

    fn slot(&self, of_tenant: Result<Place, NoPlace>) -> Result<Slot, Rejection> {
        let AdmissionLimits { in_flight, in_flight_per_tenant } = self.limits;
        let tenant = of_tenant.map_err(|why| match why {
            NoPlace::AllTaken => overloaded("tenant", in_flight_per_tenant),
            NoPlace::Share { held, left } => overloaded_by_sender(held, left),
        })?;
        let node = Arc::clone(&self.slots).try_acquire_owned();
        let node = node.map_err(|_| overloaded("node", in_flight))?;
        Ok(Slot { _tenant: tenant, _node: node })
    }

    fn usage(&self, tenant: &Tenant) -> Arc<Usage> {
        let messages_per_minute = tenant.limits.messages_per_minute;
        match self.tenants.get(&tenant.id) {
            Some(usage) if usage.rate.per_minute == messages_per_minute => usage,
            // New, or the operator has changed its rate.
            _ => {
                let usage = Arc::new(Usage::new(messages_per_minute, self.limits.in_flight_per_tenant));
                self.tenants.insert(tenant.id.clone(), Arc::clone(&usage));
                usage
            }
        }
    }
}

impl Usage {
    /// A bucket that holds a tenth of a minute's messages and fills evenly.
    fn new(messages_per_minute: u32, in_flight: usize) -> Self {
        let per_minute = NonZeroU32::new(messages_per_minute).unwrap_or(NonZeroU32::MIN);
        let burst = NonZeroU32::new(messages_per_minute / 10).unwrap_or(NonZeroU32::MIN);
        Self {
            rate: SharedRate { per_minute: messages_per_minute, burst: burst.get() },
            own: RateLimiter::direct(Quota::per_minute(per_minute).allow_burst(burst)),
            leased: Arc::default(),
            places: Places::new(in_flight),
        }
    }

    /// Counts one message of this node, or as many as there are nodes where each counts for itself: so together they
    /// let in no more than the rate.
    fn count(&self, nodes: NonZeroU32) -> Result<(), Duration> {
        let most = NonZeroU32::new(self.rate.burst).unwrap_or(NonZeroU32::MIN);
        match self.own.check_n(nodes.min(most)) {
            Ok(Err(not_until)) => {
                Err(not_until.wait_time_from(governor::clock::DefaultClock::default().now()))
            }
            // No more at once than may be.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// How many nodes count each for itself, where Redis is away.
    fn nodes_apart(&self, fleet: &Fleet) -> Option<NonZeroU32> {
        let apart = self.leased.lock().is_apart();
        NonZeroU32::new(fleet.nodes()).filter(|_| apart)
    }

    fn take(&self, fleet: &Fleet, tenant: &TenantId, now: Instant) -> Result<(), Duration> {
        let Taken { let_in, ask_for } = self.leased.lock().take(Terms::messages(self.rate.burst), now);
        if let Some(wanted) = ask_for {
            let (leased, tenant, rate) = (Arc::clone(&self.leased), tenant.clone(), self.rate);
            fleet.ask(
                |limits| async move { limits.lease(&tenant, rate, wanted).await },
                move |answer| leased.lock().told(answer, Instant::now()),
            );
        }
        let_in
    }

    fn used_up(&self, wait: Duration) -> Rejection {
        let detail = format!("the tenant has used its {} a minute", counted(self.rate.per_minute, "message"));
        Rejection::new(Reason::RateLimited, detail).after(jittered(wait.max(Duration::from_millis(1))))
    }
}

/// The tenant, if it and the sender are known, with the slot that it gets.
fn with_slot(
    tenants: &dyn Tenants,
    (tenant, sender): (&TenantId, &AgentId),
    slot: impl FnOnce(&Tenant) -> Result<Slot, Rejection>,
) -> Result<(Admitted, Slot), Rejection> {
    let tenant = Admitted::new(tenants.tenant(tenant), tenant, sender)?;
    let slot = slot(&tenant)?;
    Ok((tenant, slot))
}

fn overloaded_by_sender(held: usize, left: usize) -> Rejection {
    let (held, left) = (counted(held, "message"), counted(left, "place"));
    let detail = format!("the sender has {held} in flight, and leaves {left} to other senders of its tenant");
    Rejection::new(Reason::Overloaded, detail).after(jittered(Duration::from_millis(20)))
}

fn overloaded(whose: &str, limit: usize) -> Rejection {
    Rejection::new(
        Reason::Overloaded,
        format!("the {whose} has {} in flight, its limit", counted(limit, "message")),
    )
    .after(jittered(Duration::from_millis(20)))
}

#[cfg(test)]
mod tests {
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{
        domain::TenantLimits,
        state::{Leased, RuleAccount, SharedLimits, StoreError},
    };

    fn tenant(messages_per_minute: u32) -> Result<Tenant, crate::domain::IdError> {
        let limits = TenantLimits { messages_per_minute, ..TenantLimits::default() };
        Ok(Tenant { limits, ..Tenant::new("acme".parse()?) })
    }

    #[test]
    fn a_tenant_past_its_rate_is_told_when_to_come_back() -> Result<(), crate::domain::IdError> {
        let admission = Admission::new(AdmissionLimits { in_flight: 1000, in_flight_per_tenant: 1000 });
        let tenant = tenant(600)?;
        let planner = "planner".parse()?;
        let answers: Vec<_> = (0..100).map(|_| admission.rated(&tenant, &planner).map(drop)).collect();
        assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 60, "a tenth of a minute's rate at once");
        let shed = answers.into_iter().find_map(Result::err);
        assert!(shed.is_some_and(|r| r.reason == Reason::RateLimited && r.retry_after.is_some()));
        Ok(())
    }

    /// A store that is away.
    struct Away;

    #[async_trait::async_trait]
    impl SharedLimits for Away {
        async fn lease(&self, _: &TenantId, _: SharedRate, _: u64) -> Result<Leased, StoreError> {
            Err(StoreError::Disconnected)
        }

        async fn lease_of_agent(
            &self,
            _: (&TenantId, &AgentId),
            _: u32,
            _: u64,
        ) -> Result<Leased, StoreError> {
            Err(StoreError::Disconnected)
        }

        async fn lease_of_rule(&self, _: RuleAccount<'_>, _: u64) -> Result<Leased, StoreError> {
            Err(StoreError::Disconnected)
        }
    }

    #[tokio::test]
    async fn while_the_store_is_away_the_nodes_share_the_rate() -> Result<(), crate::domain::IdError> {
        let tasks = TaskTracker::new();
        let limits = AdmissionLimits { in_flight: 1000, in_flight_per_tenant: 1000 };
        let admission = Admission::new(limits).shared(Fleet::new(Arc::new(Away), tasks.clone()));
        admission.heard(4);
        let (tenant, planner) = (tenant(600)?, "planner".parse()?);
        // By this one it is found out that the store is away.
        assert!(admission.rated(&tenant, &planner).is_ok());
        tasks.close();
        tasks.wait().await;
        let let_in = (0..100).filter(|_| admission.rated(&tenant, &planner).is_ok()).count();
        assert_eq!(let_in, 59 / 4, "of a tenth of a minute's rate, a quarter");
        Ok(())
    }

    #[test]
    fn what_was_let_in_before_has_room_when_new_messages_have_taken_all_that_they_may()
    -> Result<(), crate::domain::IdError> {
        let admission = Admission::new(AdmissionLimits { in_flight: 20, in_flight_per_tenant: 1000 });
        let (tenant, planner) = (tenant(60_000)?, "planner".parse()?);
        let held: Vec<_> = std::iter::from_fn(|| admission.rated(&tenant, &planner).ok()).collect();
        assert_eq!(held.len(), 18, "all but a tenth");
        assert!(admission.slot(admission.usage(&tenant).places.take_any()).is_ok());
        Ok(())
    }

    #[test]
    fn what_finds_no_room_pays_nothing() -> Result<(), crate::domain::IdError> {
        let admission = Admission::new(AdmissionLimits { in_flight: 1, in_flight_per_tenant: 1000 });
        let (tenant, planner) = (tenant(600)?, "planner".parse()?);
        let held = admission.rated(&tenant, &planner);
        for _ in 0..100 {
            assert!(admission.rated(&tenant, &planner).is_err_and(|why| why.reason == Reason::Overloaded));
        }
        drop(held);
        assert_eq!((0..100).filter(|_| admission.rated(&tenant, &planner).is_ok()).count(), 59);
        Ok(())
    }

    #[test]
    fn slots_are_bounded_per_tenant_and_come_back() -> Result<(), crate::domain::IdError> {
        let admission = Admission::new(AdmissionLimits { in_flight: 3, in_flight_per_tenant: 2 });
        let tenant = tenant(60_000)?;
        let (planner, worker) = ("planner".parse()?, "worker".parse()?);
        let held = [admission.rated(&tenant, &planner), admission.rated(&tenant, &worker)];
        assert!(held.iter().all(Result::is_ok));
        assert!(admission.rated(&tenant, &planner).is_err_and(|r| r.reason == Reason::Overloaded));
        assert_eq!(admission.in_flight(), 2);
        drop(held);
        assert!(admission.rated(&tenant, &planner).is_ok());
        Ok(())
    }
}
