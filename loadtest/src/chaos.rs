//! Does the durable lane keep its promise while its servers die? Nothing that was acknowledged is lost,
//! and nothing takes effect twice.
//!
//! A whole bus of real processes, agents that use it as any client would, something that breaks it
//! every two seconds, and in the end an offline check of everybody's books.
//!
//! - [`cast`]: who takes part. [`sender`], [`inbox`], [`reviewer`]: what they do.
//! - [`havoc`]: what breaks. What everybody saw, and whether it agrees, is [`agentbus_testkit`]'s.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    client::AgentClient,
    servers::{RedisData, Stack, StackOptions},
};
use agentbus_testkit::{
    audit::Audit,
    books::{self, Books, Seen},
    checker::{self, Findings, Records},
};
use anyhow::{Context as _, bail, ensure};
use tokio::task::JoinSet;

use crate::{
    options::{ChaosOptions, StopsOptions},
    rig::WINDOW,
};
use cast::{AWAY, CAPABILITY, JUDGES, SENDERS, Setting, TENANTS, WORKERS};
use havoc::Break;
use inbox::Inbox;
use sender::{Pace, Submitter};

pub(crate) mod cast;
pub(crate) mod havoc;
mod inbox;
mod reviewer;
mod sender;

/// Faults that are told in words.
const FAULTS_TOLD: usize = 20;
/// What a dead node held comes back after 30 s, and from a dead node's successor once more; a message
/// that no node can govern is tried for as long as [`NODE`] says.
const SETTLE_MAX: Duration = Duration::from_secs(120);
/// Longer than a recipient that lost its registration takes to be back.
const NODE: &str = "durable.give_up_after = \"20s\"\nimpact.scorer = \"keywords\"";
/// What it forgets comes again after thirty seconds: early enough for a short run.
const CRASH_AFTER: Duration = Duration::from_secs(5);
const SETTLE_STEP: Duration = Duration::from_millis(250);
/// Nothing was seen for so long: nothing is on its way.
const QUIET: Duration = Duration::from_secs(2);

/// What a run is made of.
struct Run {
    nodes: usize,
    rate: u32,
    in_flight: usize,
    parked_percent: u32,
    /// When a recipient forgets what it has just read, if ever.
    crash_after: Option<Duration>,
    seed: u64,
    every: Duration,
    breaks: Vec<Break>,
    until: Until,
    /// Where the books go, and the servers' own logs where something was wrong.
    logs: PathBuf,
    agentbus: PathBuf,
}

/// When senders stop. Whatever comes first.
struct Until {
    acked: usize,
    elapsed: Duration,
    broken: usize,
}

fn check(seen: &[Seen]) -> Findings {
    checker::check(seen, Records::Read)
}

/// `loadtest chaos`.
pub(crate) async fn run(options: &ChaosOptions) -> anyhow::Result<()> {
    if let Some(folder) = &options.check {
        let seen = books::read(folder)?;
        let kills = seen.iter().filter(|line| matches!(line, Seen::Ended { .. })).count();
        return conclude(&check(&seen), folder, |findings| chaos_line(findings, kills));
    }
    let run = Run {
        nodes: usize::from(options.nodes),
        rate: options.rate,
        in_flight: usize::from(options.in_flight),
        parked_percent: 12,
        crash_after: Some(CRASH_AFTER),
        seed: options.seed.unwrap_or_else(rand::random),
        every: Duration::from_secs_f64(options.every),
        breaks: options.breaks.clone(),
        until: Until {
            acked: options.acked,
            elapsed: options.seconds.map_or_else(|| patience(options.acked), Duration::from_secs_f64),
            broken: usize::MAX,
        },
        logs: options.logs.clone(),
        agentbus: options.program.path()?,
    };
    let books = Arc::new(Books::begin(&options.logs)?);
    let kills = perform(run, &books).await?;
    let findings = books.with(check);
    conclude(&findings, &options.logs, |findings| chaos_line(findings, kills))
}

