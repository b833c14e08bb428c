//! What has a breaker, and how patient is it?

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first pause; others follow from it.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// What is asked behind a breaker. Each of a kind has one of its own: each OPA server, each tenant's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Opa,
    Redis,
    Model,
    Records,
    Jetstream,
    Deliberations,
    Webhook,
}

impl Kind {
    pub const ALL: [Self; 7] = [
        Self::Opa,
        Self::Redis,
        Self::Model,
        Self::Records,
        Self::Jetstream,
        Self::Deliberations,
        Self::Webhook,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opa => "opa",
            Self::Redis => "redis",
            Self::Model => "model",
            Self::Records => "records",
            Self::Jetstream => "jetstream",
            Self::Deliberations => "deliberations",
            Self::Webhook => "webhook",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Whether all nodes ask the same one, so that one node's faults say something to another. A node's model is its own,
    /// and of Redis nobody could be told by Redis.
    pub fn is_shared(self) -> bool {
        !matches!(self, Self::Redis | Self::Model)
    }
}

/// When is it tried again?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recovery {
    /// After 1 s, then after the double each time.
    #[default]
    Exponential,
    /// After 1 s, then 2, then 3.
    Linear,
    /// By the next call.
    Immediate,
    /// Once a person says so (`agentbus recover`).
    Manual,
}

/// Of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// So many faults open it: one after the other, or within ten seconds where they are half of the calls.
    pub failures: u32,
    /// The longest pause before it is tried again.
    #[serde(with = "humantime_serde")]
    pub open_for: Duration,
    #[serde(default)]
    pub recovery: Recovery,
}

impl Settings {
    const fn new(failures: u32, seconds: u64) -> Self {
        Self { failures, open_for: Duration::from_secs(seconds), recovery: Recovery::Exponential }
    }

    /// Before the `trip`-th try in a row, which counts from 1. `None`: not by itself.
    pub fn pause(&self, trip: u32) -> Option<Duration> {
        let pause = match self.recovery {
            Recovery::Exponential => PAUSE_MIN.saturating_mul(1 << trip.saturating_sub(1).min(30)),
            Recovery::Linear => PAUSE_MIN.saturating_mul(trip.max(1)),
            Recovery::Immediate => Duration::ZERO,
            Recovery::Manual => return None,
        };
        Some(pause.min(self.open_for))
    }
}

/// Of all kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Table {
    pub opa: Settings,
    pub redis: Settings,
    pub model: Settings,
    pub records: Settings,
    pub jetstream: Settings,
    pub deliberations: Settings,
    pub webhook: Settings,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            opa: Settings::new(3, 15),
            redis: Settings::new(5, 30),
            model: Settings::new(5, 30),
            records: Settings::new(7, 60),
            jetstream: Settings::new(5, 30),
            deliberations: Settings::new(7, 45),
            webhook: Settings::new(5, 30),
        }
    }
}

impl Table {
    pub fn of(&self, kind: Kind) -> Settings {
        match kind {
            Kind::Opa => self.opa,
            Kind::Redis => self.redis,
            Kind::Model => self.model,
            Kind::Records => self.records,
            Kind::Jetstream => self.jetstream,
            Kind::Deliberations => self.deliberations,
            Kind::Webhook => self.webhook,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_way_to_recover_has_its_pauses_up_to_the_longest() {
        let pauses = |recovery| {
            let settings = Settings { recovery, ..Settings::new(3, 15) };
            [1, 2, 3, 4, 5, u32::MAX].map(|trip| settings.pause(trip).map(|pause| pause.as_secs()))
        };
        assert_eq!(pauses(Recovery::Exponential), [1, 2, 4, 8, 15, 15].map(Some));
        assert_eq!(pauses(Recovery::Linear), [1, 2, 3, 4, 5, 15].map(Some));
        assert_eq!(pauses(Recovery::Immediate), [Some(0); 6]);
        assert_eq!(pauses(Recovery::Manual), [None; 6]);
    }

    #[test]
    fn every_kind_is_read_back_from_its_word() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
        }
    }
}
