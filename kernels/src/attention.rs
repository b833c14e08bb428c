//! Attention within each sequence of a ragged batch, without a mask.

use crate::{Format, Level, Mismatch, expect, packed::Line};
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// Widest head: this many vectors of sixteen.
pub const HEAD_VECTORS_MAX: usize = 8;

/// Shape of an attention, and the evidence that this CPU can run it.
#[derive(Debug, Clone, Copy)]
pub struct Attention {
    level: Level,
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
        let level = Format::F32.level().map_err(|missing| AttentionError::Cpu { missing })?;
        Self::new_for(level, dim, heads)
    }

    /// With the kernels of a level that may not be the best this CPU has.
    pub(crate) fn new_for(level: Level, dim: usize, heads: usize) -> Result<Self, AttentionError> {
        if let Some(missing) = Format::F32.missing(level) {
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
        Ok(Self { level, heads, dim })
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
            // SAFETY: an `Attention` of a level exists only where nothing of that level is missing.
            unsafe {
                match (self.level, self.dim / self.heads / 16) {
                    (Level::Avx512, 1) => avx512::attention::sequence::<1>(own, self.dim, own_out, buffers),
                    (Level::Avx512, 2) => avx512::attention::sequence::<2>(own, self.dim, own_out, buffers),
                    (Level::Avx512, 4) => avx512::attention::sequence::<4>(own, self.dim, own_out, buffers),
                    (Level::Avx512, _) => avx512::attention::sequence::<8>(own, self.dim, own_out, buffers),
                    (_, 1) => avx2::attention::sequence::<1>(own, self.dim, own_out, buffers),
                    (_, 2) => avx2::attention::sequence::<2>(own, self.dim, own_out, buffers),
                    (_, 4) => avx2::attention::sequence::<4>(own, self.dim, own_out, buffers),
                    (_, _) => avx2::attention::sequence::<8>(own, self.dim, own_out, buffers),
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            let _ = (own, own_out, &buffers, self.level);
            (qkv, out) = (others, other_outs);
        }
        Ok(())
    }
}

/// One head's queries, keys and values next to each other, keys in columns. Every line is written.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn gather<const VECTORS: usize>(
    qkv: &[f32],
    dim: usize,
    head: usize,
    buffers: &mut Buffers,
    transpose: impl Fn(&[[f32; 16]; 16], &mut [Line; 16]),
) {
    let width = VECTORS * 16;
    let rows = qkv.chunks_exact(3 * dim);
    let of = |row, part: usize| vectors(row, part * dim + head * width, width);
    let mut keys = [[[0.0f32; 16]; VECTORS]; 16];
    let mut queries = buffers.queries.as_chunks_mut::<16>().0.chunks_exact_mut(VECTORS);
    let mut values = buffers.values.chunks_exact_mut(VECTORS);
    let mut columns = buffers.keys.chunks_exact_mut(width);
    let tokens = rows.len();
    for (at, row) in rows.enumerate() {
        if let (Some(query), Some(to)) = (of(row, 0), queries.next()) {
            to.copy_from_slice(query);
        }
        if let (Some(value), Some(to)) = (of(row, 2), values.next()) {
            for (to, value) in to.iter_mut().zip(value) {
                to.0 = value.map(f32::to_bits);
            }
        }
        if let (Some(key), Some(to)) = (of(row, 1), keys.get_mut(at % 16)) {
            to.copy_from_slice(key);
        }
        if at % 16 == 15 || at + 1 == tokens {
            let Some(columns) = columns.next() else { return };
            for (vector, columns) in columns.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                // Rows past the last token are left from before: their scores are thrown away.
                let block: [[f32; 16]; 16] = std::array::from_fn(|row| {
                    keys.get(row).and_then(|k| k.get(vector)).copied().unwrap_or_default()
                });
                transpose(&block, columns);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn vectors(row: &[f32], from: usize, width: usize) -> Option<&[[f32; 16]]> {
    Some(row.get(from..from + width)?.as_chunks().0)
}

#[cfg(test)]
mod tests;
