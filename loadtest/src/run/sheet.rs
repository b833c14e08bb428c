//! What is in a report? Every measurement with its histograms, and medians over the rounds with their range. Written
//! as JSON, read again by `compare`, shown by `--html`.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{
    profile::{Profile, Side},
    tally::Tally,
    usage::Each,
};
use crate::{spread::Spread, trips::Trips};

pub(crate) use metric::Metric;

mod drift;
mod metric;

/// What this version writes, and reads.
const FORMAT: &str = "agentbus loadtest run 1";
/// Bytes of a report.
const FILE_MAX: u64 = 256 * 1024 * 1024;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) format: String,
    pub(crate) command: String,
    pub(crate) name: String,
    pub(crate) machine: String,
    pub(crate) versions: Vec<String>,
    pub(crate) settings: BTreeMap<String, String>,
    pub(crate) profile: Profile,
    /// To the servers, before each round. None of a running bus.
    #[serde(default)]
    pub(crate) trips: Vec<Trips>,
    pub(crate) figures: Vec<Figure>,
    pub(crate) samples: Vec<Sample>,
}

/// One measurement of one side.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) side: Side,
    pub(crate) load: String,
    /// Whether it was before the counting began.
    pub(crate) steady: bool,
    pub(crate) warm_up_s: f64,
    pub(crate) elapsed_s: f64,
    /// Answers a second.
    pub(crate) rate: f64,
    /// All that the measured group has seen.
    pub(crate) tally: Tally,
    /// The same, by the entries of its mix.
    pub(crate) entries: BTreeMap<String, Tally>,
    /// What the groups beside it have seen.
    pub(crate) beside: BTreeMap<String, Tally>,
    /// Microseconds for each answer, of all groups.
    pub(crate) processor_us: Each,
    /// The most of the measurement.
    pub(crate) memory_mib: Each,
    /// Mean microseconds of each of the nodes' stages.
    pub(crate) stages: BTreeMap<String, f64>,
    pub(crate) miscounted: u64,
    pub(crate) seconds: Vec<Second>,
}

/// One second of a measurement, the warm-up included.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Since the first message.
    pub(crate) at_s: f64,
    pub(crate) counted: bool,
    pub(crate) rate: f64,
    pub(crate) failed: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) cores: Each,
    pub(crate) memory_mib: Each,
}

/// One figure over the rounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) load: String,
    pub(crate) side: Side,
    pub(crate) metric: Metric,
    /// The figure is a ratio to that of this side, taken within each round.
    pub(crate) to: Option<Side>,
    pub(crate) unit: String,
    #[serde(flatten)]
    pub(crate) spread: Spread,
    pub(crate) rounds: Vec<f64>,
}

/// Each side beside the bus, by these.
const COMPARED: [Metric; 4] = [Metric::Rate, Metric::P50, Metric::P99, Metric::AllProcessor];

/// Medians over the rounds, and ratios to the sides that the bus is compared with.
pub(crate) fn figures(samples: &[Sample]) -> Vec<Figure> {
    let mut figures = Vec::new();
    for load in loads(samples) {
        let of = |side: Side| samples.iter().filter(move |sample| sample.side == side && sample.load == load);
        for side in [Side::Direct, Side::Baseline, Side::Bus] {
            for &metric in Metric::ALL {
                let rounds: Vec<f64> = of(side).filter_map(|sample| metric.of(sample)).collect();
                figures.extend(figure(load, side, metric, None, rounds));
            }
            if side == Side::Bus {
                continue;
            }
            for metric in COMPARED {
                let ratio = |bus: &Sample| {
                    let beside = of(side).find(|beside| beside.round == bus.round)?;
                    let (bus, beside) = (metric.of(bus)?, metric.of(beside)?);
                    (beside > 0.0).then(|| bus / beside)
                };
                let rounds = of(Side::Bus).filter_map(ratio).collect();
                figures.extend(figure(load, Side::Bus, metric, Some(side), rounds));
            }
        }
    }
    figures
}

fn figure(load: &str, side: Side, metric: Metric, to: Option<Side>, rounds: Vec<f64>) -> Option<Figure> {
    let spread = Spread::of(rounds.iter().copied())?;
    let unit = match to {
        Some(to) => format!("÷ {}", to.as_str()),
        None => metric.unit().to_owned(),
    };
    Some(Figure { load: load.to_owned(), side, metric, to, unit, spread, rounds })
}

/// As they were measured.
pub(crate) fn loads(samples: &[Sample]) -> Vec<&str> {
    let mut loads: Vec<&str> = Vec::new();
    for sample in samples {
        if !loads.contains(&sample.load.as_str()) {
            loads.push(&sample.load);
        }
    }
    loads
}

impl Report {
    pub(crate) fn format() -> String {
        FORMAT.to_owned()
    }

    pub(crate) fn spread(&self, load: &str, side: Side, metric: Metric, to: Option<Side>) -> Option<Spread> {
        let wanted = |figure: &&Figure| {
            figure.load == load && figure.side == side && figure.metric == metric && figure.to == to
        };
        self.figures.iter().find(wanted).map(|figure| figure.spread)
    }

    /// What a side has seen at a load, all rounds together.
    pub(crate) fn merged(&self, load: &str, side: Side) -> Tally {
        let mut all = Tally::default();
        self.of(load, side).for_each(|sample| all.add(&sample.tally));
        all
    }

    pub(crate) fn of(&self, load: &str, side: Side) -> impl Iterator<Item = &Sample> {
        let load = load.to_owned();
        self.samples.iter().filter(move |sample| sample.side == side && sample.load == load)
    }

    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        fs::write(path, serde_json::to_vec_pretty(self)?).with_context(|| path.display().to_string())
    }

    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let at = || path.display().to_string();
        let bytes = fs::metadata(path).with_context(at)?.len();
        ensure!(bytes <= FILE_MAX, "{}: found {bytes} bytes, expected at most {FILE_MAX}", path.display());
        let text = fs::read(path).with_context(at)?;
        let head: Head = serde_json::from_slice(&text).with_context(at)?;
        let found = head.format;
        ensure!(found == FORMAT, "{}: found format {found:?}, expected {FORMAT:?}", path.display());
        serde_json::from_slice(&text).with_context(at)
    }
}

#[derive(Deserialize)]
struct Head {
    format: String,
}
