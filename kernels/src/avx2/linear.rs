//! The products: a tile of up to six rows against a panel of 16 outputs, sums in 12 registers.

use std::arch::x86_64::*;

use super::{floats, gelu, greatest, load, store, words};
use crate::{
    linear::{After, Rounded, Unit},
    packed::{Line, Linear},
};

/// Rows whose sums fit the registers beside two vectors of weights.
const TILE: usize = 6;
/// Outputs of a panel.
const LANES: usize = 16;

/// How one word of inputs and one vector of words of weights come together.
trait Product {
    type Sum: Copy;

    unsafe fn zero() -> Self::Sum;
    /// `sum + inputs · weights`
    unsafe fn add(sum: Self::Sum, inputs: __m256i, weights: __m256i) -> Self::Sum;
    /// The sum as a number; the units are the row's and the outputs'.
    unsafe fn finish(sum: Self::Sum, row: Unit, scale: __m256, total: __m256) -> __m256;
}

struct F32;
/// Bytes widened to 16 bits: products of two pairs are added in 32, where nothing is lost. Products of
/// bytes would be added in 16 bits, where 255 · 127 twice is too much.
struct Int8;

impl Product for F32 {
    type Sum = __m256;

    #[inline(always)]
    unsafe fn zero() -> __m256 {
        // SAFETY: the caller's CPU has AVX2.
        unsafe { _mm256_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add(sum: __m256, inputs: __m256i, weights: __m256i) -> __m256 {
        // SAFETY: the caller's CPU has FMA.
        unsafe { _mm256_fmadd_ps(_mm256_castsi256_ps(inputs), _mm256_castsi256_ps(weights), sum) }
    }

    #[inline(always)]
    unsafe fn finish(sum: __m256, _: Unit, _: __m256, _: __m256) -> __m256 {
        sum
    }
}

impl Product for Int8 {
    type Sum = __m256i;

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        // SAFETY: the caller's CPU has AVX2.
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn add(sum: __m256i, inputs: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the caller's CPU has AVX2.
        unsafe { _mm256_add_epi32(sum, _mm256_madd_epi16(inputs, weights)) }
    }

    /// `Σ (scale·q + shift) · unit·w = scale·unit · Σ q·w + shift · unit·Σ w`
    #[inline(always)]
    unsafe fn finish(sum: __m256i, row: Unit, scale: __m256, total: __m256) -> __m256 {
        // SAFETY: the caller's CPU has AVX2 and FMA.
        unsafe {
            let unit = _mm256_mul_ps(_mm256_set1_ps(row.scale), scale);
            let shifted = _mm256_mul_ps(_mm256_set1_ps(row.shift), total);
            _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum), unit, shifted)
        }
    }
}

/// # Safety
/// The CPU has what is enabled; `x` and `out` are whole rows of the layer's widths, as many of each.
#[target_feature(enable = "avx2,fma")]
pub unsafe fn run_f32(layer: &Linear, x: &[f32], after: After<'_>, out: &mut [f32]) {
    // SAFETY: f32 and u32 have one size and alignment, and every bit pattern is either.
    let words = unsafe { std::slice::from_raw_parts(x.as_ptr().cast::<u32>(), x.len()) };
    // SAFETY: as the caller promises.
    unsafe { panels::<F32>(layer, words, &[], after, out) }
}

/// # Safety
/// As [`run_f32`].
#[target_feature(enable = "avx2,fma")]
pub unsafe fn run_int8(layer: &Linear, x: &[f32], after: After<'_>, out: &mut [f32], rounded: &mut Rounded) {
    rounded.words.resize(x.len() / 2, 0);
    let rows = x.chunks_exact(layer.inputs).zip(rounded.words.chunks_exact_mut(layer.inputs / 2));
    for (row, words) in rows {
        // SAFETY: the features are enabled here; a row has two inputs for each word.
        rounded.units.push(unsafe { round_row(row, words) });
    }
    // SAFETY: as the caller promises; there is one word for two inputs and one unit for each row.
    unsafe { panels::<Int8>(layer, &rounded.words, &rounded.units, after, out) }
}

