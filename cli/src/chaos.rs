//! `agentbus chaos`: what happens when something breaks? Experiments with a development fleet: each says beforehand what should
//! hold, breaks one thing for a while, and looks whether it did.

use std::{fs, path::PathBuf, process::ExitCode};

use agentbus::servers::control::stop_file;
use anyhow::Context as _;
use clap::{Args, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::output::say;

mod experiment;
mod findings;
mod fleet;
mod shown;
mod trial;

use experiment::Experiment;
use findings::Findings;
use fleet::Fleet;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus chaos list\n  \
agentbus chaos run redis-stalls --own")]
pub(super) struct ChaosArgs {
    #[command(subcommand)]
    command: ChaosCommand,
}

#[derive(Debug, Subcommand)]
enum ChaosCommand {
    /// See which experiments there are, and what each expects
    #[command(after_help = "Examples:\n  agentbus chaos list\n  agentbus chaos list --json")]
    List {
        /// Print each as one line of JSON
        #[arg(long)]
        json: bool,
    },
    /// Make experiments, one after the other, and say which held
    Run(RunArgs),
    /// End the experiment that is made, and let none begin until the file is deleted
    #[command(after_help = "Examples:\n  agentbus chaos stop\n  agentbus chaos stop --dir other")]
    Stop {
        /// Data folder of `agentbus up`
        #[arg(long, value_name = "DIR", default_value = ".agentbus", env = "AGENTBUS_DIR")]
        dir: PathBuf,
    },
}

#[derive(Debug, Args)]
#[command(after_help = "\
Only with a fleet that allows it: `agentbus up --chaos`, or one of its own that\n\
--own starts and ends. What is broken is mended when the time of the experiment\n\
is over, when this command ends, however it does (Ctrl-C), and when the file\n\
chaos.stop is in the data folder (`agentbus chaos stop`).\n\n\
An experiment has held if what it expects came true and, always, if no message\n\
was lost, came twice, came though the policy denies it, is without outcome or,\n\
delivered, not on record.\n\n\
Exit codes: 0 all held; 1 one did not, or failure; 2 usage.\n\n\
Examples:\n  \
agentbus chaos run --own\n  \
agentbus chaos run node-dies ./mine.toml --dir .agentbus")]
struct RunArgs {
    /// Names of `agentbus chaos list`, or TOML files; none: all that are listed
    #[arg(value_name = "EXPERIMENT")]
    experiments: Vec<String>,
    /// Data folder of the `agentbus up --chaos` to do it to
    #[arg(long, value_name = "DIR", default_value = ".agentbus", env = "AGENTBUS_DIR")]
    dir: PathBuf,
    /// Start two nodes with NATS and Redis in a folder of their own, and end them afterwards
    #[arg(long, conflicts_with = "dir")]
    own: bool,
    /// Make each so many times
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    times: u16,
    /// Print each experiment as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: ChaosArgs) -> anyhow::Result<ExitCode> {
    match args.command {
        ChaosCommand::List { json } => {
            let all = experiment::shipped()?;
            say(&if json { shown::list_json(&all) } else { shown::list(&all) })?;
            Ok(ExitCode::SUCCESS)
        }
        ChaosCommand::Run(args) => make(args).await,
        ChaosCommand::Stop { dir } => {
            let file = stop_file(&dir);
            fs::write(&file, "").with_context(|| format!("cannot write {}", file.display()))?;
            eprintln!("experiments are stopped; delete {} to allow them again", file.display());
            Ok(ExitCode::SUCCESS)
        }
    }
}

async fn make(args: RunArgs) -> anyhow::Result<ExitCode> {
    let experiments = match args.experiments.is_empty() {
        true => experiment::shipped()?,
        false => args.experiments.iter().map(|name| Experiment::find(name)).collect::<Result<_, _>>()?,
    };
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be handled")?;
    let fleet = Fleet::open(args.own, &args.dir).await?;
    let done = tokio::select! {
        done = all(&experiments, &fleet, &args) => done,
        // What is broken is mended as its connection ends.
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted; what was broken is mended")),
        _ = terminate.recv() => Err(anyhow::anyhow!("asked to end; what was broken is mended")),
    };
    fleet.close().await;
    let findings = done?;
    let all_held = findings.iter().all(Findings::held);
    if !args.json {
        say(&shown::table(&findings))?;
    }
    Ok(if all_held { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One after the other: two at once would say nothing of either.
async fn all(experiments: &[Experiment], fleet: &Fleet, args: &RunArgs) -> anyhow::Result<Vec<Findings>> {
    let mut found = Vec::new();
    let times = usize::from(args.times);
    let each = experiments.iter().flat_map(|experiment| std::iter::repeat_n(experiment, times));
    for (number, experiment) in each.enumerate() {
        let count = experiments.len() * times;
        eprintln!("{}/{count} {}: {} …", number + 1, experiment.name, experiment.fault);
        let findings = trial::make(experiment, fleet).await.with_context(|| experiment.name.clone())?;
        if args.json {
            say(&shown::json(&findings))?;
        }
        found.push(findings);
    }
    Ok(found)
}
