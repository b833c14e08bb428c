//! `loadtest run`: a profile is measured, its sides in turns, and told.
//!
//! - [`profile`], [`check`], [`shelf`], [`corpus`]: what is asked for, and what may be.
//! - [`world`]: servers, and whose turn it is. [`aim`]: at a bus that is already there. [`measure`]: one measurement, over its client processes.
//! - [`job`]: what they are told. [`client`]: what they do. [`template`]: what they send.
//! - [`tally`]: what was seen. [`steady`]: when the warm-up is over. [`usage`], [`timeline`]: what it took.
//! - [`sheet`]: the report. [`shown`]: its tables.

use anyhow::ensure;

use crate::{cpu, html, options::RunOptions, rig};
use progress::Progress;
use sheet::Report;
use shelf::Chosen;
use world::World;

mod aim;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod corpus;
pub(crate) mod job;
mod measure;
mod names;
pub(crate) mod profile;
mod progress;
pub(crate) mod sheet;
pub(crate) mod shelf;
mod shown;
mod steady;
pub(crate) mod tally;
mod template;
mod timeline;
pub(crate) mod usage;
mod world;

/// Lines such as `limits.agents = 100`, as a table.
fn lines(lines: &[String]) -> Result<toml::Table, String> {
    lines.join("\n").parse().map_err(|error: toml::de::Error| error.message().to_owned())
}

pub(crate) async fn run(options: &RunOptions) -> anyhow::Result<()> {
    let mut chosen = shelf::find(&options.profile)?;
    if let Some(rounds) = options.rounds {
        chosen.profile.rounds = rounds;
        check::check(&chosen.profile).map_err(anyhow::Error::msg)?;
    }
    let world = match aim::at(&options.aim, &chosen.profile)? {
        Some(aim) => World::at(&chosen.profile, aim),
        None => {
            let agentbus = options.agentbus.clone().map_or_else(rig::beside_this_program, Ok)?;
            World::start(&chosen.profile, agentbus).await?
        }
    };
    let report = measured(&chosen, world).await?;
    println!("{}", shown::all(&report));
    if let Some(path) = &options.json {
        report.write(path)?;
    }
    if let Some(path) = &options.html {
        html::write(&report, path)?;
    }
    conclude(&report)
}

/// `loadtest tenants`: what a running bus needs to know.
pub(crate) fn show_tenants(name: &str) -> anyhow::Result<()> {
    print!("{}", world::tenants_file(&shelf::find(name)?.profile)?);
    Ok(())
}

async fn measured(chosen: &Chosen, mut world: World) -> anyhow::Result<Report> {
    let profile = &chosen.profile;
    let progress = Progress::new(&chosen.name, profile);
    let mut samples = Vec::new();
    for round in 1..=profile.rounds {
        // What changes on a shared machine falls on all sides alike: who begins changes with each round.
        let mut sides = profile.sides.clone();
        if round % 2 == 0 {
            sides.reverse();
        }
        for side in sides {
            let turn = world.turn(side).await?;
            for load in &profile.load {
                progress.begins(round, side, load);
                let sample =
                    measure::measure(&world, &turn, chosen, (round, load), |now| progress.goes(&now)).await?;
                progress.ends(&sample);
                samples.push(sample);
            }
            world.end(turn).await?;
        }
    }
    progress.close();
    let versions = world.versions().await?;
    world.stop().await;
    Ok(Report {
        format: Report::format(),
        command: crate::options::command(),
        name: chosen.name.clone(),
        machine: cpu::machine(),
        versions,
        settings: profile.settings(),
        profile: profile.clone(),
        figures: sheet::figures(&samples),
        samples,
    })
}

/// A refusal is a figure. A message that was lost or doubled makes the run fail.
fn conclude(report: &Report) -> anyhow::Result<()> {
    let miscounted: u64 = report.samples.iter().map(|sample| sample.miscounted).sum();
    ensure!(miscounted == 0, "{miscounted} messages were lost or doubled");
    Ok(())
}
