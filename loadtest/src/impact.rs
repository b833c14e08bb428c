//! Does a saturated model slow down the messages that need none (P11)?
//!
//! One node, three tenants. `acme` sends at an even rate messages whose verdict no words could change,
//! and is measured. Beside it a flood of long, ever different texts: in one turn from `idle`, whose
//! threshold spares the model, in the other from `busy`, whose does not. Both turns cost the node,
//! NATS and Redis the same, so that what differs is the model's work alone.

use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft},
    domain::Encoding,
    servers::{Stack, StackOptions},
    tenants::Plan,
};
use agentbus_testkit::agents;
use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use serde::Serialize;
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    cpu::{self, Processes},
    figures::Spread,
    load::{self, Parties},
    message::{Expected, Template},
    options::ImpactOptions,
    rig, stages,
    tables::{show, table},
    targets::{Is, Target},
};

const PLAN: &str = "\
    [tenants.acme]\nlimits = { messages_per_minute = 10000000, deliberation_threshold = 0.95, report_lift_max = 0.9 }\n\
    [tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n\
    [tenants.idle]\nlimits = { messages_per_minute = 10000000, deliberation_threshold = 0.95, report_lift_max = 0.9 }\n\
    [tenants.idle.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n\
    [tenants.busy]\nlimits = { messages_per_minute = 10000000 }\n\
    [tenants.busy.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n";
const NODE: &str = "idempotency.window = \"10s\"\nimpact.audit_every = 0\n";
/// Requests of the flood that wait at one time.
const FLOOD_WAITING_MAX: usize = 1024;
const FLOOD_STEP: Duration = Duration::from_millis(5);
const ANSWER_WAIT: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Flood {
    /// By a tenant that needs no model.
    Spared,
    /// By one that does.
    Scored,
}

impl Flood {
    fn tenant(self) -> &'static str {
        match self {
            Flood::Spared => "idle",
            Flood::Scored => "busy",
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Flood::Spared => "spared",
            Flood::Scored => "scored",
        }
    }
}

#[derive(Debug, Clone, Serialize)]
struct Turn {
    round: u32,
    flood: Flood,
    rate: f64,
    p50_us: f64,
    p99_us: f64,
    p999_us: f64,
    flood_rate: f64,
    /// Time of forward passes to time on the clock, one thread being 1.
    model_busy: f64,
    /// Texts that the model refused or gave up, each second.
    unscored: f64,
    held_back: u64,
    failures: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Report {
    command: String,
    machine: String,
    model: String,
    turns: Vec<Turn>,
    p50_ratio: Option<Spread>,
    p99_ratio: Option<Spread>,
    target: f64,
}

/// `loadtest impact`: the table, as text, and P11.
pub(crate) async fn run(options: &ImpactOptions) -> anyhow::Result<(String, Option<Target>)> {
    let agentbus = options.agentbus.clone().map_or_else(rig::beside_this_program, Ok)?;
    let folder = tempfile::Builder::new().prefix("agentbus-loadtest-").tempdir()?;
    let mut stack = StackOptions::new(folder.path(), Plan::parse(PLAN)?, agentbus);
    stack.node_overrides = format!("{NODE}{}", options.set.join("\n")).parse().context("--set")?;
    let stack = Stack::start(stack).await?;
    let (sender, worker) = (
        agents::of_stack(&stack, "acme", "planner").await?,
        agents::of_stack(&stack, "acme", "worker").await?,
    );
    let arrived = load::count_arrivals(&worker).await?;
    let parties = Arc::new(Parties {
        sender,
        template: Template::new("worker", usize::try_from(options.payload)?)?,
        arrived,
    });
    let node = stack.nodes().first().context("a node")?;
    let http = node.http();
    let processes = Processes {
        node: node.child().pid(),
        nats: stack.nats().child().pid(),
        redis: stack.redis().map(|redis| redis.child().pid()),
    };
    let mut turns = Vec::new();
    for round in 1..=options.rounds.get() {
        let mut order = [Flood::Spared, Flood::Scored];
        if round % 2 == 0 {
            order.reverse();
        }
        for flood in order {
            // Registrations outlive a turn, and not much more.
            worker.register(&[]).await?;
            let turn = one(&stack, &parties, (&http, processes), (round, flood), options).await?;
            eprintln!(
                "round {round}  flood {:6}  {:>6.0}/s  P50 {:>6.0} µs  P99 {:>6.0} µs  model busy {:>4.0} %  unscored {:>4.0}/s",
                flood.as_str(),
                turn.rate,
                turn.p50_us,
                turn.p99_us,
                turn.model_busy * 100.0,
                turn.unscored
            );
            turns.push(turn);
        }
    }
    let page = stages::page(&http).await?;
    ensure!(!page.contains("model_cache_misses_total 0"), "the model was never asked");
    let report = Report {
        command: crate::options::command(),
        machine: cpu::machine(),
        model: model(&http).await?,
        p50_ratio: ratio(&turns, |turn| turn.p50_us),
        p99_ratio: ratio(&turns, |turn| turn.p99_us),
        target: 1.2,
        turns,
    };
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&report)?).with_context(|| path.display().to_string())?;
    }
    stack.stop().await;
    let how = "P99 of messages that need no model, beside a scored flood ÷ beside a spared one";
    let target = Target::new("P11", report.p99_ratio, (Is::AtMost, report.target), "×", how);
    Ok((shown(&report, options), target))
}

