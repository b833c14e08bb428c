//! What does a head say of a state: one probability of being high, or one for each level?

use serde::{Deserialize, Serialize};

use super::HeadError;
use crate::{domain::LEVELS, impact::Semantic};

/// A boundary between two levels each.
const BOUNDARIES: usize = LEVELS - 1;

/// `w · x + b`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// One for each value of the mean, or for each unit of the hidden layer.
    pub weights: Vec<f64>,
    pub bias: f64,
}

/// The last layer. What it says is calibrated already.
#[derive(Debug, Clone, PartialEq)]
pub enum Outputs {
    /// `sigmoid(output)` is the semantic part (formats 1 and 2).
    High(Output),
    /// `sigmoid(outputs[k])` is the probability of level k + 1 or above (format 3).
    Levels {
        outputs: [Output; BOUNDARIES],
        /// What each level counts in the semantic part, which is the expected one.
        values: [f64; LEVELS],
    },
}

impl Outputs {
    /// Of outputs and values as many as there must be, which rise.
    pub fn levels(outputs: Vec<Output>, values: &[f64]) -> Result<Self, HeadError> {
        let outputs = outputs
            .try_into()
            .map_err(|found: Vec<Output>| HeadError::Outputs { found: found.len(), expected: BOUNDARIES })?;
        let rising = values.iter().is_sorted_by(|a, b| a < b);
        let within = values.iter().all(|value| (0.0..=1.0).contains(value));
        match <[f64; LEVELS]>::try_from(values) {
            Ok(values) if rising && within => Ok(Outputs::Levels { outputs, values }),
            _ => Err(HeadError::Values { found: format!("{values:?}") }),
        }
    }

    pub(super) fn all(&self) -> &[Output] {
        match self {
            Outputs::High(output) => std::slice::from_ref(output),
            Outputs::Levels { outputs, .. } => outputs,
        }
    }

    pub fn say(&self, state: &[f64]) -> Semantic {
        match self {
            Outputs::High(output) => Semantic::from(output.probability(state)),
            Outputs::Levels { outputs, values } => {
                let at_least = outputs.each_ref().map(|output| output.probability(state));
                expected(at_least, values)
            }
        }
    }
}

impl Output {
    fn probability(&self, state: &[f64]) -> f64 {
        let sum: f64 = self.weights.iter().zip(state).map(|(weight, value)| weight * value).sum();
        1.0 / (1.0 + (-(sum + self.bias)).exp())
    }
}

/// From the probabilities of each level or above: no level can be likelier than the one below it or above.
fn expected(at_least: [f64; BOUNDARIES], values: &[f64; LEVELS]) -> Semantic {
    let mut levels = [0.0; LEVELS];
    let mut left = 1.0;
    for (level, next) in levels.iter_mut().zip(at_least.into_iter().chain([0.0])) {
        // Not `min`, which passes over what is no number.
        let next = if next > left { left } else { next };
        *level = left - next;
        left = next;
    }
    let score: f64 = levels.iter().zip(values).map(|(level, value)| level * value).sum();
    Semantic { score: score.clamp(0.0, 1.0), levels: Some(levels), tokens: 0 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "tests")]

    use super::*;

    #[test]
    fn the_semantic_part_is_the_expected_value_of_the_levels() {
        let said = expected([0.75, 0.5, 0.25], &[0.0, 0.25, 0.5, 1.0]);
        assert_eq!(said.levels, Some([0.25; 4]));
        assert_eq!(said.score, 0.4375);
    }

    #[test]
    fn a_level_that_seems_likelier_than_the_one_below_is_no_likelier() {
        let said = expected([0.5, 0.75, 0.25], &[0.0, 0.25, 0.5, 1.0]);
        assert_eq!(said.levels, Some([0.5, 0.0, 0.25, 0.25]));
    }

    #[test]
    fn one_output_that_is_no_number_leaves_no_score() {
        for at in 0..3 {
            let mut at_least = [0.75, 0.5, 0.25];
            if let Some(one) = at_least.get_mut(at) {
                *one = f64::NAN;
            }
            assert!(expected(at_least, &[0.05, 0.3, 0.6, 0.95]).score.is_nan(), "output {at}");
        }
    }
}
