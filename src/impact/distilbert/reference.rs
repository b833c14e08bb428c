//! How the layers run on any CPU: as candle tensors in f32, each step one fused operation.
//!
//! Linear layers hold their weights as `[inputs, outputs]`, contiguous: a transposed view costs up
//! to three times. Candle's own operations would use every core of the machine; these use the
//! calling thread.

use candle_core::{Device, Result, Tensor};

use super::{
    Config,
    ops::{Attention, Linear, Norm},
    weights::{self, Weights},
};

pub struct Reference {
    heads: usize,
    words: Tensor,
    positions: Tensor,
    /// Of the embeddings, which have no bias.
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    qkv: Map,
    out: Map,
    attention_norm: Norm,
    up: Map,
    down: Map,
    output_norm: Norm,
}

struct Map {
    /// `[inputs, outputs]`
    weight: Tensor,
    run: Linear,
}

impl Reference {
    pub fn new(config: &Config, weights: Weights) -> std::result::Result<Self, weights::WeightsError> {
        let arrange = |cause| weights::WeightsError::Arrange { cause: Box::new(cause) };
        let layers = weights.layers.iter().map(Layer::new).collect::<Result<_>>().map_err(arrange)?;
        let none = Tensor::zeros(config.dim, candle_core::DType::F32, &Device::Cpu).map_err(arrange)?;
        Ok(Self {
            heads: config.n_heads,
            norm: Norm::new(&none, &weights.norm).map_err(arrange)?,
            words: weights.words,
            positions: weights.positions,
            layers,
        })
    }

    /// The last hidden states of all tokens, sequence after sequence.
    pub fn run(&self, sequences: &[&[u32]]) -> Result<Vec<f32>> {
        let ids: Vec<u32> = sequences.concat();
        let places: Vec<u32> = sequences.iter().flat_map(|ids| (0u32..).take(ids.len())).collect();
        let tokens = ids.len();
        let words = self.words.index_select(&Tensor::from_vec(ids, tokens, &Device::Cpu)?, 0)?;
        let positions = self.positions.index_select(&Tensor::from_vec(places, tokens, &Device::Cpu)?, 0)?;
        let attention =
            Attention { heads: self.heads, lengths: sequences.iter().map(|ids| ids.len()).collect() };

        let mut x = words.apply_op2_no_bwd(&positions, &self.norm)?;
        for layer in &self.layers {
            let context = layer.qkv.run(&x)?.apply_op1_no_bwd(&attention)?;
            x = layer.out.run(&context)?.apply_op2_no_bwd(&x, &layer.attention_norm)?;
            let wide = layer.up.run(&x)?;
            x = layer.down.run(&wide)?.apply_op2_no_bwd(&x, &layer.output_norm)?;
        }
        weights::values(&x)
    }
}

impl Layer {
    fn new(layer: &weights::Layer) -> Result<Self> {
        Ok(Self {
            qkv: Map::new(&layer.qkv.weight, Linear::with_bias(&layer.qkv.bias)?)?,
            out: Map::new(&layer.out.weight, Linear::bare())?,
            attention_norm: Norm::new(&layer.out.bias, &layer.attention_norm)?,
            up: Map::new(&layer.up.weight, Linear::with_bias_and_gelu(&layer.up.bias)?)?,
            down: Map::new(&layer.down.weight, Linear::bare())?,
            output_norm: Norm::new(&layer.down.bias, &layer.output_norm)?,
        })
    }
}

impl Map {
    fn new(weight: &Tensor, run: Linear) -> Result<Self> {
        Ok(Self { weight: weight.t()?.contiguous()?, run })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor> {
        x.apply_op2_no_bwd(&self.weight, &self.run)
    }
}
