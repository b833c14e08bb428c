//! `exp` and the GELU of one number, written so that the compiler makes vectors of them.
//!
//! No calls, no branches, no table: with a loop around them they become as wide as the function
//! they are inlined into may be.

/// Rounds to the nearest integer when added and taken away again: 1.5 · 2²³.
const ROUND: f32 = 12_582_912.0;

/// eˣ for x ≤ 0 and small positive x, relative error below 2e-7; below -87 as for -87 (1.6e-38).
///
/// Splits x = n·ln 2 + r with |r| ≤ ln 2 / 2; the polynomial is Cephes' `expf`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts: n times the first is exact.
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let p = (p * (r * r) + r) + 1.0;
    // The low bits of `shifted` are n; the higher ones fall out of the shift.
    let power = f32::from_bits(shifted.to_bits().wrapping_add(127) << 23);
    p * power
}

/// x·Φ(x) by the error function, as the checkpoints mean it, and not its tanh approximation, which
/// is up to 5e-4 off. erf by Abramowitz and Stegun 7.1.26, absolute error below 2e-7.
#[inline(always)]
pub fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let mut p = 1.061_405_4;
    p = p * t - 1.453_152;
    p = p * t + 1.421_413_8;
    p = p * t - 0.284_496_74;
    p = p * t + 0.254_829_6;
    let erf = 1.0 - (p * t) * exp(-(z * z));
    let half = 0.5 * x;
    half + half.abs() * erf
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::{exp, gelu};

    /// erf in f64 by its Taylor series near zero and its continued fraction far out.
    fn erf(x: f64) -> f64 {
        if x.abs() > 3.0 {
            let z = x.abs();
            let mut f = z;
            for k in (1..=60).rev() {
                f = z + (f64::from(k) / 2.0) / f;
            }
            return x.signum() * (1.0 - (-z * z).exp() / (f * std::f64::consts::PI.sqrt()));
        }
        let (mut term, mut sum) = (x, x);
        for n in 1..120 {
            let n = f64::from(n);
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    proptest! {
        #[test]
        fn exp_is_within_two_in_ten_million(x in -87.0f32..10.0) {
            let exact = f64::from(x).exp();
            prop_assert!((f64::from(exp(x)) - exact).abs() <= 2.5e-7 * exact, "{x}: {} {exact}", exp(x));
        }

        #[test]
        fn gelu_is_that_of_the_error_function(x in -30.0f32..30.0) {
            let exact = f64::from(x) * 0.5 * (1.0 + erf(f64::from(x) / std::f64::consts::SQRT_2));
            prop_assert!((f64::from(gelu(x)) - exact).abs() <= 4e-7 * (1.0 + exact.abs()), "{x}: {} {exact}", gelu(x));
        }
    }

    #[test]
    fn extremes_stay_finite() {
        assert!(exp(f32::MIN) > 0.0 && exp(f32::MIN) < 1e-37);
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(gelu(0.0), 0.0);
        assert_eq!(gelu(1e30), 1e30);
        assert!(gelu(-1e30).abs() < 1e24);
        assert!(gelu(f32::NAN).is_nan());
    }
}
