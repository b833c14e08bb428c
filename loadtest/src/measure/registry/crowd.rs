//! Who is registered, and where?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    domain::{AgentGrant, AgentId, AgentRecord, CapabilityId, Tenant, TenantId},
    governance::Decoded,
    state::{CacheLimits, CachedRegistry, Clock, RedisStore, Registry},
};
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;

use super::CAPABILITY;
use crate::{
    cpu, hot,
    measure::server::{self, LIVES},
    spread::Spread,
};

/// Each agent has two capabilities: the one that is asked for, and one of these.
const OTHERS: [&str; 4] = ["read", "write", "plan", "check"];
/// Caches that are filled for P8; the first grows the process by what filling takes for a moment, and does not count.
const CACHES: usize = 4;
/// Questions to Redis at one time.
const AT_ONCE: usize = 64;

/// A tenant with its agents, and a message to one of them.
pub(super) struct Crowd {
    pub(super) tenant: Arc<Tenant>,
    pub(super) agents: usize,
    pub(super) message: Decoded,
}

impl Crowd {
    pub(super) fn new(name: &str, agents: usize) -> anyhow::Result<Self> {
        let mut tenant = Tenant::new(name.parse()?);
        let sender: AgentId = "planner".parse()?;
        tenant.agents.insert(sender.clone(), AgentGrant::default());
        let tenant = Arc::new(tenant);
        let message = json!({
            "message_id": "m1", "message_type": "event", "to": { "capability": CAPABILITY },
            "constitutional_hash": agentbus::config::DEFAULT_CONSTITUTION, "content": { "text": "hi" },
            "created_at": hot::NOW.0,
        });
        let message = hot::decoded(message.to_string().as_bytes(), &tenant, &sender)?;
        Ok(Self { tenant, agents, message })
    }

    fn ids(&self) -> impl Iterator<Item = String> {
        // As long as ids are that somebody else has made.
        (0..self.agents).map(|at| format!("agent-0193b2c4-{at:08}"))
    }

    pub(super) async fn register(&self, registry: &dyn Registry) -> anyhow::Result<()> {
        let records = self
            .ids()
            .enumerate()
            .map(|(at, id)| record(&id, OTHERS.get(at % 4).copied().unwrap_or_default()));
        let registered = stream::iter(records).map(async |record| {
            registry
                .register(&self.tenant.id, &record?, usize::MAX >> 1)
                .await
                .map(drop)
                .map_err(anyhow::Error::from)
        });
        registered.buffer_unordered(AT_ONCE).try_collect().await
    }
}

fn record(id: &str, other: &str) -> anyhow::Result<AgentRecord> {
    let capabilities: Result<_, _> =
        [CAPABILITY, other].iter().map(|name| name.parse::<CapabilityId>()).collect();
    Ok(AgentRecord {
        id: id.parse()?,
        capabilities: Arc::new(capabilities?),
        encoding: None,
        description: String::new(),
    })
}

/// A Redis, and a node's connections to it.
pub(super) struct Server {
    pub(super) store: Arc<RedisStore>,
    server: server::Server,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let server = server::Server::start().await?;
        Ok(Self { store: server.connect().await?, server })
    }

    /// A cache that has read every record and every list.
    pub(super) async fn cache(&self, crowds: &[Crowd]) -> anyhow::Result<Arc<CachedRegistry<RedisStore>>> {
        let limits = CacheLimits { ttl: LIVES, wait: Duration::from_secs(5), ..CacheLimits::default() };
        let cache = Arc::new(CachedRegistry::with(Arc::clone(&self.store), limits, Clock::machine()));
        let started = Instant::now();
        while !cache.is_trusted() {
            ensure!(started.elapsed() < Duration::from_secs(10), "redis tells of no changes");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for crowd in crowds {
            let tenant: &TenantId = &crowd.tenant.id;
            cache.agent(tenant, &crowd.message.message().sender).await?;
            let read = stream::iter(crowd.ids()).map(async |id| {
                let found = cache.agent(tenant, &id.parse()?).await?;
                found.map(drop).context("a registered agent")
            });
            read.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
            for list in OTHERS.iter().chain([&CAPABILITY]) {
                cache.holders(tenant, &list.parse()?).await?;
            }
            cache.agents(tenant).await?;
        }
        Ok(cache)
    }

    /// Bytes for each agent.
    pub(super) async fn memory(&self, crowds: &[Crowd]) -> anyhow::Result<Spread> {
        let agents: usize = crowds.iter().map(|crowd| crowd.agents).sum();
        let (mut caches, mut each) = (vec![self.cache(crowds).await?], Vec::new());
        for _ in 1..CACHES {
            let before = cpu::memory(std::process::id());
            caches.push(self.cache(crowds).await?);
            each.push(cpu::memory(std::process::id()).saturating_sub(before) as f64 / agents as f64);
        }
        Spread::of(each).context("a round")
    }

    pub(super) async fn stop(self) {
        self.server.stop().await;
    }
}
