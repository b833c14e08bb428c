//! `x · wᵀ + b` for many rows at once, and what follows it, in one pass.

use crate::{
    Level, Mismatch, expect,
    packed::{Format, Line, Linear},
};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// What happens to a value before it is written.
#[derive(Debug, Clone, Copy)]
pub enum After<'a> {
    Bias,
    BiasAndGelu,
    /// The bias, and what stands at the same place here.
    BiasAndAdd(&'a [f32]),
}

/// Rows as rounded for a product: words of inputs, and for int8 what their units mean.
#[derive(Debug, Default)]
pub struct Rounded {
    pub(crate) words: Vec<u32>,
    pub(crate) units: Vec<Unit>,
}

/// An input of a row is worth `scale · q + shift`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Unit {
    pub scale: f32,
    pub shift: f32,
}

impl Linear {
    /// `x` is `[rows, inputs]`, `out` becomes `[rows, outputs]`. `rounded` is a buffer to use again.
    pub fn run(
        &self,
        x: &[f32],
        after: After<'_>,
        out: &mut [f32],
        rounded: &mut Rounded,
    ) -> Result<(), Mismatch> {
        let rows = x.len() / self.inputs;
        expect("the inputs", x.len(), rows * self.inputs)?;
        expect("the outputs", out.len(), rows * self.outputs)?;
        if let After::BiasAndAdd(add) = after {
            expect("what is added", add.len(), out.len())?;
        }
        let lanes = Line::ZERO.0.len();
        expect("the packed steps", self.steps.len() * lanes, self.depth() * self.outputs)?;
        rounded.words.clear();
        rounded.units.clear();
        #[cfg(target_arch = "x86_64")]
        match (self.level, self.format) {
            // SAFETY: a `Linear` of this level and format exists only where `Format::missing` found
            // nothing missing, so the CPU has what each function enables. The lengths have been checked.
            (Level::Avx512, Format::F32) => unsafe { avx512::linear::run_f32(self, x, after, out) },
            // SAFETY: as above.
            (Level::Avx512, Format::Bf16) => unsafe {
                avx512::linear::run_bf16(self, x, after, out, rounded);
            },
            // SAFETY: as above.
            (Level::Avx512, Format::Int8) => unsafe {
                avx512::linear::run_int8(self, x, after, out, rounded);
            },
            // SAFETY: as above.
            (Level::Avx2, Format::F32) => unsafe { avx2::linear::run_f32(self, x, after, out) },
            // SAFETY: as above.
            (Level::Avx2, Format::Int8) => unsafe {
                avx2::linear::run_int8(self, x, after, out, rounded);
            },
            // No `Linear` can be made of these.
            (Level::Avx2, Format::Bf16) | (Level::Baseline, _) => {}
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            // No `Linear` can be made on this architecture.
            let (_, Level::Baseline | Level::Avx2 | Level::Avx512) = (after, self.level);
            let (Format::F32 | Format::Bf16 | Format::Int8) = self.format;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
