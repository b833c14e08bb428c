//! `agentbus model`: what the impact model is, whether it is whole, how fast, how good, and a new head.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod bench;
mod checks;
mod evaluate;
mod guard;
mod info;
mod train_head;
mod verify;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus model info\n  \
agentbus model verify")]
pub struct ModelArgs {
    #[command(subcommand)]
    command: ModelCommand,
}

#[derive(Debug, Subcommand)]
enum ModelCommand {
    /// Show which model it is, where it comes from, and how it computes on this CPU
    Info(info::InfoArgs),
    /// Check that the files belong together and that every way to compute gives the known answers
    Verify(verify::VerifyArgs),
    /// Measure how fast it is
    Bench(bench::BenchArgs),
    /// Make a head for an encoder, from texts with labels
    TrainHead(train_head::TrainHeadArgs),
    /// Say how good it is on texts with labels
    Evaluate(evaluate::EvaluateArgs),
}

pub(super) fn run(args: ModelArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ModelCommand::Info(args) => info::run(&args),
        ModelCommand::Verify(args) => verify::run(&args),
        ModelCommand::Bench(args) => bench::run(&args),
        ModelCommand::TrainHead(args) => train_head::run(&args),
        ModelCommand::Evaluate(args) => evaluate::run(&args),
    }
}
