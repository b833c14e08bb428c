//! `agentbus tenants`: who may be on the bus.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use agentbus::{
    domain::Weights,
    phrase::counted,
    tenants::{
        BusUser, DiskSync, Generated, Plan, Provisioned, Reloaded, ServerConf, StoreSettings, connect, names,
        preview, provision, public_key_of, reload, render_server_conf,
    },
};
use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;

use super::{
    output::{OutputError, say},
    parked::Gauge,
    printable,
    server::ServerArgs,
};

pub(super) mod changes;
mod purge;
mod reviewers;
mod sync;

use changes::{Changes, Consent};

/// What `--help` says last of a command that shows its changes first.
macro_rules! with_codes {
    ($one:literal, $other:literal) => {
        concat!(
            "Exit codes: 0 done, or with --dry-run nothing to change; 1 failure, or you did not say yes; 2 usage; \
             5 with --dry-run: something would change.\n\nExamples:\n  ",
            $one,
            "\n  ",
            $other
        )
    };
}

/// Bounds of the streams of records and of decisions: several of the largest of them, and more than a disk has.
const STREAM_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 44;
/// Bounds of an age.
const AGE_MIN: Duration = Duration::from_secs(60 * 60);
const AGE_MAX: Duration = Duration::from_secs(10 * 366 * 24 * 60 * 60);

