//! What do a guard's labels mean? `guard.toml` gives each a level, and a score follows from the levels.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{domain::LEVELS, impact::Semantic};

/// What a level counts in the semantic part: reads, small acts, acts with weight, harm.
const VALUES: [f64; LEVELS] = [0.05, 0.3, 0.6, 0.95];
/// Fewer tokens say nothing, and what a window takes grows with the square of its length.
const WINDOW_TOKENS: std::ops::RangeInclusive<usize> = 16..=512;

/// `guard.toml`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: Option<String>,
    windows: Option<usize>,
    levels: BTreeMap<String, i64>,
}

/// A guard's own settings, held against its labels.
#[derive(Debug, Clone, PartialEq)]
pub struct Labels {
    /// What to call it in verdicts.
    pub name: Option<String>,
    /// Tokens of a window, if not as many as the model's.
    pub window_tokens: Option<usize>,
    /// Each output's label and level.
    outputs: Vec<(String, usize)>,
}

/// Why a `guard.toml` is not this model's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LabelsError {
    #[error("{cause}; expected {}", example(labels))]
    Unreadable { cause: String, labels: Vec<String> },
    #[error("no level for the label `{label}`; add `{label:?} = …`, 0 to 3, below [levels]")]
    NotMapped { label: String },
    #[error("`{found}` is no label of this model, which has {}", list(labels))]
    Unknown { found: String, labels: Vec<String> },
    #[error("level {found} for the label `{label}`, expected 0 to 3")]
    Level { label: String, found: i64 },
    #[error(
        "every label has level {level}, so the score would never change; give the harmful ones a higher one"
    )]
    OneLevel { level: usize },
    #[error("windows = {found}, expected {} to {} tokens", WINDOW_TOKENS.start(), max)]
    Windows { found: usize, max: usize },
}

impl Labels {
    /// `labels` in the order of the model's outputs; it reads at most `positions` tokens at once.
    pub fn parse(bytes: &[u8], labels: &[String], positions: usize) -> Result<Self, LabelsError> {
        let unreadable = |cause: String| LabelsError::Unreadable { cause, labels: labels.to_vec() };
        let text = std::str::from_utf8(bytes).map_err(|error| unreadable(error.to_string()))?;
        let text = text.trim_start_matches('\u{feff}');
        let written: Written =
            toml::from_str(text).map_err(|error| unreadable(error.message().to_owned()))?;
        if let Some(found) = written.levels.keys().find(|label| !labels.contains(label)) {
            return Err(LabelsError::Unknown { found: found.clone(), labels: labels.to_vec() });
        }
        let level = |label: &String| match written.levels.get(label) {
            None => Err(LabelsError::NotMapped { label: label.clone() }),
            Some(found) => match usize::try_from(*found) {
                Ok(level) if level < VALUES.len() => Ok((label.clone(), level)),
                _ => Err(LabelsError::Level { label: label.clone(), found: *found }),
            },
        };
        let outputs = labels.iter().map(level).collect::<Result<Vec<_>, _>>()?;
        match outputs.first() {
            Some((_, level)) if outputs.iter().all(|(_, other)| other == level) => {
                return Err(LabelsError::OneLevel { level: *level });
            }
            _ => {}
        }
        let max = positions.min(*WINDOW_TOKENS.end());
        match written.windows {
            Some(found) if !(*WINDOW_TOKENS.start()..=max).contains(&found) => {
                Err(LabelsError::Windows { found, max })
            }
            window_tokens => Ok(Self { name: written.name, window_tokens, outputs }),
        }
    }

    /// Each label with its level, in the order of the outputs.
    pub fn outputs(&self) -> &[(String, usize)] {
        &self.outputs
    }

    /// How likely each level is, by one window's logits.
    fn levels(&self, logits: &[f32]) -> [f64; LEVELS] {
        let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers: Vec<f64> = logits.iter().map(|logit| f64::from(logit - highest).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let mut levels = [0.0; LEVELS];
        for (power, (_, level)) in powers.iter().zip(&self.outputs) {
            if let Some(share) = levels.get_mut(*level) {
                *share += power / sum;
            }
        }
        levels
    }

    /// The expected value of the level, and how likely each is.
    pub fn say(&self, logits: &[f32]) -> Semantic {
        let levels = self.levels(logits);
        Semantic {
            score: levels.iter().zip(VALUES).map(|(share, value)| share * value).sum(),
            levels: Some(levels),
            tokens: 0,
        }
    }
}

/// Of a missing or broken file: what one for this model looks like.
pub fn example(labels: &[String]) -> String {
    let lines = labels.iter().map(|label| format!("`{label:?} = …`")).collect::<Vec<_>>();
    format!("[levels] and below it {}, each with its level, 0 to 3", lines.join(", "))
}

fn list(labels: &[String]) -> String {
    labels.iter().map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ")
}
