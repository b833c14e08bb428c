//! What happens to each row between two matrix products: bias, GELU, normalisation, softmax.
//!
//! Each function is compiled three times, for AVX-512, for AVX2 and for the baseline, from the same
//! safe code; the CPU chooses.

use crate::{Level, Mismatch, expect, math};

/// Partial sums, so that a sum is a vector's and its order is the same at every width of the CPU.
const LANES: usize = 16;

/// Scale, shift and epsilon of a layer normalisation.
#[derive(Debug, Clone, Copy)]
pub struct Norm<'a> {
    pub scale: &'a [f32],
    pub shift: &'a [f32],
    pub epsilon: f32,
}

/// Compiles `$body` for what the CPU may have, and calls the widest that it has.
macro_rules! by_level {
    ($body:ident($($arg:ident: $type:ty),* $(,)?)) => {{
        #[cfg(target_arch = "x86_64")]
        {
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            fn avx512($($arg: $type),*) {
                $body($($arg),*)
            }
            #[target_feature(enable = "avx2,fma")]
            fn avx2($($arg: $type),*) {
                $body($($arg),*)
            }
            match Level::detect() {
                // SAFETY: every feature that `avx512` enables has just been found on this CPU.
                Level::Avx512 => return Ok(unsafe { avx512($($arg),*) }),
                // SAFETY: every feature that `avx2` enables has just been found on this CPU.
                Level::Avx2 => return Ok(unsafe { avx2($($arg),*) }),
                Level::Baseline => {}
            }
        }
        $body($($arg),*);
        Ok(())
    }};
}

/// Adds `bias` to every row of `x`.
pub fn add_bias(x: &mut [f32], bias: &[f32]) -> Result<(), Mismatch> {
    whole_rows(x, bias.len())?;
    by_level!(add_bias_rows(x: &mut [f32], bias: &[f32]))
}

/// Adds `bias` to every row of `x` and takes the GELU.
pub fn bias_gelu(x: &mut [f32], bias: &[f32]) -> Result<(), Mismatch> {
    whole_rows(x, bias.len())?;
    by_level!(bias_gelu_rows(x: &mut [f32], bias: &[f32]))
}

/// `x = norm(x + bias + residual)`, row by row. A row of equal values normalises to the shift.
pub fn add_norm(x: &mut [f32], bias: &[f32], residual: &[f32], norm: Norm<'_>) -> Result<(), Mismatch> {
    whole_rows(x, bias.len())?;
    expect("residual", residual.len(), x.len())?;
    expect("scale", norm.scale.len(), bias.len())?;
    expect("shift", norm.shift.len(), bias.len())?;
    by_level!(add_norm_rows(x: &mut [f32], bias: &[f32], residual: &[f32], norm: Norm<'_>))
}

/// `x = norm(x)`, row by row.
pub fn norm(x: &mut [f32], norm: Norm<'_>) -> Result<(), Mismatch> {
    whole_rows(x, norm.scale.len())?;
    expect("shift", norm.shift.len(), norm.scale.len())?;
    by_level!(norm_rows(x: &mut [f32], norm: Norm<'_>))
}

/// The softmax of every row of `width` values.
pub fn softmax(x: &mut [f32], width: usize) -> Result<(), Mismatch> {
    whole_rows(x, width)?;
    by_level!(softmax_rows(x: &mut [f32], width: usize))
}

fn whole_rows(x: &[f32], width: usize) -> Result<(), Mismatch> {
    match x.len().checked_rem(width) {
        Some(0) => Ok(()),
        Some(rest) => Err(Mismatch { what: "the last row", found: rest, expected: width }),
        None => Err(Mismatch { what: "a row", found: 0, expected: 1 }),
    }
}

#[inline(always)]
fn add_bias_rows(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value += bias;
        }
    }
}

#[inline(always)]
fn bias_gelu_rows(x: &mut [f32], bias: &[f32]) {
    for row in x.chunks_exact_mut(bias.len()) {
        for (value, bias) in row.iter_mut().zip(bias) {
            *value = math::gelu(*value + bias);
        }
    }
}

#[inline(always)]
fn add_norm_rows(x: &mut [f32], bias: &[f32], residual: &[f32], norm: Norm<'_>) {
    let width = bias.len();
    for (row, residual) in x.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
        for ((value, bias), residual) in row.iter_mut().zip(bias).zip(residual) {
            *value += bias + residual;
        }
        norm_row(row, norm);
    }
}

#[inline(always)]
fn norm_rows(x: &mut [f32], norm: Norm<'_>) {
    for row in x.chunks_exact_mut(norm.scale.len()) {
        norm_row(row, norm);
    }
}

#[inline(always)]
fn norm_row(row: &mut [f32], norm: Norm<'_>) {
    let width = row.len() as f32;
    let mean = lanes(row, |value| value) / width;
    // Two passes: the difference of squares loses what small variances are made of.
    let variance = lanes(row, |value| (value - mean) * (value - mean)) / width;
    let inverse = 1.0 / (variance + norm.epsilon).sqrt();
    for ((value, scale), shift) in row.iter_mut().zip(norm.scale).zip(norm.shift) {
        *value = (*value - mean) * inverse * scale + shift;
    }
}

#[inline(always)]
fn softmax_rows(x: &mut [f32], width: usize) {
    for row in x.chunks_exact_mut(width) {
        let max = greatest(row);
        for value in row.iter_mut() {
            *value = math::exp(*value - max);
        }
        let inverse = 1.0 / lanes(row, |value| value);
        for value in row.iter_mut() {
            *value *= inverse;
        }
    }
}

#[inline(always)]
fn lanes(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut sums = [0.0f32; LANES];
    for chunk in chunks {
        for (sum, value) in sums.iter_mut().zip(chunk) {
            *sum += of(*value);
        }
    }
    for (sum, value) in sums.iter_mut().zip(rest) {
        *sum += of(*value);
    }
    sums.iter().sum()
}

#[inline(always)]
fn greatest(row: &[f32]) -> f32 {
    let (chunks, rest) = row.as_chunks::<LANES>();
    let mut most = [f32::MIN; LANES];
    for chunk in chunks {
        for (most, value) in most.iter_mut().zip(chunk) {
            *most = if *value > *most { *value } else { *most };
        }
    }
    for (most, value) in most.iter_mut().zip(rest) {
        *most = if *value > *most { *value } else { *most };
    }
    most.iter().fold(f32::MIN, |a, b| if *b > a { *b } else { a })
}

#[cfg(test)]
mod tests;
