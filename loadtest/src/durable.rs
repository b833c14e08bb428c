//! How much does the durable lane cost, beside what JetStream alone could do?
//!
//! The bare side publishes into the same stream of what waits; a bare process pulls it by the same
//! consumer and stores it in the same stream of durable inboxes. The recipient, its consumer, its acks
//! and the number of messages on their way are the same for both. A message counts when its recipient
//! has read it. The sides take turns, as in [`crate::rounds`].

use std::{
    collections::BTreeMap,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    client::AgentClient,
    servers::{Child, Stack, StackOptions},
    tenants::{BusUser, Plan, Seed},
};
use agentbus_testkit::agents;
use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::process::Command;

use crate::{
    cpu::{self, Processes},
    figures::Spread,
    message::Template,
    options::DurableOptions,
    rig::{NODE, Side, beside_this_program, register},
    stages,
    tables::{show, table},
    targets::{Is, Target},
};
use load::{Arrivals, Measured, Parties};

pub(crate) mod bare;
pub(crate) mod load;

const TENANT: &str = "acme";
const SENDER: &str = "planner";
const RECIPIENT: &str = "worker";
/// Limits so high that what is measured is not a limit.
const PLAN: &str = "[tenants.acme.limits]\nmessages_per_minute = 10000000\n\
    [tenants.acme.store]\nwaiting_bytes = 1073741824\ninbox_bytes = 6442450944\n\
    [tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }\n";
/// How long a side may take until its first message arrives.
const FIRST_WAIT: Duration = Duration::from_secs(20);
const STOP_GRACE: Duration = Duration::from_secs(12);
const RATIO_WANTED: f64 = 0.6;

/// One measurement of one side.
#[derive(Debug, Clone, Serialize)]
struct Sample {
    round: u32,
    side: Side,
    in_flight: u16,
    arrived: u64,
    /// In the recipient's inbox, a second.
    rate: f64,
    stored_p50_us: f64,
    stored_p99_us: f64,
    inbox_p50_us: f64,
    inbox_p99_us: f64,
    /// Processor time for each message.
    node_cpu_us: f64,
    nats_cpu_us: f64,
    redis_cpu_us: f64,
    client_cpu_us: f64,
    /// Mean microseconds of each of the node's stages.
    stages: BTreeMap<String, f64>,
    failures: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Run {
    command: String,
    machine: String,
    versions: Vec<String>,
    samples: Vec<Sample>,
}

impl Run {
    /// Of the bus's rate to the bare one, round by round.
    fn ratio(&self, in_flight: u16) -> Option<Spread> {
        let of = |side: Side| {
            self.samples.iter().filter(move |sample| sample.side == side && sample.in_flight == in_flight)
        };
        Spread::of(of(Side::Bus).filter_map(|bus| {
            let bare = of(Side::Baseline).find(|bare| bare.round == bus.round)?;
            Some(bus.rate / bare.rate)
        }))
    }
}

/// `loadtest durable`; the tables, and P14.
pub(crate) async fn run(options: &DurableOptions) -> anyhow::Result<(String, Vec<Target>)> {
    let mut rig = Rig::start(options).await?;
    let mut samples = Vec::new();
    for round in 1..=options.rounds.get() {
        let mut order = [Side::Baseline, Side::Bus];
        if round % 2 == 0 {
            order.reverse();
        }
        for side in order {
            let turn = rig.turn(side).await?;
            for &in_flight in &options.in_flight {
                let sample = rig.one(&turn, round, in_flight, options).await?;
                eprintln!(
                    "round {round}  {:8}  {in_flight:>3} in flight  {:>6.0}/s  stored P50 {:>6.0} µs  inbox P50 {:>6.0} \
                     P99 {:>6.0} µs  node {:>5.1} µs CPU",
                    side.as_str(),
                    sample.rate,
                    sample.stored_p50_us,
                    sample.inbox_p50_us,
                    sample.inbox_p99_us,
                    sample.node_cpu_us
                );
                samples.push(sample);
            }
            rig.end(turn).await?;
        }
    }
    let run = Run {
        command: crate::options::command(),
        machine: cpu::machine(),
        versions: vec![
            format!("agentbus {}", env!("CARGO_PKG_VERSION")),
            format!("nats-server {}", rig.parties.sender.nats().server_info().version),
        ],
        samples,
    };
    rig.stack.stop().await;
    if let Some(path) = &options.json {
        fs::write(path, serde_json::to_vec_pretty(&run)?).with_context(|| path.display().to_string())?;
    }
    let targets = options.in_flight.iter().filter_map(|&n| {
        let how = format!("durable rate ÷ bare JetStream, {n} in flight");
        Target::new("P14", run.ratio(n), (Is::AtLeast, RATIO_WANTED), "×", how)
    });
    Ok((tables(&run, options), targets.collect()))
}

/// Servers, agents and streams of a whole run.
struct Rig {
    parties: Arc<Parties>,
    recipient: AgentClient,
    stack: Stack,
    profile: bool,
    _folder: tempfile::TempDir,
}

struct Turn {
    side: Side,
    processes: Processes,
    http: Option<String>,
    bare: Option<Child>,
}

impl Rig {
    async fn start(options: &DurableOptions) -> anyhow::Result<Self> {
        let agentbus = options.agentbus.clone().map_or_else(beside_this_program, Ok)?;
        let folder = tempfile::Builder::new().prefix("agentbus-loadtest-").tempdir()?;
        let stack = StackOptions::new(folder.path(), Plan::parse(PLAN)?, agentbus);
        let stack = StackOptions { nodes: 0, sync: options.sync, node_overrides: NODE.parse()?, ..stack };
        let stack = Stack::start(stack).await?;
        let sender = agent(&stack, SENDER).await?;
        let recipient = agent(&stack, RECIPIENT).await?;
        let arrivals = Arc::new(Arrivals::default());
        let reading = load::read(recipient.clone(), TENANT.to_owned(), Arc::clone(&arrivals));
        tokio::spawn(async move {
            if let Err(error) = reading.await {
                eprintln!("loadtest: the recipient: {error:#}");
            }
        });
        let seed = Seed::read(&stack.seed_path(&BusUser::Node.into()))?;
        let node = bare::connect(&stack.nats_url(), seed.reveal()).await?;
        let template = Template::new(RECIPIENT, usize::try_from(options.payload)?)?;
        let parties = Arc::new(Parties { tenant: TENANT.to_owned(), sender, node, template, arrivals });
        Ok(Self { parties, recipient, stack, profile: options.profile, _folder: folder })
    }

