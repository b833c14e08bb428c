//! How do the seven parts become one score, and how far could the words alone move it?
//!
//! A weighted mean with two floors. [`Sum`] is all of it but the words: it scores for any semantic
//! part, and knows the exact bounds over all of them.

use super::signals;
use crate::domain::{Priority, Weights};

/// A critical message scores at least this.
const CRITICAL_FLOOR: f64 = 0.9;
/// A semantic part above this is a floor of the same height.
const SEMANTIC_FLOOR: f64 = 0.8;
/// More than rounding can do to a score, less than anybody would notice.
const ROUNDING: f64 = 1e-9;

/// The five parts that the words have no say in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Others {
    pub permission: f64,
    pub volume: f64,
    pub context: f64,
    pub priority: f64,
    pub message_type: f64,
}

/// A message's score as a function of its semantic part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sum {
    others: f64,
    semantic: f64,
    drift: f64,
    total: f64,
    critical: bool,
    /// Of the sender's last semantic parts, if there were any.
    mean: Option<f64>,
}

/// The least and the most that any words could make of a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub low: f64,
    pub high: f64,
}

impl Sum {
    pub(super) fn new(weights: &Weights, others: &Others, priority: Priority, mean: Option<f64>) -> Self {
        let Weights { semantic, permission, volume, context, drift, priority: urgency, message_type } =
            *weights;
        Self {
            others: permission * others.permission
                + volume * others.volume
                + context * others.context
                + urgency * others.priority
                + message_type * others.message_type,
            semantic,
            drift,
            total: semantic + permission + volume + context + drift + urgency + message_type,
            critical: priority == Priority::Critical,
            mean,
        }
    }

    pub(super) fn drift(&self, semantic: f64) -> f64 {
        signals::drift(semantic, self.mean)
    }

    /// The score, 0 to 1. It grows with every part and is never below its floors.
    pub(super) fn score(&self, semantic: f64) -> f64 {
        self.score_with(semantic, self.drift(semantic))
    }

    pub(super) fn score_with(&self, semantic: f64, drift: f64) -> f64 {
        self.with(semantic, drift, semantic > SEMANTIC_FLOOR)
    }

    fn with(&self, semantic: f64, drift: f64, alarming: bool) -> f64 {
        let mean = (self.others + self.semantic * semantic + self.drift * drift) / self.total;
        let floor = match (self.critical, alarming) {
            (true, _) => CRITICAL_FLOOR,
            (false, true) => SEMANTIC_FLOOR,
            (false, false) => 0.0,
        };
        // What is no number could be any, and `max` would make the least of it.
        if mean.is_nan() { 1.0 } else { mean.max(floor).clamp(0.0, 1.0) }
    }

    /// Exact but for rounding: between two of the points tried here the score is a straight line or
    /// a floor, and at the points where it jumps both sides are tried.
    pub(super) fn bounds(&self) -> Bounds {
        let mut bounds = Bounds { low: f64::INFINITY, high: f64::NEG_INFINITY };
        let mut take = |score: f64| {
            bounds = Bounds { low: bounds.low.min(score), high: bounds.high.max(score) };
        };
        for at in [0.0, SEMANTIC_FLOOR, 1.0] {
            take(self.score(at));
        }
        take(self.with(SEMANTIC_FLOOR, self.drift(SEMANTIC_FLOOR), true));
        let Some(mean) = self.mean else { return bounds };
        for (distance, limits) in [signals::DRIFT_JUMP, signals::DRIFT_FULL] {
            for at in [mean - distance, mean + distance] {
                // At the very ends there is nothing beyond a jump.
                if at > 0.0 && at < 1.0 {
                    let alarming = at > SEMANTIC_FLOOR;
                    limits.into_iter().for_each(|drift| take(self.with(at, drift, alarming)));
                }
            }
        }
        bounds
    }
}

impl Bounds {
    /// Whether every score within them is on the same side of a threshold.
    pub(super) fn decide(self, threshold: f64) -> bool {
        self.low >= threshold + ROUNDING || self.high < threshold - ROUNDING
    }
}
