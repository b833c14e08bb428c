//! How fast is the bus, beside what the same NATS server could do at all?
//!
//! Every speed is a ratio: a bare echo node and a real `agentbus node` take turns on one NATS server,
//! with the same client, the same payloads and the same accounts. `docs/benchmarks.md` says what each
//! figure means.
//!
//! - [`run`]: profiles, all that is measured over NATS. [`compare`]: two of its reports.
//! - [`measure`]: the figures to beat, each by its name, and [`targets`]: were they?
//! - [`hot`]: the stages of a message by themselves. [`instructions`]: has one of them become dearer?
//! - [`html`], [`tables`], [`spread`]: how figures look, and what several rounds say.
//! - [`echo`], [`bare`]: the baselines. [`inbox`]: how durable inboxes are read. [`rig`]: what all have in common.
//! - [`chaos`]: whether the durable lane keeps its promise while its servers die.
//! - [`attack`]: whether hostile bytes hurt the bus, or anybody on it.
//! - [`polls`]: how long tasks keep a thread of the runtime.
//! - [`cpu`], [`stages`], [`parts`], [`trips`]: where the time goes, and the way to the servers and back.
//! - [`options`]: what can be asked for.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command-line tool talks on the terminal"
)]

use std::process::ExitCode;

use clap::Parser as _;
use options::Command;

/// The bus's own, for both sides.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod attack;
mod bare;
mod chaos;
mod compare;
mod cpu;
mod echo;
mod hot;
mod html;
mod inbox;
mod instructions;
mod measure;
mod options;
mod parts;
mod polls;
mod rig;
mod run;
mod spread;
mod stages;
mod tables;
mod targets;
mod trips;

fn main() -> ExitCode {
    match execute(options::Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(arguments: options::Arguments) -> anyhow::Result<()> {
    let measures = matches!(arguments.command, Command::Run(_) | Command::Measure(_) | Command::Polls(_));
    if cfg!(debug_assertions) && measures {
        eprintln!("loadtest: a development build; its figures mean nothing. Build with --release.");
    }
    match arguments.command {
        Command::Parts => parts::run(std::io::stdin().lock()),
        Command::Profiles { name } => run::shelf::show(name.as_deref()),
        Command::Tenants { profile } => run::show_tenants(&profile),
        Command::Compare(options) => compare::run(&options),
        Command::Instructions(options) => instructions::run(&options),
        // On this thread alone, without a runtime beside it.
        Command::Work => instructions::work(),
        Command::Run(options) => wait(run::run(&options)),
        Command::LoadClient => wait(run::client::run()),
        Command::Measure(options) => wait(measure::run(&options)),
        Command::Attack(options) => wait(attack::run(&options)),
        Command::Polls(options) => wait(polls::run(&options)),
        Command::Chaos(options) => wait(chaos::run(&options)),
        Command::Stops(options) => wait(chaos::stops(&options)),
        Command::BareNode(options) => wait(bare::run(&options)),
        Command::EchoNode(options) => wait(echo::run(&options)),
    }
}

fn wait(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}
