//! Does the threshold of deliberation park what should be parked? What reviewers decide teaches it.
//!
//! Off unless the tenant's settings turn it on (`docs/deliberation.md`, "A threshold that learns"). Pure:
//! where the learned number is kept, and who may write it, is not known here.

use std::collections::VecDeque;

use super::Case;
use crate::domain::{Adaptive, Judgement, Why};

/// Samples that a change looks back on (`origin.md`, "Adaptive threshold").
pub const SAMPLES: usize = 50;
/// Above this share of false positives the threshold goes up.
pub const FALSE_POSITIVES_MAX: f64 = 0.3;
/// Above this share of false negatives it goes down.
pub const FALSE_NEGATIVES_MAX: f64 = 0.1;
pub const STEP: f64 = 0.05;

/// What one judged deliberation says about the threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sample {
    /// Its impact parked it, and the reviewers saw no harm.
    FalsePositive,
    /// Its impact parked it, and rightly.
    TruePositive,
    /// Only the policy parked it, and the reviewers refused it: the threshold would have let it through.
    FalseNegative,
    /// Only the policy parked it, and the reviewers saw no harm.
    TrueNegative,
}

impl Sample {
    /// `threshold` is the one in force. `None`: it is not judged, or its score is not known.
    pub fn of(case: &Case, threshold: f64) -> Option<Sample> {
        let harmful = match case.decision.as_ref()?.judgement {
            Judgement::Approved => false,
            Judgement::Denied => true,
            Judgement::Expired => return None,
        };
        match (&case.parked.why, harmful) {
            (Why::Impact { .. }, false) => Some(Sample::FalsePositive),
            (Why::Impact { .. }, true) => Some(Sample::TruePositive),
            (Why::Policy, harmful) => {
                let impact = case.parked.impact.as_ref().filter(|impact| impact.unscored.is_none())?;
                // Where the words were not read, the most that they could have made of it.
                let below = impact.score_max.unwrap_or(impact.score) < threshold;
                below.then_some(if harmful { Sample::FalseNegative } else { Sample::TrueNegative })
            }
            (Why::Unscored { .. } | Why::Chain { .. }, _) => None,
        }
    }
}

/// What has been learned for one tenant.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Learned {
    pub threshold: f64,
    /// The last [`SAMPLES`] since the threshold last changed, oldest first.
    pub judged: VecDeque<Sample>,
    /// Times that it changed.
    pub changes: u64,
}

/// A step of the threshold, for the record.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    pub from: f64,
    pub to: f64,
    /// Of the last [`SAMPLES`].
    pub false_positives: usize,
    pub false_negatives: usize,
}

impl Learned {
    /// Nothing yet: begins at the threshold that the operator configured.
    pub fn new(threshold: f64) -> Self {
        Self { threshold, judged: VecDeque::new(), changes: 0 }
    }

    /// Adds a sample. Once there are [`SAMPLES`], too many mistakes of one kind move the threshold by
    /// [`STEP`], within today's bounds, and the count begins anew.
    #[must_use]
    pub fn learn(mut self, sample: Sample, adaptive: &Adaptive) -> (Self, Option<Change>) {
        self.judged.push_back(sample);
        while self.judged.len() > SAMPLES {
            self.judged.pop_front();
        }
        if self.judged.len() < SAMPLES {
            return (self, None);
        }
        let count = |kind| self.judged.iter().filter(|sample| **sample == kind).count();
        let false_positives = count(Sample::FalsePositive);
        let false_negatives = count(Sample::FalseNegative);
        let step = if share(false_positives) > FALSE_POSITIVES_MAX {
            STEP
        } else if share(false_negatives) > FALSE_NEGATIVES_MAX {
            -STEP
        } else {
            return (self, None);
        };
        let from = bounded(self.threshold, adaptive);
        let to = bounded(from + step, adaptive);
        if from.total_cmp(&to).is_eq() {
            return (self, None);
        }
        self.threshold = to;
        self.judged.clear();
        self.changes = self.changes.saturating_add(1);
        (self, Some(Change { from, to, false_positives, false_negatives }))
    }
}

/// The threshold in force: what was learned, within today's bounds. What the operator configured, while
/// nothing was learned or learning is off.
pub fn threshold(configured: f64, learned: Option<&Learned>, adaptive: &Adaptive) -> f64 {
    match learned {
        Some(learned) if adaptive.enabled && learned.changes > 0 => bounded(learned.threshold, adaptive),
        Some(_) | None => configured,
    }
}

/// To four digits, so that steps up and down meet again.
fn bounded(threshold: f64, adaptive: &Adaptive) -> f64 {
    const DIGITS: f64 = 10_000.0;
    let rounded = (threshold * DIGITS).round() / DIGITS;
    // Not `clamp`, which panics if the bounds are not in order. What is not a number becomes the floor.
    rounded.max(adaptive.floor).min(adaptive.ceiling)
}

fn share(count: usize) -> f64 {
    count as f64 / SAMPLES as f64
}

#[cfg(test)]
mod tests;
