//! `agentbus config`: checks and shows what a node would run with.

use std::{path::PathBuf, process::ExitCode};

use agentbus::{app, config::keys, phrase::causes, tenants::Plan};
use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::{node::Settings, output::say};

mod scores;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus config show\n  \
agentbus config check --config node.toml")]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Say whether a node would start with it, and what thresholds would park: reads all sources and files, and
    /// loads the model
    #[command(
        after_help = "Examples:\n  agentbus config check --config node.toml --tenants tenants.toml\n  agentbus config check --config node.toml --connect"
    )]
    Check(CheckArgs),
    /// Print the configuration that `agentbus node` would run with, as TOML with the meaning of each key
    #[command(
        after_help = "Examples:\n  agentbus config show\n  agentbus config show --set limits.deadline=500ms"
    )]
    Show(Settings),
}

#[derive(Debug, Args)]
struct CheckArgs {
    #[command(flatten)]
    settings: Settings,
    /// Go on: connect to NATS, Redis and the webhook, and look for the streams
    #[arg(long)]
    connect: bool,
    /// Say what the thresholds of these tenants would park, by this node's weights, model and heads [default: the
    /// usual threshold]
    #[arg(long, value_name = "FILE")]
    tenants: Option<PathBuf>,
}

pub async fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ConfigCommand::Check(args) => {
            let config = args.settings.load()?;
            let plan = args
                .tenants
                .as_ref()
                .map(|path| Plan::load(path).with_context(|| format!("in {}", path.display())));
            let plan = plan.transpose()?;
            let (checked, model) = app::check(&config).await?;
            sayln!("configuration of node {} is good", config.node.name)?;
            let gauge = scores::gauge(&config.impact, &model).await;
            for line in plan.map_or_else(|| gauge.tell_usual(), |plan| gauge.tell(plan.tenants())) {
                sayln!("{line}")?;
            }
            if args.connect {
                return reached(app::reach(&config, checked).await);
            }
        }
        ConfigCommand::Show(settings) => say(&keys::show(&settings.load()?)?)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each thing that was tried.
fn reached(tried: Vec<app::Tried>) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for (what, found) in tried {
        match found {
            Ok(told) => sayln!("ok      {what}: {told}")?,
            Err(error) => {
                code = ExitCode::FAILURE;
                sayln!("FAILED  {what}: {}", causes(error.as_ref()))?;
            }
        }
    }
    Ok(code)
}
