//! The command line, one file per subcommand.
//!
//! Exit codes: 0 done, delivered or stored, 1 failure, 2 usage, 3 denied, 4 waiting for deliberation.

use std::process::ExitCode;

use agentbus::phrase::causes;
use clap::{Parser, Subcommand};

#[macro_use]
mod output;

mod agents;
mod chaos;
mod config;
mod constitution;
mod context;
mod dead_letters;
mod deliberations;
mod demo;
mod doctor;
mod durable;
mod explain;
mod freeze;
mod health;
#[cfg(feature = "model")]
mod impact;
mod in_force;
mod inbox;
mod input;
mod judge;
mod known;
#[cfg(feature = "model")]
mod limits;
#[cfg(feature = "model")]
mod model;
mod node;
mod operator;
mod paint;
mod parked;
mod policy;
mod printable;
#[cfg(feature = "model")]
mod progress;
mod records;
mod recover;
mod score;
mod send;
mod server;
mod share;
mod status;
pub mod tenants;
pub mod up;
mod usage;
mod verdict;
mod watch;

/// A governed message bus for AI agents on NATS.
#[derive(Debug, Parser)]
#[command(
    version,
    about,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "Examples:\n  agentbus demo\n  agentbus up --nodes 2"
)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Play a scene: the whole bus on this machine for some seconds, with agents that use and abuse it
    Demo(demo::DemoArgs),
    /// Start NATS, Redis and nodes with two example tenants, to play and to develop
    Up(up::UpArgs),
    /// Send one message as an agent, and see its verdict
    Send(Box<send::SendArgs>),
    /// Be an agent, and see what is delivered
    Inbox(inbox::InboxArgs),
    /// See what waits for reviewers, and vote on it
    Deliberations(deliberations::DeliberationsArgs),
    /// List the live agents of a tenant
    Agents(agents::AgentsArgs),
    /// Check the way there and back with an agent's key, and say what to do
    Doctor(doctor::DoctorArgs),
    /// Run one node; any number share the work
    Node(node::NodeArgs),
    /// Ask the node that runs here how it is
    Health(health::HealthArgs),
    /// Generate and apply the NATS accounts of tenants and agents
    Tenants(tenants::TenantsArgs),
    /// See what could not be governed, and try it again or give it up
    DeadLetters(dead_letters::DeadLettersArgs),
    /// See how all nodes of the bus are, on one screen
    Status(status::StatusArgs),
    /// Have all nodes try again what they have left alone, and connect to it anew
    Recover(recover::RecoverArgs),
    /// See what tenants and agents have used, by hours, and what it costs
    Usage(usage::UsageArgs),
    /// Stop a tenant, an agent, a conversation or everything, on all nodes at once
    Freeze(freeze::FreezeArgs),
    /// Let go on what was stopped
    Thaw(freeze::ThawArgs),
    /// See what is stopped, on each node, and by whom
    Freezes(freeze::ListArgs),
    /// Say why a message was decided so: stages, rules, impact, votes, and what became of it
    Explain(explain::ExplainArgs),
    /// Print what is on record, such as all of one agent or one message
    Records(records::RecordsArgs),
    /// Let messages name another constitution, on all nodes before anybody has to
    Constitution(constitution::ConstitutionArgs),
    /// See which policy the nodes have in force, and have another take its place
    Policy(policy::PolicyArgs),
    /// Say how harmful texts or messages sound: lines of JSON in, lines of JSON out
    Score(score::ScoreArgs),
    /// Look at the impact model, measure it, and make a head for another one
    #[cfg(feature = "model")]
    Model(model::ModelArgs),
    /// Try another head, other weights or another threshold on messages that are known
    #[cfg(feature = "model")]
    Impact(impact::ImpactArgs),
    /// Break something in a fleet to develop with, and see whether what should hold does
    Chaos(chaos::ChaosArgs),
    /// Check or show a node's configuration
    Config(config::ConfigArgs),
}

/// Reads the arguments and runs the command. Errors go to stderr as one line with their causes.
pub async fn main() -> ExitCode {
    let done = match Arguments::try_parse() {
        Ok(arguments) => run(arguments).await,
        Err(told) => output::usage(&told).map_err(Into::into),
    };
    done.unwrap_or_else(|error| {
        eprintln!("agentbus: {}", causes(error.as_ref()));
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Demo(args) => demo::run(args).await,
        Command::Send(args) => send::run(*args).await,
        Command::Inbox(args) => inbox::run(args).await,
        Command::Deliberations(args) => deliberations::run(args).await,
        Command::Agents(args) => agents::run(args).await,
        Command::Doctor(args) => doctor::run(args).await,
        Command::Up(args) => up::run(args).await,
        Command::Node(args) => node::run(args).await,
        Command::Health(args) => health::run(args).await,
        Command::Tenants(args) => tenants::run(args).await,
        Command::DeadLetters(args) => dead_letters::run(args).await,
        Command::Status(args) => status::run(args).await,
        Command::Recover(args) => recover::run(args).await,
        Command::Usage(args) => usage::run(args).await,
        Command::Freeze(args) => freeze::freeze(args).await,
        Command::Thaw(args) => freeze::thaw(args).await,
        Command::Freezes(args) => freeze::list(args).await,
        Command::Explain(args) => explain::run(args).await,
        Command::Records(args) => records::run(args).await,
        Command::Constitution(args) => constitution::run(args).await,
        Command::Policy(args) => policy::run(args).await,
        Command::Score(args) => score::run(&args),
        #[cfg(feature = "model")]
        Command::Model(args) => model::run(args),
        #[cfg(feature = "model")]
        Command::Impact(args) => impact::run(args),
        Command::Chaos(args) => chaos::run(args).await,
        Command::Config(args) => config::run(args).await,
    }
}
