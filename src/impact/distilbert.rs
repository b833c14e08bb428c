//! What a DistilBERT makes of token ids: hidden states, and their normalised mean.
//!
//! Sanh et al. 2019, post-norm, GELU by the error function. Weights come through candle's
//! `VarBuilder`; the layers run either as candle tensors with fused operations of our own
//! ([`reference`], any CPU) or by the kernels ([`fast`], AVX-512 or AVX2). A batch is ragged: the tokens of
//! all sequences one after the other, linear layers over all rows, attention within each sequence.
//! No padding, no mask, and a sequence's result does not depend on its company. Everything runs on
//! the calling thread; nothing here starts another. Knows nothing of text and of files.

use std::fmt;

mod config;
mod fast;
mod ops;
mod reference;
mod turns;
mod weights;

pub use config::{Config, ConfigError};
pub use weights::WeightsError;

use fast::{Fast, FastError};
use reference::Reference;
use weights::Weights;

/// What the linear layers calculate in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// On any CPU.
    F32,
    /// Weights and inputs of linear layers in bf16, sums in f32. Needs AVX-512 BF16.
    Bf16,
    /// Weights per output and inputs per row in 8 bits, sums in 32. Needs AVX-512 VNNI, or AVX2 without AVX-512.
    Int8,
}

impl Precision {
    pub const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::Int8];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        })
    }
}

impl std::str::FromStr for Precision {
    type Err = UnknownPrecision;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|precision| precision.to_string() == text)
            .ok_or_else(|| UnknownPrecision { found: text.to_owned() })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no precision `{found}`: choose f32, bf16 or int8")]
pub struct UnknownPrecision {
    pub found: String,
}

/// What the layers run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// Candle tensors, f32, on any CPU. What the others are held against.
    Candle,
    /// Our kernels: AVX-512, or AVX2 with FMA.
    Kernels,
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Candle => "candle",
            Self::Kernels => "kernels",
        })
    }
}

/// Why an engine or a precision is not to be had here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    #[error("candle runs f32 only; bf16 and int8 are the kernels'")]
    CandleIsF32,
    #[error("this CPU has no {missing}; `f32` runs on any")]
    Cpu { missing: &'static str },
    #[error("the kernels need {what} divisible by {by}, this model has {found}; `f32` takes any")]
    Dimension { what: &'static str, found: usize, by: usize },
    #[error("the kernels take heads 16, 32, 64 or 128 wide, this model's are {width}; `f32` takes any")]
    Head { width: usize },
}

/// Why a batch was not run. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("a sequence of no tokens")]
    Empty,
    #[error("a sequence of {found} tokens; this model has positions for {max}")]
    TooLong { found: usize, max: usize },
    #[error("token {found}; this model's vocabulary ends at {max}")]
    UnknownToken { found: u32, max: usize },
    #[error("the layers did not run: {0}")]
    Engine(Box<candle_core::Error>),
    #[error("the kernels were given what does not fit: {0}")]
    Kernels(#[from] agentbus_kernels::Mismatch),
    #[error("the encoder answered with a number that is none, for sequence {sequence}")]
    NotFinite { sequence: usize },
}

/// A loaded encoder. Shared by all threads; each has a [`Scratch`] of its own.
pub struct Encoder {
    config: Config,
    layers: usize,
    engine: Engine,
    precision: Precision,
    layers_as: Layers,
}

enum Layers {
    Reference(Reference),
    Fast(Box<Fast>),
}

/// Buffers that grow to the largest batch seen, at most [`Encoder::TOKENS_AT_ONCE`] or one sequence.
#[derive(Debug, Default)]
pub struct Scratch {
    fast: fast::Buffers,
}

/// What to run a model on; `None` means whatever is fastest here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Choice {
    pub precision: Option<Precision>,
    pub engine: Option<Engine>,
}

impl Encoder {
    /// More tokens than this run in several passes: activations stay in the cache and memory has a
    /// bound, whatever the batch.
    pub const TOKENS_AT_ONCE: usize = 512;

    /// Loads the first `layers` layers from the bytes of a safetensors file.
    pub fn load(config: &Config, layers: usize, bytes: &[u8], choice: Choice) -> Result<Self, LoadError> {
        let (engine, precision) = choose(config, choice)?;
        let weights = Weights::load(config, layers, bytes)?;
        let layers_as = match engine {
            Engine::Candle => Layers::Reference(Reference::new(config, weights)?),
            Engine::Kernels => Layers::Fast(Box::new(Fast::new(config, &weights, precision).map_err(
                |error| match error {
                    FastError::Weights(error) => LoadError::Weights(error),
                    FastError::Unavailable(cause) => LoadError::Unavailable { engine, precision, cause },
                },
            )?)),
        };
        Ok(Self { config: config.clone(), layers, engine, precision, layers_as })
    }

    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many layers run.
    pub fn layers(&self) -> usize {
        self.layers
    }

