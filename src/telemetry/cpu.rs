//! Which numbers do the threads for computing have? How much waits and for how long, and what runs.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::Latency;
use crate::cpu::{Event, Meter, Work};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkLabel {
    /// One of [`Work::ALL`].
    work: &'static str,
}

#[derive(Debug)]
pub(super) struct CpuMetrics {
    queue: Gauge<i64, AtomicI64>,
    wait: Histogram,
    run: Family<WorkLabel, Histogram, Latency>,
    skipped: Counter,
    refused: Counter,
    panics: Counter,
}

impl Default for CpuMetrics {
    fn default() -> Self {
        let run = Family::new_with_constructor(Latency);
        // So that each is there from the beginning.
        for work in Work::ALL {
            drop(run.get_or_create(&WorkLabel { work: work.as_str() }));
        }
        Self {
            queue: Gauge::default(),
            wait: super::latency(),
            run,
            skipped: Counter::default(),
            refused: Counter::default(),
            panics: Counter::default(),
        }
    }
}

impl CpuMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("cpu_queue", "Jobs that wait for a thread for computing", self.queue.clone());
        let wait = "Time that a job waited for its thread";
        registry.register_with_unit("cpu_wait", wait, Unit::Seconds, self.wait.clone());
        let run = "Time that a job took on its thread";
        registry.register_with_unit("cpu_run", run, Unit::Seconds, self.run.clone());
        for (name, help, counter) in [
            ("cpu_skipped", "Jobs not run because nobody waited any more", &self.skipped),
            ("cpu_refused", "Jobs that found no room", &self.refused),
            ("cpu_panics", "Jobs that panicked", &self.panics),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}

impl Meter for super::Metrics {
    fn see(&self, event: Event) {
        let depth = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let cpu = &self.cpu;
        match event {
            Event::Queued { waiting } => {
                cpu.queue.set(depth(waiting));
            }
            Event::Taken { waiting, waited } => {
                cpu.queue.set(depth(waiting));
                cpu.wait.observe(waited.as_secs_f64());
            }
            Event::Skipped => {
                cpu.skipped.inc();
            }
            Event::Ran { work, took } => {
                cpu.run.get_or_create(&WorkLabel { work: work.as_str() }).observe(took.as_secs_f64());
            }
            Event::Panicked => {
                cpu.panics.inc();
            }
            Event::Refused => {
                cpu.refused.inc();
            }
        }
    }
}
