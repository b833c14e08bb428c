//! The logs of deliberations: each tenant's behind a breaker of its own.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    breakers::{Breaker, Breakers, Call, Kind, Open},
    deliberation::{Appended, Case, DeliberationLog, LogError, Summary},
    domain::{DeliberationId, Event, Parked, Priority, TenantId},
};

/// The logs and their breakers.
pub struct GuardedLog {
    log: Arc<dyn DeliberationLog>,
    breakers: Arc<Breakers>,
}

impl GuardedLog {
    pub fn new(log: Arc<dyn DeliberationLog>, breakers: &Arc<Breakers>) -> Self {
        Self { log, breakers: Arc::clone(breakers) }
    }

    fn of(&self, tenant: &TenantId) -> Arc<Breaker> {
        self.breakers.of_target(Kind::Deliberations, tenant.as_str())
    }
}

fn admit(breaker: &Breaker) -> Result<Call<'_>, LogError> {
    breaker.admit().map_err(|Open { retry_after }| LogError::BreakerOpen { retry_after })
}

fn ended<T>(call: Call<'_>, answer: Result<T, LogError>) -> Result<T, LogError> {
    match &answer {
        Ok(_) => call.good(),
        Err(fault @ LogError::Unconfirmed) => call.bad(fault),
        // Of one log, or it has answered.
        Err(
            LogError::Full(_)
            | LogError::TooManyParked { .. }
            | LogError::ShareParked { .. }
            | LogError::Refused(_)
            | LogError::TooLarge { .. }
            | LogError::Unreadable(_)
            | LogError::NotComputed
            | LogError::BreakerOpen { .. },
        ) => call.neither(),
    }
    answer
}

#[async_trait]
impl DeliberationLog for GuardedLog {
    async fn park(&self, parked: &Parked, priority: Priority) -> Result<Appended, LogError> {
        let breaker = self.of(&parked.tenant);
        ended(admit(&breaker)?, self.log.park(parked, priority).await)
    }

    async fn load(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<Case>, LogError> {
        let breaker = self.of(tenant);
        ended(admit(&breaker)?.timed(), self.log.load(tenant, id).await)
    }

    async fn append(&self, case: &Case, event: &Event) -> Result<Appended, LogError> {
        let breaker = self.of(&case.parked.tenant);
        ended(admit(&breaker)?.timed(), self.log.append(case, event).await)
    }

    async fn open(&self, tenant: &TenantId, limit: usize) -> Result<Vec<Arc<Summary>>, LogError> {
        let breaker = self.of(tenant);
        ended(admit(&breaker)?, self.log.open(tenant, limit).await)
    }
}
