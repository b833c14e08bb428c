//! What can be asked of the load test?
//!
//! - [`run`]: a profile, and its reports. [`measure`]: the figures to beat. [`trials`]: what breaks and attacks.
//!   [`sides`]: what the processes are told that stand beside the bus.

use std::path::PathBuf;

use anyhow::ensure;
use clap::{Args, Parser, Subcommand};

pub(crate) use measure::{InstructionsOptions, MeasureOptions};
pub(crate) use run::{AimOptions, CompareOptions, RunOptions};
pub(crate) use sides::{BareOptions, EchoOptions};
pub(crate) use trials::{AttackOptions, ChaosOptions, PollsOptions, StopsOptions};

mod measure;
mod run;
mod sides;
mod trials;

/// Measures the bus beside a bare echo on the same NATS server.
#[derive(Debug, Parser)]
#[command(version, about, arg_required_else_help = true, max_term_width = 100)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// A profile, its sides in turns: rates, latencies, errors, processor time and memory
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunOptions),
    /// The profiles that ship, with a line each
    #[command(after_help = PROFILES_EXAMPLES)]
    Profiles {
        /// Print this one, to start one's own from
        #[arg(value_name = "PROFILE")]
        name: Option<String>,
    },
    /// The tenants file that a running bus needs for a profile
    #[command(after_help = TENANTS_EXAMPLES)]
    Tenants {
        /// One that ships, or a file: PROFILE or FILE.toml
        #[arg(value_name = "PROFILE")]
        profile: String,
    },
    /// Two reports of `run` side by side: what has changed, beyond noise
    #[command(after_help = COMPARE_EXAMPLES)]
    Compare(CompareOptions),
    /// The figures to beat, each by its name
    #[command(after_help = crate::measure::catalogue::help())]
    Measure(MeasureOptions),
    /// Instructions that each stage of a message takes, against those that are recorded; by valgrind
    Instructions(InstructionsOptions),
    /// Hostile tries by real clients and raw sockets: none may succeed
    Attack(AttackOptions),
    /// For how long a task keeps a thread of the runtime: under honest load, and under hostile bodies
    Polls(PollsOptions),
    /// A bus whose servers are killed while messages are submitted: nothing lost, nothing doubled
    Chaos(ChaosOptions),
    /// Nodes that are stopped with SIGTERM under load: nothing lost, nothing doubled
    Stops(StopsOptions),
    /// Which part of the node takes which share of a profile: `perf script` on stdin
    Parts,
    /// A client process of `run`, which starts it
    #[command(hide = true)]
    LoadClient,
    /// The baseline's node; the others start it
    #[command(hide = true)]
    EchoNode(EchoOptions),
    /// The baseline's node of what is submitted
    #[command(hide = true)]
    BareNode(BareOptions),
    /// Every stage of a message again and again, for `instructions` to count
    #[command(hide = true)]
    Work,
}

const RUN_EXAMPLES: &str = "Examples:
  loadtest run smoke
  loadtest run saturate --json before.json --html before.html
  loadtest run mine.toml --server nats://127.0.0.1:4222 --keys ./bus";
const PROFILES_EXAMPLES: &str = "Examples:
  loadtest profiles
  loadtest profiles saturate > mine.toml";
const TENANTS_EXAMPLES: &str = "Examples:
  loadtest tenants ask > tenants.toml
  loadtest tenants mine.toml | less";
const COMPARE_EXAMPLES: &str = "Examples:
  loadtest compare before.json after.json
  loadtest compare before.json after.json --fail-above 10";

/// As it was typed, for the figures.
pub(crate) fn command() -> String {
    std::env::args().skip(1).fold("loadtest".to_owned(), |line, arg| format!("{line} {arg}"))
}

/// What is measured or attacked.
#[derive(Debug, Clone, Args)]
pub(crate) struct Program {
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    agentbus: Option<PathBuf>,
}

impl Program {
    pub(crate) fn path(&self) -> anyhow::Result<PathBuf> {
        if let Some(path) = &self.agentbus {
            return Ok(path.clone());
        }
        let path = std::env::current_exe()?.with_file_name("agentbus");
        ensure!(
            path.is_file(),
            "{} is not there; build it with `cargo build --release --bins`",
            path.display()
        );
        Ok(path)
    }
}

/// Where a report goes beside the terminal.
#[derive(Debug, Clone, Args)]
pub(crate) struct Output {
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as one page with charts
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    let found: f64 = text.parse().map_err(|_| format!("found {text:?}, expected seconds"))?;
    match (0.05..=3600.0).contains(&found) {
        true => Ok(found),
        false => Err(format!("found {found}, expected 0.05 to 3600 seconds")),
    }
}
