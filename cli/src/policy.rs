//! `agentbus policy`: which policy the nodes have in force, and how another takes its place.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod nodes;

/// What `--help` says last of a command that asks all nodes.
macro_rules! with_codes {
    ($one:literal, $other:literal) => {
        concat!(
            "Exit codes: 0 all nodes have the same policy and refuse none; 1 failure, or they do not; 2 usage.\n\n\
             Examples:\n  ",
            $one,
            "\n  ",
            $other
        )
    };
}

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus policy status\n  \
agentbus policy reload")]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show which policy each node has in force, and why it has refused another
    #[command(after_help = with_codes!("agentbus policy status", "agentbus policy status --json"))]
    Status(nodes::NodesArgs),
    /// Have all nodes read their policy folder again
    ///
    /// A node compiles what it finds, runs its tests and tries it on questions of late before messages are judged
    /// by it. With anything wrong it keeps the policy that it has, and says why.
    #[command(after_help = with_codes!("agentbus policy reload", "agentbus policy reload --json"))]
    Reload(nodes::NodesArgs),
}

pub(super) async fn run(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Status(args) => nodes::status(args).await,
        Command::Reload(args) => nodes::reload(args).await,
    }
}
