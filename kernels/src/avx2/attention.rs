//! One sequence's attention, head by head: scores, softmax and weighted values of a tile of queries
//! while its keys and values are in the nearest caches.

use std::arch::x86_64::*;

use super::{exp, floats, greatest, put, store, sum};
use crate::{
    attention::{Buffers, gather},
    packed::Line,
};

/// Queries at once: as many as have sums for sixteen columns in the registers.
const TILE: usize = 6;
/// Below every score that a finite sum can be.
const LOWEST: f32 = f32::MIN;

/// `VECTORS` times sixteen are a head's width.
///
/// # Safety
/// The CPU has what is enabled.
#[target_feature(enable = "avx2,fma")]
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
                    2 => tile::<VECTORS, 2>(&part, buffers, out),
                    3..TILE => tile::<VECTORS, 3>(&part, buffers, out),
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

/// Sixteen rows of sixteen become columns, a quarter at a time.
#[inline(always)]
unsafe fn transpose(rows: &[[f32; 16]; 16], columns: &mut [Line; 16]) {
    for from_row in [0, 8] {
        for from_column in [0, 8] {
            // SAFETY: the caller's CPU has AVX2. Both lie inside: eight from 0 or 8, of sixteen.
            unsafe {
                let mut quarter = [_mm256_setzero_ps(); 8];
                for (at, row) in quarter.iter_mut().enumerate() {
                    *row = _mm256_loadu_ps(rows.get_unchecked(from_row + at).as_ptr().add(from_column));
                }
                for (at, column) in eight(quarter).into_iter().enumerate() {
                    let to = columns.get_unchecked_mut(from_column + at).0.as_mut_ptr().cast::<f32>();
                    _mm256_storeu_ps(to.add(from_row), column);
                }
            }
        }
    }
}

/// Pairs, then fours, then halves of vectors change places.
#[inline(always)]
unsafe fn eight([a, b, c, d, e, f, g, h]: [__m256; 8]) -> [__m256; 8] {
    // SAFETY: the caller's CPU has AVX2.
    unsafe {
        let ([a0, a1, a2, a3], [e0, e1, e2, e3]) = (four(a, b, c, d), four(e, f, g, h));
        [
            _mm256_permute2f128_ps::<0x20>(a0, e0),
            _mm256_permute2f128_ps::<0x20>(a1, e1),
            _mm256_permute2f128_ps::<0x20>(a2, e2),
            _mm256_permute2f128_ps::<0x20>(a3, e3),
            _mm256_permute2f128_ps::<0x31>(a0, e0),
            _mm256_permute2f128_ps::<0x31>(a1, e1),
            _mm256_permute2f128_ps::<0x31>(a2, e2),
            _mm256_permute2f128_ps::<0x31>(a3, e3),
        ]
    }
}

/// In each half of 128 bits: a 4 × 4 transpose of four rows.
#[inline(always)]
unsafe fn four(a: __m256, b: __m256, c: __m256, d: __m256) -> [__m256; 4] {
    // SAFETY: the caller's CPU has AVX2.
    unsafe {
        let (ab_low, ab_high) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
        [
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low),
            _mm256_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high),
            _mm256_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high),
        ]
    }
}

/// Which of a block's sixteen keys there are.
#[inline(always)]
unsafe fn mask(keys: usize) -> [__m256; 2] {
    // SAFETY: the caller's CPU has AVX2.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        let keys = _mm256_set1_epi32(keys.min(16) as i32);
        let low = _mm256_cmpgt_epi32(keys, lanes);
        let high = _mm256_cmpgt_epi32(keys, _mm256_add_epi32(lanes, _mm256_set1_epi32(8)));
        [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
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
    // SAFETY: the caller's CPU has AVX2 and FMA. `queries` has `ROWS` rows of `width`, since the caller
    // has that many left: `row * width + column` is inside. The scores of a row are read below as
    // f32 up to `tokens`, which are inside its `blocks` lines; `VECTORS` lines are a token's values.
    unsafe {
        debug_assert!(queries.len() >= ROWS * width && buffers.scores.len() >= ROWS * blocks);
        let mut most = [_mm256_set1_ps(LOWEST); ROWS];
        for (block, keys) in buffers.keys.chunks_exact(width).enumerate() {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for (column, key) in keys.iter().enumerate() {
                let key = floats(key);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let query = _mm256_set1_ps(*queries.get_unchecked(row * width + column));
                    for (sum, key) in sums.iter_mut().zip(key) {
                        *sum = _mm256_fmadd_ps(query, key, *sum);
                    }
                }
            }
            let [low, high] = mask(part.tokens - block * 16);
            for (row, ([a, b], most)) in sums.into_iter().zip(&mut most).enumerate() {
                let lowest = _mm256_set1_ps(LOWEST);
                let scores = [_mm256_blendv_ps(lowest, a, low), _mm256_blendv_ps(lowest, b, high)];
                *most = _mm256_max_ps(*most, _mm256_max_ps(scores[0], scores[1]));
                put(buffers.scores.get_unchecked_mut(row * blocks + block), scores);
            }
        }

        let mut inverse = [0.0f32; ROWS];
        for ((scores, most), inverse) in buffers.scores.chunks_exact_mut(blocks).zip(most).zip(&mut inverse) {
            // The scale of the scores goes into the exponent: a multiplication less for each score.
            let scale = _mm256_set1_ps(part.scale);
            let most = _mm256_set1_ps(greatest(most));
            let mut total = _mm256_setzero_ps();
            for (block, line) in scores.iter_mut().enumerate() {
                let mask = mask(part.tokens - block * 16);
                let mut weights = floats(line);
                for (weights, mask) in weights.iter_mut().zip(mask) {
                    *weights = exp(_mm256_mul_ps(_mm256_sub_ps(*weights, most), scale));
                    *weights = _mm256_and_ps(*weights, mask);
                    total = _mm256_add_ps(total, *weights);
                }
                put(line, weights);
            }
            *inverse = 1.0 / sum(total);
        }

        let weights: *const f32 = buffers.scores.as_ptr().cast();
        for vector in 0..VECTORS {
            let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
            for (token, values) in buffers.values.chunks_exact(VECTORS).enumerate() {
                let value = floats(values.get_unchecked(vector));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let weight = _mm256_set1_ps(*weights.add(row * blocks * 16 + token));
                    for (sum, value) in sums.iter_mut().zip(value) {
                        *sum = _mm256_fmadd_ps(weight, value, *sum);
                    }
                }
            }
            for (row, (sums, inverse)) in sums.into_iter().zip(inverse).enumerate() {
                let from = (part.first + row) * part.dim + part.head * width + vector * 16;
                let Some(to) = out.get_mut(from..from + 16) else { return ROWS };
                for (to, sum) in to.as_chunks_mut().0.iter_mut().zip(sums) {
                    store(to, _mm256_mul_ps(sum, _mm256_set1_ps(inverse)));
                }
            }
        }
    }
    ROWS
}
