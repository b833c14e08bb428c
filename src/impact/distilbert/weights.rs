//! The numbers of an encoder, read by name through candle and found to be numbers.

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;

use super::Config;

/// Hugging Face writes the names with this prefix when the file has a task's head as well.
const PREFIX: &str = "distilbert";

/// Everything in f32. Linear layers as the file has them: `[outputs, inputs]`.
pub struct Weights {
    pub words: Tensor,
    pub positions: Tensor,
    pub norm: Norm,
    pub layers: Vec<Layer>,
}

pub struct Layer {
    /// Query, key and value above each other: `[3 · dim, dim]`.
    pub qkv: Linear,
    pub out: Linear,
    pub attention_norm: Norm,
    pub up: Linear,
    pub down: Linear,
    pub output_norm: Norm,
}

pub struct Linear {
    pub weight: Tensor,
    pub bias: Tensor,
}

pub struct Norm {
    pub scale: Tensor,
    pub shift: Tensor,
}

/// Why a `model.safetensors` is not that of this configuration.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    #[error("not a whole safetensors file ({cause}); fetch or convert it again")]
    Broken { cause: Box<candle_core::Error> },
    #[error("tensor `{name}`: {cause}; the file is not that of this config.json")]
    Tensor { name: String, cause: Box<candle_core::Error> },
    #[error("tensor `{name}` holds a value that is no finite number; fetch or convert the file again")]
    NotFinite { name: String },
    #[error("the weights could not be arranged: {cause}")]
    Arrange { cause: Box<candle_core::Error> },
    #[error("{found} layers asked for, this model has {max}")]
    Layers { found: usize, max: usize },
}

impl Weights {
    pub fn load(config: &Config, layers: usize, bytes: &[u8]) -> Result<Self, WeightsError> {
        if layers == 0 || layers > config.n_layers {
            return Err(WeightsError::Layers { found: layers, max: config.n_layers });
        }
        let root = VarBuilder::from_slice_safetensors(bytes, DType::F32, &Device::Cpu)
            .map_err(|cause| WeightsError::Broken { cause: Box::new(cause) })?;
        let prefixed = root.pp(PREFIX);
        let root = match prefixed.contains_tensor("embeddings.word_embeddings.weight") {
            true => prefixed,
            false => root,
        };
        let dim = config.dim;
        let embeddings = root.pp("embeddings");
        Ok(Self {
            words: get(&embeddings.pp("word_embeddings"), &[config.vocab_size, dim], "weight")?,
            positions: get(
                &embeddings.pp("position_embeddings"),
                &[config.max_position_embeddings, dim],
                "weight",
            )?,
            norm: norm(&embeddings.pp("LayerNorm"), dim)?,
            layers: (0..layers)
                .map(|at| layer(&root.pp("transformer.layer").pp(at), config))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn layer(at: &VarBuilder<'_>, config: &Config) -> Result<Layer, WeightsError> {
    let (dim, hidden) = (config.dim, config.hidden_dim);
    let attention = at.pp("attention");
    let query = linear(&attention.pp("q_lin"), dim, dim)?;
    let key = linear(&attention.pp("k_lin"), dim, dim)?;
    let value = linear(&attention.pp("v_lin"), dim, dim)?;
    let above = |of: fn(&Linear) -> &Tensor| {
        Tensor::cat(&[of(&query), of(&key), of(&value)], 0)
            .map_err(|cause| WeightsError::Arrange { cause: Box::new(cause) })
    };
    Ok(Layer {
        qkv: Linear { weight: above(|part| &part.weight)?, bias: above(|part| &part.bias)? },
        out: linear(&attention.pp("out_lin"), dim, dim)?,
        attention_norm: norm(&at.pp("sa_layer_norm"), dim)?,
        up: linear(&at.pp("ffn.lin1"), dim, hidden)?,
        down: linear(&at.pp("ffn.lin2"), hidden, dim)?,
        output_norm: norm(&at.pp("output_layer_norm"), dim)?,
    })
}

fn linear(at: &VarBuilder<'_>, inputs: usize, outputs: usize) -> Result<Linear, WeightsError> {
    Ok(Linear { weight: get(at, &[outputs, inputs], "weight")?, bias: get(at, &[outputs], "bias")? })
}

fn norm(at: &VarBuilder<'_>, dim: usize) -> Result<Norm, WeightsError> {
    Ok(Norm { scale: get(at, &[dim], "weight")?, shift: get(at, &[dim], "bias")? })
}

fn get(at: &VarBuilder<'_>, shape: &[usize], name: &str) -> Result<Tensor, WeightsError> {
    let full = || format!("{}.{name}", at.prefix());
    let tensor =
        at.get(shape, name).map_err(|cause| WeightsError::Tensor { name: full(), cause: Box::new(cause) })?;
    let values =
        values(&tensor).map_err(|cause| WeightsError::Tensor { name: full(), cause: Box::new(cause) })?;
    match values.iter().all(|value| value.is_finite()) {
        true => Ok(tensor),
        false => Err(WeightsError::NotFinite { name: full() }),
    }
}

/// A tensor's numbers, row after row.
pub fn values(tensor: &Tensor) -> candle_core::Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
