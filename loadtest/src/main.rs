//! How fast is the bus, beside what the same NATS server could do at all?
//!
//! Every speed is a ratio: a bare echo node and a real `agentbus node` take turns on one NATS server,
//! with the same client, the same payloads and the same accounts. `docs/benchmarks.md` says what each
//! figure means.
//!
//! - [`run`]: profiles, the way to measure that others would use. [`compare`]: two of its reports. [`html`]: one to
//!   look at.
//! - [`options`]: what can be asked for. [`rig`]: servers, agents, and whose turn it is.
//! - [`echo`]: the baseline. [`load`]: closed and open loop. [`message`]: what is sent.
//! - [`rounds`]: the turns. [`figures`]: medians and ratios, as JSON. [`tables`]: the same to read.
//! - [`impact`]: messages that need no model, beside a flood of those that do.
//! - [`durable`]: the durable lane beside JetStream alone.
//! - [`chaos`]: whether the durable lane keeps its promise while its servers die.
//! - [`attack`]: whether hostile bytes hurt the bus, or anybody on it.
//! - [`polls`]: how long tasks keep a thread of the runtime.
//! - [`cpu`], [`stages`], [`parts`]: where the time goes. [`micro`]: single stages in this process.
//! - [`targets`]: which figures were to be beaten. [`trips`]: the way to the servers and back.
//! - [`report`]: all of it into `docs/benchmarks.md`.

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
mod chaos;
mod compare;
mod cpu;
mod durable;
mod echo;
mod figures;
mod html;
mod impact;
mod load;
mod message;
mod micro;
mod options;
mod parts;
mod polls;
mod report;
mod rig;
mod rounds;
mod run;
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
    let measures = !matches!(
        arguments.command,
        Command::Attack(_)
            | Command::Chaos(_)
            | Command::Stops(_)
            | Command::Profiles { .. }
            | Command::Tenants { .. }
            | Command::Compare(_)
            | Command::LoadClient
    );
    if cfg!(debug_assertions) && measures {
        eprintln!("loadtest: a development build; its figures mean nothing. Build with --release.");
    }
    // In-process figures are taken on this thread alone, without a runtime beside them.
    let command = match arguments.command {
        Command::Micro(options) => return micro::run(&options).map(drop),
        Command::Parts => return parts::run(std::io::stdin().lock()),
        Command::Profiles { name } => return run::shelf::show(name.as_deref()),
        Command::Tenants { profile } => return run::show_tenants(&profile),
        Command::Compare(options) => return compare::run(&options),
        command => command,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match command {
            Command::Run(options) => run::run(&options).await,
            Command::LoadClient => run::client::run().await,
            Command::Baseline(options) => rounds::baseline(&options).await.map(drop),
            Command::Send(options) => rounds::send(&options).await.map(drop),
            Command::Impact(options) => impact::run(&options).await.map(|(text, _)| println!("{text}")),
            Command::Attack(options) => attack::run(&options).await,
            Command::Polls(options) => polls::run(&options).await.map(|text| println!("{text}")),
            Command::Chaos(options) => chaos::run(&options).await,
            Command::Stops(options) => chaos::stops(&options).await,
            Command::Durable(options) => durable::run(&options).await.map(|(text, _)| println!("{text}")),
            Command::BareNode(options) => durable::bare::run(&options).await,
            Command::Report(options) => report::run(&options).await,
            Command::EchoNode(options) => echo::run(&options).await,
            Command::Micro(_)
            | Command::Parts
            | Command::Profiles { .. }
            | Command::Tenants { .. }
            | Command::Compare(_) => Ok(()),
        }
    })
}
