//! What do the measurements say? Medians over rounds, their range, and ratios within each round.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{load::Measured, rig::Side, trips::Trips};

/// What a side was put under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Load {
    InFlight(u16),
    /// Messages a second, open loop.
    Rate(u32),
}

impl std::fmt::Display for Load {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Load::InFlight(n) => write!(f, "{n} in flight"),
            Load::Rate(rate) => write!(f, "{rate}/s, open"),
        }
    }
}

/// One measurement of one side.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    pub(crate) side: Side,
    pub(crate) load: Load,
    pub(crate) answered: u64,
    /// Answers a second.
    pub(crate) rate: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// As verdicts say; zero for the baseline.
    pub(crate) node_p50_us: f64,
    pub(crate) node_p99_us: f64,
    /// Processor time for each answer, user and system, all threads.
    pub(crate) node_cpu_us: f64,
    pub(crate) nats_cpu_us: f64,
    pub(crate) redis_cpu_us: f64,
    pub(crate) client_cpu_us: f64,
    /// Mean microseconds of each of the node's stages.
    pub(crate) stages: BTreeMap<String, f64>,
    pub(crate) held_back: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) miscounted: u64,
}

impl Sample {
    pub(crate) fn new(
        round: u32,
        side: Side,
        load: Load,
        measured: &Measured,
        stages: BTreeMap<String, f64>,
    ) -> Self {
        let answers = measured.answered.max(1) as f64;
        let at = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64;
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / answers;
        Self {
            round,
            side,
            load,
            answered: measured.answered,
            rate: measured.answered as f64 / measured.elapsed.as_secs_f64(),
            p50_us: at(&measured.latency, 0.5),
            p99_us: at(&measured.latency, 0.99),
            p999_us: at(&measured.latency, 0.999),
            max_us: measured.latency.max() as f64,
            node_p50_us: at(&measured.node_time, 0.5),
            node_p99_us: at(&measured.node_time, 0.99),
            node_cpu_us: each(measured.cpu.node),
            nats_cpu_us: each(measured.cpu.nats),
            redis_cpu_us: each(measured.cpu.redis),
            client_cpu_us: each(measured.cpu.client),
            stages,
            held_back: measured.held_back,
            failures: measured.failures.clone(),
            miscounted: measured.miscounted,
        }
    }
}

impl Sample {
    /// Of all processes, for each answer.
    pub(crate) fn processor_us(&self) -> f64 {
        self.node_cpu_us + self.nats_cpu_us + self.redis_cpu_us + self.client_cpu_us
    }
}

/// The middle of the rounds and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = *values.get(middle.saturating_sub(usize::from(values.len().is_multiple_of(2))))?;
        Some(Self { median: (lower + upper) / 2.0, low: *values.first()?, high: *values.last()? })
    }
}

/// A whole run, as it is written to the JSON file.
#[derive(Debug, Serialize)]
pub(crate) struct Run {
    pub(crate) command: String,
    pub(crate) machine: String,
    pub(crate) versions: Vec<String>,
    pub(crate) settings: BTreeMap<&'static str, String>,
    /// Of each round.
    pub(crate) trips: Vec<Trips>,
    pub(crate) samples: Vec<Sample>,
}

impl Run {
    pub(crate) fn loads(&self) -> Vec<Load> {
        let mut loads: Vec<Load> = self.samples.iter().map(|sample| sample.load).collect();
        loads.sort_unstable();
        loads.dedup();
        loads
    }

    pub(crate) fn of(&self, side: Side, load: Load) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |sample| sample.side == side && sample.load == load)
    }

    pub(crate) fn spread(&self, side: Side, load: Load, value: fn(&Sample) -> f64) -> Option<Spread> {
        Spread::of(self.of(side, load).map(value))
    }

    /// A figure of both sides of each round, put together by `compare(bus, baseline)`.
    pub(crate) fn compared(
        &self,
        load: Load,
        value: fn(&Sample) -> f64,
        compare: fn(f64, f64) -> f64,
    ) -> Option<Spread> {
        Spread::of(self.of(Side::Bus, load).filter_map(|bus| {
            let beside = self.of(Side::Baseline, load).find(|baseline| baseline.round == bus.round)?;
            Some(compare(value(bus), value(beside)))
        }))
    }

    /// The bus's P50 with one in flight, to the least that its way could take: the baseline's and a round trip to
    /// each server, of the same round.
    pub(crate) fn beside_bare_trips(&self) -> Option<Spread> {
        let alone = Load::InFlight(1);
        Spread::of(self.of(Side::Bus, alone).filter_map(|bus| {
            let beside = self.of(Side::Baseline, alone).find(|baseline| baseline.round == bus.round)?;
            let trips = self.trips.get(usize::try_from(bus.round).ok()?.checked_sub(1)?)?;
            Some(bus.p50_us / (beside.p50_us + trips.nats_us + trips.redis_us))
        }))
    }

    /// Mean microseconds of each stage at a load, over the rounds.
    pub(crate) fn stages(&self, load: Load) -> BTreeMap<String, Spread> {
        let names: Vec<&String> = self.of(Side::Bus, load).flat_map(|sample| sample.stages.keys()).collect();
        let spread = |name: &String| {
            Spread::of(self.of(Side::Bus, load).filter_map(|sample| sample.stages.get(name).copied()))
        };
        names.into_iter().filter_map(|name| Some((name.clone(), spread(name)?))).collect()
    }

    /// All failures of all measurements.
    pub(crate) fn failures(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for sample in &self.samples {
            for (what, count) in &sample.failures {
                *all.entry(format!("{}, {}: {what}", sample.side.as_str(), sample.load)).or_default() +=
                    count;
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_the_mean_of_the_two_middles() {
        let spread = |values: &[f64]| Spread::of(values.iter().copied());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(spread(&[4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
        assert_eq!(spread(&[7.0]), Some(Spread { median: 7.0, low: 7.0, high: 7.0 }));
    }
}