    /// Starts a side and waits until its first message arrives.
    async fn turn(&mut self, side: Side) -> anyhow::Result<Turn> {
        let (pid, http, bare) = match side {
            Side::Baseline => {
                let bare = self.start_bare()?;
                (bare.pid(), None, Some(bare))
            }
            Side::Bus => {
                match self.stack.node_mut(0) {
                    Some(node) => node.restart().await?,
                    None => drop(self.stack.add_node().await?),
                }
                let node = self.stack.nodes().first().context("the node that was just started")?;
                for agent in [&self.parties.sender, &self.recipient] {
                    register(agent).await?;
                }
                (node.child().pid(), Some(node.http()), None)
            }
        };
        let processes = Processes {
            node: pid,
            nats: self.stack.nats().child().pid(),
            redis: self.stack.redis().map(|redis| redis.child().pid()),
        };
        let started = Instant::now();
        while let Err(error) = self.parties.one(side).await {
            ensure!(started.elapsed() < FIRST_WAIT, "the {} does not deliver: {error:#}", side.as_str());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if self.profile && side == Side::Bus {
            crate::rounds::say_how_to_profile(pid);
        }
        Ok(Turn { side, processes, http, bare })
    }

    fn start_bare(&self) -> anyhow::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["bare-node", "--tenant", TENANT, "--recipient", RECIPIENT]);
        command.args(["--nats", &self.stack.nats_url(), "--nkey-file"]);
        command.arg(self.stack.seed_path(&BusUser::Node.into()));
        Ok(Child::spawn("bare", command, &self.stack.dir().join("bare.log"))?)
    }

    async fn end(&mut self, turn: Turn) -> anyhow::Result<()> {
        match turn.bare {
            Some(mut bare) => drop(bare.stop(STOP_GRACE).await),
            None => {
                let node = self.stack.node_mut(0).context("the node of this turn")?;
                let exit = node.stop().await;
                ensure!(exit.0.success(), "the node ended badly ({exit}):\n{}", node.child().tail());
            }
        }
        Ok(())
    }

    async fn one(
        &self,
        turn: &Turn,
        round: u32,
        in_flight: u16,
        options: &DurableOptions,
    ) -> anyhow::Result<Sample> {
        let before = read_stages(turn).await?;
        let (warm_up, duration) = (options.warm_up(), options.duration());
        let measured =
            self.parties.closed(turn.side, usize::from(in_flight), warm_up, duration, turn.processes).await?;
        let stages = stages::means(&before, &read_stages(turn).await?);
        ensure!(measured.arrived > 0, "nothing arrived: {:?}", measured.failures);
        Ok(Sample::new(round, turn.side, in_flight, &measured, stages))
    }
}

async fn read_stages(turn: &Turn) -> anyhow::Result<stages::Stages> {
    match &turn.http {
        Some(address) => stages::read(address).await,
        None => Ok(stages::Stages::new()),
    }
}

async fn agent(stack: &Stack, id: &str) -> anyhow::Result<AgentClient> {
    agents::of_stack(stack, TENANT, id).await
}

