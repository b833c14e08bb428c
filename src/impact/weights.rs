//! How do the seven parts become one score, and how far could the words alone move it?
//!
//! A weighted mean, with the words' own score and a critical priority as floors. [`Sum`] is all of it but the
//! words: it scores for any semantic part, and knows the exact bounds over all of them.

use super::signals;
use crate::domain::{Priority, Weights};

/// A critical message scores at least this.
const CRITICAL_FLOOR: f64 = 0.9;
/// From this semantic part on, the words lift a score to their own height.
pub(super) const LIFT_FROM: f64 = 0.5;
/// More than rounding can do to a score, less than anybody would notice.
const ROUNDING: f64 = 1e-9;

/// All that the words have no say in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Others {
    pub permission: f64,
    pub volume: f64,
    pub context: f64,
    pub priority: f64,
    pub message_type: f64,
    /// Whether the message asks for something, or only reports.
    pub asks: bool,
}

/// A message's score as a function of its semantic part.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Sum {
    others: f64,
    semantic: f64,
    drift: f64,
    total: f64,
    critical: bool,
    /// The words lift the score no further.
    lift_max: f64,
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
    pub(super) fn new(
        weights: &Weights,
        others: &Others,
        priority: Priority,
        mean: Option<f64>,
        report_lift_max: f64,
    ) -> Self {
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
            lift_max: if others.asks { 1.0 } else { report_lift_max },
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
        let mean = self.mean_of(semantic, drift);
        // What is no number could be any, and `max` would make the least of it.
        if mean.is_nan() { 1.0 } else { self.floored(mean.max(self.lift(semantic, semantic >= LIFT_FROM))) }
    }

    fn mean_of(&self, semantic: f64, drift: f64) -> f64 {
        (self.others + self.semantic * semantic + self.drift * drift) / self.total
    }

    pub(super) fn lift(&self, semantic: f64, alarming: bool) -> f64 {
        if alarming { semantic.min(self.lift_max) } else { 0.0 }
    }

    fn floored(&self, score: f64) -> f64 {
        score.max(if self.critical { CRITICAL_FLOOR } else { 0.0 }).clamp(0.0, 1.0)
    }

    /// Exact but for rounding: between two neighbours of these points the mean and the lift are straight
    /// lines, so what is higher of both is extreme at the ends, or where they cross.
    pub(super) fn bounds(&self) -> Bounds {
        let mut bounds = Bounds { low: f64::INFINITY, high: f64::NEG_INFINITY };
        let mut take = |score: f64| {
            bounds = Bounds { low: bounds.low.min(score), high: bounds.high.max(score) };
        };
        let points = self.points();
        points.into_iter().for_each(|at| take(self.score(at)));
        for (from, to) in points.into_iter().zip(points.into_iter().skip(1)).filter(|(from, to)| from < to) {
            let [(mean, lift), (mean_to, lift_to)] = self.lines(from, to);
            let (above, above_to) = (mean - lift, mean_to - lift_to);
            for end in [mean.max(lift), mean_to.max(lift_to)] {
                take(self.floored(end));
            }
            if above * above_to < 0.0 {
                let crossing = mean + (mean_to - mean) * above / (above - above_to);
                take(self.floored(crossing));
            }
        }
        bounds
    }

    /// Where the score bends or jumps, and both ends of it, in their order.
    fn points(&self) -> [f64; 8] {
        // Without a past there is no drift, and its points are the first once more.
        let around = |distance: f64| self.mean.map_or([0.0; 2], |mean| [mean - distance, mean + distance]);
        let ([jump, jump_too], [full, full_too]) = (around(signals::DRIFT_JUMP), around(signals::DRIFT_FULL));
        let mut points = [0.0, LIFT_FROM, self.lift_max, 1.0, jump, jump_too, full, full_too];
        points.iter_mut().for_each(|at| *at = at.clamp(0.0, 1.0));
        points.sort_by(f64::total_cmp);
        points
    }

    /// The mean and the lift at both ends of a piece, as they are within it.
    fn lines(&self, from: f64, to: f64) -> [(f64, f64); 2] {
        let within = f64::midpoint(from, to);
        let drifts = self.drift(within) > 0.0;
        [from, to].map(|at| {
            let drift = if drifts { signals::drifted(at, self.mean) } else { 0.0 };
            (self.mean_of(at, drift), self.lift(at, within >= LIFT_FROM))
        })
    }
}

impl Bounds {
    /// Whether every score within them is on the same side of a threshold.
    pub(super) fn decide(self, threshold: f64) -> bool {
        self.low >= threshold + ROUNDING || self.high < threshold - ROUNDING
    }
}
