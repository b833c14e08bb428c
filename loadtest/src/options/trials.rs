//! What can be asked of those that break and attack?

use std::path::PathBuf;

use clap::{
    Args,
    builder::{PossibleValuesParser, TypedValueParser as _},
};

use super::{Program, seconds};
use crate::{attack::kinds::KINDS, chaos::havoc::Break};

#[derive(Debug, Clone, Args)]
pub(crate) struct AttackOptions {
    /// All tries, each on every verb, and floods that last longer
    #[arg(long)]
    pub(crate) full: bool,
    /// Only these kinds
    #[arg(long, value_name = "KIND", value_delimiter = ',', value_parser = PossibleValuesParser::new(KINDS))]
    pub(crate) only: Vec<String>,
    #[command(flatten)]
    pub(crate) program: Program,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PollsOptions {
    /// Of honest load
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Kinds of hostile tries
    #[arg(long, value_name = "KIND", value_delimiter = ',', default_values = ["headers", "bodies", "texts", "guises", "votes", "lanes", "garbage", "heavy"], value_parser = PossibleValuesParser::new(KINDS))]
    pub(crate) only: Vec<String>,
    #[command(flatten)]
    pub(crate) program: Program,
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
    #[command(flatten)]
    pub(crate) program: Program,
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
    #[command(flatten)]
    pub(crate) program: Program,
}
