//! The last step: from a pooled state to a score. And whose head it is.

use serde::{Deserialize, Serialize};

use super::files::Digests;
use crate::impact::distilbert::Config;

/// A logistic regression, and one over a hidden layer.
const LINEAR: u32 = 1;
const WITH_HIDDEN: u32 = 2;
/// Of a hidden layer: what it costs stays small beside the encoder.
const UNITS_MAX: usize = 1_024;
/// A trained weight is far below it, and no sum of weights up to it overflows: two infinities of
/// opposite signs would be no number.
const WEIGHT_MAX: f64 = 1e6;
/// Sums run side by side, so that the compiler can use the CPU's wide registers.
const LANES: usize = 8;

/// `head.json`: a logistic regression over the normalised mean of one encoder's layer (format 1), or
/// over a hidden layer on top of that mean (format 2).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    pub format: u32,
    /// SHA-256 of the `model.safetensors` that it was trained on, in hex.
    pub encoder_sha256: String,
    /// SHA-256 of the `tokenizer.json`, in hex.
    pub tokenizer_sha256: String,
    /// How many layers run before the mean is taken.
    pub layer: usize,
    pub pooling: String,
    pub normalize: bool,
    /// Format 2 has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden: Option<Hidden>,
    /// One for each value of the mean, or for each unit of the hidden layer.
    pub weights: Vec<f64>,
    pub bias: f64,
    /// Facts for people.
    #[serde(default)]
    pub trained_on: serde_json::Value,
}

/// `relu(W · pooled + b)`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hidden {
    pub activation: Activation,
    pub units: usize,
    /// `[units, width]`, row after row.
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

/// What a unit makes of its sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    Relu,
}

/// Why a head is not this encoder's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum HeadError {
    #[error("not a head ({cause}); `agentbus model train-head` makes one")]
    Unreadable { cause: String },
    #[error(
        "format {found}, expected {LINEAR} without a hidden layer or {WITH_HIDDEN} with one; this head is of \
         another version of agentbus"
    )]
    Format { found: u32 },
    #[error(
        "a hidden layer of {units} units with {weights} weights and {biases} biases, expected 1 to \
         {UNITS_MAX} units with {width} weights and one bias each"
    )]
    Hidden { units: usize, weights: usize, biases: usize, width: usize },
    #[error(
        "trained on the encoder {found}, this model.safetensors is {expected}: another one, or a damaged copy; \
         take the one that came with the head, or train a head for this one: `agentbus model train-head`"
    )]
    OtherEncoder { found: String, expected: String },
    #[error(
        "trained with the tokenizer {found}, this tokenizer.json is {expected}: another one, or a damaged copy; \
         take the one that came with the encoder, or train a new head: `agentbus model train-head`"
    )]
    OtherTokenizer { found: String, expected: String },
    #[error(
        "reads layer {found}, this encoder has layers 1 to {max}; train a head for it: `agentbus model train-head`"
    )]
    OtherLayer { found: usize, max: usize },
    #[error(
        "{found} weights, this encoder is {expected} wide; train a head for it: `agentbus model train-head`"
    )]
    OtherWidth { found: usize, expected: usize },
    #[error("pools by `{found}`, expected `mean`, normalised")]
    OtherPooling { found: String },
    #[error("holds a value that is no finite number")]
    NotFinite,
    #[error(
        "holds the weight {found:e}, expected {WEIGHT_MAX:e} at most; the file is damaged, or its training went \
         astray: `agentbus model train-head`"
    )]
    TooLarge { found: f64 },
}

impl Head {
    pub fn parse(bytes: &[u8]) -> Result<Self, HeadError> {
        serde_json::from_slice(bytes).map_err(|error| HeadError::Unreadable { cause: error.to_string() })
    }

    /// A head is good for one encoder and one tokenizer. Asked last: of a damaged file its own error
    /// says more than that its digest is another.
    pub(super) fn belongs(&self, files: &Digests) -> Result<(), HeadError> {
        let expected = hex::encode(files.encoder);
        if self.encoder_sha256 != expected {
            return Err(HeadError::OtherEncoder {
                found: short(&self.encoder_sha256),
                expected: short(&expected),
            });
        }
        let expected = hex::encode(files.tokenizer);
        if self.tokenizer_sha256 != expected {
            return Err(HeadError::OtherTokenizer {
                found: short(&self.tokenizer_sha256),
                expected: short(&expected),
            });
        }
        Ok(())
    }

    /// Whether it is a head, and for an encoder of these dimensions.
    pub(super) fn check(&self, config: &Config) -> Result<(), HeadError> {
        match (self.format, &self.hidden) {
            (LINEAR, None) | (WITH_HIDDEN, Some(_)) => {}
            (found, _) => return Err(HeadError::Format { found }),
        }
        if !(1..=config.n_layers).contains(&self.layer) {
            return Err(HeadError::OtherLayer { found: self.layer, max: config.n_layers });
        }
        let found = match &self.hidden {
            None => self.weights.len(),
            Some(hidden) => hidden.width(self.weights.len()).ok_or(HeadError::Hidden {
                units: hidden.units,
                weights: hidden.weights.len(),
                biases: hidden.bias.len(),
                width: config.dim,
            })?,
        };
        if found != config.dim {
            return Err(HeadError::OtherWidth { found, expected: config.dim });
        }
        if self.pooling != "mean" || !self.normalize {
            return Err(HeadError::OtherPooling { found: self.pooling.clone() });
        }
        let hidden = self.hidden.iter().flat_map(|hidden| hidden.weights.iter().chain(&hidden.bias));
        for value in self.weights.iter().chain([&self.bias]).copied().chain(hidden.copied().map(f64::from)) {
            if !value.is_finite() {
                return Err(HeadError::NotFinite);
            }
            if value.abs() > WEIGHT_MAX {
                return Err(HeadError::TooLarge { found: value });
            }
        }
        Ok(())
    }

    /// `sigmoid(w · x + b)`, where `x` is the pooled mean or what the hidden layer makes of it.
    pub fn score(&self, pooled: &[f32]) -> f64 {
        let sum: f64 = match &self.hidden {
            None => self.weights.iter().zip(pooled).map(|(weight, value)| weight * f64::from(*value)).sum(),
            Some(hidden) => {
                self.weights.iter().zip(hidden.units(pooled)).map(|(weight, unit)| weight * unit).sum()
            }
        };
        1.0 / (1.0 + (-(sum + self.bias)).exp())
    }
}

impl Hidden {
    /// How wide the encoder is that it reads, if its own sizes fit each other and the layer after it.
    fn width(&self, readers: usize) -> Option<usize> {
        let fits = (1..=UNITS_MAX).contains(&self.units)
            && self.bias.len() == self.units
            && readers == self.units
            && self.weights.len().is_multiple_of(self.units);
        fits.then(|| self.weights.len() / self.units)
    }

    fn units(&self, pooled: &[f32]) -> impl Iterator<Item = f64> {
        let rows = self.weights.chunks_exact(pooled.len().max(1));
        rows.zip(&self.bias).map(move |(row, bias)| match self.activation {
            Activation::Relu => f64::from(relu(dot(row, pooled) + bias)),
        })
    }
}

/// Not `max`, which makes 0 of what is no number.
fn relu(sum: f32) -> f32 {
    if sum < 0.0 { 0.0 } else { sum }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0_f32; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn short(sha256: &str) -> String {
    sha256.chars().take(12).collect()
}