impl Sample {
    fn new(
        round: u32,
        side: Side,
        in_flight: u16,
        measured: &Measured,
        stages: BTreeMap<String, f64>,
    ) -> Self {
        let at = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / measured.arrived.max(1) as f64;
        Self {
            round,
            side,
            in_flight,
            arrived: measured.arrived,
            rate: measured.arrived as f64 / measured.elapsed.as_secs_f64(),
            stored_p50_us: at(&measured.stored, 0.5),
            stored_p99_us: at(&measured.stored, 0.99),
            inbox_p50_us: at(&measured.inbox, 0.5),
            inbox_p99_us: at(&measured.inbox, 0.99),
            node_cpu_us: each(measured.cpu.node),
            nats_cpu_us: each(measured.cpu.nats),
            redis_cpu_us: each(measured.cpu.redis),
            client_cpu_us: each(measured.cpu.client),
            stages,
            failures: measured.failures.clone(),
        }
    }
}

fn tables(run: &Run, options: &DurableOptions) -> String {
    let of = |side: Side, n: u16| {
        run.samples.iter().filter(move |sample| sample.side == side && sample.in_flight == n)
    };
    let ratio = |n: u16| run.ratio(n);
    let mut rates = table(&[
        "in flight",
        "side",
        "messages/s",
        "stored P50 µs",
        "P99 µs",
        "inbox P50 µs",
        "P99 µs",
        "rate ÷ bare",
    ]);
    let mut costs = table(&["in flight", "side", "node", "nats-server", "redis-server", "client"]);
    let mut met = Vec::new();
    for &n in &options.in_flight {
        for side in [Side::Baseline, Side::Bus] {
            let figure = |value: fn(&Sample) -> f64, digits| show(Spread::of(of(side, n).map(value)), digits);
            let (name, ratio) = match side {
                Side::Baseline => ("bare", String::new()),
                Side::Bus => ("bus", show(ratio(n), 2)),
            };
            rates.add_row([
                n.to_string(),
                name.to_owned(),
                figure(|s| s.rate, 0),
                figure(|s| s.stored_p50_us, 0),
                figure(|s| s.stored_p99_us, 0),
                figure(|s| s.inbox_p50_us, 0),
                figure(|s| s.inbox_p99_us, 0),
                ratio,
            ]);
            costs.add_row([
                n.to_string(),
                name.to_owned(),
                figure(|s| s.node_cpu_us, 1),
                figure(|s| s.nats_cpu_us, 1),
                figure(|s| s.redis_cpu_us, 1),
                figure(|s| s.client_cpu_us, 1),
            ]);
        }
        let found = ratio(n);
        let answer = if found.is_some_and(|found| found.median >= RATIO_WANTED) { "met" } else { "not met" };
        met.push(format!(
            "- rate ÷ bare at {n} in flight, wanted ≥ {RATIO_WANTED}: {}, {answer}",
            show(found, 2)
        ));
    }
    let mut failures: BTreeMap<String, u64> = BTreeMap::new();
    for sample in &run.samples {
        for (what, count) in &sample.failures {
            *failures.entry(format!("{}: {what}", sample.side.as_str())).or_default() += count;
        }
    }
    let failed = match failures.is_empty() {
        true => "Every message arrived.".to_owned(),
        false => failures.iter().map(|(what, n)| format!("- {what}: {n}")).collect::<Vec<_>>().join("\n"),
    };
    format!(
        "`{}`\n\n- machine: {}\n- versions: {}\n- {} B a message; {} rounds of {} s after {} s of warm-up, the \
         sides in turns\n\nMedians of the rounds, with their range; a message counts when its recipient has read \
         it.\n\n{rates}\n\n{}\n\n{failed}\n\nProcessor time a message, µs, of each process.\n\n{costs}\n\n{}",
        run.command,
        run.machine,
        run.versions.join(", "),
        options.payload,
        options.rounds,
        options.seconds,
        options.warm_up,
        met.join("\n"),
        stage_table(run, &options.in_flight),
    )
}

fn stage_table(run: &Run, loads: &[u16]) -> String {
    let mut heads = vec!["stage".to_owned()];
    heads.extend(loads.iter().map(|n| format!("{n} in flight")));
    let mut table = table(&heads.iter().map(String::as_str).collect::<Vec<_>>());
    for stage in agentbus::telemetry::Stage::ALL {
        let mean = |n: u16| {
            let of = run.samples.iter().filter(|s| s.side == Side::Bus && s.in_flight == n);
            show(Spread::of(of.filter_map(|sample| sample.stages.get(stage.as_str()).copied())), 1)
        };
        let mut row = vec![stage.as_str().to_owned()];
        row.extend(loads.iter().map(|&n| mean(n)));
        table.add_row(row);
    }
    format!("Mean time in each stage of the node, µs, keeping and governing together.\n\n{table}")
}
