//! The operations that candle lacks or would spread over every core, as candle operations.

use agentbus_kernels::{
    matmul::{View, matmul},
    rows,
};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor};

use super::weights;

/// Sanh et al. 2019 and every checkpoint since.
pub const EPSILON: f32 = 1e-12;

/// `x · w`, and what follows it.
pub struct Linear(After);

enum After {
    Nothing,
    Bias(Vec<f32>),
    BiasAndGelu(Vec<f32>),
}

impl Linear {
    /// The bias is added by what follows.
    pub fn bare() -> Self {
        Self(After::Nothing)
    }

    pub fn with_bias(bias: &Tensor) -> Result<Self> {
        Ok(Self(After::Bias(weights::values(bias)?)))
    }

    pub fn with_bias_and_gelu(bias: &Tensor) -> Result<Self> {
        Ok(Self(After::BiasAndGelu(weights::values(bias)?)))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    /// `[rows, inputs]` and `[inputs, outputs]`.
    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (_, outputs) = w_layout.shape().dims2()?;
        let mut out = vec![0.0; rows * outputs];
        matmul(
            (values(x, x_layout)?, View::dense(rows, inputs)),
            (values(w, w_layout)?, View::dense(inputs, outputs)),
            (&mut out, View::dense(rows, outputs)),
            1.0,
        )
        .map_err(Error::wrap)?;
        match &self.0 {
            After::Nothing => Ok(()),
            After::Bias(bias) => rows::add_bias(&mut out, bias),
            After::BiasAndGelu(bias) => rows::bias_gelu(&mut out, bias),
        }
        .map_err(Error::wrap)?;
        Ok((CpuStorage::F32(out), (rows, outputs).into()))
    }
}

/// `norm(x + bias + residual)`: what ends both halves of a layer.
pub struct Norm {
    bias: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Norm {
    pub fn new(bias: &Tensor, norm: &weights::Norm) -> Result<Self> {
        Ok(Self {
            bias: weights::values(bias)?,
            scale: weights::values(&norm.scale)?,
            shift: weights::values(&norm.shift)?,
        })
    }
}

impl CustomOp2 for Norm {
    fn name(&self) -> &'static str {
        "add-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let mut out = values(x, x_layout)?.to_vec();
        let norm = rows::Norm { scale: &self.scale, shift: &self.shift, epsilon: EPSILON };
        rows::add_norm(&mut out, &self.bias, values(residual, residual_layout)?, norm)
            .map_err(Error::wrap)?;
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

/// Attention within each sequence: from `[tokens, 3 · dim]` of queries, keys and values to
/// `[tokens, dim]`.
pub struct Attention {
    pub heads: usize,
    /// Tokens of each sequence; they sum up to `tokens`.
    pub lengths: Vec<usize>,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (tokens, width) = layout.shape().dims2()?;
        let dim = width / 3;
        let head = dim / self.heads.max(1);
        let qkv = values(qkv, layout)?;
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let mut scores = vec![0.0; longest * longest];
        let mut out = vec![0.0; tokens * dim];
        let scale = 1.0 / (head as f32).sqrt();
        let mut first = 0;
        for length in self.lengths.iter().copied() {
            let square = View::dense(length, length);
            let own = scores.get_mut(..length * length).unwrap_or_default();
            for at in 0..self.heads {
                let part = |which: usize| View {
                    start: first * width + which * dim + at * head,
                    rows: length,
                    columns: head,
                    row: width,
                    column: 1,
                };
                matmul((qkv, part(0)), (qkv, part(1).transposed()), (own, square), scale)
                    .map_err(Error::wrap)?;
                rows::softmax(own, length).map_err(Error::wrap)?;
                let place = View { start: first * dim + at * head, row: dim, ..part(0) };
                matmul((own, square), (qkv, part(2)), (&mut out, place), 1.0).map_err(Error::wrap)?;
            }
            first += length;
        }
        Ok((CpuStorage::F32(out), (tokens, dim).into()))
    }
}

/// The numbers of a contiguous tensor.
fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all: &[f32] = storage.as_slice()?;
    let (from, to) =
        layout.contiguous_offsets().ok_or_else(|| Error::Msg("a tensor that is not contiguous".into()))?;
    all.get(from..to).ok_or_else(|| Error::Msg("a tensor beyond its storage".into()))
}
