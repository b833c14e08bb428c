//! What do OPA servers answer, and how fast?

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::Metrics;
use crate::policy::opa::{Event, Meter};

/// A server, by host and port of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ServerLabel {
    server: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabel {
    server: String,
    /// `answered`, or why not.
    outcome: &'static str,
}

#[derive(Debug)]
pub(super) struct OpaMetrics {
    requests: Family<RequestLabel, Counter>,
    took: Histogram,
    up: Family<ServerLabel, Gauge<i64, AtomicI64>>,
}

impl Default for OpaMetrics {
    fn default() -> Self {
        // From 100 µs to about 1.6 s, doubling.
        let took = prometheus_client::metrics::histogram::exponential_buckets(1e-4, 2.0, 15);
        Self { requests: Family::default(), took: Histogram::new(took), up: Family::default() }
    }
}

impl OpaMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "opa_requests",
            "Requests to OPA servers, of one or more questions each, by how they ended",
            self.requests.clone(),
        );
        registry.register_with_unit(
            "opa_request",
            "Time that a request to an OPA server took",
            Unit::Seconds,
            self.took.clone(),
        );
        registry.register("opa_up", "1 where an OPA server is asked", self.up.clone());
    }
}

impl Meter for Metrics {
    fn see(&self, event: Event<'_>) {
        let Event::Request { server, outcome, took } = event;
        let label = RequestLabel { server: server.to_owned(), outcome };
        self.opa.requests.get_or_create(&label).inc();
        self.opa.took.observe(took.as_secs_f64());
    }
}

impl Metrics {
    /// Whether a server is asked now.
    pub fn opa_server(&self, server: &str, asked: bool) {
        self.opa.up.get_or_create(&ServerLabel { server: server.to_owned() }).set(asked.into());
    }
}