/// Tenants, their agents and limits: one TOML file becomes NATS accounts, users and the directory
/// that nodes watch.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus tenants example > tenants.toml\n  \
agentbus tenants apply --file tenants.toml")]
pub struct TenantsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print an example of a tenants file, to begin from.
    #[command(
        after_help = "Examples:\n  agentbus tenants example\n  agentbus tenants example > tenants.toml"
    )]
    Example,
    /// Parse a tenants file and report what it says and what each threshold would park, with a warning where nobody
    /// could decide on what is deliberated, or no words reach a threshold; changes nothing.
    #[command(
        after_help = "Examples:\n  agentbus tenants check\n  agentbus tenants check --file tenants.toml"
    )]
    Check(Source),
    /// Show tenants, agents and where their seeds are.
    #[command(after_help = "Examples:\n  agentbus tenants list\n  agentbus tenants list --file tenants.toml")]
    List(Source),
    /// Write keys and NATS accounts. Safe to run again: seeds that exist are kept.
    ///
    /// Seeds go to DIR/keys/<tenant>/<agent>.nk, for their owner only; none is made for an agent that brings a
    /// key. Seeds of agents that are no longer in the file are deleted, after you were asked. A server reads the
    /// accounts when it starts; use `apply` for one that runs.
    #[command(after_help = with_codes!("agentbus tenants generate --dry-run", "agentbus tenants generate --dir bus --sync always"))]
    Generate(Generate),
    /// Write keys and accounts, have the running servers reload them, and publish the tenants to
    /// the nodes.
    ///
    /// Shows first what would change. Where that takes something away (a tenant, an agent, a key, what is
    /// stored), it asks, and needs --yes where there is no terminal; additions and other changes need neither.
    ///
    /// Connections of agents that stay in the file survive. Requests under way at the instant of
    /// the reload may go unanswered: agents retry them with the same message id.
    #[command(after_help = with_codes!("agentbus tenants apply --dry-run", "agentbus tenants apply --replicas 3 --yes"))]
    Apply(Apply),
    /// Remove what tenants and agents that left the file have left: streams, durable inboxes, seeds.
    ///
    /// Shows it first, and asks; needs --yes where there is no terminal.
    #[command(after_help = with_codes!("agentbus tenants purge --dry-run", "agentbus tenants purge --yes"))]
    Purge(purge::Purge),
    /// Keep the accounts of one server of a cluster as the last `apply` made them, until it is ended.
    ///
    /// Runs beside each server, with a copy of nats/accounts.conf to begin with and keys/sys/keeper.nk. What `apply`
    /// writes comes here by itself; what came while the server was away is fetched from the others.
    #[command(
        after_help = "Examples:\n  agentbus tenants sync --dir /etc/agentbus --server nats://127.0.0.1:4222\n  \
                      agentbus tenants sync --dir bus --server tls://nats-1:4222 --ca-file ca.pem"
    )]
    Sync(sync::Sync),
    /// Print the public key of the seed in FILE, for `nkey` in the tenants file; makes a seed where there is none.
    #[command(
        after_help = "Examples:\n  agentbus tenants key clerk.nk\n  agentbus tenants key .agentbus/keys/bus/node.nk"
    )]
    Key {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Generate {
    #[command(flatten)]
    source: Source,
    /// When a server syncs what it has stored: `2m`, or `always`, before it acknowledges it
    /// (docs/operations.md). For DIR/nats/server.conf, which is written once [default: 2m].
    #[arg(long, value_name = "WHEN")]
    sync: Option<DiskSync>,
    #[command(flatten)]
    consent: Consent,
}

#[derive(Debug, Args)]
struct Source {
    /// The tenants file [default: tenants.toml in DIR].
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// The folder of keys, NATS configuration and data.
    #[arg(long, alias = "out", value_name = "DIR", default_value = ".agentbus", env = "AGENTBUS_DIR")]
    dir: PathBuf,
}

#[derive(Debug, Args)]
struct Apply {
    #[command(flatten)]
    source: Source,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    consent: Consent,
    /// Largest size of the stream of records, in bytes; less than it holds discards the oldest [default: as it
    /// is, 1 GiB at first].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(STREAM_BYTES))]
    records_bytes: Option<u64>,
    /// Largest size of the stream of logged decisions, in bytes; less than it holds discards the oldest [default:
    /// as it is, 64 MiB at first].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(STREAM_BYTES))]
    decisions_bytes: Option<u64>,
    /// How long logged decisions are kept, such as 180days; 1h to 10 years [default: as it is, 7 days at first].
    #[arg(long, value_name = "TIME", value_parser = age)]
    decisions_age: Option<Duration>,
    /// Copies of each stream; 3 in a cluster [default: as they are, 1 at first].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
}

fn age(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 180days, 1h to 10years".to_owned();
    let age = humantime::parse_duration(text).map_err(|_| expected())?;
    if (AGE_MIN..=AGE_MAX).contains(&age) { Ok(age) } else { Err(expected()) }
}

/// Exit codes: 0 done, 1 failed, 5 something would change. clap itself ends with 2 on wrong usage.
pub async fn run(args: TenantsArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Example => say(Plan::EXAMPLE)?,
        Command::Check(source) => {
            let plan = source.plan()?;
            let (path, agents) =
                (source.file(), plan.tenants().iter().map(|t| t.agents.len()).sum::<usize>());
            sayln!(
                "{}: {}, {}, all within bounds",
                path.display(),
                counted(plan.tenants().len(), "tenant"),
                counted(agents, "agent")
            )?;
            for line in Gauge::usual().tell(plan.tenants()) {
                sayln!("{line}")?;
            }
            for warning in plan.tenants().iter().flat_map(reviewers::warnings) {
                sayln!("{warning}")?;
            }
        }
        Command::List(source) => sayln!("{}", table(&source.plan()?, &source.dir))?,
        Command::Generate(Generate { source, sync, consent }) => {
            let plan = source.plan()?;
            source.check_sync(sync)?;
            let changes = Changes::of_keys(&plan, &source.dir)?;
            if let Some(code) = consent.asks(&changes)? {
                return Ok(code);
            }
            print_generated(&source.generate(&plan, sync.unwrap_or_default())?)?;
            sayln!("\nA server that runs does not know of it yet: agentbus tenants apply")?;
        }
        Command::Apply(args) => return apply(args).await,
        Command::Purge(args) => return purge::run(args).await,
        Command::Sync(args) => return sync::run(args).await,
        Command::Key { file } => sayln!("{}", public_key_of(&file)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply(args: Apply) -> anyhow::Result<ExitCode> {
    let Apply { source, server, consent, records_bytes, decisions_bytes, decisions_age, replicas } = args;
    let plan = source.plan()?;
    let server = server.of(&source.dir)?;
    // Before anything is written: with no server to tell, nothing should change.
    let admin = connect(&server, &source.dir, BusUser::Admin).await?;
    let provisioner = connect(&server, &source.dir, BusUser::Provisioner).await?;
    let replicas = replicas.map(usize::from);
    let settings =
        StoreSettings { records_bytes, decisions_bytes, decisions_age, replicas, ..StoreSettings::default() };

    let store = preview(&provisioner, &plan, &settings).await?;
    let changes = Changes::of_keys(&plan, &source.dir)?.with_store(store).with_connections(&admin).await;
    if let Some(code) = consent.asks(&changes)? {
        return Ok(code);
    }
    print_generated(&source.generate(&plan, DiskSync::default())?)?;
    sync::to_keepers(&admin, &source.dir).await?;
    let servers = reload(&admin).await?;
    if print_reloaded(&servers)? {
        bail!("a server runs on with its former accounts, so the tenants were not published");
    }
    sync::see_that_each_has_them(&admin, &source.dir, &servers).await?;
    print_provisioned(&provision(&provisioner, &plan, &settings).await?)?;
    Ok(ExitCode::SUCCESS)
}

impl Source {
    fn file(&self) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.dir.join("tenants.toml"))
    }

    fn plan(&self) -> anyhow::Result<Plan> {
        let file = self.file();
        if !file.exists() {
            bail!("there is no {}; begin with: agentbus tenants example > {0}", file.display());
        }
        Plan::load(&file).with_context(|| format!("in {}", file.display()))
    }

    /// A server's configuration that is there belongs to whoever runs the server: it is not changed.
    fn check_sync(&self, sync: Option<DiskSync>) -> anyhow::Result<()> {
        let conf = names::server_conf(&self.dir);
        let (Some(sync), true) = (sync, conf.exists()) else { return Ok(()) };
        let text = fs::read_to_string(&conf).with_context(|| format!("cannot read {}", conf.display()))?;
        let said = text.lines().find_map(|line| line.trim().strip_prefix("sync_interval"));
        let said =
            said.map_or("2m", |value| value.trim_matches(|c: char| c.is_whitespace() || ":=\"'".contains(c)));
        if said != sync.to_string() {
            bail!(
                "{} is there, is yours, and says sync_interval {said:?}: write \"{sync}\" there, and restart the server",
                conf.display()
            );
        }
        Ok(())
    }

    fn generate(&self, plan: &Plan, sync: DiskSync) -> anyhow::Result<Generated> {
        let generated = plan.generate(&self.dir)?;
        let conf = names::server_conf(&self.dir);
        // Only when there is none: this one belongs to whoever runs the server.
        if !conf.exists() {
            let data = std::path::absolute(self.dir.join("data").join("nats"))?;
            let local = ServerConf { sync, ..ServerConf::local(Some(4222), data) };
            fs::write(&conf, render_server_conf(&local))
                .with_context(|| format!("cannot write {}", conf.display()))?;
            sayln!("wrote {}, to start a server with: nats-server -c {0}", conf.display())?;
        }
        Ok(generated)
    }
}

fn table(plan: &Plan, dir: &Path) -> Table {
    let mut table = printable::table(["tenant", "agent", "roles", "seed"]);
    for tenant in plan.tenants() {
        let limits = &tenant.limits;
        let mut bounds = format!(
            "{}, {}/min, {} bytes, deliberates at {}, {}",
            counted(limits.agents, "agent"),
            limits.messages_per_minute,
            limits.content_bytes,
            limits.deliberation_threshold,
            reviewers::numbers(tenant)
        );
        if let Some(lift) = limits.report_lift_max {
            bounds.push_str(&format!(", words lift reports to {lift} at most"));
        }
        if let Some(weights) = &limits.weights {
            bounds.push_str(&format!(", {}", shown(weights)));
        }
        table.add_row([tenant.id.as_str(), "", &bounds, ""]);
        for (agent, grant) in &tenant.agents {
            let roles = grant.roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let user = names::User::Agent(tenant.id.clone(), agent.clone());
            let path = user.seed_path(dir);
            let seed = match plan.named_keys(&user) {
                Some(keys) if keys.len() == 1 => "brings its own key".to_owned(),
                Some(keys) => format!("brings {} keys", keys.len()),
                None if path.exists() => path.display().to_string(),
                None => "not generated yet".to_owned(),
            };
            table.add_row(["", agent.as_str(), &roles, &seed]);
        }
    }
    table
}

/// What each part of the impact counts for.
fn shown(weights: &Weights) -> String {
    let Weights { semantic, permission, volume, context, drift, priority, message_type } = weights;
    format!(
        "weights semantic {semantic}, permission {permission}, volume {volume}, context {context}, \
         drift {drift}, priority {priority}, type {message_type}"
    )
}

fn print_generated(generated: &Generated) -> Result<(), OutputError> {
    let Generated { accounts_conf, users, created, removed, exposed, changed } = generated;
    let word = if *changed { "wrote" } else { "unchanged" };
    sayln!("{word} {} ({})", accounts_conf.display(), counted(*users, "user"))?;
    for path in created {
        sayln!("  new seed      {}", path.display())?;
    }
    for path in removed {
        sayln!("  deleted seed  {}", path.display())?;
    }
    for path in exposed {
        sayln!(
            "  closed seed   {}, others could read it; delete it and run this again to have a new one",
            path.display()
        )?;
    }
    Ok(())
}

/// Whether any server did not reload.
fn print_reloaded(servers: &[Reloaded]) -> Result<bool, OutputError> {
    for server in servers {
        match &server.outcome {
            Ok(()) => sayln!("reloaded server {}", server.server_name)?,
            Err(fault) => sayln!("server {} did not reload: {fault}", server.server_name)?,
        }
    }
    Ok(servers.iter().any(|server| server.outcome.is_err()))
}

fn print_provisioned(provisioned: &Provisioned) -> Result<(), OutputError> {
    // What is left has been told with the changes.
    let Provisioned { put, unchanged, removed, changed, created, left: _ } = provisioned;
    for name in created {
        sayln!("created {name}")?;
    }
    for change in changed {
        sayln!("changed {change}")?;
    }
    for tenant in put {
        sayln!("published tenant {tenant}")?;
    }
    for tenant in removed {
        sayln!("removed tenant {tenant}")?;
    }
    sayln!("in force: {}", counted(put.len() + unchanged.len(), "tenant"))
}