/// Spreads a row over 0…255: its least value becomes 0, its greatest 255. A row with a NaN in it has a
/// NaN for a unit, and so for every output.
#[inline(always)]
unsafe fn round_row(row: &[f32], words: &mut [u32]) -> Unit {
    // SAFETY: the caller's CPU has AVX2; `to` is 32 bytes, and the store needs no alignment.
    unsafe {
        let mut least = _mm256_set1_ps(f32::MAX);
        let mut most = _mm256_set1_ps(f32::MIN);
        // Neither the least nor the greatest would tell: a later number takes a NaN's place.
        let mut unordered = _mm256_setzero_ps();
        for values in row.as_chunks::<8>().0 {
            let values = load(values);
            least = _mm256_min_ps(least, values);
            most = _mm256_max_ps(most, values);
            unordered = _mm256_or_ps(unordered, _mm256_cmp_ps::<_CMP_UNORD_Q>(values, values));
        }
        if _mm256_movemask_ps(unordered) != 0 {
            return Unit { scale: f32::NAN, shift: f32::NAN };
        }
        let least = -greatest(_mm256_sub_ps(_mm256_setzero_ps(), least));
        let range = greatest(most) - least;
        // All values alike: the shift says it all.
        let (scale, inverse) = if range > 1e-30 { (range / 255.0, 255.0 / range) } else { (0.0, 0.0) };
        let (shift, inverse) = (_mm256_set1_ps(least), _mm256_set1_ps(inverse));
        for (values, to) in row.as_chunks::<16>().0.iter().zip(words.as_chunks_mut::<8>().0) {
            let [low, high] = values.as_chunks::<8>().0 else { continue };
            let low = _mm256_mul_ps(_mm256_sub_ps(load(low), shift), inverse);
            let high = _mm256_mul_ps(_mm256_sub_ps(load(high), shift), inverse);
            let units = _mm256_packus_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
            // Packing takes turns between the halves' lanes of 128 bits.
            let units = _mm256_permute4x64_epi64::<0b11_01_10_00>(units);
            let units = _mm256_min_epu16(units, _mm256_set1_epi16(255));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), units);
        }
        Unit { scale, shift: least }
    }
}

/// All rows past one panel, then the next: a panel stays in the cache nearest to the registers.
#[inline(always)]
unsafe fn panels<P: Product>(layer: &Linear, x: &[u32], units: &[Unit], after: After<'_>, out: &mut [f32]) {
    let depth = layer.depth();
    for (at, panel) in layer.steps.chunks_exact(depth).enumerate() {
        let of = |lines: &[Line]| lines.get(at).copied().unwrap_or(Line::ZERO);
        let place = Place {
            first_output: at * LANES,
            outputs: layer.outputs,
            after,
            bias: of(&layer.bias),
            scale: of(&layer.scale),
            sums: of(&layer.sums),
        };
        let mut first = 0;
        let mut rows = x.chunks(TILE * depth);
        let mut outs = out.chunks_mut(TILE * layer.outputs);
        while let (Some(rows), Some(out)) = (rows.next(), outs.next()) {
            let units = units.get(first..).unwrap_or_default();
            // SAFETY: as the caller promises. A chunk holds as many rows of words as its counterpart
            // holds rows of outputs: 1 to `TILE`.
            unsafe {
                match rows.len() / depth {
                    1 => tile::<P, 1>(panel, rows, units, &place, first, out),
                    2 => tile::<P, 2>(panel, rows, units, &place, first, out),
                    3 => tile::<P, 3>(panel, rows, units, &place, first, out),
                    4 => tile::<P, 4>(panel, rows, units, &place, first, out),
                    5 => tile::<P, 5>(panel, rows, units, &place, first, out),
                    _ => tile::<P, TILE>(panel, rows, units, &place, first, out),
                }
            }
            first += TILE;
        }
    }
}

/// Which outputs a tile is for, and what happens to them.
struct Place<'a> {
    first_output: usize,
    outputs: usize,
    after: After<'a>,
    bias: Line,
    scale: Line,
    sums: Line,
}

#[inline(always)]
unsafe fn tile<P: Product, const ROWS: usize>(
    panel: &[Line],
    rows: &[u32],
    units: &[Unit],
    place: &Place<'_>,
    first: usize,
    out: &mut [f32],
) {
    let depth = panel.len();
    debug_assert_eq!(rows.len(), ROWS * depth);
    // SAFETY: the caller's CPU has what `P` needs. `rows` holds `ROWS` rows of `depth` words, so
    // `row * depth + step` is inside.
    let sums = unsafe {
        let mut sums = [[P::zero(); 2]; ROWS];
        for (step, weights) in panel.iter().enumerate() {
            let weights = words(weights);
            for (row, sums) in sums.iter_mut().enumerate() {
                let inputs = _mm256_set1_epi32(rows.get_unchecked(row * depth + step).cast_signed());
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = P::add(*sum, inputs, weights);
                }
            }
        }
        sums
    };
    for (row, sums) in sums.into_iter().enumerate() {
        let unit = units.get(row).copied().unwrap_or_default();
        let from = row * place.outputs + place.first_output;
        let Some(out) = out.get_mut(from..from + LANES) else { return };
        let add = match place.after {
            After::BiasAndAdd(add) => {
                let from = first * place.outputs + from;
                add.get(from..from + LANES).unwrap_or_default()
            }
            After::Bias | After::BiasAndGelu => &[],
        };
        // SAFETY: the caller's CPU has AVX2 and FMA.
        unsafe {
            let of = floats(&place.scale).into_iter().zip(floats(&place.sums)).zip(floats(&place.bias));
            let halves = out.as_chunks_mut::<8>().0.iter_mut().zip(sums).zip(of);
            for (at, ((out, sum), ((scale, total), bias))) in halves.enumerate() {
                let value = _mm256_add_ps(P::finish(sum, unit, scale, total), bias);
                let value = match (place.after, add.as_chunks::<8>().0.get(at)) {
                    (After::BiasAndGelu, _) => gelu(value),
                    (_, Some(add)) => _mm256_add_ps(value, load(add)),
                    (_, None) => value,
                };
                store(out, value);
            }
        }
    }
}
