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
    governance::{Judging, Purpose, RetryMode, Unaddressed},
    lanes::{Rotation, find},
    state::{CachedRegistry, Lifetimes, MemoryStore, Registry},
};
use anyhow::{Context as _, ensure};

use super::server::LIVES;
use crate::{
    cpu, hot,
    spread::Spread,
    tables::{show, table},
    targets::{Is, Target},
};
use crowd::{Crowd, Server};

mod crowd;

const TENANTS: usize = 100;
const AGENTS: usize = 1_000;
const CAPABILITY: &str = "work";
const ROUNDS: u32 = 9;
const ROUND: Duration = Duration::from_millis(100);

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
