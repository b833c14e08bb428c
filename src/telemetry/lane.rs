//! Which numbers does the durable lane have? What waits, how long it takes, and what went wrong.

use std::{sync::atomic::AtomicI64, time::Duration};

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

/// The lane's numbers. Verdicts by status and reason are those of the verb `submit`.
#[derive(Debug)]
pub struct LaneMetrics {
    pulled: Counter,
    redelivered: Counter,
    given_back: Counter,
    panics: Counter,
    dead_letters: Counter,
    unburied: Counter,
    unburied_of_share: Counter,
    released: Counter,
    released_bytes: Counter,
    receipts: Counter,
    receipts_refused: Counter,
    /// From being kept to the stored outcome.
    latency: Histogram,
    pub in_hand: Gauge<i64, AtomicI64>,
    pub waiting: Gauge<i64, AtomicI64>,
    pub unsettled: Gauge<i64, AtomicI64>,
}

impl Default for LaneMetrics {
    fn default() -> Self {
        Self {
            pulled: Counter::default(),
            redelivered: Counter::default(),
            given_back: Counter::default(),
            panics: Counter::default(),
            dead_letters: Counter::default(),
            unburied: Counter::default(),
            unburied_of_share: Counter::default(),
            released: Counter::default(),
            released_bytes: Counter::default(),
            receipts: Counter::default(),
            receipts_refused: Counter::default(),
            // From 1 ms to about 18 h, doubling: an outage is waited for.
            latency: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
                1e-3, 2.0, 26,
            )),
            in_hand: Gauge::default(),
            waiting: Gauge::default(),
            unsettled: Gauge::default(),
        }
    }
}

impl LaneMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("lane_pulled", "Messages pulled to be governed", &self.pulled),
            ("lane_redelivered", "Of them, those that were pulled before", &self.redelivered),
            ("lane_given_back", "Messages given back to be tried again later", &self.given_back),
            ("lane_panics", "Messages whose governing failed within the node", &self.panics),
            ("lane_dead_letters", "Messages that were given up", &self.dead_letters),
            ("lane_unburied", "Messages given up that the dead letters had no room for", &self.unburied),
            (
                "lane_unburied_of_share",
                "Messages given up whose sender has its share of the dead letters",
                &self.unburied_of_share,
            ),
            (
                "inbox_released",
                "Messages in durable inboxes that take no place once their recipient has acknowledged them",
                &self.released,
            ),
            ("inbox_released_bytes", "Their content, in bytes", &self.released_bytes),
            ("inbox_receipts", "Of them, those for which a receipt was stored", &self.receipts),
            (
                "inbox_receipts_refused",
                "Receipts that a full stream had no room for, each time that it was tried",
                &self.receipts_refused,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        let latency = "Time from being kept to the stored outcome";
        registry.register_with_unit("lane", latency, Unit::Seconds, self.latency.clone());
        registry.register("lane_in_hand", "Messages of the lane being governed", self.in_hand.clone());
        let waiting = "Messages that have no verdict yet, as last heard, over all tenants and nodes";
        registry.register("lane_waiting", waiting, self.waiting.clone());
        let unsettled = "Messages in durable inboxes that nodes have not settled yet, over all tenants";
        registry.register("inbox_unsettled", unsettled, self.unsettled.clone());
    }

    /// One message was pulled, for the `attempt`-th time.
    pub fn pulled(&self, attempt: u64) {
        self.pulled.inc();
        if attempt > 1 {
            self.redelivered.inc();
        }
    }

    pub fn given_back(&self) {
        self.given_back.inc();
    }

    pub fn panicked(&self) {
        self.panics.inc();
    }

    pub fn buried(&self) {
        self.dead_letters.inc();
    }

    pub fn unburied(&self) {
        self.unburied.inc();
    }

    pub fn unburied_of_share(&self) {
        self.unburied_of_share.inc();
    }

    /// Other evidence of a delivery is kept than its content of so many bytes.
    pub fn released(&self, bytes: u64) {
        self.released.inc();
        self.released_bytes.inc_by(bytes);
    }

    pub fn receipt(&self) {
        self.receipts.inc();
    }

    pub fn receipt_refused(&self) {
        self.receipts_refused.inc();
    }

    pub fn governed(&self, age: Duration) {
        self.latency.observe(age.as_secs_f64());
    }
}
