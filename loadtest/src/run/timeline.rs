//! How did a measurement go, second by second?

use std::time::Duration;

use super::{
    sheet::Second,
    tally::Tally,
    usage::{Each, Pids, cores},
};

const SECOND: Duration = Duration::from_secs(1);
/// A longer measurement has longer steps: pairs are put together.
const SECONDS_MAX: usize = 1200;

pub(crate) struct Timeline {
    seconds: Vec<Second>,
    step: Duration,
    /// What was seen since the last step.
    current: Tally,
    since: Duration,
    processor: Each,
    cores: Each,
    memory_most: Each,
}

impl Timeline {
    pub(crate) fn new(pids: &Pids) -> Self {
        Self {
            seconds: Vec::new(),
            step: SECOND,
            current: Tally::default(),
            since: Duration::ZERO,
            processor: pids.processor_seconds(),
            cores: Each::default(),
            memory_most: Each::default(),
        }
    }

    /// A slice is over, so long after the start.
    pub(crate) fn add(&mut self, at: Duration, slice: &Tally, counted: bool, pids: &Pids) {
        self.current.add(slice);
        let took = at.saturating_sub(self.since);
        // Slices are a quarter of a second, about.
        if took + SECOND / 8 < self.step {
            return;
        }
        let (processor, memory_mib) = (pids.processor_seconds(), pids.memory_mib());
        self.cores = cores(self.processor, processor, took);
        self.memory_most = self.memory_most.with(memory_mib, f64::max);
        let seen = std::mem::take(&mut self.current);
        self.seconds.push(Second {
            at_s: at.as_secs_f64(),
            counted,
            rate: seen.answered as f64 / took.as_secs_f64().max(1e-6),
            failed: seen.failed_total(),
            p50_us: seen.latency.at(0.5),
            p99_us: seen.latency.at(0.99),
            cores: self.cores,
            memory_mib,
        });
        (self.since, self.processor) = (at, processor);
        if self.seconds.len() > SECONDS_MAX {
            self.seconds = self.seconds.chunks(2).filter_map(together).collect();
            self.step *= 2;
        }
    }

    /// Of the last second.
    pub(crate) fn cores(&self) -> &Each {
        &self.cores
    }

    pub(crate) fn memory_most(&self) -> Each {
        self.memory_most
    }

    pub(crate) fn seconds(self) -> Vec<Second> {
        self.seconds
    }
}

/// Means, and of the latencies the higher.
fn together(pair: &[Second]) -> Option<Second> {
    let (first, last) = (pair.first()?, pair.last()?);
    let mean = |a: f64, b: f64| (a + b) / 2.0;
    Some(Second {
        at_s: last.at_s,
        counted: last.counted,
        rate: mean(first.rate, last.rate),
        failed: pair.iter().map(|second| second.failed).sum(),
        p50_us: first.p50_us.max(last.p50_us),
        p99_us: first.p99_us.max(last.p99_us),
        cores: first.cores.with(last.cores, mean),
        memory_mib: last.memory_mib,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_become_seconds_and_a_long_measurement_longer_steps() {
        let pids = Pids::default();
        let mut timeline = Timeline::new(&pids);
        let slice = Tally { answered: 25, ..Tally::default() };
        for at in 1..=16_u32 {
            timeline.add(at * SECOND / 4, &slice, at > 8, &pids);
        }
        let seconds = timeline.seconds();
        let seen: Vec<_> = seconds.iter().map(|second| (second.at_s, second.rate, second.counted)).collect();
        assert_eq!(seen, [(1.0, 100.0, false), (2.0, 100.0, false), (3.0, 100.0, true), (4.0, 100.0, true)]);

        let mut long = Timeline::new(&pids);
        (1..=5000_u32).for_each(|at| long.add(at * SECOND, &slice, true, &pids));
        let seconds = long.seconds();
        assert!((600..=SECONDS_MAX).contains(&seconds.len()), "{}", seconds.len());
        assert!(seconds.iter().all(|second| (second.rate - 25.0).abs() < 1.0));
    }
}
