//! The products: a tile of up to six rows against a panel of 64 outputs, sums in 24 registers.

use std::arch::x86_64::*;

use super::{floats, gelu, load, store, words};
use crate::{
    linear::{After, Rounded, Unit},
    packed::{Line, Linear, PANEL},
};

/// Rows whose sums fit the registers beside four vectors of weights.
const TILE: usize = 6;

/// How one word of inputs and one vector of words of weights come together.
trait Product {
    type Sum: Copy;

    unsafe fn zero() -> Self::Sum;
    /// `sum + inputs · weights`
    unsafe fn add(sum: Self::Sum, inputs: __m512i, weights: __m512i) -> Self::Sum;
    /// The sum as a number; `units` are the row's and the outputs'.
    unsafe fn finish(sum: Self::Sum, row: Unit, scale: Option<&Line>, sums: Option<&Line>) -> __m512;
}

struct F32;
struct Bf16;
struct Int8;

impl Product for F32 {
    type Sum = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller's CPU has AVX-512.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add(sum: __m512, inputs: __m512i, weights: __m512i) -> __m512 {
        // SAFETY: the caller's CPU has AVX-512.
        unsafe { _mm512_fmadd_ps(_mm512_castsi512_ps(inputs), _mm512_castsi512_ps(weights), sum) }
    }

    #[inline(always)]
    unsafe fn finish(sum: __m512, _: Unit, _: Option<&Line>, _: Option<&Line>) -> __m512 {
        sum
    }
}

impl Product for Bf16 {
    type Sum = __m512;

    #[inline(always)]
    unsafe fn zero() -> __m512 {
        // SAFETY: the caller's CPU has AVX-512.
        unsafe { _mm512_setzero_ps() }
    }

    #[inline(always)]
    unsafe fn add(sum: __m512, inputs: __m512i, weights: __m512i) -> __m512 {
        // SAFETY: the caller's CPU has AVX-512 BF16; both types are 512 bits of any pattern.
        unsafe {
            let inputs = std::mem::transmute::<__m512i, __m512bh>(inputs);
            let weights = std::mem::transmute::<__m512i, __m512bh>(weights);
            _mm512_dpbf16_ps(sum, inputs, weights)
        }
    }

    #[inline(always)]
    unsafe fn finish(sum: __m512, _: Unit, _: Option<&Line>, _: Option<&Line>) -> __m512 {
        sum
    }
}

impl Product for Int8 {
    type Sum = __m512i;

    #[inline(always)]
    unsafe fn zero() -> __m512i {
        // SAFETY: the caller's CPU has AVX-512.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    unsafe fn add(sum: __m512i, inputs: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: the caller's CPU has AVX-512 VNNI.
        unsafe { _mm512_dpbusd_epi32(sum, inputs, weights) }
    }

    /// `Σ (scale·q + shift) · unit·w = scale·unit · Σ q·w + shift · unit·Σ w`
    #[inline(always)]
    unsafe fn finish(sum: __m512i, row: Unit, scale: Option<&Line>, sums: Option<&Line>) -> __m512 {
        let (scale, sums) = (scale.unwrap_or(&Line::ZERO), sums.unwrap_or(&Line::ZERO));
        // SAFETY: the caller's CPU has AVX-512.
        unsafe {
            let unit = _mm512_mul_ps(_mm512_set1_ps(row.scale), floats(scale));
            let shifted = _mm512_mul_ps(_mm512_set1_ps(row.shift), floats(sums));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), unit, shifted)
        }
    }
}

/// # Safety
/// The CPU has what is enabled; `x` and `out` are whole rows of the layer's widths, as many of each.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub unsafe fn run_f32(layer: &Linear, x: &[f32], after: After<'_>, out: &mut [f32]) {
    // SAFETY: f32 and u32 have one size and alignment, and every bit pattern is either.
    let words = unsafe { std::slice::from_raw_parts(x.as_ptr().cast::<u32>(), x.len()) };
    // SAFETY: as the caller promises.
    unsafe { panels::<F32>(layer, words, &[], after, out) }
}

/// # Safety
/// As [`run_f32`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
pub unsafe fn run_bf16(layer: &Linear, x: &[f32], after: After<'_>, out: &mut [f32], rounded: &mut Rounded) {
    rounded.words.resize(x.len() / 2, 0);
    for (from, to) in x.as_chunks::<16>().0.iter().zip(rounded.words.as_chunks_mut::<8>().0) {
        // SAFETY: the features are enabled here; `to` is 32 bytes, and the store needs no alignment.
        unsafe {
            let halves = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(load(from)));
            _mm256_storeu_si256(to.as_mut_ptr().cast(), halves);
        }
    }
    // SAFETY: as the caller promises; there is one word for two inputs.
    unsafe { panels::<Bf16>(layer, &rounded.words, &[], after, out) }
}

