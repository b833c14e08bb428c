//! What can be asked of a profile, and of its reports?

use std::{path::PathBuf, time::Duration};

use clap::Args;

use super::{Output, Program};

#[derive(Debug, Clone, Args)]
pub(crate) struct RunOptions {
    /// One that ships, or a file: PROFILE or FILE.toml
    #[arg(value_name = "PROFILE")]
    pub(crate) profile: String,
    /// Turns of each side, instead of what the profile says
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    #[command(flatten)]
    pub(crate) aim: AimOptions,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Print how to look into the nodes by `perf` while their turn lasts
    #[arg(long)]
    pub(crate) perf: bool,
    #[command(flatten)]
    pub(crate) program: Program,
}

/// A bus that is already there.
#[derive(Debug, Clone, Args)]
pub(crate) struct AimOptions {
    /// Aim at a running bus, and start no servers
    #[arg(long, value_name = "URL", requires = "keys")]
    pub(crate) server: Option<String>,
    /// The folder that `agentbus tenants generate` made of what `loadtest tenants PROFILE` prints
    #[arg(long, value_name = "DIR", requires = "server")]
    pub(crate) keys: Option<PathBuf>,
    /// Messages a second that a running bus may be sent
    #[arg(long, value_name = "RATE", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate_max: u32,
    /// How long a running bus may be under load
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    pub(crate) time_max: Duration,
    /// Do not ask before a running bus on another machine is put under load
    #[arg(long)]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CompareOptions {
    /// A report of `loadtest run --json`
    #[arg(value_name = "BEFORE.json")]
    pub(crate) before: PathBuf,
    /// Another one, of the same profile
    #[arg(value_name = "AFTER.json")]
    pub(crate) after: PathBuf,
    /// Exit with 1 when a figure is worse by more than so many percent, and not by noise alone
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) fail_above: Option<f64>,
}

fn percent(text: &str) -> Result<f64, String> {
    let found: f64 = text.parse().map_err(|_| format!("found {text:?}, expected percent"))?;
    match (0.0..=1000.0).contains(&found) {
        true => Ok(found),
        false => Err(format!("found {found}, expected 0 to 1000 percent")),
    }
}
