//! One sequence's attention, head by head: scores, softmax and weighted values of a tile of queries
//! while its keys and values are in the nearest cache.

use std::arch::x86_64::*;

use super::{exp, floats, load, store};
use crate::{
    attention::{Buffers, gather},
    packed::Line,
};

/// Queries at once: as many sums as hide the latency of a multiplication.
const TILE: usize = 8;
/// Below every score that a finite sum can be.
const LOWEST: f32 = f32::MIN;

/// `VECTORS` vectors of sixteen are a head's width.
///
/// # Safety
/// The CPU has what is enabled.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub unsafe fn sequence<const VECTORS: usize>(
    qkv: &[f32],
    dim: usize,
    out: &mut [f32],
    buffers: &mut Buffers,
) {
    let width = VECTORS * 16;
    let tokens = out.len() / dim;
    let blocks = tokens.div_ceil(16);
    buffers.queries.resize(tokens * width, 0.0);
    buffers.keys.resize(blocks * width, Line::ZERO);
    buffers.values.resize(tokens * VECTORS, Line::ZERO);
    buffers.scores.resize(TILE * blocks, Line::ZERO);
    let scale = 1.0 / (width as f32).sqrt();
    for head in 0..dim / width {
        // SAFETY: the features are enabled here.
        unsafe {
            gather::<VECTORS>(qkv, dim, head, buffers, |rows, columns| transpose(rows, columns));
            let mut first = 0;
            while first < tokens {
                let part = Part { first, tokens, head, dim, scale };
                first += match tokens - first {
                    1 => tile::<VECTORS, 1>(&part, buffers, out),
                    2 | 3 => tile::<VECTORS, 2>(&part, buffers, out),
                    4..TILE => tile::<VECTORS, 4>(&part, buffers, out),
                    _ => tile::<VECTORS, TILE>(&part, buffers, out),
                };
            }
        }
    }
}

struct Part {
    first: usize,
    tokens: usize,
    head: usize,
    dim: usize,
    scale: f32,
}

/// Sixteen rows of sixteen become columns: pairs, then fours, then halves of vectors change places.
#[inline(always)]
unsafe fn transpose(rows: &[[f32; 16]; 16], columns: &mut [Line; 16]) {
    // SAFETY: the caller's CPU has AVX-512; loads and stores are of whole arrays.
    unsafe {
        let mut r: [__m512; 16] = std::array::from_fn(|at| match rows.get(at) {
            Some(row) => load(row),
            None => _mm512_setzero_ps(),
        });
        // In each lane of 128 bits: a 4 × 4 transpose of four rows.
        for four in r.as_chunks_mut::<4>().0 {
            let [a, b, c, d] = *four;
            let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
            let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
            *four = [
                _mm512_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low),
                _mm512_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low),
                _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
                _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
            ];
        }
        // r[4g + i] holds, in lane l, rows 4g…4g+3 of column 4l + i: gather the lanes.
        let [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15] = r;
        let fours = [[r0, r4, r8, r12], [r1, r5, r9, r13], [r2, r6, r10, r14], [r3, r7, r11, r15]];
        for (i, [a, b, c, d]) in fours.into_iter().enumerate() {
            let (ab_even, ab_odd) =
                (_mm512_shuffle_f32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b));
            let (cd_even, cd_odd) =
                (_mm512_shuffle_f32x4::<0b10_00_10_00>(c, d), _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d));
            let lanes = [
                _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, cd_even),
                _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, cd_even),
                _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd),
            ];
            for (lane, column) in lanes.into_iter().enumerate() {
                if let Some(to) = columns.get_mut(4 * lane + i) {
                    _mm512_store_ps(to.0.as_mut_ptr().cast(), column);
                }
            }
        }
    }
}

/// `ROWS` queries from `first` on; answers how many that were.
#[inline(always)]
unsafe fn tile<const VECTORS: usize, const ROWS: usize>(
    part: &Part,
    buffers: &mut Buffers,
    out: &mut [f32],
) -> usize {
    let width = VECTORS * 16;
    let blocks = part.tokens.div_ceil(16);
    let queries = buffers.queries.get(part.first * width..).unwrap_or_default();
    let last: __mmask16 = match part.tokens % 16 {
        0 => !0,
        some => (1 << some) - 1,
    };
    // SAFETY: the caller's CPU has AVX-512. `queries` has `ROWS` rows of `width`, since the caller
    // has that many left: `row * width + column` is inside. The scores of a row are read below as
    // f32 up to `tokens`, which are inside its `blocks` lines.
    unsafe {
        debug_assert!(queries.len() >= ROWS * width && buffers.scores.len() >= ROWS * blocks);
        let mut most = [_mm512_set1_ps(LOWEST); ROWS];
        for (block, keys) in buffers.keys.chunks_exact(width).enumerate() {
            let mut sums = [_mm512_setzero_ps(); ROWS];
            for (column, key) in keys.iter().enumerate() {
                let key = floats(key);
                for (row, sum) in sums.iter_mut().enumerate() {
                    let query = _mm512_set1_ps(*queries.get_unchecked(row * width + column));
                    *sum = _mm512_fmadd_ps(query, key, *sum);
                }
            }
            let mask = if block + 1 == blocks { last } else { !0 };
            for (row, (sum, most)) in sums.into_iter().zip(&mut most).enumerate() {
                let scores = _mm512_mask_blend_ps(mask, _mm512_set1_ps(LOWEST), sum);
                *most = _mm512_max_ps(*most, scores);
                let to = buffers.scores.get_unchecked_mut(row * blocks + block);
                _mm512_store_ps(to.0.as_mut_ptr().cast(), scores);
            }
        }

        let mut inverse = [0.0f32; ROWS];
        for ((scores, most), inverse) in buffers.scores.chunks_exact_mut(blocks).zip(most).zip(&mut inverse) {
            // The scale of the scores goes into the exponent: a multiplication less for each score.
            let scale = _mm512_set1_ps(part.scale);
            let most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
            let mut sum = _mm512_setzero_ps();
            for (block, line) in scores.iter_mut().enumerate() {
                let mask = if block + 1 == blocks { last } else { !0 };
                let weights = exp(_mm512_mul_ps(_mm512_sub_ps(floats(line), most), scale));
                let weights = _mm512_maskz_mov_ps(mask, weights);
                sum = _mm512_add_ps(sum, weights);
                _mm512_store_ps(line.0.as_mut_ptr().cast(), weights);
            }
            *inverse = 1.0 / _mm512_reduce_add_ps(sum);
        }

        let weights: *const f32 = buffers.scores.as_ptr().cast();
        let mut sums = [[_mm512_setzero_ps(); VECTORS]; ROWS];
        for (token, value) in buffers.values.chunks_exact(VECTORS).enumerate() {
            for (row, sums) in sums.iter_mut().enumerate() {
                let weight = _mm512_set1_ps(*weights.add(row * blocks * 16 + token));
                for (sum, value) in sums.iter_mut().zip(value) {
                    *sum = _mm512_fmadd_ps(weight, floats(value), *sum);
                }
            }
        }
        for (row, (sums, inverse)) in sums.into_iter().zip(inverse).enumerate() {
            let from = (part.first + row) * part.dim + part.head * width;
            let Some(to) = out.get_mut(from..from + width) else { return ROWS };
            for (to, sum) in to.as_chunks_mut().0.iter_mut().zip(sums) {
                store(to, _mm512_mul_ps(sum, _mm512_set1_ps(inverse)));
            }
        }
    }
    ROWS
}
