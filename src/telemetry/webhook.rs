//! Which numbers does the webhook have?

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::counters;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    /// `ok`, or a word of `http::CallError`.
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

/// Why an event is not told: too many calls failed, it cannot be read, or it is too old.
const DROPPED: [&str; 3] = ["attempts", "unreadable", "stale"];

#[derive(Debug)]
pub(super) struct WebhookMetrics {
    calls: Family<OutcomeLabel, Counter>,
    dropped: Family<WhyLabel, Counter>,
    took: Histogram,
}

impl Default for WebhookMetrics {
    fn default() -> Self {
        // From 1 ms to about 16 s, doubling.
        let took = prometheus_client::metrics::histogram::exponential_buckets(1e-3, 2.0, 15);
        let dropped = counters(DROPPED.map(|why| WhyLabel { why }));
        Self { calls: Family::default(), dropped, took: Histogram::new(took) }
    }
}

impl WebhookMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("webhook_calls", "Calls of the webhook by how they ended", self.calls.clone());
        registry.register(
            "webhook_dropped",
            "Events that the webhook was not told, by why",
            self.dropped.clone(),
        );
        registry.register_with_unit(
            "webhook_call",
            "Time that a call of the webhook took",
            Unit::Seconds,
            self.took.clone(),
        );
    }
}

impl super::Metrics {
    /// The webhook was called. `outcome` is `ok` or a word of the error.
    pub fn webhook_called(&self, outcome: &'static str, took: Duration) {
        self.webhook.calls.get_or_create(&OutcomeLabel { outcome }).inc();
        self.webhook.took.observe(took.as_secs_f64());
    }

    /// An event that the webhook will not be told: `attempts`, `unreadable` or `stale`.
    pub fn webhook_dropped(&self, why: &'static str) {
        self.webhook.dropped.get_or_create(&WhyLabel { why }).inc();
    }
}
