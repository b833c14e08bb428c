//! In which order is everything measured? In turns, so that what changes on a shared machine from
//! one minute to the next falls on both sides alike; the side that begins changes with each round.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, ensure};

use crate::{
    cpu,
    figures::{Load, Run, Sample},
    load,
    options::LoadOptions,
    rig::{self, Rig, Side, Turn},
    stages, tables,
};

/// `loadtest baseline`.
pub(crate) async fn baseline(options: &LoadOptions) -> anyhow::Result<Run> {
    let run = measure(options, &[Side::Baseline]).await?;
    println!("{}", tables::rates(&run));
    conclude(&run, options)?;
    Ok(run)
}

/// `loadtest send`.
pub(crate) async fn send(options: &LoadOptions) -> anyhow::Result<Run> {
    let run = measure(options, &[Side::Baseline, Side::Bus]).await?;
    println!("{}", tables::all(&run));
    conclude(&run, options)?;
    Ok(run)
}

async fn measure(options: &LoadOptions, sides: &[Side]) -> anyhow::Result<Run> {
    let mut rig = Rig::start(options).await?;
    let mut loads: Vec<Load> = options.in_flight.iter().map(|&n| Load::InFlight(n)).collect();
    if options.rate > 0 {
        loads.push(Load::Rate(options.rate));
    }
    let (mut samples, mut trips) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds.get() {
        trips.push(rig.trips().await?);
        let mut order = sides.to_vec();
        if round % 2 == 0 {
            order.reverse();
        }
        for side in order {
            let turn = rig.turn(side).await?;
            if options.profile && side == Side::Bus {
                say_how_to_profile(turn.processes.node);
            }
            for &load in &loads {
                let sample = one(&rig, &turn, round, load, options).await?;
                eprintln!(
                    "round {round}  {:8}  {:14}  {:>7.0}/s  P50 {:>6.0} µs  P99 {:>6.0} µs  node {:>5.1} µs CPU",
                    side.as_str(),
                    load.to_string(),
                    sample.rate,
                    sample.p50_us,
                    sample.p99_us,
                    sample.node_cpu_us
                );
                samples.push(sample);
            }
            rig.end(turn).await?;
        }
    }
    let run = Run {
        command: crate::options::command(),
        machine: cpu::machine(),
        versions: rig.versions().await?,
        settings: settings(options, &rig),
        trips,
        samples,
    };
    rig.stop().await;
    Ok(run)
}

async fn one(
    rig: &Rig,
    turn: &Turn,
    round: u32,
    load: Load,
    options: &LoadOptions,
) -> anyhow::Result<Sample> {
    let (warm_up, duration) = (options.warm_up(), options.duration());
    let before = read_stages(turn).await?;
    let (expected, processes) = (turn.side.expects(), turn.processes);
    let measured = match load {
        Load::InFlight(n) => {
            load::closed(&rig.parties, expected, usize::from(n), warm_up, duration, processes).await?
        }
        Load::Rate(rate) => load::open(&rig.parties, expected, rate, warm_up, duration, processes).await?,
    };
    let after = read_stages(turn).await?;
    ensure!(
        measured.answered > 0,
        "no answer of the {} at {load}: {:?}",
        turn.side.as_str(),
        measured.failures
    );
    Ok(Sample::new(round, turn.side, load, &measured, stages::means(&before, &after)))
}

async fn read_stages(turn: &Turn) -> anyhow::Result<stages::Stages> {
    match &turn.http {
        Some(address) => stages::read(address).await,
        None => Ok(stages::Stages::new()),
    }
}

pub(crate) fn say_how_to_profile(pid: u32) {
    eprintln!(
        "profile this turn's node (--agentbus target/profiling/agentbus has names; make it by\n\
         cargo build --profile profiling --bin agentbus):\n\
         \x20                          perf record -e cpu-clock -F 499 --call-graph dwarf,16384 -p {pid} -o node.perf\n\
         and then:                  perf script -i node.perf --no-inline | loadtest parts"
    );
}

fn settings(options: &LoadOptions, rig: &Rig) -> BTreeMap<&'static str, String> {
    BTreeMap::from([
        ("payload", format!("{} B, MessagePack, unique message ids", options.payload)),
        ("rounds", format!("{}, the sides in turns", options.rounds)),
        ("each measurement", format!("{} s after {} s of warm-up", options.seconds, options.warm_up)),
        ("registry and idempotency", rig.store().to_owned()),
        ("node's configuration", format!("the defaults, but {}", rig::NODE)),
        ("policy", "shipped, in process, cached".to_owned()),
        ("impact", "formula with keywords, no model".to_owned()),
        ("messages", rig.parties.template.made().to_string()),
    ])
}

/// A refusal is a figure. A message that was lost or doubled makes the run fail.
fn conclude(run: &Run, options: &LoadOptions) -> anyhow::Result<()> {
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(run)?;
        fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    let miscounted: u64 = run.samples.iter().map(|sample| sample.miscounted).sum();
    ensure!(miscounted == 0, "{miscounted} messages were lost or doubled");
    Ok(())
}
