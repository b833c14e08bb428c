//! Which agents are live, as Redis has it?
//!
//! What cannot be read, and what no node wrote, is no agent: it is counted and passed over, so that one bad
//! entry is the trouble of that agent and not of its tenant. Indexes are not sealed: they only say where to
//! look, and an agent is what its entry says.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use fred::{interfaces::KeysInterface as _, prelude::Value, types::Key};

use super::{
    Forgery, RedisStore,
    tracking::{self, epoch_key},
    unexpected,
};
use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, TenantId},
    state::{
        Before, Invalidator, Registration, Registry, StoreError, Tracked,
        clock::millis,
        seal::{self, Judged, Subject},
    },
};

/// An index that nobody touches for so long is empty of live agents, and goes. In milliseconds.
const INDEX_LIFE: i64 = 3_600_000;

/// Bytes of an entry. One as large as can be registered has a tenth of it.
const ENTRY_MAX: i64 = 64 * 1024;
/// Members of an index that are read: no tenant has a tenth of them.
const MEMBERS_MAX: i64 = 10_000;
/// No node lets an agent live for longer without a heartbeat. In milliseconds.
const TTL_MAX: i64 = 3_600_000;
/// A seal on an entry counts for so long, and for several heartbeats at least; they renew it. It bounds for
/// how long an entry could be put back after its agent has gone.
const SEAL_LIFE_MIN: Duration = Duration::from_secs(3_600);

fn entry_prefix(tenant: &TenantId) -> String {
    format!("agentbus:{{{tenant}}}:agent:")
}

fn entry_key(tenant: &TenantId, agent: &AgentId) -> String {
    format!("{}{agent}", entry_prefix(tenant))
}

fn index_key(tenant: &TenantId) -> Key {
    format!("agentbus:{{{tenant}}}:agents").into()
}

fn capability_prefix(tenant: &TenantId) -> String {
    format!("agentbus:{{{tenant}}}:cap:")
}

impl RedisStore {
    fn agent_ttl(&self) -> Value {
        i64::try_from(millis(self.settings.lifetimes.agent)).unwrap_or(i64::MAX).into()
    }

    fn seal_life(&self) -> Duration {
        SEAL_LIFE_MIN.max(self.settings.lifetimes.agent * 4)
    }

    async fn members(&self, tenant: &TenantId, index: Key) -> Result<Arc<Vec<AgentId>>, StoreError> {
        let args = vec![TTL_MAX.into(), MEMBERS_MAX.into(), entry_prefix(tenant).into()];
        let answer = self.run(&self.scripts.members, vec![index], args).await?;
        let mut values = self.parts(answer, Forgery::Index, "no list of agents")?.into_iter();
        let mut ids: Vec<AgentId> = Vec::with_capacity(values.len());
        let mut foreign = 0;
        for value in values.by_ref() {
            match value.as_str().and_then(|id| id.parse().ok()) {
                Some(id) => ids.push(id),
                None => foreign += 1,
            }
        }
        self.alarm.raise(Forgery::Index, foreign);
        ids.shrink_to_fit();
        ids.sort_unstable();
        Ok(Arc::new(ids))
    }

    /// The parts of a script's answer, without the number of what was spoiled, which is one of them: the
    /// first of a list of members, the last elsewhere.
    fn parts(&self, answer: Value, what: Forgery, expected: &str) -> Result<Vec<Value>, StoreError> {
        let Value::Array(mut parts) = answer else { return Err(unexpected(expected)) };
        let spoiled = match what {
            Forgery::Index if !parts.is_empty() => Some(parts.remove(0)),
            _ => parts.pop(),
        };
        let spoiled = spoiled.and_then(|spoiled| spoiled.as_u64()).ok_or_else(|| unexpected(expected))?;
        self.alarm.raise(what, spoiled);
        Ok(parts)
    }

    /// The agent's record, if a node wrote the entry, and what is known of its seal.
    fn opened(&self, agent: &AgentId, name: &str, entry: &[u8]) -> Option<(AgentRecord, Judged, Vec<u8>)> {
        let (json, judged) = seal::open_json(&self.seals, Subject::registration(name), entry);
        let record = match judged {
            Judged::Forged => None,
            Judged::Good { .. } | Judged::Unsealed => serde_json::from_slice::<AgentRecord>(&json).ok(),
        };
        let record = record.filter(|record| record.id == *agent);
        if record.is_none() {
            self.alarm.raise(Forgery::Registration, 1);
        }
        record.map(|record| (record, judged, json))
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
        let json = serde_json::to_vec(record).map_err(|_| unexpected("a record that JSON cannot hold"))?;
        let name = entry_key(tenant, &record.id);
        let subject = Subject::registration(&name);
        let entry = seal::seal_json(&self.seals, subject, json, self.seal_life());
        let keys = vec![name.as_str().into(), index_key(tenant), epoch_key(tenant)];
        let mut args = vec![
            record.id.as_str().into(),
            Value::Bytes(entry.into()),
            self.agent_ttl(),
            i64::try_from(agents_max).unwrap_or(i64::MAX).into(),
            capability_prefix(tenant).into(),
            INDEX_LIFE.into(),
            ENTRY_MAX.into(),
            entry_prefix(tenant).into(),
            MEMBERS_MAX.into(),
        ];
        args.extend(record.capabilities.iter().map(|capability| Value::from(capability.as_str())));
        let answer = self.run(&self.scripts.register, keys, args).await?;
        match self.parts(answer, Forgery::Registration, "no answer to a registration")?.as_slice() {
            [Value::Integer(1), Value::Integer(before)] => {
                let before = match before {
                    0 => Before::Nothing,
                    1 => Before::Same,
                    _ => Before::Other,
                };
                Ok(Registration::Registered { ttl: self.settings.lifetimes.agent, before })
            }
            [Value::Integer(0), Value::Integer(agents)] => {
                Ok(Registration::QuotaExceeded { agents: usize::try_from(*agents).unwrap_or_default() })
            }
            _ => Err(unexpected("no answer to a registration")),
        }
    }

