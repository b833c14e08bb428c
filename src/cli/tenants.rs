//! `agentbus tenants`: who may be on the bus.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use comfy_table::Table;

use super::{
    output::{OutputError, say},
    printable,
    server::ServerArgs,
};
use crate::{
    domain::Weights,
    phrase::counted,
    tenants::{
        BusUser, Generated, Plan, Provisioned, Reloaded, ServerConf, StoreSettings, connect, names,
        provision, reload, render_server_conf,
    },
};

mod reviewers;

/// Bounds of the stream of records: several of the largest records, and more than a disk has.
const RECORDS_BYTES: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 44;

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
    /// Parse a tenants file and report what it says, with a warning where nobody could decide on what is
    /// deliberated; changes nothing.
    #[command(
        after_help = "Examples:\n  agentbus tenants check\n  agentbus tenants check --file tenants.toml"
    )]
    Check(Source),
    /// Show tenants, agents and where their seeds are.
    #[command(after_help = "Examples:\n  agentbus tenants list\n  agentbus tenants list --file tenants.toml")]
    List(Source),
    /// Write keys and NATS accounts. Safe to run again: seeds that exist are kept.
    ///
    /// Seeds go to DIR/keys/<tenant>/<agent>.nk, for their owner only. Seeds of agents that are no
    /// longer in the file are deleted. A server reads the accounts when it starts; use `apply` for
    /// one that runs.
    #[command(
        after_help = "Examples:\n  agentbus tenants generate\n  agentbus tenants generate --file tenants.toml --dir bus"
    )]
    Generate(Source),
    /// Write keys and accounts, have the running servers reload them, and publish the tenants to
    /// the nodes.
    ///
    /// Connections of agents that stay in the file survive. Requests under way at the instant of
    /// the reload may go unanswered: agents retry them with the same message id.
    #[command(
        after_help = "Examples:\n  agentbus tenants apply\n  agentbus tenants apply --file tenants.toml --replicas 3"
    )]
    Apply(Apply),
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
    /// Largest size of the stream of records, in bytes; less than it holds discards the oldest [default: as it
    /// is, 1 GiB at first].
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(RECORDS_BYTES))]
    records_bytes: Option<u64>,
    /// Copies of each stream; 3 in a cluster [default: as they are, 1 at first].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: Option<u8>,
}

/// Exit codes: 0 done, 1 failed. clap itself ends with 2 on wrong usage.
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
            for warning in plan.tenants().iter().flat_map(reviewers::warnings) {
                sayln!("{warning}")?;
            }
        }
        Command::List(source) => sayln!("{}", table(&source.plan()?, &source.dir))?,
        Command::Generate(source) => {
            let generated = source.generate(&source.plan()?)?;
            print_generated(&generated)?;
            sayln!("\nA server that runs does not know of it yet: agentbus tenants apply")?;
        }
        Command::Apply(args) => return apply(args).await,
    }
    Ok(ExitCode::SUCCESS)
}

async fn apply(args: Apply) -> anyhow::Result<ExitCode> {
    let Apply { source, server, records_bytes, replicas } = args;
    let plan = source.plan()?;
    let url = server.url(&source.dir)?;
    // Before anything is written: with no server to tell, nothing should change.
    let admin = connect(&url, &source.dir, BusUser::Admin).await?;
    let provisioner = connect(&url, &source.dir, BusUser::Provisioner).await?;

    print_generated(&source.generate(&plan)?)?;
    let servers = reload(&admin).await?;
    if print_reloaded(&servers)? {
        bail!("a server runs on with its former accounts, so the tenants were not published");
    }
    let replicas = replicas.map(usize::from);
    let settings = StoreSettings { records_bytes, replicas, ..StoreSettings::default() };
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

    fn generate(&self, plan: &Plan) -> anyhow::Result<Generated> {
        let generated = plan.generate(&self.dir)?;
        let conf = names::server_conf(&self.dir);
        // Only when there is none: this one belongs to whoever runs the server.
        if !conf.exists() {
            let data = std::path::absolute(self.dir.join("data").join("nats"))?;
            fs::write(&conf, render_server_conf(&ServerConf::local(Some(4222), data)))
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
        if let Some(weights) = &limits.weights {
            bounds.push_str(&format!(", {}", shown(weights)));
        }
        table.add_row([tenant.id.as_str(), "", &bounds, ""]);
        for (agent, grant) in &tenant.agents {
            let roles = grant.roles.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
            let path = names::User::Agent(tenant.id.clone(), agent.clone()).seed_path(dir);
            let seed =
                if path.exists() { path.display().to_string() } else { "not generated yet".to_owned() };
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
        sayln!("  deleted seed  {}, its agent is no longer in the file", path.display())?;
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
    let Provisioned { put, unchanged, removed, changed, created, left } = provisioned;
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
    for name in left {
        sayln!("kept {name}, which is no longer in the file: it may hold messages (docs/tenancy.md)")?;
    }
    sayln!("in force: {}", counted(put.len() + unchanged.len(), "tenant"))
}