/// `loadtest stops`.
pub(crate) async fn stops(options: &StopsOptions) -> anyhow::Result<()> {
    let run = Run {
        nodes: 2,
        rate: options.rate,
        in_flight: usize::from(options.in_flight),
        parked_percent: 1,
        crash_after: None,
        seed: options.seed.unwrap_or_else(rand::random),
        every: Duration::from_secs_f64(options.every),
        breaks: vec![Break::Stop],
        until: Until { acked: usize::MAX, elapsed: Duration::MAX, broken: options.stops },
        logs: options.logs.clone(),
        agentbus: options.program.path()?,
    };
    let books = Arc::new(Books::begin(&options.logs)?);
    let started = Instant::now();
    let stops = perform(run, &books).await?;
    let findings = books.with(check);
    let exits = books.with(|seen| {
        let exit = |line: &Seen| match line {
            Seen::Ended { millis, .. } => Some(*millis),
            _ => None,
        };
        let mut exits: Vec<u64> = seen.iter().filter_map(exit).collect();
        exits.sort_unstable();
        exits
    });
    let at = |index: usize| exits.get(index).copied().unwrap_or_default();
    println!(
        "asked for {} messages/s, acknowledged {} in {:.0} s with all waits; exits in ms: median {}, slowest {}",
        options.rate,
        findings.acked,
        started.elapsed().as_secs_f64(),
        at(exits.len() / 2),
        at(exits.len().saturating_sub(1)),
    );
    conclude(&findings, &options.logs, |findings| {
        let (lost, doubled) = (findings.lost(), findings.doubled());
        format!("stops: {} acked, {stops} stops, {lost} lost, {doubled} doubled", findings.acked)
    })
}

/// Forty seconds for the short form; twenty messages a second for a long one.
fn patience(acked: usize) -> Duration {
    Duration::from_secs(u64::try_from(acked / 20).unwrap_or(u64::MAX).clamp(40, 3600))
}

fn chaos_line(findings: &Findings, kills: usize) -> String {
    let (lost, doubled) = (findings.lost(), findings.doubled());
    format!("chaos: {} acked, {kills} kills, {lost} lost, {doubled} doubled", findings.acked)
}

/// From an empty folder to full books. How often something was broken.
async fn perform(run: Run, books: &Arc<Books>) -> anyhow::Result<usize> {
    eprintln!("chaos: seed {}, logs in {}", run.seed, run.logs.display());
    let folder = tempfile::Builder::new().prefix("agentbus-chaos-").tempdir()?;
    let stack = StackOptions::new(folder.path().join("bus"), cast::plan()?, &run.agentbus);
    let mut stack = Stack::start(StackOptions {
        nodes: run.nodes,
        redis_data: RedisData::OnDisk,
        node_overrides: format!("{WINDOW}\n{NODE}").parse()?,
        ..stack
    })
    .await?;
    let done = play(&run, &mut stack, books).await;
    if done.is_err() {
        save_logs(&stack, &run.logs);
    }
    let broken = done?;
    if !books.with(check).faults.is_empty() {
        save_logs(&stack, &run.logs);
    }
    stack.stop().await;
    books.close()?;
    Ok(broken)
}

async fn play(run: &Run, stack: &mut Stack, books: &Arc<Books>) -> anyhow::Result<usize> {
    let setting = Setting::new(stack, Arc::clone(books));
    let _over = setting.over.clone().drop_guard();
    let audit = Audit::connect(stack, &TENANTS).await?;
    let mut readers = JoinSet::new();
    let mut inboxes: Vec<(&'static str, &'static str)> = Vec::new();
    let mut submitters = JoinSet::new();
    let pace = Arc::new(Pace::new(run.rate));
    let started = Instant::now();
    for tenant in TENANTS {
        for agent in WORKERS.iter().chain(&SENDERS).chain(&JUDGES) {
            let client = setting.connect(tenant, agent).await?;
            let capabilities: &[&str] = if WORKERS.contains(agent) { &[CAPABILITY] } else { &[] };
            setting.keep_registered(client.clone(), capabilities).await?;
            inboxes.push((*agent, tenant));
            let crashes = WORKERS.first().is_some_and(|first| first == agent);
            let crash_after = run.crash_after.filter(|_| crashes);
            read(&mut readers, &setting, tenant, client, crash_after, run.seed)?;
        }
        for judge in JUDGES {
            let client = setting.connect(tenant, judge).await?;
            tokio::spawn(reviewer::run(setting.clone(), tenant, client));
        }
        for sender in SENDERS {
            let client = setting.connect(tenant, sender).await?;
            for number in 0..run.in_flight.div_ceil(TENANTS.len() * SENDERS.len()) {
                let submitter = Submitter {
                    setting: setting.clone(),
                    tenant,
                    client: client.clone(),
                    pace: Arc::clone(&pace),
                    rng: cast::rng(run.seed, tenant, sender, number)?,
                    parked_percent: run.parked_percent,
                };
                submitters.spawn(submitter.run());
            }
        }
    }

    let broken = break_it(run, stack, books, started).await;
    setting.enough.cancel();
    let broken = broken?;
    submitters.join_all().await;
    for tenant in TENANTS {
        let client = setting.connect(tenant, AWAY).await?;
        inboxes.push((AWAY, tenant));
        read(&mut readers, &setting, tenant, client, None, run.seed)?;
    }
    settle(&audit, books, &inboxes, &mut readers).await?;
    havoc::ended_by_itself(stack)?;
    setting.over.cancel();
    while let Some(reader) = readers.join_next().await {
        reader??;
    }
    audit.read(books).await?;
    Ok(broken)
}