    pub fn engine(&self) -> Engine {
        self.engine
    }

    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The mean over all tokens of each sequence's last hidden states, of length 1.
    ///
    /// `sequences` are token ids, `[CLS]` and `[SEP]` included.
    pub fn pooled(&self, sequences: &[&[u32]], scratch: &mut Scratch) -> Result<Vec<Vec<f32>>, RunError> {
        self.check(sequences)?;
        let mut answers = Vec::with_capacity(sequences.len());
        for pass in passes(sequences) {
            self.run(pass, scratch, &mut |_, states| answers.push(normalized_mean(states, self.config.dim)))?;
        }
        match answers.iter().position(|answer| answer.iter().any(|value| !value.is_finite())) {
            Some(sequence) => Err(RunError::NotFinite { sequence }),
            None => Ok(answers),
        }
    }

    /// The last hidden states, `[tokens, dim]` for each sequence.
    pub fn hidden(&self, sequences: &[&[u32]], scratch: &mut Scratch) -> Result<Vec<Vec<f32>>, RunError> {
        self.check(sequences)?;
        let mut answers = Vec::with_capacity(sequences.len());
        for pass in passes(sequences) {
            self.run(pass, scratch, &mut |_, states| answers.push(states.to_vec()))?;
        }
        Ok(answers)
    }

    fn check(&self, sequences: &[&[u32]]) -> Result<(), RunError> {
        for sequence in sequences {
            if sequence.is_empty() {
                return Err(RunError::Empty);
            }
            if sequence.len() > self.config.max_position_embeddings {
                let max = self.config.max_position_embeddings;
                return Err(RunError::TooLong { found: sequence.len(), max });
            }
            let max = self.config.vocab_size;
            if let Some(found) = sequence.iter().find(|id| **id as usize >= max) {
                return Err(RunError::UnknownToken { found: *found, max });
            }
        }
        Ok(())
    }

    /// Hands each sequence's states to `answer`, in order.
    fn run(
        &self,
        sequences: &[&[u32]],
        scratch: &mut Scratch,
        answer: &mut dyn FnMut(usize, &[f32]),
    ) -> Result<(), RunError> {
        let owned;
        let mut rest = match &self.layers_as {
            Layers::Reference(layers) => {
                owned = layers.run(sequences).map_err(|cause| RunError::Engine(Box::new(cause)))?;
                owned.as_slice()
            }
            Layers::Fast(layers) => layers.run(sequences, &mut scratch.fast)?,
        };
        for (at, sequence) in sequences.iter().enumerate() {
            let (own, others) =
                rest.split_at_checked(sequence.len() * self.config.dim).unwrap_or((rest, &[]));
            answer(at, own);
            rest = others;
        }
        Ok(())
    }
}

/// Why there is no encoder.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error(transparent)]
    Weights(#[from] WeightsError),
    #[error("{engine} in {precision}: {cause}")]
    Unavailable { engine: Engine, precision: Precision, cause: Unavailable },
}

/// What runs where: the fastest that this CPU and this model's dimensions allow, of what was asked
/// for. Candle's f32 is what is left when nothing else is to be had, and only if nothing was.
fn choose(config: &Config, choice: Choice) -> Result<(Engine, Precision), LoadError> {
    let precisions = match choice.precision {
        Some(precision) => vec![precision],
        None => vec![Precision::Int8, Precision::Bf16, Precision::F32],
    };
    let engines = match choice.engine {
        Some(engine) => vec![engine],
        None => vec![Engine::Kernels, Engine::Candle],
    };
    let mut refused = None;
    for precision in precisions {
        for engine in engines.iter().copied() {
            let available = match (engine, precision) {
                (Engine::Kernels, _) => fast::available(config, precision),
                (Engine::Candle, Precision::F32) => Ok(()),
                (Engine::Candle, Precision::Bf16 | Precision::Int8) => Err(Unavailable::CandleIsF32),
            };
            match available {
                Ok(()) => return Ok((engine, precision)),
                // The first reason is the one of the engine that could have.
                Err(cause) => {
                    refused.get_or_insert(LoadError::Unavailable { engine, precision, cause });
                }
            }
        }
    }
    let none = LoadError::Unavailable {
        engine: Engine::Candle,
        precision: Precision::F32,
        cause: Unavailable::CandleIsF32,
    };
    Err(refused.unwrap_or(none))
}

/// Runs of sequences of at most [`Encoder::TOKENS_AT_ONCE`] tokens, or of one sequence.
fn passes<'a, 'b>(mut rest: &'a [&'b [u32]]) -> impl Iterator<Item = &'a [&'b [u32]]> {
    std::iter::from_fn(move || {
        let mut tokens = 0;
        let fitting = rest.iter().take_while(|sequence| {
            tokens += sequence.len();
            tokens <= Encoder::TOKENS_AT_ONCE
        });
        let count = fitting.count().max(1);
        let (pass, others) = rest.split_at_checked(count)?;
        rest = others;
        Some(pass)
    })
}

/// In f64, so that the sum over many tokens adds no error of its own.
fn normalized_mean(states: &[f32], dim: usize) -> Vec<f32> {
    let mut sum = vec![0.0f64; dim];
    for row in states.chunks_exact(dim) {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += f64::from(*value);
        }
    }
    // The mean's divisor falls out of the normalisation.
    let length = sum.iter().map(|value| value * value).sum::<f64>().sqrt().max(1e-12);
    sum.iter().map(|value| (value / length) as f32).collect()
}

#[cfg(test)]
pub(crate) mod tests;
