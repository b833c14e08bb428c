//! How the layers run by the kernels: packed once at load, then in buffers that stay.

use agentbus_kernels::{
    Attention, Format, Linear, Mismatch,
    attention::{self, AttentionError},
    linear::{After, Rounded},
    packed::{INPUTS, PANEL, PackError},
    rows,
};
use candle_core::Tensor;

use super::{
    Config, Precision, Unavailable,
    ops::EPSILON,
    turns::Turns,
    weights::{self, Weights, WeightsError, values},
};

/// Rows of a layer between which the thread may give way: with AVX2 the widest layer takes 5 ms for the 512 of a full
/// pass, and less than one for these, at the same speed.
const ROWS: usize = 64;

/// An encoder's layers as the kernels read them.
pub struct Fast {
    dim: usize,
    hidden: usize,
    attention: Attention,
    words: Vec<f32>,
    positions: Vec<f32>,
    norm: Norm,
    layers: Vec<Layer>,
}

struct Layer {
    qkv: Linear,
    out: Linear,
    attention_norm: Norm,
    up: Linear,
    down: Linear,
    output_norm: Norm,
}

struct Norm {
    scale: Vec<f32>,
    shift: Vec<f32>,
}

/// Activations of one pass.
#[derive(Debug, Default)]
pub struct Buffers {
    x: Vec<f32>,
    y: Vec<f32>,
    wide: Vec<f32>,
    context: Vec<f32>,
    lengths: Vec<usize>,
    rounded: Rounded,
    attention: attention::Buffers,
    turns: Turns,
}

/// Why the kernels cannot run this model.
pub enum FastError {
    Unavailable(Unavailable),
    Weights(WeightsError),
}

/// Whether the kernels can run such a model in this precision on this CPU.
pub fn available(config: &Config, precision: Precision) -> Result<(), Unavailable> {
    format(precision).level().map_err(|missing| Unavailable::Cpu { missing })?;
    for (what, found) in [("dim", config.dim), ("hidden_dim", config.hidden_dim)] {
        let by = INPUTS.max(PANEL);
        if !found.is_multiple_of(by) {
            return Err(Unavailable::Dimension { what, found, by });
        }
    }
    Attention::new(config.dim, config.n_heads).map(|_| ()).map_err(from_attention)
}

impl Fast {
    pub fn new(config: &Config, weights: &Weights, precision: Precision) -> Result<Self, FastError> {
        available(config, precision).map_err(FastError::Unavailable)?;
        let attention = Attention::new(config.dim, config.n_heads)
            .map_err(|error| FastError::Unavailable(from_attention(error)))?;
        let numbers = |tensor: &Tensor| {
            values(tensor)
                .map_err(|cause| FastError::Weights(WeightsError::Arrange { cause: Box::new(cause) }))
        };
        let norm =
            |norm: &weights::Norm| Ok(Norm { scale: numbers(&norm.scale)?, shift: numbers(&norm.shift)? });
        let linear = |linear: &weights::Linear| {
            let (outputs, inputs) = linear
                .weight
                .dims2()
                .map_err(|cause| FastError::Weights(WeightsError::Arrange { cause: Box::new(cause) }))?;
            let (weight, bias) = (numbers(&linear.weight)?, numbers(&linear.bias)?);
            Linear::pack(&weight, &bias, inputs, outputs, format(precision)).map_err(from_pack)
        };
        let layer = |layer: &weights::Layer| {
            Ok(Layer {
                qkv: linear(&layer.qkv)?,
                out: linear(&layer.out)?,
                attention_norm: norm(&layer.attention_norm)?,
                up: linear(&layer.up)?,
                down: linear(&layer.down)?,
                output_norm: norm(&layer.output_norm)?,
            })
        };
        Ok(Self {
            dim: config.dim,
            hidden: config.hidden_dim,
            attention,
            words: numbers(&weights.words)?,
            positions: numbers(&weights.positions)?,
            norm: norm(&weights.norm)?,
            layers: weights.layers.iter().map(layer).collect::<Result<_, FastError>>()?,
        })
    }

