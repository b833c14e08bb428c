//! `agentbus policy`: which policy the nodes have in force, and how another takes its place.

use std::process::ExitCode;

use clap::{Args, Subcommand};

mod changes;
mod check;
mod diff;
mod events;
mod local;
mod nodes;
mod push;
mod replay;
mod shadow;

pub(super) use local::sources_at;

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
agentbus policy push policies/ --revision v42")]
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
    /// Compile a policy and run its tests, as a node does
    #[command(
        after_help = "Examples:\n  agentbus policy test policies/\n  agentbus policy test bundle.tar.gz"
    )]
    Test(local::TestArgs),
    /// Look for what compiles and still cannot be meant: misspelled paths of `input`, words that nobody has,
    /// comparisons that never hold, obligations that nobody can honour
    #[command(
        after_help = "Exit codes: 0 nothing is wrong; 1 something is, or it does not compile; 2 usage.\n\n\
Examples:\n  \
agentbus policy check policies/\n  \
agentbus policy check policies/ --tenants tenants.toml"
    )]
    Check(check::CheckArgs),
    /// Make a bundle of a folder, once it compiles and its tests pass
    ///
    /// It is OPA's format, as `opa build` makes it, and bears the time at which it was made.
    #[command(after_help = "Examples:\n  \
agentbus policy build policies/ --revision v42\n  \
agentbus policy build policies/ --revision v42 --for opa --output opa.tar.gz")]
    Build(local::BuildArgs),
    /// Put a policy in force on all nodes that follow the bus, and wait until they have it
    #[command(
        after_help = "Exit codes: 0 in force on all of them; 1 failure, or some have not; 2 usage.\n\n\
Examples:\n  \
agentbus policy push policies/ --revision v42\n  \
agentbus policy push bundle.tar.gz"
    )]
    Push(push::PushArgs),
    /// Put a policy in force again that was pushed before
    #[command(
        after_help = "Exit codes: 0 in force on all nodes that follow the bus; 1 failure, or some have not;\n\
2 usage.\n\nExamples:\n  \
agentbus policy rollback\n  \
agentbus policy rollback --to v41"
    )]
    Rollback(push::RollbackArgs),
    /// Have a candidate judge beside the policy in force, with no effect
    #[command(after_help = shadow::HELP)]
    Shadow(shadow::ShadowArgs),
    /// Show what the candidate beside the policy would change
    #[command(after_help = diff::HELP)]
    Diff(diff::DiffArgs),
    /// Print what the policy decided, one event of OPA's decision log a line
    ///
    /// Nodes log it where policy.log.share of their configuration is above 0.
    #[command(after_help = "Examples:\n  \
agentbus policy log --since 1h\n  \
agentbus policy log --since 30days --tenant acme > acme.jsonl")]
    Log(events::LogArgs),
    /// Say what another policy would have decided of what was logged
    #[command(after_help = replay::HELP)]
    Replay(replay::ReplayArgs),
}

pub(super) async fn run(args: PolicyArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Status(args) => nodes::status(args).await,
        Command::Reload(args) => nodes::reload(args).await,
        Command::Test(args) => local::test(&args),
        Command::Check(args) => check::run(&args),
        Command::Build(args) => local::build(&args),
        Command::Push(args) => push::push(args).await,
        Command::Rollback(args) => push::rollback(args).await,
        Command::Shadow(args) => shadow::run(args).await,
        Command::Diff(args) => diff::run(args).await,
        Command::Log(args) => events::log(args).await,
        Command::Replay(args) => replay::run(args).await,
    }
}
