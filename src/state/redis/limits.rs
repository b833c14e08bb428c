//! What is left of what all nodes may let in together, as Redis has it? By its clock, so that no node's counts.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Key;

use super::{RedisStore, unexpected};
use crate::{
    domain::{AgentId, TenantId},
    state::{Leased, RuleAccount, SharedLimits, SharedRate, StoreError},
};

const MINUTE_US: f64 = 60_000_000.0;
const NANOSECOND_US: f64 = 0.001;

/// What an account counts in.
struct Unit {
    /// µs that one takes of the rate.
    each: f64,
    /// How many may come at once.
    burst: u64,
    /// How many one message takes.
    least: u64,
}

fn rate_key(tenant: &TenantId) -> Key {
    format!("agentbus:{{{tenant}}}:rate").into()
}

#[async_trait]
impl SharedLimits for RedisStore {
    async fn lease(&self, tenant: &TenantId, rate: SharedRate, wanted: u64) -> Result<Leased, StoreError> {
        let SharedRate { per_minute, burst } = rate;
        let each = MINUTE_US / f64::from(per_minute.max(1));
        self.lease_from(rate_key(tenant), Unit { each, burst: burst.into(), least: 1 }, wanted).await
    }

    async fn lease_of_agent(
        &self,
        (tenant, agent): (&TenantId, &AgentId),
        per_hour: u32,
        wanted: u64,
    ) -> Result<Leased, StoreError> {
        let key = format!("agentbus:{{{tenant}}}:hour:{agent}").into();
        let each = 60.0 * MINUTE_US / f64::from(per_hour.max(1));
        self.lease_from(key, Unit { each, burst: per_hour.into(), least: 1 }, wanted).await
    }

    async fn lease_of_rule(&self, of: RuleAccount<'_>, wanted: u64) -> Result<Leased, StoreError> {
        let RuleAccount { tenant, sender, rule, window, each } = of;
        let key = format!("agentbus:{{{tenant}}}:rule:{sender}:{rule}").into();
        let [burst, least] = [window, each].map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.lease_from(key, Unit { each: NANOSECOND_US, burst, least }, wanted).await
    }
}

impl RedisStore {
    async fn lease_from(&self, account: Key, unit: Unit, wanted: u64) -> Result<Leased, StoreError> {
        let Unit { each, burst, least } = unit;
        let at_least_one = |number: u64| i64::try_from(number.max(1)).unwrap_or(i64::MAX).into();
        let args =
            vec![each.to_string().into(), at_least_one(burst), at_least_one(wanted), at_least_one(least)];
        let answer = self.run_for_message(&self.scripts.lease, account, args).await?;
        let answer = answer.as_i64().ok_or_else(|| unexpected("no number of messages"))?;
        Ok(match u64::try_from(answer) {
            Ok(given) => Leased::Given(given),
            Err(_) => Leased::After(Duration::from_micros(answer.unsigned_abs())),
        })
    }
}
