//! What is left of what all nodes may let in together, as Redis has it? By its clock, so that no node's counts.

use std::time::Duration;

use async_trait::async_trait;
use fred::types::Key;

use super::{RedisStore, unexpected};
use crate::{
    domain::{AgentId, TenantId},
    state::{Leased, SharedLimits, SharedRate, StoreError},
};

const MINUTE_US: f64 = 60_000_000.0;

fn rate_key(tenant: &TenantId) -> Key {
    format!("agentbus:{{{tenant}}}:rate").into()
}

#[async_trait]
impl SharedLimits for RedisStore {
    async fn lease(&self, tenant: &TenantId, rate: SharedRate, wanted: u32) -> Result<Leased, StoreError> {
        let SharedRate { per_minute, burst } = rate;
        let each = MINUTE_US / f64::from(per_minute.max(1));
        self.lease_from(rate_key(tenant), (each, burst), wanted).await
    }

    async fn lease_of_agent(
        &self,
        (tenant, agent): (&TenantId, &AgentId),
        per_hour: u32,
        wanted: u32,
    ) -> Result<Leased, StoreError> {
        let key = format!("agentbus:{{{tenant}}}:hour:{agent}").into();
        let each = 60.0 * MINUTE_US / f64::from(per_hour.max(1));
        self.lease_from(key, (each, per_hour), wanted).await
    }
}

impl RedisStore {
    /// `each`: µs that one message takes of the rate.
    async fn lease_from(
        &self,
        account: Key,
        (each, burst): (f64, u32),
        wanted: u32,
    ) -> Result<Leased, StoreError> {
        let args =
            vec![each.to_string().into(), i64::from(burst.max(1)).into(), i64::from(wanted.max(1)).into()];
        let answer = self.run_for_message(&self.scripts.lease, account, args).await?;
        let answer = answer.as_i64().ok_or_else(|| unexpected("no number of messages"))?;
        Ok(match u32::try_from(answer) {
            Ok(messages) => Leased::Messages(messages),
            Err(_) => Leased::After(Duration::from_micros(answer.unsigned_abs())),
        })
    }
}