fn read(
    readers: &mut JoinSet<anyhow::Result<()>>,
    setting: &Setting,
    tenant: &'static str,
    client: AgentClient,
    crash_after: Option<Duration>,
    seed: u64,
) -> anyhow::Result<()> {
    let rng = cast::rng(seed, tenant, client.id().as_str(), usize::MAX)?;
    let crash_at = crash_after.map(|after| tokio::time::Instant::now() + after);
    readers.spawn(Inbox { setting: setting.clone(), tenant, client, rng, crash_at }.run());
    Ok(())
}

/// Strikes every so often until there are enough acknowledged messages, strikes, or seconds.
async fn break_it(run: &Run, stack: &mut Stack, books: &Books, started: Instant) -> anyhow::Result<usize> {
    let mut rng = cast::rng(run.seed, "", "havoc", 0)?;
    let mut broken = 0;
    let mut last = None;
    loop {
        let strike_at = tokio::time::Instant::now() + run.every;
        while tokio::time::Instant::now() < strike_at {
            let enough =
                books.with(checker::acked) >= run.until.acked || started.elapsed() >= run.until.elapsed;
            if enough || broken >= run.until.broken {
                return Ok(broken);
            }
            tokio::time::sleep(run.every.min(Duration::from_millis(200))).await;
        }
        let Some(what) = choose(&run.breaks, &mut rng, last) else { continue };
        havoc::strike(stack, what, &mut rng, books).await?;
        last = Some(what);
        broken += 1;
    }
}

/// By chance; the first ones in turn, so that a short run has all kinds.
fn choose(breaks: &[Break], rng: &mut rand::rngs::StdRng, last: Option<Break>) -> Option<Break> {
    use rand::seq::IndexedRandom as _;
    let other: Vec<Break> = breaks.iter().copied().filter(|what| Some(*what) != last).collect();
    other.choose(rng).or_else(|| breaks.first()).copied()
}

/// Waits until nothing is on its way any more, or for as long as that may take at most.
async fn settle(
    audit: &Audit,
    books: &Books,
    inboxes: &[(&'static str, &'static str)],
    readers: &mut JoinSet<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut quiet = (books.with(<[Seen]>::len), Instant::now());
    loop {
        if let Some(ended) = readers.try_join_next() {
            ended??;
            bail!("a recipient has ended before all was over");
        }
        let lines = books.with(<[Seen]>::len);
        if lines != quiet.0 {
            quiet = (lines, Instant::now());
        }
        let waiting = books.with(checker::waiting);
        let inbound = audit.inbound().await?;
        let mut unread = 0;
        for (agent, tenant) in inboxes {
            unread += audit.unread(tenant, agent).await?;
        }
        if waiting + usize::try_from(inbound + unread)? == 0 && quiet.1.elapsed() >= QUIET {
            eprintln!("chaos: settled after {:.0} s", started.elapsed().as_secs_f64());
            return Ok(());
        }
        if started.elapsed() >= SETTLE_MAX {
            eprintln!(
                "chaos: not settled after {SETTLE_MAX:?}: {waiting} wait for their outcome, {inbound} to be \
                 governed, {unread} to be read"
            );
            return Ok(());
        }
        tokio::time::sleep(SETTLE_STEP).await;
    }
}

/// The servers' own logs, beside the books.
fn save_logs(stack: &Stack, folder: &Path) {
    let children = stack.nodes().iter().map(|node| node.child());
    for child in children.chain([stack.nats().child()]).chain(stack.redis().map(|redis| redis.child())) {
        let to = folder.join(format!("{}.log", child.name()));
        if let Err(error) = fs::copy(child.log(), &to) {
            eprintln!("chaos: {}: {error}", to.display());
        }
    }
}

/// What was found, in words and as the last line. Any fault makes the run fail.
fn conclude(
    findings: &Findings,
    folder: &Path,
    line: impl FnOnce(&Findings) -> String,
) -> anyhow::Result<()> {
    for (end, count) in &findings.ends {
        println!("{count:>7}  {end}");
    }
    for fault in findings.faults.iter().take(FAULTS_TOLD) {
        println!("{fault}");
    }
    let more = findings.faults.len().saturating_sub(FAULTS_TOLD);
    if more > 0 {
        println!("and {more} more");
    }
    println!("{}", line(findings));
    ensure!(findings.acked > 0, "no message was acknowledged, so nothing is shown");
    let found = findings.faults.len();
    match found {
        0 => Ok(()),
        _ => Err(anyhow::anyhow!("{found} faults")).context(format!("the books in {}", folder.display())),
    }
}
