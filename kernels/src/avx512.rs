//! Vectors of sixteen f32, and what is done with them.
//!
//! All functions here are `unsafe` for one reason: the CPU must have AVX-512 F, BW, DQ and VL. They
//! are inlined into the entries of [`linear`] and [`attention`], which enable it.

use std::arch::x86_64::*;

use crate::packed::Line;

pub mod attention;
pub mod linear;

/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub unsafe fn load(from: &[f32; 16]) -> __m512 {
    // SAFETY: sixteen f32 are 64 bytes; the load needs no alignment.
    unsafe { _mm512_loadu_ps(from.as_ptr()) }
}

/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub unsafe fn store(to: &mut [f32; 16], value: __m512) {
    // SAFETY: sixteen f32 are 64 bytes; the store needs no alignment.
    unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
}

/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub unsafe fn words(from: &Line) -> __m512i {
    // SAFETY: a line is 64 bytes and aligned to 64.
    unsafe { _mm512_load_si512(from.0.as_ptr().cast()) }
}

/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub unsafe fn floats(from: &Line) -> __m512 {
    // SAFETY: as `words`; every bit pattern is an f32.
    unsafe { _mm512_castsi512_ps(words(from)) }
}

/// eˣ for x ≤ 0 and small positive x, as `math::exp`.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub unsafe fn exp(x: __m512) -> __m512 {
    // SAFETY: the caller's CPU has AVX-512; arithmetic touches no memory.
    unsafe {
        let x = _mm512_max_ps(_mm512_set1_ps(-87.0), x);
        let n = _mm512_roundscale_ps::<8>(_mm512_mul_ps(x, _mm512_set1_ps(std::f32::consts::LOG2_E)));
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693_359_4), x);
        let r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.121_944_4e-4), r);
        let mut p = _mm512_set1_ps(1.987_569_1e-4);
        for c in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(c));
        }
        let p = _mm512_add_ps(_mm512_fmadd_ps(p, _mm512_mul_ps(r, r), r), _mm512_set1_ps(1.0));
        _mm512_scalef_ps(p, n)
    }
}

/// x·Φ(x) by the error function, as `math::gelu`.
///
/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
pub unsafe fn gelu(x: __m512) -> __m512 {
    // SAFETY: the caller's CPU has AVX-512; arithmetic touches no memory.
    unsafe {
        let one = _mm512_set1_ps(1.0);
        let z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(std::f32::consts::FRAC_1_SQRT_2));
        let t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.327_591_1), one));
        let mut p = _mm512_set1_ps(1.061_405_4);
        for c in [-1.453_152, 1.421_413_8, -0.284_496_74, 0.254_829_6] {
            p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(c));
        }
        let e = exp(_mm512_fnmadd_ps(z, z, _mm512_setzero_ps()));
        let erf = _mm512_fnmadd_ps(_mm512_mul_ps(p, t), e, one);
        let half = _mm512_mul_ps(x, _mm512_set1_ps(0.5));
        _mm512_fmadd_ps(_mm512_abs_ps(half), erf, half)
    }
}
