//! Is there room for this request? Known tenants, their rate, the work in flight.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter, clock::Clock as _};
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{backoff::jittered, request::Tenants};
use crate::{
    domain::{AgentId, Reason, Tenant, TenantId},
    governance::Admitted,
    rejection::Rejection,
};

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
}

struct Usage {
    messages_per_minute: u32,
    rate: DefaultDirectRateLimiter,
    places: Arc<Semaphore>,
}

/// A place among the work in flight; given back when dropped.
pub struct Slot {
    _tenant: OwnedSemaphorePermit,
    _node: OwnedSemaphorePermit,
}

impl Admission {
    const TENANTS_MAX: u64 = 65_536;

    pub fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            slots: Arc::new(Semaphore::new(limits.in_flight)),
            tenants: Cache::builder()
                .max_capacity(Self::TENANTS_MAX)
                .time_to_idle(Duration::from_secs(600))
                .build(),
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
        let tenant = Admitted::new(tenants.tenant(tenant), tenant, sender)?;
        let slot = self.rated(&tenant)?;
        Ok((tenant, slot))
    }

    /// As [`Self::admit`], but outside of the tenant's rate: for what keeps agents alive while their
    /// tenant sends too much.
    pub fn admit_unrated(
        &self,
        tenants: &dyn Tenants,
        tenant: &TenantId,
        sender: &AgentId,
    ) -> Result<(Admitted, Slot), Rejection> {
        let tenant = Admitted::new(tenants.tenant(tenant), tenant, sender)?;
        let slot = self.slot(&self.usage(&tenant))?;
        Ok((tenant, slot))
    }

    fn rated(&self, tenant: &Tenant) -> Result<Slot, Rejection> {
        let usage = self.usage(tenant);
        if let Err(not_until) = usage.rate.check() {
            let wait = not_until.wait_time_from(governor::clock::DefaultClock::default().now());
            return Err(Rejection::new(
                Reason::RateLimited,
                format!(
                    "the tenant has used its {} a minute on this node",
                    crate::phrase::counted(usage.messages_per_minute, "message")
                ),
            )
            .after(jittered(wait.max(Duration::from_millis(1)))));
        }
        self.slot(&usage)
    }

    fn slot(&self, usage: &Usage) -> Result<Slot, Rejection> {
        let AdmissionLimits { in_flight, in_flight_per_tenant } = self.limits;
        let place = |places: &Arc<Semaphore>| Arc::clone(places).try_acquire_owned();
        let tenant = place(&usage.places).map_err(|_| overloaded("tenant", in_flight_per_tenant))?;
        let node = place(&self.slots).map_err(|_| overloaded("node", in_flight))?;
        Ok(Slot { _tenant: tenant, _node: node })
    }

    fn usage(&self, tenant: &Tenant) -> Arc<Usage> {
        let messages_per_minute = tenant.limits.messages_per_minute;
        match self.tenants.get(&tenant.id) {
            Some(usage) if usage.messages_per_minute == messages_per_minute => usage,
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
            messages_per_minute,
            rate: RateLimiter::direct(Quota::per_minute(per_minute).allow_burst(burst)),
            places: Arc::new(Semaphore::new(in_flight)),
        }
    }
}

fn overloaded(whose: &str, limit: usize) -> Rejection {
    Rejection::new(
        Reason::Overloaded,
        format!("the {whose} has {} in flight, its limit", crate::phrase::counted(limit, "message")),
    )
    .after(jittered(Duration::from_millis(20)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TenantLimits;

    fn tenant(messages_per_minute: u32) -> Result<Tenant, crate::domain::IdError> {
        Ok(Tenant {
            id: "acme".parse()?,
            labels: Default::default(),
            limits: TenantLimits { messages_per_minute, ..TenantLimits::default() },
            agents: Default::default(),
            deliberation: Default::default(),
        })
    }

    #[test]
    fn a_tenant_past_its_rate_is_told_when_to_come_back() -> Result<(), crate::domain::IdError> {
        let admission = Admission::new(AdmissionLimits { in_flight: 1000, in_flight_per_tenant: 1000 });
        let tenant = tenant(600)?;
        let answers: Vec<_> = (0..100).map(|_| admission.rated(&tenant).map(drop)).collect();
        assert_eq!(answers.iter().filter(|a| a.is_ok()).count(), 60, "a tenth of a minute's rate at once");
        let shed = answers.into_iter().find_map(Result::err);
        assert!(shed.is_some_and(|r| r.reason == Reason::RateLimited && r.retry_after.is_some()));
        Ok(())
    }

    #[test]
    fn slots_are_bounded_per_tenant_and_come_back() -> Result<(), crate::domain::IdError> {
        let admission = Admission::new(AdmissionLimits { in_flight: 3, in_flight_per_tenant: 2 });
        let tenant = tenant(60_000)?;
        let held: Vec<_> = (0..2).map(|_| admission.rated(&tenant)).collect();
        assert!(held.iter().all(Result::is_ok));
        assert!(admission.rated(&tenant).is_err_and(|r| r.reason == Reason::Overloaded));
        assert_eq!(admission.in_flight(), 2);
        drop(held);
        assert!(admission.rated(&tenant).is_ok());
        Ok(())
    }
}
