//! What can be asked of the figures to beat?

use std::path::PathBuf;

use clap::{Args, builder::PossibleValuesParser};

use super::{Output, Program};
use crate::measure::catalogue::names;

#[derive(Debug, Clone, Args)]
pub(crate) struct MeasureOptions {
    /// Only these; all but G8 and the soak unless said
    #[arg(value_name = "FIGURE", ignore_case = true, value_parser = PossibleValuesParser::new(names()))]
    pub(crate) figures: Vec<String>,
    /// Turns of each side, instead of five
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: Option<u32>,
    #[command(flatten)]
    pub(crate) output: Output,
    /// Put the tables into this page, between its two marks
    #[arg(long, value_name = "FILE")]
    pub(crate) page: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) program: Program,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InstructionsOptions {
    /// What was recorded
    #[arg(long, value_name = "FILE", default_value = "loadtest/instructions.toml")]
    pub(crate) recorded: PathBuf,
    /// Record what was counted, instead of comparing
    #[arg(long)]
    pub(crate) write: bool,
}
