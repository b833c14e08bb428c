//! Which agents are live, as Redis has it?

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use fred::{
    interfaces::KeysInterface as _,
    prelude::Value,
    types::{Key, scripts::Script},
};

use super::{RedisStore, tracking, unexpected};
use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, TenantId},
    state::{Invalidator, Registration, Registry, StoreError, Tracked, clock::millis},
};

/// An index that nobody touches for so long is empty of live agents, and goes. In milliseconds.
const INDEX_LIFE: i64 = 3_600_000;
pub(super) const EPOCH_PREFIX: &str = "agentbus:epoch:";

fn entry_key(tenant: &TenantId, agent: &AgentId) -> Key {
    format!("agentbus:{{{tenant}}}:agent:{agent}").into()
}

fn index_key(tenant: &TenantId) -> Key {
    format!("agentbus:{{{tenant}}}:agents").into()
}

fn capability_prefix(tenant: &TenantId) -> String {
    format!("agentbus:{{{tenant}}}:cap:")
}

/// Apart from the other keys by its prefix, so that it alone can be listened to; in the same slot.
fn epoch_key(tenant: &TenantId) -> Key {
    format!("{EPOCH_PREFIX}{{{tenant}}}").into()
}

/// The tenant of an epoch's key.
pub(super) fn tenant_of(key: &Key) -> Option<TenantId> {
    let tenant = key.as_str()?.strip_prefix(EPOCH_PREFIX)?.strip_prefix('{')?.strip_suffix('}')?;
    tenant.parse().ok()
}

impl RedisStore {
    fn agent_ttl(&self) -> Value {
        i64::try_from(millis(self.settings.lifetimes.agent)).unwrap_or(i64::MAX).into()
    }

    async fn members(&self, index: Key) -> Result<Arc<Vec<AgentId>>, StoreError> {
        let Value::Array(values) = self.run(&self.scripts.members, vec![index], Vec::new()).await? else {
            return Err(unexpected("no list of agents"));
        };
        let read = |value: Value| value.as_str().and_then(|id| id.parse().ok());
        let ids: Option<Vec<AgentId>> = values.into_iter().map(read).collect();
        let mut ids = ids.ok_or_else(|| unexpected("a list with an entry that is no agent id"))?;
        ids.shrink_to_fit();
        ids.sort_unstable();
        Ok(Arc::new(ids))
    }

    async fn yes_or_no(&self, script: &Script, keys: Vec<Key>, args: Vec<Value>) -> Result<bool, StoreError> {
        match self.run(script, keys, args).await? {
            Value::Integer(1) => Ok(true),
            Value::Integer(0) => Ok(false),
            _ => Err(unexpected("neither 0 nor 1")),
        }
    }
}

#[async_trait]
impl Registry for RedisStore {
    async fn register(
        &self,
        tenant: &TenantId,
        record: &AgentRecord,
        agents_max: usize,
    ) -> Result<Registration, StoreError> {
        let entry =
            serde_json::to_string(record).map_err(|_| unexpected("a record that JSON cannot hold"))?;
        let keys = vec![entry_key(tenant, &record.id), index_key(tenant), epoch_key(tenant)];
        let mut args = vec![
            record.id.as_str().into(),
            entry.into(),
            self.agent_ttl(),
            i64::try_from(agents_max).unwrap_or(i64::MAX).into(),
            capability_prefix(tenant).into(),
            INDEX_LIFE.into(),
        ];
        args.extend(record.capabilities.iter().map(|capability| Value::from(capability.as_str())));
        let answer = self.run(&self.scripts.register, keys, args).await?.into_array();
        match answer.as_slice() {
            [Value::Integer(1), _] => Ok(Registration::Registered { ttl: self.settings.lifetimes.agent }),
            [Value::Integer(0), Value::Integer(agents)] => {
                Ok(Registration::QuotaExceeded { agents: usize::try_from(*agents).unwrap_or_default() })
            }
            _ => Err(unexpected("no answer to a registration")),
        }
    }

    async fn heartbeat(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        let keys = vec![entry_key(tenant, agent), index_key(tenant), epoch_key(tenant)];
        let args = vec![
            agent.as_str().into(),
            self.agent_ttl(),
            capability_prefix(tenant).into(),
            INDEX_LIFE.into(),
        ];
        self.yes_or_no(&self.scripts.heartbeat, keys, args).await
    }

    async fn unregister(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        let keys = vec![entry_key(tenant, agent), index_key(tenant), epoch_key(tenant)];
        let args = vec![agent.as_str().into(), capability_prefix(tenant).into(), INDEX_LIFE.into()];
        self.yes_or_no(&self.scripts.unregister, keys, args).await
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
    ) -> Result<Option<Arc<AgentRecord>>, StoreError> {
        let entry: Result<Option<Bytes>, _> = self.client()?.get(entry_key(tenant, agent)).await;
        let Some(entry) = entry.map_err(|error| self.failed(&error))? else { return Ok(None) };
        match serde_json::from_slice::<AgentRecord>(&entry) {
            Ok(record) if record.id == *agent => Ok(Some(Arc::new(record))),
            Ok(_) => Err(unexpected("an entry of another agent")),
            Err(_) => Err(unexpected("an agent entry that cannot be read")),
        }
    }

    async fn holders(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
    ) -> Result<Arc<Vec<AgentId>>, StoreError> {
        self.members(format!("{}{capability}", capability_prefix(tenant)).into()).await
    }

    async fn agents(&self, tenant: &TenantId) -> Result<Arc<Vec<AgentId>>, StoreError> {
        self.members(index_key(tenant)).await
    }
}

#[async_trait]
impl Tracked for RedisStore {
    async fn epoch(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let keys = vec![index_key(tenant), epoch_key(tenant)];
        let answer = self.run(&self.scripts.epoch, keys, vec![INDEX_LIFE.into()]).await?;
        answer.as_u64().ok_or_else(|| unexpected("an epoch that is no number"))
    }

    fn feed(&self, invalidator: Invalidator) {
        let client = self.connector.listening_client();
        self.tracker.spawn(tracking::listen(client.clone(), invalidator, self.shutdown.clone()));
        self.tracker.spawn(super::connection::keep(client, self.shutdown.clone()));
    }
}