async fn one(
    stack: &Stack,
    parties: &Arc<Parties>,
    (http, processes): (&str, Processes),
    (round, flood): (u32, Flood),
    options: &ImpactOptions,
) -> anyhow::Result<Turn> {
    let answered = Arc::new(AtomicU64::new(0));
    let (planner, worker) = (
        agents::of_stack(stack, flood.tenant(), "planner").await?,
        agents::of_stack(stack, flood.tenant(), "worker").await?,
    );
    worker.register(&[]).await?;
    let mut inbox = worker.inbox().await?;
    let read = tokio::spawn(async move { while inbox.next().await.is_some() {} });
    let flooding = start_flood(planner, options.flood, round, Arc::clone(&answered));
    // The flood is under way before anything is counted.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (before, started, flooded) =
        (Numbers::read(http).await?, Instant::now(), answered.load(Ordering::Relaxed));
    let (warm_up, duration) =
        (Duration::from_secs_f64(options.warm_up), Duration::from_secs_f64(options.seconds));
    let measured =
        load::open(parties, Expected::Delivered, options.rate, warm_up, duration, processes).await?;
    let (after, took) = (Numbers::read(http).await?, started.elapsed().as_secs_f64());
    let flooded = answered.load(Ordering::Relaxed) - flooded;
    flooding.abort();
    read.abort();
    ensure!(measured.answered > 0, "no answer beside the flood: {:?}", measured.failures);
    ensure!(measured.miscounted == 0, "{} messages were lost or doubled", measured.miscounted);
    let at = |quantile| measured.latency.value_at_quantile(quantile) as f64;
    Ok(Turn {
        round,
        flood,
        rate: measured.answered as f64 / measured.elapsed.as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        p999_us: at(0.999),
        flood_rate: flooded as f64 / took,
        model_busy: (after.run_seconds - before.run_seconds) / took,
        unscored: (after.unscored - before.unscored) / took,
        held_back: measured.held_back,
        failures: measured.failures.clone(),
    })
}

