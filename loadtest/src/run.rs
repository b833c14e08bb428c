//! `loadtest run`: a profile is measured, its sides in turns, and told.
//!
//! - [`profile`], [`check`], [`shelf`], [`corpus`]: what is asked for, and what may be.
//! - [`world`]: servers, and whose turn it is. [`aim`]: at a bus that is already there. [`measure`]: one measurement, over its client processes.
//! - [`job`]: what they are told. [`client`]: what they do. [`template`]: what they send.
//! - [`tally`]: what was seen. [`steady`]: when the warm-up is over. [`usage`], [`timeline`]: what it took.
//!   [`quota`]: what each node may take.
//! - [`sheet`]: the report. [`shown`]: its tables.

use std::time::Duration;

use anyhow::ensure;

use crate::{cpu, html, options::RunOptions};
use measure::Now;
use profile::Load;
use progress::Progress;
use sheet::{Report, Sample};
use shelf::Chosen;
use world::{Turn, World};

mod aim;
pub(crate) mod check;
pub(crate) mod client;
pub(crate) mod corpus;
pub(crate) mod job;
mod measure;
mod names;
pub(crate) mod profile;
mod progress;
mod quota;
pub(crate) mod sheet;
pub(crate) mod shelf;
pub(crate) mod shown;
mod steady;
pub(crate) mod tally;
mod template;
mod timeline;
pub(crate) mod usage;
pub(crate) mod world;

/// How a peak is found that a load is a part of.
const PEAK_IN_FLIGHT: u32 = 256;
const PEAK_MEASURED: Duration = Duration::from_secs(5);

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
        None => World::start(&chosen.profile, options.program.path()?).await?,
    };
    let report = measured(&chosen, world, options.perf).await?;
    println!("{}", shown::all(&report));
    if let Some(path) = &options.output.json {
        report.write(path)?;
    }
    if let Some(path) = &options.output.html {
        html::write(&report, path)?;
    }
    conclude(&report)
}

/// `loadtest tenants`: what a running bus needs to know.
pub(crate) fn show_tenants(name: &str) -> anyhow::Result<()> {
    print!("{}", world::tenants_file(&shelf::find(name)?.profile)?);
    Ok(())
}

/// All rounds of a profile. With `perf`, says of each node how to look into it.
pub(crate) async fn measured(chosen: &Chosen, mut world: World, perf: bool) -> anyhow::Result<Report> {
    let profile = &chosen.profile;
    let progress = Progress::new(&chosen.name, profile);
    let (mut samples, mut trips) = (Vec::new(), Vec::new());
    for round in 1..=profile.rounds {
        trips.extend(world.trips().await?);
        // What changes on a shared machine falls on all sides alike: who begins changes with each round.
        let mut sides = profile.sides.clone();
        if round % 2 == 0 {
            sides.reverse();
        }
        for side in sides {
            for loads in profile.load.chunk_by(|one, next| profile.nodes_of(one) == profile.nodes_of(next)) {
                let nodes = loads.first().map_or(profile.nodes, |load| profile.nodes_of(load));
                let turn = world.turn(side, nodes).await?;
                if perf {
                    turn.pids.nodes.iter().for_each(|&pid| say_how_to_profile(pid));
                }
                for load in loads {
                    samples.extend(under(load, (&world, &turn), chosen, round, &progress).await?);
                }
                world.end(turn).await?;
            }
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
        trips,
        figures: sheet::figures(&samples),
        samples,
    })
}

/// One load, after the closed loop that finds its peak if it is a part of that.
async fn under(
    load: &Load,
    (world, turn): (&World, &Turn),
    chosen: &Chosen,
    round: u32,
    progress: &Progress,
) -> anyhow::Result<Vec<Sample>> {
    let one = async |chosen: &Chosen, load: &Load| {
        progress.begins(round, turn.side, load);
        let show = |now: Now<'_>| progress.goes(&now);
        let sample = measure::measure(world, turn, chosen, (round, load), show).await?;
        progress.ends(&sample);
        anyhow::Ok(sample)
    };
    let Some(percent) = load.of_peak else { return Ok(vec![one(chosen, load).await?]) };
    let mut short = chosen.clone();
    short.profile.measure = PEAK_MEASURED.min(chosen.profile.measure);
    let closed = Load { in_flight: Some(PEAK_IN_FLIGHT), of_peak: None, ..load.clone() };
    let peak = one(&short, &closed).await?;
    let rate = (peak.rate * f64::from(percent) / 100.0).max(1.0) as u32;
    let part = one(chosen, &Load { rate: Some(rate), ..load.clone() }).await?;
    Ok(vec![peak, part])
}

fn say_how_to_profile(pid: u32) {
    eprintln!(
        "profile this node (--agentbus target/profiling/agentbus has names; make it by\n\
         cargo build --profile profiling --bin agentbus):\n\
         \x20                          perf record -e cpu-clock -F 499 --call-graph dwarf,16384 -p {pid} -o node.perf\n\
         and then:                  perf script -i node.perf --no-inline | loadtest parts"
    );
}

/// A refusal is a figure. A message that was lost or doubled makes the run fail.
pub(crate) fn conclude(report: &Report) -> anyhow::Result<()> {
    let miscounted: u64 = report.samples.iter().map(|sample| sample.miscounted).sum();
    ensure!(miscounted == 0, "{miscounted} messages were lost or doubled");
    Ok(())
}
