//! Vectors of eight f32, two to a line, and what is done with them.
//!
//! All functions here are `unsafe` for one reason: the CPU must have AVX2 and FMA. They are inlined
//! into the entries of [`linear`] and [`attention`], which enable it. No vector goes through a closure
//! of theirs: that would be a function of its own, without the features, and a hundred times slower.

use std::arch::x86_64::*;

use crate::packed::Line;

pub mod attention;
pub mod linear;

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub unsafe fn load(from: &[f32; 8]) -> __m256 {
    // SAFETY: eight f32 are 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_ps(from.as_ptr()) }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub unsafe fn store(to: &mut [f32; 8], value: __m256) {
    // SAFETY: eight f32 are 32 bytes; the store needs no alignment.
    unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub unsafe fn words(from: &Line) -> [__m256i; 2] {
    let from = from.0.as_ptr().cast::<__m256i>();
    // SAFETY: a line is 64 bytes and aligned to 64.
    unsafe { [_mm256_load_si256(from), _mm256_load_si256(from.add(1))] }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub unsafe fn floats(from: &Line) -> [__m256; 2] {
    // SAFETY: as `words`; every bit pattern is an f32.
    unsafe {
        let [low, high] = words(from);
        [_mm256_castsi256_ps(low), _mm256_castsi256_ps(high)]
    }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub unsafe fn put(to: &mut Line, values: [__m256; 2]) {
    let to = to.0.as_mut_ptr().cast::<f32>();
    // SAFETY: a line is 64 bytes and aligned to 64.
    unsafe {
        _mm256_store_ps(to, values[0]);
        _mm256_store_ps(to.add(8), values[1]);
    }
}

/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub unsafe fn sum(of: __m256) -> f32 {
    let mut lanes = [0.0; 8];
    // SAFETY: the caller's CPU has AVX2.
    unsafe { store(&mut lanes, of) };
    lanes.iter().sum()
}

/// The greatest of eight, of which none is a NaN.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub unsafe fn greatest(of: __m256) -> f32 {
    let mut lanes = [0.0; 8];
    // SAFETY: the caller's CPU has AVX2.
    unsafe { store(&mut lanes, of) };
    lanes.into_iter().fold(f32::MIN, f32::max)
}

/// eˣ for x ≤ 0 and small positive x, as `math::exp`.
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[inline(always)]
pub unsafe fn exp(x: __m256) -> __m256 {
    // SAFETY: the caller's CPU has AVX2 and FMA; arithmetic touches no memory.
    unsafe {
        let x = _mm256_max_ps(_mm256_set1_ps(-87.0), x);
        let n = _mm256_mul_ps(x, _mm256_set1_ps(std::f32::consts::LOG2_E));
        let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(n);
        let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693_359_4), x);
        let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), r);
        let mut p = _mm256_set1_ps(1.987_569_1e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(c));
        }
        let p = _mm256_add_ps(_mm256_fmadd_ps(p, _mm256_mul_ps(r, r), r), _mm256_set1_ps(1.0));
        // 2ⁿ by its exponent.
        let power = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
        _mm256_mul_ps(p, _mm256_castsi256_ps(_mm256_slli_epi32::<23>(power)))
    }
}

/// x·Φ(x) by the error function, as `math::gelu`.
///
/// # Safety
/// The CPU has AVX2 and FMA.
#[inline(always)]
pub unsafe fn gelu(x: __m256) -> __m256 {
    // SAFETY: the caller's CPU has AVX2 and FMA; arithmetic touches no memory.
    unsafe {
        let (one, sign) = (_mm256_set1_ps(1.0), _mm256_set1_ps(-0.0));
        let z = _mm256_mul_ps(_mm256_andnot_ps(sign, x), _mm256_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
        let t = _mm256_div_ps(one, _mm256_fmadd_ps(z, _mm256_set1_ps(0.327_591_1), one));
        let mut p = _mm256_set1_ps(1.061_405_4);
        for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
            p = _mm256_fmadd_ps(p, t, _mm256_set1_ps(c));
        }
        let e = exp(_mm256_fnmadd_ps(z, z, _mm256_setzero_ps()));
        let erf = _mm256_fnmadd_ps(_mm256_mul_ps(p, t), e, one);
        let half = _mm256_mul_ps(x, _mm256_set1_ps(0.5));
        _mm256_fmadd_ps(_mm256_andnot_ps(sign, half), erf, half)
    }
}
