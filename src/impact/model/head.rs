//! The last step: from a pooled state to a score. And whose head it is.

use serde::{Deserialize, Serialize};

use super::digests::Digests;
use crate::impact::{Semantic, distilbert::Config};

mod outputs;

pub use outputs::{Output, Outputs};

/// A logistic regression, one over a hidden layer, and several that tell the levels apart.
const LINEAR: u32 = 1;
const WITH_HIDDEN: u32 = 2;
const LEVELS: u32 = 3;
/// Of a hidden layer: what it costs stays small beside the encoder.
const UNITS_MAX: usize = 1_024;
/// A trained weight is far below it, and no sum of weights up to it overflows: two infinities of
/// opposite signs would be no number.
const WEIGHT_MAX: f64 = 1e6;
/// Sums run side by side, so that the compiler can use the CPU's wide registers.
const LANES: usize = 8;

/// Makes a score of the normalised mean of one encoder's layer, or of a hidden layer on top of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// SHA-256 of the `model.safetensors` that it was trained on, in hex.
    pub encoder_sha256: String,
    /// SHA-256 of the `tokenizer.json`, in hex.
    pub tokenizer_sha256: String,
    /// How many layers run before the mean is taken.
    pub layer: usize,
    pub pooling: String,
    pub normalize: bool,
    pub hidden: Option<Hidden>,
    pub outputs: Outputs,
    /// Facts for people.
    pub trained_on: serde_json::Value,
}

/// `head.json`. Formats 1 and 2 have `weights` and `bias`, format 3 has `outputs` and `values`; format 2
/// has a hidden layer, format 3 may have one.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    encoder_sha256: String,
    tokenizer_sha256: String,
    layer: usize,
    pooling: String,
    normalize: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hidden: Option<Hidden>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<f64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bias: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    outputs: Option<Vec<Output>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<f64>>,
    #[serde(default)]
    trained_on: serde_json::Value,
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
        "format {found}, expected {LINEAR} (`weights` and `bias`), {WITH_HIDDEN} (the same over `hidden`) or \
         {LEVELS} (`outputs` and `values`), with these fields and no others; this head is of another version \
         of agentbus"
    )]
    Format { found: u32 },
    #[error("{found} outputs, expected {expected}, for level 1, 2 and 3 or above")]
    Outputs { found: usize, expected: usize },
    #[error("the values of its levels are {found}, expected four that rise within 0 to 1")]
    Values { found: String },
    #[error("{found} weights for level {level}, expected {expected} as for level 1")]
    OutputWidth { level: usize, found: usize, expected: usize },
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
        let unreadable = |cause: serde_json::Error| HeadError::Unreadable { cause: cause.to_string() };
        let written: Written = serde_json::from_slice(bytes).map_err(unreadable)?;
        let format = HeadError::Format { found: written.format };
        let Written { weights, bias, outputs, values, hidden, .. } = written;
        let outputs = match (written.format, &hidden, (weights, bias), (outputs, values)) {
            (LINEAR, None, (Some(weights), Some(bias)), (None, None))
            | (WITH_HIDDEN, Some(_), (Some(weights), Some(bias)), (None, None)) => {
                Outputs::High(Output { weights, bias })
            }
            (LEVELS, _, (None, None), (Some(outputs), Some(values))) => Outputs::levels(outputs, &values)?,
            _ => return Err(format),
        };
        Ok(Self {
            encoder_sha256: written.encoder_sha256,
            tokenizer_sha256: written.tokenizer_sha256,
            layer: written.layer,
            pooling: written.pooling,
            normalize: written.normalize,
            hidden,
            outputs,
            trained_on: written.trained_on,
        })
    }

    /// As a file.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let Self { hidden, outputs, .. } = self.clone();
        let (weights, bias, outputs, values) = match outputs {
            Outputs::High(Output { weights, bias }) => (Some(weights), Some(bias), None, None),
            Outputs::Levels { outputs, values } => (None, None, Some(outputs.into()), Some(values.into())),
        };
        let format = match (&outputs, &hidden) {
            (Some(_), _) => LEVELS,
            (None, Some(_)) => WITH_HIDDEN,
            (None, None) => LINEAR,
        };
        serde_json::to_string_pretty(&Written {
            format,
            encoder_sha256: self.encoder_sha256.clone(),
            tokenizer_sha256: self.tokenizer_sha256.clone(),
            layer: self.layer,
            pooling: self.pooling.clone(),
            normalize: self.normalize,
            hidden,
            weights,
            bias,
            outputs,
            values,
            trained_on: self.trained_on.clone(),
        })
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
        if !(1..=config.n_layers).contains(&self.layer) {
            return Err(HeadError::OtherLayer { found: self.layer, max: config.n_layers });
        }
        let readers = self.readers()?;
        let found = match &self.hidden {
            None => readers,
            Some(hidden) => hidden.width(readers).ok_or(HeadError::Hidden {
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
        let outputs =
            self.outputs.all().iter().flat_map(|output| output.weights.iter().chain([&output.bias]));
        for value in outputs.copied().chain(hidden.copied().map(f64::from)) {
            if !value.is_finite() {
                return Err(HeadError::NotFinite);
            }
            if value.abs() > WEIGHT_MAX {
                return Err(HeadError::TooLarge { found: value });
            }
        }
        Ok(())
    }

    /// What it says of a pooled mean.
    pub fn say(&self, pooled: &[f32]) -> Semantic {
        let state: Vec<f64> = match &self.hidden {
            None => pooled.iter().copied().map(f64::from).collect(),
            Some(hidden) => hidden.units(pooled).collect(),
        };
        self.outputs.say(&state)
    }

    /// How many weights each output has.
    fn readers(&self) -> Result<usize, HeadError> {
        let mut widths = self.outputs.all().iter().map(|output| output.weights.len());
        let expected = widths.next().unwrap_or_default();
        match widths.enumerate().find(|(_, found)| *found != expected) {
            Some((at, found)) => Err(HeadError::OutputWidth { level: at + 2, found, expected }),
            None => Ok(expected),
        }
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