    /// The last hidden states of all tokens, sequence after sequence. The ids are known to be of the
    /// vocabulary, and the lengths to have positions.
    pub fn run<'a>(&self, sequences: &[&[u32]], buffers: &'a mut Buffers) -> Result<&'a [f32], Mismatch> {
        let Buffers { x, y, wide, context, lengths, rounded, attention, turns } = buffers;
        turns.begin();
        lengths.clear();
        lengths.extend(sequences.iter().map(|ids| ids.len()));
        let tokens: usize = lengths.iter().sum();
        let rows = tokens * self.dim;
        y.resize(rows, 0.0);
        context.resize(rows, 0.0);
        wide.resize(tokens * self.hidden.max(3 * self.dim), 0.0);
        x.clear();
        for ids in sequences {
            for (id, position) in ids.iter().zip(self.positions.chunks_exact(self.dim)) {
                let from = *id as usize * self.dim;
                let word = self.words.get(from..from + self.dim).unwrap_or_default();
                x.extend(word.iter().zip(position).map(|(word, position)| word + position));
            }
        }
        rows::norm(x, self.norm.borrow())?;
        for layer in &self.layers {
            let qkv = wide.get_mut(..3 * rows).unwrap_or_default();
            in_turns(&layer.qkv, x, After::Bias, qkv, rounded, turns)?;
            self.attention.run(qkv, lengths, context, attention)?;
            in_turns(&layer.out, context, After::BiasAndAdd(x), y, rounded, turns)?;
            rows::norm(y, layer.attention_norm.borrow())?;
            let up = wide.get_mut(..tokens * self.hidden).unwrap_or_default();
            in_turns(&layer.up, y, After::BiasAndGelu, up, rounded, turns)?;
            in_turns(&layer.down, up, After::BiasAndAdd(y), x, rounded, turns)?;
            rows::norm(x, layer.output_norm.borrow())?;
        }
        Ok(x)
    }
}

/// A layer for some rows at a time, after which others may have the core. Rows do not notice each other, so nothing
/// else comes of it.
fn in_turns(
    linear: &Linear,
    x: &[f32],
    after: After<'_>,
    out: &mut [f32],
    rounded: &mut Rounded,
    turns: &mut Turns,
) -> Result<(), Mismatch> {
    let (inputs, outputs) = (ROWS * linear.inputs().max(1), ROWS * linear.outputs().max(1));
    for (turn, (x, out)) in x.chunks(inputs).zip(out.chunks_mut(outputs)).enumerate() {
        let after = match after {
            After::Bias | After::BiasAndGelu => after,
            After::BiasAndAdd(add) => After::BiasAndAdd(add.chunks(outputs).nth(turn).unwrap_or_default()),
        };
        linear.run(x, after, out, rounded)?;
        turns.computed(x.len() * linear.outputs());
    }
    Ok(())
}

impl Norm {
    fn borrow(&self) -> rows::Norm<'_> {
        rows::Norm { scale: &self.scale, shift: &self.shift, epsilon: EPSILON }
    }
}

fn format(precision: Precision) -> Format {
    match precision {
        Precision::F32 => Format::F32,
        Precision::Bf16 => Format::Bf16,
        Precision::Int8 => Format::Int8,
    }
}

fn from_attention(error: AttentionError) -> Unavailable {
    match error {
        AttentionError::Cpu { missing } => Unavailable::Cpu { missing },
        AttentionError::Head { width } => Unavailable::Head { width },
    }
}

fn from_pack(error: PackError) -> FastError {
    match error {
        PackError::Cpu { missing } => FastError::Unavailable(Unavailable::Cpu { missing }),
        PackError::Divisor { what, found, by } => {
            FastError::Unavailable(Unavailable::Dimension { what, found, by })
        }
        PackError::Mismatch(cause) => {
            FastError::Weights(WeightsError::Arrange { cause: Box::new(candle_core::Error::wrap(cause)) })
        }
    }
}
