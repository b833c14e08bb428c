//! Attention within each sequence of a ragged batch, without a mask.

use crate::{Format, Mismatch, expect, packed::Line};

/// Widest head: this many vectors of sixteen.
pub const HEAD_VECTORS_MAX: usize = 8;

/// Shape of an attention, and the evidence that this CPU can run it.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    heads: usize,
    dim: usize,
}

/// One head of one sequence, rearranged. To use again.
#[derive(Debug, Default)]
pub struct Buffers {
    pub(crate) queries: Vec<f32>,
    /// For each sixteen keys, the lines of their columns.
    pub(crate) keys: Vec<Line>,
    pub(crate) values: Vec<Line>,
    pub(crate) scores: Vec<Line>,
}

/// Why an attention cannot be run here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionError {
    Cpu {
        missing: &'static str,
    },
    /// A head's width is not 16 to 128 by sixteens.
    Head {
        width: usize,
    },
}

impl Attention {
    pub fn new(dim: usize, heads: usize) -> Result<Self, AttentionError> {
        if let Some(missing) = Format::F32.missing() {
            return Err(AttentionError::Cpu { missing });
        }
        let width = dim.checked_div(heads).unwrap_or(0);
        let fits = width * heads == dim
            && width.is_multiple_of(16)
            && (1..=HEAD_VECTORS_MAX).contains(&(width / 16));
        // Those that a tile of registers is written for.
        if !fits || !matches!(width / 16, 1 | 2 | 4 | 8) {
            return Err(AttentionError::Head { width });
        }
        Ok(Self { heads, dim })
    }

    /// `qkv` is `[tokens, 3 · dim]`: queries, keys, values. `out` becomes `[tokens, dim]`. `lengths`
    /// are the sequences' tokens.
    pub fn run(
        &self,
        qkv: &[f32],
        lengths: &[usize],
        out: &mut [f32],
        buffers: &mut Buffers,
    ) -> Result<(), Mismatch> {
        let tokens = out.len() / self.dim;
        expect("the context", out.len(), tokens * self.dim)?;
        expect("queries, keys and values", qkv.len(), tokens * 3 * self.dim)?;
        let total = lengths.iter().try_fold(0usize, |sum, length| sum.checked_add(*length));
        expect("the lengths' sum", total.unwrap_or(usize::MAX), tokens)?;
        let (mut qkv, mut out) = (qkv, out);
        for length in lengths {
            let (Some((own, others)), Some((own_out, other_outs))) =
                (qkv.split_at_checked(length * 3 * self.dim), out.split_at_mut_checked(length * self.dim))
            else {
                return Err(Mismatch {
                    what: "a sequence",
                    found: qkv.len(),
                    expected: length * 3 * self.dim,
                });
            };
            #[cfg(target_arch = "x86_64")]
            // SAFETY: an `Attention` exists only where nothing of AVX-512 is missing.
            unsafe {
                match self.dim / self.heads / 16 {
                    1 => crate::avx512::attention::sequence::<1>(own, self.dim, own_out, buffers),
                    2 => crate::avx512::attention::sequence::<2>(own, self.dim, own_out, buffers),
                    4 => crate::avx512::attention::sequence::<4>(own, self.dim, own_out, buffers),
                    _ => crate::avx512::attention::sequence::<8>(own, self.dim, own_out, buffers),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (own, own_out, &buffers);
            (qkv, out) = (others, other_outs);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
