//! The same numbers as the model's, of each guard that is asked beside it.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use crate::impact::Event;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GuardLabel {
    /// The operator's name for it, with its digest.
    guard: String,
}

#[derive(Debug)]
pub(super) struct GuardMetrics {
    queue: Family<GuardLabel, Gauge<i64, AtomicI64>>,
    wait: Family<GuardLabel, Histogram, fn() -> Histogram>,
    run: Family<GuardLabel, Histogram, fn() -> Histogram>,
    tokens: Family<GuardLabel, Counter>,
    skipped: Family<GuardLabel, Counter>,
    restarts: Family<GuardLabel, Counter>,
    cache_hits: Family<GuardLabel, Counter>,
    cache_misses: Family<GuardLabel, Counter>,
}

impl Default for GuardMetrics {
    fn default() -> Self {
        Self {
            queue: Family::default(),
            wait: Family::new_with_constructor(super::model::latency),
            run: Family::new_with_constructor(super::model::latency),
            tokens: Family::default(),
            skipped: Family::default(),
            restarts: Family::default(),
            cache_hits: Family::default(),
            cache_misses: Family::default(),
        }
    }
}

impl GuardMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("guard_queue", "Texts that wait for a guard", self.queue.clone());
        let wait = "Time that a text waited for a guard";
        registry.register_with_unit("guard_wait", wait, Unit::Seconds, self.wait.clone());
        let run = "Time of one forward pass of a guard";
        registry.register_with_unit("guard_run", run, Unit::Seconds, self.run.clone());
        for (name, help, counter) in [
            ("guard_tokens", "Tokens that a guard has read", &self.tokens),
            ("guard_skipped", "Texts not run because nobody waited any more", &self.skipped),
            ("guard_restarts", "Panics of a guard that were caught", &self.restarts),
            ("guard_cache_hits", "Texts whose score by a guard was remembered", &self.cache_hits),
            ("guard_cache_misses", "Texts whose score by a guard was not remembered", &self.cache_misses),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    pub(super) fn see(&self, guard: &str, event: Event) {
        let label = GuardLabel { guard: guard.to_owned() };
        let depth = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        match event {
            Event::Queued { waiting } => {
                self.queue.get_or_create(&label).set(depth(waiting));
            }
            Event::Taken { waiting, waited } => {
                self.queue.get_or_create(&label).set(depth(waiting));
                self.wait.get_or_create(&label).observe(waited.as_secs_f64());
            }
            Event::Ran { tokens, took, .. } => {
                self.run.get_or_create(&label).observe(took.as_secs_f64());
                self.tokens.get_or_create(&label).inc_by(u64::try_from(tokens).unwrap_or(u64::MAX));
            }
            Event::Skipped => {
                self.skipped.get_or_create(&label).inc();
            }
            Event::Restarted => {
                self.restarts.get_or_create(&label).inc();
            }
            Event::CacheHit => {
                self.cache_hits.get_or_create(&label).inc();
            }
            Event::CacheMiss => {
                self.cache_misses.get_or_create(&label).inc();
            }
            // Of a whole message, whoever read it: told once, as the model's.
            Event::NotNeeded | Event::Audited { .. } | Event::Unscored { .. } => {}
        }
    }
}
