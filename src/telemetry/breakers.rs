//! What do breakers keep messages from?

use std::sync::atomic::{AtomicI64, Ordering};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{KindLabel, Metrics};

#[derive(Debug, Default)]
pub(super) struct BreakerMetrics {
    open: Family<KindLabel, Gauge<i64, AtomicI64>>,
    opened: Family<KindLabel, Counter>,
    refused: Family<KindLabel, Counter>,
}

impl BreakerMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("breakers_open", "Breakers that keep calls away now", self.open.clone());
        registry.register("breaker_opened", "Times that a breaker has opened", self.opened.clone());
        registry.register(
            "breaker_refused",
            "Calls that were not made since a breaker was open",
            self.refused.clone(),
        );
    }
}

impl Metrics {
    /// Of one kind: how many are open now, and what they have done since the start.
    pub fn breakers(&self, kind: &'static str, open: u64, opened: u64, refused: u64) {
        let (of, label) = (&self.breakers, KindLabel { kind });
        of.open.get_or_create(&label).set(i64::try_from(open).unwrap_or(i64::MAX));
        of.opened.get_or_create(&label).inner().store(opened, Ordering::Relaxed);
        of.refused.get_or_create(&label).inner().store(refused, Ordering::Relaxed);
    }
}
