//! What is in a report? Every measurement with its histograms, and medians over the rounds with their range. Written
//! as JSON, read again by `compare`, shown by `--html`.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, ensure};
use serde::{Deserialize, Serialize};

use super::{
    drift,
    profile::{Profile, Side},
    tally::Tally,
    usage::Each,
};
use crate::{spread::Spread, trips::Trips};

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

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    Rate,
    P50,
    P99,
    P999,
    Max,
    InboxP50,
    InboxP99,
    InsideP99,
    NodeProcessor,
    AllProcessor,
    NodeMemory,
    NodeGrowth,
    Drift,
    Errors,
}

impl Metric {
    pub(crate) const ALL: &[Metric] = &[
        Metric::Rate,
        Metric::P50,
        Metric::P99,
        Metric::P999,
        Metric::Max,
        Metric::InboxP50,
        Metric::InboxP99,
        Metric::InsideP99,
        Metric::NodeProcessor,
        Metric::AllProcessor,
        Metric::NodeMemory,
        Metric::NodeGrowth,
        Metric::Drift,
        Metric::Errors,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Metric::Rate => "rate",
            Metric::P50 => "P50",
            Metric::P99 => "P99",
            Metric::P999 => "P99.9",
            Metric::Max => "longest",
            Metric::InboxP50 => "to the inbox P50",
            Metric::InboxP99 => "to the inbox P99",
            Metric::InsideP99 => "inside the node P99",
            Metric::NodeProcessor => "node's processor time",
            Metric::AllProcessor => "all processor time",
            Metric::NodeMemory => "node's memory, most",
            Metric::NodeGrowth => "node's memory, growth",
            Metric::Drift => "P50's drift",
            Metric::Errors => "errors",
        }
    }

    /// As a row of a narrow table, with its unit.
    pub(crate) fn short(self) -> &'static str {
        match self {
            Metric::Rate => "messages/s",
            Metric::P50 => "P50 µs",
            Metric::P99 => "P99 µs",
            Metric::P999 => "P99.9 µs",
            Metric::Max => "longest µs",
            Metric::InboxP50 => "inbox P50 µs",
            Metric::InboxP99 => "inbox P99 µs",
            Metric::InsideP99 => "inside P99 µs",
            Metric::NodeProcessor => "node µs",
            Metric::AllProcessor => "all µs",
            Metric::NodeMemory => "node MiB",
            Metric::NodeGrowth => "MiB/million",
            Metric::Drift => "P50 drift %/min",
            Metric::Errors => "errors %",
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self {
            Metric::Rate => "messages/s",
            Metric::P50
            | Metric::P99
            | Metric::P999
            | Metric::Max
            | Metric::InboxP50
            | Metric::InboxP99
            | Metric::InsideP99 => "µs",
            Metric::NodeProcessor | Metric::AllProcessor => "µs a message",
            Metric::NodeMemory => "MiB",
            Metric::NodeGrowth => "MiB a million messages",
            Metric::Drift => "% a minute",
            Metric::Errors => "% of the messages",
        }
    }

    /// Whether more of it is better.
    pub(crate) fn more_is_better(self) -> bool {
        self == Metric::Rate
    }

    /// Of a measurement, if it has that.
    pub(crate) fn of(self, sample: &Sample) -> Option<f64> {
        let Tally { latency, inbox, node_time, answered, .. } = &sample.tally;
        let failed = sample.tally.failed_total() as f64;
        match self {
            Metric::Rate => Some(sample.rate),
            Metric::P50 => (!latency.is_empty()).then(|| latency.at(0.5)),
            Metric::P99 => (!latency.is_empty()).then(|| latency.at(0.99)),
            Metric::P999 => (!latency.is_empty()).then(|| latency.at(0.999)),
            Metric::Max => (!latency.is_empty()).then(|| latency.max()),
            Metric::InboxP50 => (!inbox.is_empty()).then(|| inbox.at(0.5)),
            Metric::InboxP99 => (!inbox.is_empty()).then(|| inbox.at(0.99)),
            Metric::InsideP99 => (!node_time.is_empty()).then(|| node_time.at(0.99)),
            // Of a running bus the processes are not known.
            Metric::NodeProcessor => {
                (sample.side == Side::Bus && sample.memory_mib.node > 0.0).then_some(sample.processor_us.node)
            }
            Metric::AllProcessor => (sample.memory_mib.nats > 0.0).then(|| sample.processor_us.sum()),
            Metric::NodeMemory => {
                (sample.side == Side::Bus && sample.memory_mib.node > 0.0).then_some(sample.memory_mib.node)
            }
            Metric::NodeGrowth => {
                (sample.side == Side::Bus).then(|| drift::growth(&sample.seconds)).flatten()
            }
            Metric::Drift => drift::latency(&sample.seconds),
            Metric::Errors => Some(100.0 * failed / (*answered as f64 + failed).max(1.0)),
        }
    }
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
