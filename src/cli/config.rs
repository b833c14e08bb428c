//! `agentbus config`: checks and shows what a node would run with.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::node::Settings;
use crate::{config::keys, tenants::Seed, webhook::Webhook};

#[derive(Debug, Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Read all sources as `agentbus node` would, and say whether they are good
    Check(Settings),
    /// Print the configuration that `agentbus node` would run with, as TOML with the meaning of each key
    Show(Settings),
}

pub fn run(args: ConfigArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ConfigCommand::Check(settings) => {
            let config = settings.load()?;
            crate::app::load_policy(&config.policy)?;
            if let Some(path) = &config.nats.nkey_file {
                Seed::read(path).context("nats.nkey_file")?;
            }
            if let Some(path) = &config.nats.kicker_nkey_file {
                Seed::read(path).context("nats.kicker_nkey_file")?;
            }
            if let Some(redis) = &config.redis {
                crate::app::redis_settings(redis)?;
            }
            if let Some(webhook) = &config.webhook {
                Webhook::open(webhook)?;
            }
            println!("configuration of node {} is good", config.node.name);
        }
        ConfigCommand::Show(settings) => print!("{}", keys::show(&settings.load()?)?),
    }
    Ok(ExitCode::SUCCESS)
}
