//! How do texts of known levels score? By them it can be told what a threshold parks before any message waits.
//!
//! The texts are by a writer who saw none of those that the model learned from. Their scores by the shipped model
//! are in the program, so that nobody waits for it; `models/train/reference.py` makes them.

use serde::Deserialize;

use super::{LIFT_ALL, words_alone};
use crate::domain::Weights;

const SCORES: &str = include_str!("../../models/reference.json");
const TEXTS: &str = include_str!("../../models/train/data/eval_other_writer.jsonl");

/// Level 0 to 3.
const LEVELS: usize = 4;

/// The semantic parts that one model gives to them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reference {
    /// As verdicts name it, without the precision.
    pub model: String,
    /// No words get more than that, if it is known.
    most: Option<f64>,
    /// Of the texts of each level.
    scores: [Vec<f64>; LEVELS],
}

/// By what the words of a message become its score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measure {
    pub threshold: f64,
    pub weights: Weights,
    /// How far words lift.
    pub lift_max: f64,
}

impl Measure {
    /// Of messages that ask for something.
    pub fn of_requests(threshold: f64, weights: Weights) -> Self {
        Self { threshold, weights, lift_max: LIFT_ALL }
    }

    fn score(&self, semantic: f64) -> f64 {
        words_alone(semantic, &self.weights, self.lift_max)
    }
}

impl Reference {
    /// Of the model within the program.
    pub fn shipped() -> Result<Self, serde_json::Error> {
        serde_json::from_str(SCORES)
    }

    /// Of another, in the order of [`texts`].
    pub fn of(model: &str, scores: impl IntoIterator<Item = (usize, f64)>) -> Self {
        let mut all: [Vec<f64>; LEVELS] = Default::default();
        for (level, score) in scores {
            if let Some(of_level) = all.get_mut(level) {
                of_level.push(score);
            }
        }
        Self { model: unprecise(model).to_owned(), most: None, scores: all }
    }

    /// Whether it is of this model, in any precision.
    pub fn is_of(&self, model: &str) -> bool {
        self.model == unprecise(model)
    }

    pub fn texts(&self) -> usize {
        self.scores.iter().map(Vec::len).sum()
    }

    /// The share of each level that would be parked.
    pub fn parked(&self, measure: &Measure) -> [f64; LEVELS] {
        self.scores.each_ref().map(|scores| {
            let parked = scores.iter().filter(|&&semantic| measure.score(semantic) >= measure.threshold);
            parked.count() as f64 / scores.len().max(1) as f64
        })
    }

    /// The highest that words alone can reach, if it is known.
    pub fn reach(&self, measure: &Measure) -> Option<f64> {
        self.most.map(|most| measure.score(most))
    }

    /// The highest that one of the texts reaches.
    pub fn highest(&self, measure: &Measure) -> f64 {
        let scores = self.scores.iter().flatten().map(|&semantic| measure.score(semantic));
        scores.fold(0.0, f64::max)
    }
}

fn unprecise(model: &str) -> &str {
    model.rsplit_once('/').map_or(model, |(name, _)| name)
}

/// A text with its level.
#[derive(Debug, Deserialize)]
pub struct Text {
    pub text: String,
    pub level: usize,
}

/// The texts themselves, for a model whose scores are not in the program.
pub fn texts() -> Result<Vec<Text>, serde_json::Error> {
    TEXTS.lines().map(serde_json::from_str).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_the_program_knows_is_of_the_texts_that_it_has() {
        let (shipped, texts) = (Reference::shipped().unwrap(), texts().unwrap());
        assert_eq!(shipped.texts(), texts.len());
        let counts = [0, 1, 2, 3].map(|level| texts.iter().filter(|text| text.level == level).count());
        assert_eq!(shipped.scores.each_ref().map(Vec::len), counts);
        assert!(shipped.is_of(&format!("{}/int8", shipped.model)) && !shipped.is_of("keywords"));
    }

    #[test]
    fn a_higher_threshold_parks_no_more_of_any_level_and_harm_before_reads() {
        let shipped = Reference::shipped().unwrap();
        let at = |threshold| shipped.parked(&Measure::of_requests(threshold, Weights::default()));
        let steps: Vec<_> = (0..=20_u32).map(|step| at(f64::from(step) / 20.0)).collect();
        for (low, high) in steps.iter().zip(steps.iter().skip(1)) {
            assert!(low.iter().zip(high).all(|(low, high)| low >= high), "{low:?} {high:?}");
        }
        // From 0.5 on, where the words lift by themselves.
        for of_level in steps.iter().skip(10) {
            assert!(of_level.is_sorted(), "{of_level:?}");
        }
        assert_eq!((steps.first(), steps.last()), (Some(&[1.0; 4]), Some(&[0.0; 4])));
    }

    #[test]
    fn what_a_model_gives_at_most_bounds_what_words_can_reach() {
        let shipped = Reference::shipped().unwrap();
        let requests = Measure::of_requests(0.8, Weights::default());
        let reach = shipped.reach(&requests).unwrap();
        assert!((reach - 0.97).abs() < 1e-9 && shipped.highest(&requests) <= reach);
        let reports = Measure { lift_max: 0.3, ..requests };
        assert!(shipped.reach(&reports).unwrap() < 0.5, "only the mean is left");
        assert_eq!(Reference::of("own@1/f32", [(3, 0.9)]).reach(&requests), None);
    }
}
