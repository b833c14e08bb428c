//! Which numbers does the HTTP server for operators have?

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::counters;

/// Why the node closed a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// No whole request in time, or an answer that was not read in time.
    Late,
    /// For a new one, at the bound.
    GaveWay,
    /// It was no HTTP, or too much of it.
    Malformed,
}

impl Closed {
    const ALL: [Closed; 3] = [Closed::Late, Closed::GaveWay, Closed::Malformed];

    fn as_str(self) -> &'static str {
        match self {
            Closed::Late => "late",
            Closed::GaveWay => "gave_way",
            Closed::Malformed => "malformed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WhyLabel {
    why: &'static str,
}

#[derive(Debug)]
pub(super) struct HttpMetrics {
    connections: Gauge<i64, AtomicI64>,
    closed: Family<WhyLabel, Counter>,
    not_accepted: Counter,
}

impl Default for HttpMetrics {
    fn default() -> Self {
        let closed = counters(Closed::ALL.iter().map(|why| WhyLabel { why: why.as_str() }));
        Self { connections: Gauge::default(), closed, not_accepted: Counter::default() }
    }
}

impl HttpMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("http_connections", "Open connections of http.listen", self.connections.clone());
        registry.register(
            "http_closed",
            "Connections of http.listen that the node closed, by why",
            self.closed.clone(),
        );
        registry.register(
            "http_not_accepted",
            "Times that the system gave no connection, mostly for want of file descriptors",
            self.not_accepted.clone(),
        );
    }
}

impl super::Metrics {
    pub fn http_opened(&self) {
        self.http.connections.inc();
    }

    pub fn http_ended(&self) {
        self.http.connections.dec();
    }

    pub fn http_closed(&self, why: Closed) {
        self.http.closed.get_or_create(&WhyLabel { why: why.as_str() }).inc();
    }

    pub fn http_not_accepted(&self) {
        self.http.not_accepted.inc();
    }
}