    async fn heartbeat(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        let name = entry_key(tenant, agent);
        let keys = vec![name.as_str().into(), index_key(tenant), epoch_key(tenant)];
        let args = vec![
            agent.as_str().into(),
            self.agent_ttl(),
            capability_prefix(tenant).into(),
            INDEX_LIFE.into(),
            ENTRY_MAX.into(),
        ];
        let answer = self.run(&self.scripts.heartbeat, keys, args).await?;
        let parts = self.parts(answer, Forgery::Registration, "no answer to a heartbeat")?;
        let entry = parts.first().and_then(Value::as_bytes).ok_or_else(|| unexpected("no entry"))?;
        if entry.is_empty() {
            return Ok(false);
        }
        // Who is told that it is not registered registers again, and that replaces what no node wrote.
        let Some((_, judged, json)) = self.opened(agent, &name, entry) else { return Ok(false) };
        if let Judged::Good { until } = judged
            && seal::is_old(until, self.seal_life())
        {
            let subject = Subject::registration(&name);
            let renewed = seal::seal_json(&self.seals, subject, json, self.seal_life());
            let args = vec![Value::Bytes(Bytes::copy_from_slice(entry)), Value::Bytes(renewed.into())];
            // It need not succeed: the next heartbeat is in time, too.
            let _ = self.run(&self.scripts.reseal, vec![name.into()], args).await;
        }
        Ok(true)
    }

    async fn unregister(&self, tenant: &TenantId, agent: &AgentId) -> Result<bool, StoreError> {
        let keys = vec![entry_key(tenant, agent).into(), index_key(tenant), epoch_key(tenant)];
        let args = vec![
            agent.as_str().into(),
            capability_prefix(tenant).into(),
            INDEX_LIFE.into(),
            ENTRY_MAX.into(),
        ];
        let answer = self.run(&self.scripts.unregister, keys, args).await?;
        match self.parts(answer, Forgery::Registration, "neither 0 nor 1")?.as_slice() {
            [Value::Integer(1)] => Ok(true),
            [Value::Integer(0)] => Ok(false),
            _ => Err(unexpected("neither 0 nor 1")),
        }
    }

    async fn agent(
        &self,
        tenant: &TenantId,
        agent: &AgentId,
    ) -> Result<Option<Arc<AgentRecord>>, StoreError> {
        let name = entry_key(tenant, agent);
        // Not all of it, whatever it is.
        let entry: Result<Bytes, _> =
            self.client()?.getrange(name.as_str(), 0, usize::try_from(ENTRY_MAX).unwrap_or_default()).await;
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) if error.details().starts_with("WRONGTYPE") => {
                self.alarm.raise(Forgery::Registration, 1);
                return Ok(None);
            }
            Err(error) => return Err(self.failed(&error)),
        };
        if entry.is_empty() {
            return Ok(None);
        }
        Ok(self.opened(agent, &name, &entry).map(|(record, ..)| Arc::new(record)))
    }

    async fn holders(
        &self,
        tenant: &TenantId,
        capability: &CapabilityId,
    ) -> Result<Arc<Vec<AgentId>>, StoreError> {
        self.members(tenant, format!("{}{capability}", capability_prefix(tenant)).into()).await
    }

    async fn agents(&self, tenant: &TenantId) -> Result<Arc<Vec<AgentId>>, StoreError> {
        self.members(tenant, index_key(tenant)).await
    }
}

#[async_trait]
impl Tracked for RedisStore {
    async fn epoch(&self, tenant: &TenantId) -> Result<u64, StoreError> {
        let keys = vec![index_key(tenant), epoch_key(tenant)];
        let answer = self.run(&self.scripts.epoch, keys, vec![INDEX_LIFE.into()]).await?;
        let mut parts = self.parts(answer, Forgery::Epoch, "an epoch that is no number")?.into_iter();
        let epoch = parts.next().and_then(|epoch| epoch.as_u64());
        self.alarm
            .raise(Forgery::Index, parts.next().and_then(|spoiled| spoiled.as_u64()).unwrap_or_default());
        epoch.ok_or_else(|| unexpected("an epoch that is no number"))
    }

    fn feed(&self, invalidator: Invalidator) {
        let client = self.connector.listening_client();
        let listened = client.clone();
        let (alarm, refusals) = (Arc::clone(&self.alarm), Arc::clone(&self.refusals));
        let moved = Arc::clone(&self.moved);
        self.supervisor.keep("redis changes", &self.tracker, self.shutdown.clone(), move || {
            let (alarm, refusals) = (Arc::clone(&alarm), Arc::clone(&refusals));
            tracking::listen(listened.clone(), invalidator.clone(), alarm, refusals, Arc::clone(&moved))
        });
        self.keep_connected(client);
    }
}
