//! `agentbus up`: how does everything run on one machine with one command?

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use agentbus::{
    phrase::counted,
    servers::{
        Control, MissingTool, Ports, RedisData, Stack, StackOptions, Tool, find,
        node::merge,
        stack::{Death, NODES_MAX},
    },
    shutdown::hangup_is_ignored,
    tenants::{BusUser, DiskSync, Plan, Seed, User},
};
use anyhow::{Context, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    node::key_value,
    output::say,
    tenants::changes::{Changes, agree},
};

/// Start NATS, Redis and nodes on this machine, with two example tenants
///
/// Everything runs as a child of this command, on loopback, and ends with it. Keys, stored messages,
/// Redis's data and logs are kept in the data folder. Edit `tenants.toml` there to have your own tenants.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:\n  \
agentbus up --nodes 2\n  \
agentbus up --dir other --port 0 --http-port 0 --redis-port 0\n  \
agentbus up --nodes 2 --chaos")]
pub struct UpArgs {
    /// The data folder; made when it is not there
    #[arg(long, default_value = ".agentbus", env = "AGENTBUS_DIR")]
    pub dir: PathBuf,
    /// How many nodes share the work
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=NODES_MAX as i64))]
    pub nodes: u16,
    /// Port of the NATS server; 0 takes a free one
    #[arg(long, default_value_t = 4222)]
    pub port: u16,
    /// Port of the first node's health and metrics, the others follow; 0 takes free ones
    #[arg(long, default_value_t = 8080)]
    pub http_port: u16,
    /// Port of the Redis server; 0 takes a free one
    #[arg(long, default_value_t = 6379, conflicts_with = "no_redis")]
    pub redis_port: u16,
    /// Keep registry and idempotency in the memory of one node
    #[arg(long)]
    pub no_redis: bool,
    /// When stored messages reach the disk: 2m, or always, before they are acknowledged
    #[arg(long, value_name = "WHEN", default_value_t = DiskSync::default())]
    pub sync: DiskSync,
    /// First delete the keys, stored messages and Redis's data in the data folder; `tenants.toml` stays
    #[arg(long)]
    pub fresh: bool,
    /// Let `agentbus chaos` break things in it (chaos.allowed = true in each node's configuration)
    #[arg(long)]
    pub chaos: bool,
    /// Any other key of each node's configuration, such as impact.scorer=keywords; can be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value)]
    pub set: Vec<(String, String)>,
    /// Delete seeds of agents that left `tenants.toml`, without being asked
    #[arg(long)]
    pub yes: bool,
}

/// What it means to have no Redis, for a person who decides whether to mind.
const IN_MEMORY: &str = "without Redis: registry and idempotency live in the memory of one node, \
                         and are gone when it stops";