/// So many texts a second, no two alike.
fn start_flood(planner: AgentClient, rate: u32, round: u32, answered: Arc<AtomicU64>) -> JoinHandle<()> {
    tokio::spawn(async move {
        let waiting = Arc::new(Semaphore::new(FLOOD_WAITING_MAX));
        let subject = format!("bus.{}.send", planner.id());
        let (started, mut sent, salt) = (Instant::now(), 0_u64, rand::random::<u32>());
        loop {
            tokio::time::sleep(FLOOD_STEP).await;
            let due = (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
            while sent < due {
                sent += 1;
                // Beyond the bound the flood holds back; the node has more than enough then.
                let Ok(permit) = Arc::clone(&waiting).try_acquire_owned() else { continue };
                let payload =
                    Draft::to_agent("worker", &text(salt, round, sent)).encode(Encoding::MessagePack);
                let (nats, subject, answered) =
                    (planner.nats().clone(), subject.clone(), Arc::clone(&answered));
                tokio::spawn(async move {
                    let request = async_nats::Request::new().payload(payload).timeout(Some(ANSWER_WAIT));
                    if nats.send_request(subject, request).await.is_ok() {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                    drop(permit);
                });
            }
        }
    })
}

/// About a hundred and twenty tokens, in one sentence and a short one.
fn text(salt: u32, round: u32, number: u64) -> String {
    format!(
        "The summary numbered {salt} {round} {number} is ready and forty rows were read and grouped by region and \
         sorted by date while two rows that had no region were put under other and the remaining columns were \
         left as they are because nobody has said yet in which order they should come or whether the totals \
         belong above or below the table that lists the months. Please look at table {number} and tell me."
    )
}

/// What the node counts of its model.
struct Numbers {
    run_seconds: f64,
    unscored: f64,
}

impl Numbers {
    async fn read(http: &str) -> anyhow::Result<Self> {
        let page = stages::page(http).await?;
        let sum = |name: &str| -> f64 {
            let lines = page.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
        };
        Ok(Self {
            run_seconds: sum("agentbus_model_run_seconds_sum"),
            unscored: sum("agentbus_model_unscored_total"),
        })
    }
}

/// As the node's health names it.
async fn model(http: &str) -> anyhow::Result<String> {
    let report = stages::get(http, "/readyz").await?;
    let body = report.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let report: serde_json::Value = serde_json::from_str(body.trim()).context("/readyz")?;
    Ok(report.pointer("/parts/model/note").and_then(serde_json::Value::as_str).unwrap_or("?").to_owned())
}

fn ratio(turns: &[Turn], value: fn(&Turn) -> f64) -> Option<Spread> {
    let of = |round, flood| turns.iter().find(move |turn| turn.round == round && turn.flood == flood);
    Spread::of(turns.iter().filter(|turn| turn.flood == Flood::Scored).filter_map(|scored| {
        let spared = of(scored.round, Flood::Spared)?;
        Some(value(scored) / value(spared))
    }))
}

fn shown(report: &Report, options: &ImpactOptions) -> String {
    let mut rows = table(&[
        "flood",
        "messages/s",
        "P50 µs",
        "P99 µs",
        "P99.9 µs",
        "flood/s",
        "model busy",
        "unscored/s",
    ]);
    for flood in [Flood::Spared, Flood::Scored] {
        let figure = |value: fn(&Turn) -> f64, digits| {
            let of = report.turns.iter().filter(|turn| turn.flood == flood);
            show(Spread::of(of.map(value)), digits)
        };
        rows.add_row([
            flood.as_str().to_owned(),
            figure(|turn| turn.rate, 0),
            figure(|turn| turn.p50_us, 0),
            figure(|turn| turn.p99_us, 0),
            figure(|turn| turn.p999_us, 0),
            figure(|turn| turn.flood_rate, 0),
            figure(|turn| turn.model_busy, 2),
            figure(|turn| turn.unscored, 0),
        ]);
    }
    let met = report.p99_ratio.is_some_and(|ratio| ratio.median <= report.target);
    format!(
        "`{}`\n\n- machine: {}\n- model: {}\n- measured: {} B messages of a tenant whose threshold no words can \
         reach, open loop, {} rounds of {} s, in turns\n- flood: {} a second of some 120 tokens each, no two alike\n\n\
         {rows}\n\nP11: P99 beside a scored flood ÷ beside a spared one: {} (target ≤ {}, {}); P50: {}",
        report.command,
        report.machine,
        report.model,
        options.payload,
        options.rounds,
        options.seconds,
        options.flood,
        show(report.p99_ratio, 2),
        report.target,
        if met { "met" } else { "not met" },
        show(report.p50_ratio, 2),
    )
}
