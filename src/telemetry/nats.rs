//! What happens on the connections to NATS.

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{counters, otlp::number};

/// Why the node had an agent's connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedFor {
    /// An operator has cut it off.
    CutOff,
    /// Its user held more than it left to others.
    Share,
    /// Its user wrote more than it may, and is kept out for a while.
    Rate,
}

impl EndedFor {
    const ALL: [EndedFor; 3] = [EndedFor::CutOff, EndedFor::Share, EndedFor::Rate];

    fn as_str(self) -> &'static str {
        match self {
            EndedFor::CutOff => "cut_off",
            EndedFor::Share => "share",
            EndedFor::Rate => "rate",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndedLabel {
    why: &'static str,
}

/// Counted by `nats`, where it happens.
#[derive(Debug)]
pub struct NatsMetrics {
    connected: Gauge<i64, AtomicI64>,
    reconnects: Counter,
    slow_consumer: Counter,
    headers_unreadable: Counter,
    malformed: Counter,
    panics: Counter,
    unanswered: Counter,
    dropped: Counter,
    records_unconfirmed: Gauge<i64, AtomicI64>,
    waiting: Gauge<i64, AtomicI64>,
    places: Gauge<i64, AtomicI64>,
    ended: Family<EndedLabel, Counter>,
}

impl Default for NatsMetrics {
    fn default() -> Self {
        Self {
            connected: Gauge::default(),
            reconnects: Counter::default(),
            slow_consumer: Counter::default(),
            headers_unreadable: Counter::default(),
            malformed: Counter::default(),
            panics: Counter::default(),
            unanswered: Counter::default(),
            dropped: Counter::default(),
            records_unconfirmed: Gauge::default(),
            waiting: Gauge::default(),
            places: Gauge::default(),
            ended: counters(EndedFor::ALL.iter().map(|why| EndedLabel { why: why.as_str() })),
        }
    }
}

impl NatsMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "nats_connected",
            "Connections for requests that are there, of one for each thread of the fast lane",
            self.connected.clone(),
        );
        registry.register("nats_reconnects", "Connections to NATS after the first", self.reconnects.clone());
        registry.register(
            "nats_slow_consumer",
            "Times the client dropped messages because the node did not keep up",
            self.slow_consumer.clone(),
        );
        registry.register(
            "headers_unreadable",
            "Requests whose headers are not well-formed and count as absent",
            self.headers_unreadable.clone(),
        );
        registry.register(
            "requests_malformed",
            "Requests that were dropped: on a subject that no agent has, or a verdict sent to the bus",
            self.malformed.clone(),
        );
        registry.register("request_panics", "Requests that the program failed on", self.panics.clone());
        registry.register(
            "requests_unanswered",
            "Requests whose answer could not be sent: NATS takes nothing",
            self.unanswered.clone(),
        );
        registry.register(
            "requests_dropped",
            "Requests dropped unread: their sender has been told that there is no room, and sends on",
            self.dropped.clone(),
        );
        registry.register(
            "records_unconfirmed",
            "Batches of decision records that JetStream has not confirmed",
            self.records_unconfirmed.clone(),
        );
        registry.register("requests_waiting", "Requests that wait for a place", self.waiting.clone());
        registry.register(
            "requests_places",
            "Requests that may be worked on at one time, as the node has found",
            self.places.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections of agents that this node had NATS end, by why",
            self.ended.clone(),
        );
    }

    /// A connection for requests is there, or there again.
    pub fn connected(&self, again: bool) {
        self.connected.inc();
        if again {
            self.reconnects.inc();
        }
    }

    /// Connections for requests that were there again, since the node began.
    pub fn reconnected(&self) -> u64 {
        self.reconnects.get()
    }

    pub fn disconnected(&self) {
        self.connected.dec();
    }

    /// The client library dropped messages.
    pub fn slow_consumer(&self) {
        self.slow_consumer.inc();
    }

    pub fn headers_unreadable(&self) {
        self.headers_unreadable.inc();
    }

    /// A request is dropped: nobody can have asked so.
    pub fn malformed(&self) {
        self.malformed.inc();
    }

    pub fn panicked(&self) {
        self.panics.inc();
    }

    /// The answer to a request could not be sent.
    pub fn unanswered(&self) {
        self.unanswered.inc();
    }

    /// A request is dropped: its sender sends faster than it can be refused.
    pub fn dropped(&self) {
        self.dropped.inc();
    }

    /// So many connections of agents are ended.
    pub fn connections_ended(&self, why: EndedFor, ended: usize) {
        self.ended.get_or_create(&EndedLabel { why: why.as_str() }).inc_by(number(ended));
    }

    /// So many requests wait for one of so many places.
    pub fn gates(&self, (waiting, places): (usize, usize)) {
        self.waiting.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        self.places.set(i64::try_from(places).unwrap_or(i64::MAX));
    }

    /// So many batches of records wait for JetStream.
    pub fn records_unconfirmed(&self, batches: usize) {
        self.records_unconfirmed.set(i64::try_from(batches).unwrap_or(i64::MAX));
    }
}
