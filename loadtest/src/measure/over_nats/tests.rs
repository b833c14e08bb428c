//! Are the targets made of the right rounds and sides?

use super::*;
use crate::{
    run::{profile::Profile, sheet::figures, tally::Tally, usage::Each},
    trips::Trips,
};

const PROFILE: &str = "about = \"x\"\nsides = [\"baseline\", \"bus\"]\n[[group]]\nname = \"acme\"\n[[group.mix]]\nbytes = [512]\n";

/// Rate, median in µs, and what a message costs all processes.
fn sample(round: u32, side: Side, load: &str, (rate, p50_us, cost): (f64, u64, f64)) -> Sample {
    let mut tally = Tally { answered: 100, ..Tally::default() };
    (0..100).for_each(|_| tally.latency.record(std::time::Duration::from_micros(p50_us)));
    Sample {
        round,
        side,
        load: load.to_owned(),
        steady: true,
        warm_up_s: 1.0,
        elapsed_s: 2.0,
        rate,
        tally,
        entries: Default::default(),
        beside: Default::default(),
        processor_us: Each { node: cost, ..Each::default() },
        memory_mib: Each { node: 50.0, nats: 20.0, ..Each::default() },
        stages: Default::default(),
        miscounted: 0,
        seconds: Vec::new(),
    }
}

fn report(loads: &str, samples: Vec<Sample>) -> Report {
    let profile: Profile = crate::run::shelf::parse(&format!("{PROFILE}{loads}")).unwrap();
    Report {
        format: Report::format(),
        command: String::new(),
        name: "x".to_owned(),
        machine: String::new(),
        versions: Vec::new(),
        settings: Default::default(),
        profile,
        trips: vec![Trips { nats_us: 10.0, redis_us: 30.0 }, Trips { nats_us: 20.0, redis_us: 40.0 }],
        figures: figures(&samples),
        samples,
    }
}

fn found(targets: &[Target], id: &str) -> Vec<f64> {
    targets.iter().filter(|target| target.id == id).map(|target| target.value).collect()
}

#[test]
fn ratios_are_taken_within_a_round_and_processor_time_the_other_way_round() {
    let load = "64 in flight";
    let samples = vec![
        sample(1, Side::Baseline, load, (1000.0, 100, 20.0)),
        sample(1, Side::Bus, load, (500.0, 300, 40.0)),
        sample(2, Side::Baseline, load, (2000.0, 100, 10.0)),
        sample(2, Side::Bus, load, (1000.0, 300, 20.0)),
    ];
    let targets = saturated(&report("[[load]]\nin_flight = 64\n", samples));
    assert_eq!(found(&targets, "P1"), [0.5, 0.5]);
    assert_eq!(found(&targets, "P4"), [30.0]);
    assert!(targets.iter().all(|target| !target.met));
}

#[test]
fn what_a_message_must_take_is_the_baselines_and_the_bare_trips_of_its_round() {
    let load = "1 in flight";
    let samples = vec![
        sample(1, Side::Baseline, load, (1.0, 60, 1.0)),
        sample(1, Side::Bus, load, (1.0, 200, 1.0)),
        sample(2, Side::Baseline, load, (1.0, 140, 1.0)),
        sample(2, Side::Bus, load, (1.0, 200, 1.0)),
    ];
    let targets = saturated(&report("[[load]]\nin_flight = 1\n", samples));
    // 200 of 60 + 10 + 30, and 200 of 140 + 20 + 40.
    assert_eq!((found(&targets, "P2"), found(&targets, "P1")), (vec![1.5], vec![]));
}

#[test]
fn two_nodes_are_held_against_twice_what_one_does_in_the_same_round() {
    let loads = "[[load]]\nin_flight = 8\nnodes = 1\n[[load]]\nin_flight = 8\nnodes = 2\n";
    let of =
        |round, nodes: &str, rate| sample(round, Side::Bus, &format!("{nodes}, 8 in flight"), (rate, 1, 1.0));
    let samples = vec![
        of(1, "1 node", 100.0),
        of(1, "2 nodes", 190.0),
        of(2, "1 node", 200.0),
        of(2, "2 nodes", 380.0),
    ];
    let targets = scaled(&report(loads, samples));
    assert_eq!((found(&targets, "P12"), targets[0].met), (vec![0.95], true));
}

#[test]
fn overload_is_held_against_the_peak_of_its_round() {
    let beyond = "500 % of the peak";
    let mut samples = vec![
        sample(1, Side::Bus, "256 in flight", (1000.0, 100, 20.0)),
        sample(1, Side::Bus, beyond, (950.0, 9_000, 20.0)),
    ];
    samples[1].memory_mib.node = 60.0;
    samples[1].tally.refused.record(std::time::Duration::from_millis(2));
    let targets = overloaded(&report("[[load]]\nof_peak = 500\n", samples));
    assert_eq!(found(&targets, "G8"), [0.95, 2_000.0, 1.2]);
    assert!(targets.iter().all(|target| target.met));
}