pub async fn run(args: UpArgs) -> anyhow::Result<ExitCode> {
    let redis = with_redis(&args)?;
    let plan = plan(&args.dir)?;
    // Before signals are ours: Ctrl-C is an answer to a question.
    keys_may_go(&plan, &args)?;
    let mut signals = Signals::install()?;
    let options = StackOptions {
        fresh: args.fresh,
        sync: args.sync,
        nodes: args.nodes.into(),
        ports: Ports { nats: args.port, redis: args.redis_port, http: args.http_port },
        redis,
        // A repeat within the window must find its verdict after a restart, too.
        redis_data: RedisData::OnDisk,
        node_overrides: overrides(&args.set)?,
        chaos: args.chaos,
        ..StackOptions::new(&args.dir, plan, std::env::current_exe().context("where is this program?")?)
    };
    eprintln!("starting …");
    let mut stack = tokio::select! {
        started = Stack::start(options) => started?,
        // What had been started is killed when the future is dropped.
        name = signals.next() => {
            eprintln!("{name} while starting; everything was stopped");
            return Ok(ExitCode::FAILURE);
        }
    };
    keep_tenants_file(&args.dir)?;
    for name in stack.leftovers() {
        eprintln!("an earlier run had been killed; its {name} was still there and was ended");
    }
    // What cannot be written ends it in order; that nobody reads on (`agentbus up | head`) is no reason to end.
    let said = say(&page(&args.dir, &stack));

    let control = args.chaos.then(|| Control::listen(stack.dir())).transpose()?;
    let death = tokio::select! {
        () = std::future::ready(()), if said.is_err() => None,
        death = watch(&mut stack, control.as_ref()) => Some(death),
        name = signals.next() => {
            eprintln!("{name}: stopping, nodes first …");
            None
        }
    };
    if let Some(death) = &death {
        eprintln!("{death}\nstopping the others …");
    }
    tokio::select! {
        ends = stack.stop() => {
            let ended: Vec<_> = ends.iter().map(|(name, exit)| format!("{name} ({exit})")).collect();
            eprintln!("stopped: {}", ended.join(", "));
        }
        // The second one means it: dropping the stack kills what is left.
        name = signals.next() => eprintln!("{name} again: the rest was killed"),
    }
    said?;
    Ok(if death.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Until a child ends though nobody has asked it to. Where experiments are allowed, breaks meanwhile what is asked for, one
/// thing at a time.
async fn watch(stack: &mut Stack, control: Option<&Control>) -> Death {
    let Some(control) = control else { return stack.death().await };
    loop {
        let asking = tokio::select! {
            death = stack.death() => return death,
            asking = control.next() => asking,
        };
        control.perform(asking, stack).await;
    }
}

/// As a table, values as TOML where they are.
fn overrides(set: &[(String, String)]) -> anyhow::Result<toml::Table> {
    let mut overrides = toml::Table::new();
    for (key, value) in set {
        let text = [format!("{key} = {value}"), format!("{key} = {value:?}")];
        let read = text.iter().find_map(|text| text.parse::<toml::Table>().ok());
        let read =
            read.with_context(|| format!("--set: found {key:?}, expected a key such as impact.scorer"))?;
        merge(&mut overrides, &read);
    }
    Ok(overrides)
}

/// Whether to run with Redis: not when told so, nor when there is none and one node is enough.
fn with_redis(args: &UpArgs) -> anyhow::Result<bool> {
    if args.no_redis {
        return Ok(false);
    }
    match find(Tool::RedisServer) {
        Ok(_) => Ok(true),
        Err(missing @ MissingTool::NotFound { .. }) if args.nodes == 1 => {
            eprintln!("{missing}\ngoing on {IN_MEMORY}");
            Ok(false)
        }
        Err(missing) => Err(missing.into()),
    }
}

fn plan(dir: &Path) -> anyhow::Result<Plan> {
    let path = dir.join("tenants.toml");
    match path.exists() {
        true => Plan::load(&path).with_context(|| format!("{} cannot be used", path.display())),
        false => Ok(Plan::example()?),
    }
}

/// Asks, if somebody who could log in is not in the tenants file any more.
fn keys_may_go(plan: &Plan, args: &UpArgs) -> anyhow::Result<()> {
    if args.fresh {
        return Ok(());
    }
    node_can_log_in(plan, &args.dir)?;
    let changes = Changes::of_keys(plan, &args.dir)?;
    if !changes.takes_away() {
        return Ok(());
    }
    say(&changes.shown())?;
    agree(args.yes)
}

/// The nodes that start here have the seed of the folder, whatever keys the file names.
fn node_can_log_in(plan: &Plan, dir: &Path) -> anyhow::Result<()> {
    let node = User::from(BusUser::Node);
    let Some(named) = plan.named_keys(&node) else { return Ok(()) };
    let path = node.seed_path(dir);
    if !named.contains(&Seed::read(&path)?.public_key()?) {
        bail!(
            "{} names keys for node, and that of {} is not among them",
            dir.join("tenants.toml").display(),
            path.display()
        );
    }
    Ok(())
}

/// The example, for the operator to edit. Written once the folder is known to be ours.
fn keep_tenants_file(dir: &Path) -> anyhow::Result<()> {
    let path = dir.join("tenants.toml");
    match fs::OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(mut file) => file
            .write_all(Plan::EXAMPLE.as_bytes())
            .with_context(|| format!("cannot write {}", path.display())),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot write {}", path.display())),
    }
}

/// What runs where, and what to type next.
fn page(dir: &Path, stack: &Stack) -> String {
    let mut page = String::new();
    // Writing to a string cannot fail.
    let _ = write_page(&mut page, dir, stack);
    page
}

fn write_page(page: &mut String, dir: &Path, stack: &Stack) -> std::fmt::Result {
    let shown = dir.display();
    writeln!(page, "\nagentbus is up ({:.1} s)\n", stack.took().as_secs_f64())?;
    let mut row = |name: &str, place: &str, log: &str| writeln!(page, "  {name:<9} {place:<32} {log}");
    row("nats", &stack.nats_url(), &format!("{shown}/nats/nats.log"))?;
    match stack.redis_url() {
        Some(url) => {
            row("redis", &url, &format!("{shown}/redis/redis.log"))?;
            row("", "user default", &format!("password in {shown}/redis/operator.password"))?;
        }
        None => row("store", "in memory", IN_MEMORY)?,
    }
    for node in stack.nodes() {
        let name = node.name();
        row(name, &format!("http://{}/readyz", node.http()), &format!("{shown}/nodes/{name}.log"))?;
    }
    for tenant in stack.plan().tenants() {
        let agents: Vec<_> = tenant.agents.keys().map(|agent| agent.as_str()).collect();
        row(tenant.id.as_str(), &counted(agents.len(), "agent"), &shorten(&agents.join(" ")))?;
    }
    let url = stack.nats_url();
    let Some((from, to)) = example_pair(stack.plan()) else {
        return writeln!(page, "\nAdd agents in {shown}/tenants.toml. Ctrl-C stops everything.");
    };
    let (User::Agent(tenant, sender), User::Agent(_, recipient)) = (&from, &to) else { return Ok(()) };
    let (flag, option) = match dir == Path::new(".agentbus") {
        true => (String::new(), String::new()),
        false => (format!(" --dir {shown}"), format!(" --dir {shown}")),
    };
    writeln!(page, "\nTwo terminals:")?;
    writeln!(page, "  agentbus inbox{flag} --as {tenant}/{recipient}")?;
    writeln!(
        page,
        "  agentbus send{flag} --as {tenant}/{sender} --to {recipient} 'please look at the report'"
    )?;
    writeln!(page, "\nThe nats tool:")?;
    let seed = to.seed_path(dir);
    let (seed, inbox) = (seed.display(), to.inbox_prefix());
    writeln!(page, "  nats -s {url} --nkey {seed} --inbox-prefix {inbox} sub 'agent.{recipient}.>'")?;
    let operator = User::from(BusUser::Operator);
    let (seed, inbox) = (operator.seed_path(dir), operator.inbox_prefix());
    writeln!(page, "  nats -s {url} --nkey {} --inbox-prefix {inbox} micro list", seed.display())?;
    writeln!(page, "\nnats-py:")?;
    let (seed, inbox) = (from.seed_path(dir), from.inbox_prefix());
    let seed = seed.display();
    writeln!(page, "  await nats.connect(\"{url}\", nkeys_seed=\"{seed}\", inbox_prefix=b\"{inbox}\")")?;
    writeln!(page, "\nTenants: edit {shown}/tenants.toml, then `agentbus tenants apply{option}`.")?;
    writeln!(page, "Ctrl-C stops everything.")
}

/// Two agents of one tenant for the examples: planner and worker where they are.
fn example_pair(plan: &Plan) -> Option<(User, User)> {
    let tenant = plan.tenants().iter().find(|tenant| tenant.agents.len() >= 2)?;
    let named = |name: &str| tenant.agents.keys().find(|agent| agent.as_str() == name);
    let mut others = tenant.agents.keys();
    let (first, second) = match (named("planner"), named("worker")) {
        (Some(planner), Some(worker)) => (planner, worker),
        _ => (others.next()?, others.next()?),
    };
    let user = |agent: &agentbus::domain::AgentId| User::Agent(tenant.id.clone(), agent.clone());
    Some((user(first), user(second)))
}

fn shorten(text: &str) -> String {
    const LENGTH_MAX: usize = 60;
    match text.char_indices().nth(LENGTH_MAX) {
        Some((end, _)) => format!("{} …", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The ways a person or a service manager asks a process to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Absent: it is to outlive its terminal (`nohup`).
    hang_up: Option<Signal>,
}

impl Signals {
    fn install() -> anyhow::Result<Self> {
        let install = |kind| signal(kind).context("signals cannot be handled");
        Ok(Self {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
            hang_up: if hangup_is_ignored() { None } else { Some(install(SignalKind::hangup())?) },
        })
    }

    /// The next one's name.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "interrupted",
            _ = self.terminate.recv() => "asked to end",
            () = hung_up(&mut self.hang_up) => "the terminal was closed",
        }
    }
}

async fn hung_up(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
