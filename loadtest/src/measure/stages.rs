//! What does each stage of a message cost by itself, on one thread (P5, P6)? And how large is the program (P16)?

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    cpu,
    hot::{self, Stage},
    run::sheet::Report,
    spread::Spread,
    tables::{show, table},
    targets::{Is, Target},
};

const ROUNDS: usize = 11;
const ROUND: Duration = Duration::from_millis(100);
/// Operations between two looks at the clock.
const BATCH: u32 = 64;
/// Stage, figure, nanoseconds at most.
const WANTED: [(&str, &str, f64); 3] =
    [("policy", "P5", 7_000.0), ("policy_cached", "P5", 350.0), ("decode", "P6", 800.0)];

pub(super) fn run() -> anyhow::Result<(String, Vec<Target>)> {
    let mut all: Vec<(Stage, Spread)> = Vec::new();
    hot::stages(|stage, work| all.extend(nanos(work).map(|spread| (stage, spread))))?;
    let mut rows = table(&["stage", "ns"]);
    for (stage, spread) in &all {
        rows.add_row([stage.what.to_owned(), show(Some(*spread))]);
    }
    let text = format!(
        "A message of {} B in MessagePack, {ROUNDS} rounds of {} ms for each stage, one thread in this process, by its \
         own clock.\n\n{rows}",
        hot::BYTES,
        ROUND.as_millis()
    );
    let target = |(name, figure, most): (&str, &'static str, f64)| {
        let (stage, spread) = all.iter().find(|(stage, _)| stage.name == name)?;
        Target::new(figure, Some(*spread), (Is::AtMost, most), "ns", stage.what)
    };
    Ok((text, WANTED.into_iter().filter_map(target).collect()))
}

/// Of one operation, over the rounds.
pub(super) fn nanos(work: &mut dyn FnMut()) -> Option<Spread> {
    let mut round = || {
        let (began, started, mut done) = (Instant::now(), cpu::of_this_thread(), 0_u32);
        while began.elapsed() < ROUND {
            (0..BATCH).for_each(|_| work());
            done += BATCH;
        }
        (cpu::of_this_thread() - started).as_secs_f64() * 1e9 / f64::from(done)
    };
    round(); // warm-up
    Spread::of((0..ROUNDS).map(|_| round()))
}

/// The size of what a node runs. One with names and lines is no measure.
pub(super) fn program(path: &Path) -> anyhow::Result<(String, Vec<Target>, Option<Report>)> {
    let bytes = fs::metadata(path).with_context(|| path.display().to_string())?.len();
    let megabytes = bytes as f64 / 1e6;
    let target = Target::new("P16", Spread::of([megabytes]), (Is::AtMost, 70.0), "MB", "size of the program");
    let release = !cfg!(debug_assertions);
    let targets = target.filter(|_| release).into_iter().collect();
    Ok((format!("The program has {megabytes:.0} MB. Times to build are in CONTRIBUTING.md."), targets, None))
}
