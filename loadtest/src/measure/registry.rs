//! What do a hundred thousand agents cost a node? To find a holder of a capability among them (P7), and in memory (P8).
//!
//! The registry is in a Redis of its own, and the node's cache in this process: what is measured is what a lane asks.
//! A tenant may have a thousand agents, so a hundred thousand are of a hundred tenants; of one tenant alone they are
//! in a registry in memory, which keeps no such limit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    domain::{AgentGrant, AgentId, AgentRecord, CapabilityId, Tenant, TenantId},
    governance::{Decoded, Judging, Purpose, RetryMode, Unaddressed},
    lanes::{Rotation, find},
    servers::{RedisData, RedisOptions, RedisServer},
    skew::Skew,
    state::{
        CacheLimits, CachedRegistry, Clock, Lifetimes, MemoryStore, RedisSettings, RedisStore, Registry,
        SealKeys, Trust,
    },
    supervisor::Supervisor,
};
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde_json::json;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cpu, hot,
    spread::Spread,
    tables::{show, table},
    targets::{Is, Target},
};

const TENANTS: usize = 100;
const AGENTS: usize = 1_000;
const CAPABILITY: &str = "work";
/// Each agent has two: the one that is asked for, and one of these.
const OTHERS: [&str; 4] = ["read", "write", "plan", "check"];
const ROUNDS: u32 = 9;
const ROUND: Duration = Duration::from_millis(100);
/// Caches that are filled for P8; the first grows the process by what filling takes for a moment, and does not count.
const CACHES: usize = 4;
/// Questions to Redis at one time.
const AT_ONCE: usize = 64;
/// Longer than all of this takes.
const LIVES: Duration = Duration::from_secs(1800);

pub(crate) async fn run() -> anyhow::Result<(String, Vec<Target>)> {
    let server = Server::start().await?;
    let tenants: Vec<Crowd> =
        (0..TENANTS).map(|at| Crowd::new(&format!("tenant-{at}"), AGENTS)).collect::<Result<_, _>>()?;
    for crowd in &tenants {
        crowd.register(&*server.store).await?;
    }
    let memory = server.memory(&tenants).await?;
    let cache = server.cache(&tenants).await?;
    let [small, all] = [tenants.get(..1), Some(tenants.as_slice())].map(Option::unwrap_or_default);
    let shared = by_turns(&*cache, small, all)?;
    let anew = relisted(&*cache, small).await?;
    server.stop().await;

    let one = Crowd::new("one", TENANTS * AGENTS)?;
    let store = MemoryStore::new(Lifetimes { agent: LIVES, ..Lifetimes::default() });
    let cache = CachedRegistry::new(Arc::new(store));
    one.register(&cache).await?;
    small.first().context("a tenant")?.register(&cache).await?;
    let alone = by_turns(&cache, small, std::slice::from_ref(&one))?;
    let alone_anew = relisted(&cache, std::slice::from_ref(&one)).await?;
    Ok(told([("of 100 tenants", shared, anew), ("of one tenant", alone, alone_anew)], memory))
}

fn told(of: [(&str, Routing, Duration); 2], memory: Spread) -> (String, Vec<Target>) {
    let [first, second] = &of;
    let mut rows = table(&["100,000 agents", first.0, second.0]);
    let mut row = |what: &str, cell: &dyn Fn(&(&str, Routing, Duration)) -> String| {
        rows.add_row([what.to_owned(), cell(first), cell(second)]);
    };
    row("ns among 1,000", &|(_, routing, _)| show(routing.small()));
    row("ns among 100,000", &|(_, routing, _)| show(routing.large()));
    row("ratio", &|(_, routing, _)| show(routing.ratio()));
    row("list anew, ms", &|(.., anew)| format!("{:.1}", anew.as_secs_f64() * 1e3));
    let mut targets = Vec::new();
    for (whose, routing, _) in &of {
        let how = format!("finding the holders of a capability, 100,000 agents {whose} ÷ 1,000");
        targets.extend(Target::new("P7", routing.ratio(), (Is::AtMost, 1.5), "×", how));
        let how = format!("finding the holders of a capability, 100,000 agents {whose}");
        targets.extend(Target::new("P7", routing.large(), (Is::AtMost, 5000.0), "ns", how));
    }
    let how = "memory for each agent with all lists, 100,000 of 100 tenants, Redis behind the cache";
    targets.extend(Target::new("P8", Some(memory), (Is::AtMost, 400.0), "B", how));
    let text = format!(
        "To find eight holders of a capability, in turns, {ROUNDS} rounds of {} ms. *List anew*: the first list after an \
         agent of that tenant has come or gone.\n\n{rows}\n\nMemory for each of 100,000 agents: {} B.",
        ROUND.as_millis(),
        show(Some(memory))
    );
    (text, targets)
}

/// Nanoseconds of each round, among few and among many.
struct Routing(Vec<(f64, f64)>);

