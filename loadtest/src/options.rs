//! What can be asked of the load test?

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use agentbus::tenants::DiskSync;
use clap::{
    Args, Parser, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use crate::{attack::kinds::KINDS, chaos::havoc::Break};

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
    /// What the NATS server, the accounts and the client can do without any governing
    Baseline(LoadOptions),
    /// Governed messages, in turns with the baseline: the ratios
    Send(LoadOptions),
    /// Single stages in this process: decoding, policy, impact, verdicts
    Micro(MicroOptions),
    /// Messages that need no model, while the model is saturated by others (P11)
    Impact(ImpactOptions),
    /// The durable lane, in turns with bare JetStream streams
    Durable(DurableOptions),
    /// Hostile tries by real clients and raw sockets: none may succeed
    Attack(AttackOptions),
    /// For how long a task keeps a thread of the runtime: under honest load, and under hostile bodies
    Polls(PollsOptions),
    /// A bus whose servers are killed while messages are submitted: nothing lost, nothing doubled
    Chaos(ChaosOptions),
    /// Nodes that are stopped with SIGTERM under load: nothing lost, nothing doubled
    Stops(StopsOptions),
    /// Everything, into the tables of docs/benchmarks.md
    Report(ReportOptions),
    /// Which part of the node takes which share of a profile: `perf script` on stdin
    Parts,
    /// A client process of `run`, which starts it
    #[command(hide = true)]
    LoadClient,
    /// The baseline's node; the others start it
    #[command(hide = true)]
    EchoNode(EchoOptions),
    /// The bare side's node of `durable`
    #[command(hide = true)]
    BareNode(BareOptions),
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
    /// Write the report as JSON, with its histograms
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report as one page with charts
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
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

#[derive(Debug, Clone, Args)]
pub(crate) struct LoadOptions {
    /// Requests that wait for their answer at one time; one measurement for each
    #[arg(long, value_delimiter = ',', default_values_t = [1, 16, 64, 256], value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) in_flight: Vec<u16>,
    /// Open loop: messages a second, sent whether or not answers come; 0 leaves it out
    #[arg(long, default_value_t = 6310)]
    pub(crate) rate: u32,
    /// Turns of each side
    #[arg(long, default_value = "5")]
    pub(crate) rounds: NonZeroU32,
    /// Length of one measurement
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Before each measurement, not counted
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Bytes of one request
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    pub(crate) payload: u32,
    /// The node keeps registry and idempotency in memory, not in Redis
    #[arg(long)]
    pub(crate) memory: bool,
    /// Print how to profile the node while its turn lasts
    #[arg(long)]
    pub(crate) profile: bool,
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl LoadOptions {
    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ImpactOptions {
    /// Measured messages a second, open loop
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Long texts a second beside them
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) flood: u32,
    /// Turns of each flood
    #[arg(long, default_value = "5")]
    pub(crate) rounds: NonZeroU32,
    /// Length of one measurement
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Before each measurement, not counted
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Bytes of one measured message
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    pub(crate) payload: u32,
    /// Lines of the node's configuration, as impact.threads=1; can be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl ImpactOptions {
    /// With the defaults, in as many rounds and of the same program as another measurement.
    pub(crate) fn beside(load: &LoadOptions) -> Self {
        Self {
            rate: 500,
            flood: 400,
            rounds: load.rounds,
            seconds: 3.0,
            warm_up: load.warm_up,
            payload: load.payload,
            set: Vec::new(),
            agentbus: load.agentbus.clone(),
            json: None,
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct DurableOptions {
    /// Messages on their way at one time; one measurement for each
    #[arg(long, value_delimiter = ',', default_values_t = [64, 256], value_parser = clap::value_parser!(u16).range(1..=512))]
    pub(crate) in_flight: Vec<u16>,
    /// Turns of each side
    #[arg(long, default_value = "5")]
    pub(crate) rounds: NonZeroU32,
    /// Length of one measurement
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Before each measurement, not counted
    #[arg(long, default_value_t = 0.5, value_parser = seconds)]
    pub(crate) warm_up: f64,
    /// Bytes of one message
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(256..=65_536))]
    pub(crate) payload: u32,
    /// When the server syncs what it has stored: 2m, or always, before it acknowledges it
    #[arg(long, value_name = "WHEN", default_value_t = DiskSync::default())]
    pub(crate) sync: DiskSync,
    /// Print how to profile the node while its turn lasts
    #[arg(long)]
    pub(crate) profile: bool,
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

impl DurableOptions {
    /// With the defaults, in as many rounds and of the same program as another measurement.
    pub(crate) fn beside(load: &LoadOptions) -> Self {
        Self {
            in_flight: vec![64, 256],
            rounds: load.rounds,
            seconds: load.seconds,
            warm_up: load.warm_up,
            payload: load.payload,
            sync: DiskSync::default(),
            profile: false,
            agentbus: load.agentbus.clone(),
            json: None,
        }
    }

    pub(crate) fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    pub(crate) fn warm_up(&self) -> Duration {
        Duration::from_secs_f64(self.warm_up)
    }
}

#[derive(Debug, Args)]
pub(crate) struct BareOptions {
    #[arg(long)]
    pub(crate) nats: String,
    /// Seed of the BUS user `node`
    #[arg(long)]
    pub(crate) nkey_file: PathBuf,
    #[arg(long)]
    pub(crate) tenant: String,
    /// Whose durable inbox gets every payload
    #[arg(long)]
    pub(crate) recipient: String,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct MicroOptions {
    /// Measurements of each stage
    #[arg(long, default_value = "11")]
    pub(crate) rounds: NonZeroU32,
    /// Length of one measurement, in milliseconds
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) millis: u32,
    /// Write the figures as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct AttackOptions {
    /// All tries, each on every verb, and floods that last longer
    #[arg(long)]
    pub(crate) full: bool,
    /// Only these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = PossibleValuesParser::new(KINDS))]
    pub(crate) only: Vec<String>,
    /// The program under attack; unless said, the one beside this
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PollsOptions {
    /// Of honest load
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Kinds of hostile tries
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_values = ["headers", "bodies", "texts", "guises", "votes", "lanes", "garbage", "heavy"], value_parser = PossibleValuesParser::new(KINDS))]
    pub(crate) only: Vec<String>,
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct ChaosOptions {
    /// So many acknowledged messages are enough
    #[arg(long, default_value_t = 1500)]
    pub(crate) acked: usize,
    /// At most so long; unless said, forty seconds, or one for each twenty messages
    #[arg(long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Messages a second, all senders together
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Messages that wait for their acknowledgement at one time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) in_flight: u16,
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) nodes: u8,
    /// What is broken, one of them each time
    #[arg(long = "break", value_enum, value_delimiter = ',', default_values = ["node", "nats", "redis"])]
    pub(crate) breaks: Vec<Break>,
    /// Seconds from one break to the next
    #[arg(long, default_value_t = 2.0, value_parser = seconds)]
    pub(crate) every: f64,
    /// For the same choices as another run; the timing is the machine's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where the books go that the check reads
    #[arg(long, value_name = "DIR", default_value = "target/chaos")]
    pub(crate) logs: PathBuf,
    /// Only check the books of a run that is over
    #[arg(long, value_name = "DIR")]
    pub(crate) check: Option<PathBuf>,
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct StopsOptions {
    /// So many nodes are stopped, and started again
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000).map(|stops| stops as usize))]
    pub(crate) stops: usize,
    /// Messages a second, all senders together
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) rate: u32,
    /// Messages that wait for their acknowledgement at one time
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) in_flight: u16,
    /// Seconds from one stop to the next
    #[arg(long, default_value_t = 1.0, value_parser = seconds)]
    pub(crate) every: f64,
    /// For the same choices as another run; the timing is the machine's
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Where the books go that the check reads
    #[arg(long, value_name = "DIR", default_value = "target/stops")]
    pub(crate) logs: PathBuf,
    /// The bus's program; the one beside this one unless said
    #[arg(long, value_name = "FILE")]
    pub(crate) agentbus: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct ReportOptions {
    #[command(flatten)]
    pub(crate) load: LoadOptions,
    /// The page whose tables are replaced, between its two marks
    #[arg(long, value_name = "FILE", default_value = "docs/benchmarks.md")]
    pub(crate) page: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct EchoOptions {
    #[arg(long)]
    pub(crate) nats: String,
    /// Seed of the BUS user `node`
    #[arg(long)]
    pub(crate) nkey_file: PathBuf,
    /// Whose inbox gets every payload
    #[arg(long)]
    pub(crate) recipient: String,
}

fn seconds(text: &str) -> Result<f64, String> {
    let found: f64 = text.parse().map_err(|_| format!("found {text:?}, expected seconds"))?;
    match (0.05..=3600.0).contains(&found) {
        true => Ok(found),
        false => Err(format!("found {found}, expected 0.05 to 3600 seconds")),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    let found: f64 = text.parse().map_err(|_| format!("found {text:?}, expected percent"))?;
    match (0.0..=1000.0).contains(&found) {
        true => Ok(found),
        false => Err(format!("found {found}, expected 0 to 1000 percent")),
    }
}
