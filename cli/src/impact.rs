//! `agentbus impact`: what would another head, other weights or another threshold have parked?

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod replay;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus impact replay --file judged.jsonl --threshold 0.85\n  \
agentbus impact replay --file judged.jsonl --head acme.json")]
pub struct ImpactArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run recorded or exported messages through another head, weights or threshold, and say what would
    /// have been parked
    Replay(replay::ReplayArgs),
}

pub(super) fn run(args: ImpactArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Replay(args) => replay::run(&args),
    }
}