/// # Safety
/// As [`run_f32`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
pub unsafe fn run_int8(layer: &Linear, x: &[f32], after: After<'_>, out: &mut [f32], rounded: &mut Rounded) {
    rounded.words.resize(x.len() / 4, 0);
    let rows = x.chunks_exact(layer.inputs).zip(rounded.words.chunks_exact_mut(layer.inputs / 4));
    for (row, words) in rows {
        // SAFETY: the features are enabled here; a row has four inputs for each word.
        rounded.units.push(unsafe { round_row(row, words) });
    }
    // SAFETY: as the caller promises; there is one word for four inputs and one unit for each row.
    unsafe { panels::<Int8>(layer, &rounded.words, &rounded.units, after, out) }
}

/// Spreads a row over 0…255: its least value becomes 0, its greatest 255. A row with a NaN in it has a
/// NaN for a unit, and so for every output.
#[inline(always)]
unsafe fn round_row(row: &[f32], words: &mut [u32]) -> Unit {
    let row = row.as_chunks::<16>().0;
    // SAFETY: the caller's CPU has AVX-512; `to` is 16 bytes, and the store needs no alignment.
    unsafe {
        let mut least = _mm512_set1_ps(f32::MAX);
        let mut most = _mm512_set1_ps(f32::MIN);
        // Neither the least nor the greatest would tell: a later number takes a NaN's place.
        let mut unordered: __mmask16 = 0;
        for values in row {
            let values = load(values);
            least = _mm512_min_ps(least, values);
            most = _mm512_max_ps(most, values);
            unordered |= _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(values, values);
        }
        let (least, most) = (_mm512_reduce_min_ps(least), _mm512_reduce_max_ps(most));
        let range = most - least;
        // All values alike: the shift says it all.
        let (scale, inverse) = if range > 1e-30 { (range / 255.0, 255.0 / range) } else { (0.0, 0.0) };
        let (shift, inverse) = (_mm512_set1_ps(least), _mm512_set1_ps(inverse));
        for (values, to) in row.iter().zip(words.as_chunks_mut::<4>().0) {
            let units = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_sub_ps(load(values), shift), inverse));
            let bytes = _mm512_cvtusepi32_epi8(_mm512_max_epi32(units, _mm512_setzero_si512()));
            _mm_storeu_si128(to.as_mut_ptr().cast(), bytes);
        }
        if unordered == 0 { Unit { scale, shift: least } } else { Unit { scale: f32::NAN, shift: f32::NAN } }
    }
}

/// All rows past one panel, then the next: a panel stays in the cache nearest to the registers.
#[inline(always)]
unsafe fn panels<P: Product>(layer: &Linear, x: &[u32], units: &[Unit], after: After<'_>, out: &mut [f32]) {
    let depth = layer.depth();
    for (at, panel) in fours(&layer.steps).chunks_exact(depth).enumerate() {
        let bias = fours(&layer.bias).get(at).unwrap_or(&[Line::ZERO; 4]);
        let place = Place { layer, panel: at, after, bias };
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

/// The lines of a panel's 64 outputs.
fn fours(lines: &[Line]) -> &[[Line; 4]] {
    lines.as_chunks().0
}

/// Which outputs a tile is for, and what happens to them.
struct Place<'a> {
    layer: &'a Linear,
    panel: usize,
    after: After<'a>,
    bias: &'a [Line; 4],
}

#[inline(always)]
unsafe fn tile<P: Product, const ROWS: usize>(
    panel: &[[Line; 4]],
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
        let mut sums = [[P::zero(); 4]; ROWS];
        for (step, weights) in panel.iter().enumerate() {
            let weights = [words(&weights[0]), words(&weights[1]), words(&weights[2]), words(&weights[3])];
            for (row, sums) in sums.iter_mut().enumerate() {
                let inputs = _mm512_set1_epi32(rows.get_unchecked(row * depth + step).cast_signed());
                for (sum, weights) in sums.iter_mut().zip(weights) {
                    *sum = P::add(*sum, inputs, weights);
                }
            }
        }
        sums
    };
    let layer = place.layer;
    let scales = fours(&layer.scale).get(place.panel);
    let totals = fours(&layer.sums).get(place.panel);
    for (row, sums) in sums.into_iter().enumerate() {
        let unit = units.get(row).copied().unwrap_or_default();
        let from = row * layer.outputs + place.panel * PANEL;
        let Some(out) = out.get_mut(from..from + PANEL) else { return };
        let add = match place.after {
            After::BiasAndAdd(add) => {
                let from = first * layer.outputs + from;
                add.get(from..from + PANEL)
            }
            After::Bias | After::BiasAndGelu => None,
        };
        for (at, sum) in sums.into_iter().enumerate() {
            let Some(out) = out.as_chunks_mut::<16>().0.get_mut(at) else { return };
            // SAFETY: the caller's CPU has AVX-512.
            unsafe {
                let scale = scales.and_then(|lines| lines.get(at));
                let total = totals.and_then(|lines| lines.get(at));
                let bias = place.bias.get(at).unwrap_or(&Line::ZERO);
                let value = _mm512_add_ps(P::finish(sum, unit, scale, total), floats(bias));
                let value = match (place.after, add.and_then(|add| add.as_chunks::<16>().0.get(at))) {
                    (After::BiasAndGelu, _) => gelu(value),
                    (_, Some(add)) => _mm512_add_ps(value, load(add)),
                    (_, None) => value,
                };
                store(out, value);
            }
        }
    }
}