impl Routing {
    fn small(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(small, _)| *small))
    }

    fn large(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(_, large)| *large))
    }

    fn ratio(&self) -> Option<Spread> {
        Spread::of(self.0.iter().map(|(small, large)| large / small))
    }
}

fn by_turns(registry: &dyn Registry, small: &[Crowd], large: &[Crowd]) -> anyhow::Result<Routing> {
    let rotation = Rotation::new();
    // The first round reads what is not known yet.
    let (_, _) = (round(registry, &rotation, small)?, round(registry, &rotation, large)?);
    let rounds =
        (0..ROUNDS).map(|_| Ok((round(registry, &rotation, small)?, round(registry, &rotation, large)?)));
    rounds.collect::<anyhow::Result<_>>().map(Routing)
}

/// Nanoseconds of one, by the clock of this thread.
fn round(registry: &dyn Registry, rotation: &Rotation, crowds: &[Crowd]) -> anyhow::Result<f64> {
    let constitutions = hot::constitutions()?;
    let rules = hot::rules(&constitutions);
    let asks = crowds.iter().map(|crowd| {
        let checked = crowd.message.in_force(&rules).and_then(|in_force| in_force.checked(&rules));
        match checked.map(|checked| checked.judge(Purpose::of(RetryMode::Sender))) {
            Ok(Judging::NeedsRegistry(asks)) => Ok(asks),
            other => anyhow::bail!("expected a question to the registry, found {other:?}"),
        }
    });
    let asks: Vec<Unaddressed<'_>> = asks.collect::<Result<_, _>>()?;
    let found = |asks: &Unaddressed<'_>| {
        let view = hot::ready(find(registry, rotation, asks)).ok().and_then(Result::ok);
        view.map(|view| view.recipients.len())
    };
    let (started, began, mut done) = (cpu::of_this_thread(), Instant::now(), 0_u32);
    while began.elapsed() < ROUND {
        for asks in &asks {
            let found = std::hint::black_box(found(asks));
            ensure!(found == Some(8), "found {found:?} holders at once, expected 8");
            done += 1;
        }
    }
    Ok((cpu::of_this_thread() - started).as_secs_f64() * 1e9 / f64::from(done.max(1)))
}

/// How long it takes to list the holders after the tenant has changed.
async fn relisted(registry: &dyn Registry, crowds: &[Crowd]) -> anyhow::Result<Duration> {
    let crowd = crowds.first().context("a tenant")?;
    let tenant = &crowd.tenant.id;
    registry.unregister(tenant, &"somebody".parse()?).await?;
    let started = Instant::now();
    let holders = registry.holders(tenant, &CAPABILITY.parse()?).await?;
    ensure!(holders.len() == crowd.agents, "found {} holders, expected {}", holders.len(), crowd.agents);
    Ok(started.elapsed())
}

/// A tenant with its agents, and a message to one of them.
struct Crowd {
    tenant: Arc<Tenant>,
    agents: usize,
    message: Decoded,
}

impl Crowd {
    fn new(name: &str, agents: usize) -> anyhow::Result<Self> {
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

    async fn register(&self, registry: &dyn Registry) -> anyhow::Result<()> {
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
struct Server {
    store: Arc<RedisStore>,
    redis: RedisServer,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Server {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("agentbus-loadtest-").tempdir()?;
        let options = RedisOptions {
            name: "redis".to_owned(),
            folder: folder.path().to_owned(),
            port: 0,
            data: RedisData::InMemory,
        };
        let redis = RedisServer::start(options).await?;
        let mut settings = RedisSettings::new(redis.url()).login(None, redis.operator_password().to_owned());
        let keys = SealKeys::parse(&"a".repeat(32)).map_err(anyhow::Error::msg)?;
        settings.trust = Trust { keys: Some(keys), unsealed_for: Duration::ZERO };
        settings.lifetimes.agent = LIVES;
        settings.command_timeout = Duration::from_secs(5);
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        let store = RedisStore::connect(
            settings,
            shutdown.clone(),
            &tracker,
            &Supervisor::default(),
            &Skew::default(),
        )?;
        ensure!(store.ready(Duration::from_secs(10)).await, "redis does not answer");
        Ok(Self { store: Arc::new(store), redis, shutdown, _folder: folder })
    }

    /// A cache that has read every record and every list.
    async fn cache(&self, crowds: &[Crowd]) -> anyhow::Result<Arc<CachedRegistry<RedisStore>>> {
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
    async fn memory(&self, crowds: &[Crowd]) -> anyhow::Result<Spread> {
        let agents: usize = crowds.iter().map(|crowd| crowd.agents).sum();
        let (mut caches, mut each) = (vec![self.cache(crowds).await?], Vec::new());
        for _ in 1..CACHES {
            let before = cpu::memory(std::process::id());
            caches.push(self.cache(crowds).await?);
            each.push(cpu::memory(std::process::id()).saturating_sub(before) as f64 / agents as f64);
        }
        Spread::of(each).context("a round")
    }

    async fn stop(mut self) {
        self.shutdown.cancel();
        self.redis.stop().await;
    }
}
