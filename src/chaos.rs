//! May experiments be made with this node, and which one is? Only where its configuration allows it, which one that serves
//! should not.
//!
//! What is done to the processes and connections around a node is `servers`' (`servers/stack/faults.rs`); here is what only
//! the node itself can do: a clock that is wrong, and breakers that are open though nothing has failed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use crate::{
    breakers::{Breakers, Kind},
    domain::Timestamp,
    skew::wall_clock,
};

/// A breaker that tries again is opened again within this.
const HOLD_EVERY: Duration = Duration::from_millis(100);
const WHY: &str = "an experiment holds it open (chaos.open_breakers)";

/// `[chaos]` of a node's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Experiments may be made with this node.
    pub allowed: bool,
    /// Although servers of it are not on this machine.
    pub beyond_loopback: bool,
    /// The node's clock is ahead of the machine's by so much; less than 0: behind.
    pub clock_ahead_ms: i64,
    /// Kinds of breakers that are held open, separated by commas.
    pub open_breakers: String,
}

impl Settings {
    /// The kinds, or the word that is none.
    pub fn kinds(&self) -> Result<Vec<Kind>, &str> {
        let words = self.open_breakers.split(',').map(str::trim).filter(|word| !word.is_empty());
        words.map(|word| Kind::parse(word).ok_or(word)).collect()
    }

    /// Without experiments there is none of this.
    pub fn is_calm(&self) -> bool {
        self.clock_ahead_ms == 0 && self.open_breakers.trim().is_empty()
    }
}

/// By how many milliseconds the clock of this process is wrong on purpose.
static AHEAD: AtomicI64 = AtomicI64::new(0);

/// The clock of a node with which experiments may be made.
pub fn clock() -> Timestamp {
    Timestamp(wall_clock().0.saturating_add_signed(AHEAD.load(Relaxed)))
}

/// What is done to a node at the moment. Clones share it.
#[derive(Debug, Clone)]
pub struct Experiment {
    breakers: Arc<Breakers>,
    held: Arc<ArcSwap<Vec<Kind>>>,
}

impl Experiment {
    pub fn new(breakers: Arc<Breakers>) -> Self {
        Self { breakers, held: Arc::default() }
    }

    /// From now on, and nothing of what was before.
    pub fn begin(&self, settings: &Settings) {
        if !settings.is_calm() {
            tracing::warn!(?settings, "an experiment is made with this node");
        }
        AHEAD.store(settings.clock_ahead_ms, Relaxed);
        self.held.store(Arc::new(settings.kinds().unwrap_or_default()));
    }

    /// Holds breakers open, until the future is dropped. They close by themselves afterwards, as after any fault.
    pub async fn hold(self) {
        loop {
            for kind in self.held.load().iter() {
                // That of a kind that has one, whether or not it was ever asked.
                let _ = self.breakers.of(*kind);
                for breaker in self.breakers.each(Some(*kind)).iter().filter(|breaker| breaker.is_closed()) {
                    breaker.fell(&WHY);
                }
            }
            tokio::time::sleep(HOLD_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn breakers_are_open_while_they_are_held_and_no_longer() {
        let breakers = Arc::new(Breakers::default());
        let experiment = Experiment::new(Arc::clone(&breakers));
        let tenant = breakers.of_target(Kind::Jetstream, "acme");
        let holding = tokio::spawn(experiment.clone().hold());
        let settings = |open_breakers: &str| Settings {
            allowed: true,
            open_breakers: open_breakers.to_owned(),
            ..Settings::default()
        };
        experiment.begin(&settings("redis, jetstream"));
        for _ in 0..50 {
            tokio::time::sleep(Duration::from_millis(250)).await;
            if let Ok(probe) = breakers.of(Kind::Redis).admit() {
                probe.good();
            }
        }
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(!breakers.of(Kind::Redis).is_closed() && !tenant.is_closed());
        assert!(breakers.of(Kind::Opa).is_closed());
        experiment.begin(&settings(""));
        tokio::time::sleep(Duration::from_secs(120)).await;
        breakers.of(Kind::Redis).admit().unwrap().good();
        assert!(breakers.of(Kind::Redis).is_closed());
        holding.abort();
    }

    #[test]
    fn a_kind_that_is_none_is_named() {
        let settings = Settings { open_breakers: "redis, weather".to_owned(), ..Settings::default() };
        assert_eq!(settings.kinds(), Err("weather"));
    }
}
