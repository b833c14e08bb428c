//! Which numbers does the impact model have? How long texts wait and run, how many together, and how
//! often it was not asked at all.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::counters;
use crate::impact::{Event, Unscored};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    /// One of `Unscored::WORDS`.
    why: &'static str,
}

#[derive(Debug)]
pub(super) struct ModelMetrics {
    queue: Gauge<i64, AtomicI64>,
    wait: Histogram,
    run: Histogram,
    batch: Histogram,
    tokens: Counter,
    skipped: Counter,
    restarts: Counter,
    unscored: Family<WhyLabel, Counter>,
    cache_hits: Counter,
    cache_misses: Counter,
    not_needed: Counter,
    audited: Counter,
    differed: Counter,
}

/// From 10 µs to about 5 s, doubling.
pub(super) fn latency() -> Histogram {
    Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(1e-5, 2.0, 20))
}

impl Default for ModelMetrics {
    fn default() -> Self {
        Self {
            queue: Gauge::default(),
            wait: latency(),
            run: latency(),
            batch: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(1.0, 2.0, 9)),
            tokens: Counter::default(),
            skipped: Counter::default(),
            restarts: Counter::default(),
            unscored: counters(Unscored::WORDS.iter().map(|&why| WhyLabel { why })),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            not_needed: Counter::default(),
            audited: Counter::default(),
            differed: Counter::default(),
        }
    }
}

impl ModelMetrics {
    /// Panics of the model that were caught, since the node began.
    pub(super) fn restarts(&self) -> u64 {
        self.restarts.get()
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("model_queue", "Texts that wait for the model", self.queue.clone());
        let wait = "Time that a text waited for the model";
        registry.register_with_unit("model_wait", wait, Unit::Seconds, self.wait.clone());
        let run = "Time of one forward pass";
        registry.register_with_unit("model_run", run, Unit::Seconds, self.run.clone());
        registry.register("model_batch", "Texts that were run together", self.batch.clone());
        for (name, help, counter) in [
            ("model_tokens", "Tokens that the model has read", &self.tokens),
            ("model_skipped", "Texts not run because nobody waited any more", &self.skipped),
            ("model_restarts", "Panics of the model that were caught", &self.restarts),
            ("model_cache_hits", "Texts whose score was remembered", &self.cache_hits),
            ("model_cache_misses", "Texts whose score was not remembered", &self.cache_misses),
            ("model_not_needed", "Messages whose verdict no words could change", &self.not_needed),
            ("model_audited", "Of these, scored all the same", &self.audited),
            ("model_differed", "Of those, the verdict would have been another: a fault", &self.differed),
        ] {
            registry.register(name, help, counter.clone());
        }
        registry.register("model_unscored", "Messages without a score, by why", self.unscored.clone());
    }

    pub(super) fn see(&self, event: Event) {
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let depth = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        match event {
            Event::NotNeeded => {
                self.not_needed.inc();
            }
            Event::Audited { differed } => {
                self.audited.inc();
                if differed {
                    self.differed.inc();
                }
            }
            Event::Unscored { why } => {
                self.unscored.get_or_create(&WhyLabel { why }).inc();
            }
            Event::CacheHit => {
                self.cache_hits.inc();
            }
            Event::CacheMiss => {
                self.cache_misses.inc();
            }
            Event::Queued { waiting } => {
                self.queue.set(depth(waiting));
            }
            Event::Taken { waiting, waited } => {
                self.queue.set(depth(waiting));
                self.wait.observe(waited.as_secs_f64());
            }
            Event::Skipped => {
                self.skipped.inc();
            }
            Event::Ran { texts, tokens, took } => {
                self.run.observe(took.as_secs_f64());
                self.batch.observe(count(texts) as f64);
                self.tokens.inc_by(count(tokens));
            }
            Event::Restarted => {
                self.restarts.inc();
            }
        }
    }
}
