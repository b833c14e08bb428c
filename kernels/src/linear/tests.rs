#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::{After, Rounded};
use crate::{
    Format, Level, Linear,
    declared::{LAYERS, skips},
    math,
    packed::PackError,
};

fn numbers(count: usize, seed: u32, most: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / 8_388_608.0 - 1.0) * most
        })
        .collect()
}

/// `None` where there is nothing to test.
fn pack(
    (level, format): (Level, Format),
    weights: &[f32],
    bias: &[f32],
    inputs: usize,
    outputs: usize,
) -> Option<Linear> {
    (!skips(level, format)).then(|| Linear::pack_for(level, weights, bias, inputs, outputs, format).unwrap())
}

/// What the product may be off by, given what a row and an output are rounded to.
fn tolerance(format: Format, x: &[f32], w: &[f32]) -> f64 {
    let most = |v: &[f32]| v.iter().fold(0.0f64, |most, v| most.max(f64::from(v.abs())));
    let (mx, mw, k) = (most(x), most(w), x.len() as f64);
    let total: f64 = x.iter().zip(w).map(|(x, w)| f64::from((x * w).abs())).sum();
    match format {
        Format::F32 => 1e-6 * total + 1e-30,
        // Two roundings to eight bits.
        Format::Bf16 => total / 120.0 + 1e-30,
        // Half a unit of each side, on every product, and never worse.
        Format::Int8 => k * (mx / 254.0 * 2.0 * mw + mw / 254.0 * mx + mx * mw / 30_000.0) + 1e-30,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_layer_is_the_scalar_one(
        kind in prop::sample::select(&LAYERS[..]),
        rows in 0usize..15,
        (inputs, outputs) in (1usize..9, 1usize..4),
        after in 0u8..3,
        seed: u32,
        most in prop::sample::select(&[1e-6f32, 1.0, 300.0][..]),
    ) {
        let (inputs, outputs) = (inputs * 16, outputs * 64);
        let weights = numbers(inputs * outputs, seed, 0.5);
        let bias = numbers(outputs, seed ^ 1, 1.0);
        let mut x = numbers(rows * inputs, seed ^ 2, most);
        if let Some(row) = x.get_mut(..inputs) {
            // A row of zeros is as good as another.
            row.fill(0.0);
        }
        let add = numbers(rows * outputs, seed ^ 3, 1.0);
        let Some(layer) = pack(kind, &weights, &bias, inputs, outputs) else { return Ok(()) };
        let how = match after {
            0 => After::Bias,
            1 => After::BiasAndGelu,
            _ => After::BiasAndAdd(&add),
        };
        let mut out = vec![f32::NAN; rows * outputs];
        layer.run(&x, how, &mut out, &mut Rounded::default()).unwrap();
        for r in 0..rows {
            let x = &x[r * inputs..][..inputs];
            for c in 0..outputs {
                let w = &weights[c * inputs..][..inputs];
                let exact: f64 = x.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                let exact = exact + f64::from(bias[c]);
                let exact = match after {
                    0 => exact,
                    1 => f64::from(math::gelu(exact as f32)),
                    _ => exact + f64::from(add[r * outputs + c]),
                };
                let found = f64::from(out[r * outputs + c]);
                // GELU grows by no more than 1.13 of what goes in.
                let tolerance = 1.2 * tolerance(kind.1, x, w) + 2e-6 * (1.0 + exact.abs());
                prop_assert!((found - exact).abs() <= tolerance, "{kind:?} {r},{c}: {found} {exact} ±{tolerance}");
            }
        }
    }

    #[test]
    fn a_row_with_a_nan_answers_nothing_but_nan_and_no_other_row_notices(
        kind in prop::sample::select(&LAYERS[..]),
        rows in 1usize..14,
        at in any::<prop::sample::Index>(),
        after in 0u8..3,
        seed: u32,
    ) {
        let (inputs, outputs) = (48, 64);
        let weights = numbers(inputs * outputs, seed, 0.5);
        let bias = numbers(outputs, seed ^ 1, 1.0);
        let mut x = numbers(rows * inputs, seed ^ 2, 4.0);
        let add = numbers(rows * outputs, seed ^ 3, 1.0);
        let at = at.index(x.len());
        x[at] = f32::NAN;
        let Some(layer) = pack(kind, &weights, &bias, inputs, outputs) else { return Ok(()) };
        let how = match after {
            0 => After::Bias,
            1 => After::BiasAndGelu,
            _ => After::BiasAndAdd(&add),
        };
        let mut out = vec![0.0; rows * outputs];
        layer.run(&x, how, &mut out, &mut Rounded::default()).unwrap();
        for (row, out) in out.chunks_exact(outputs).enumerate() {
            let broken = row == at / inputs;
            prop_assert!(out.iter().all(|value| value.is_nan() == broken), "{kind:?} {row}: {out:?}");
        }
    }

    #[test]
    fn a_row_does_not_notice_its_company(
        kind in prop::sample::select(&LAYERS[..]), rows in 2usize..14, seed: u32,
    ) {
        let (inputs, outputs) = (48, 64);
        let weights = numbers(inputs * outputs, seed, 0.5);
        let bias = numbers(outputs, seed ^ 1, 1.0);
        let x = numbers(rows * inputs, seed ^ 2, 4.0);
        let Some(layer) = pack(kind, &weights, &bias, inputs, outputs) else { return Ok(()) };
        let run = |x: &[f32]| {
            let mut out = vec![0.0; x.len() / inputs * outputs];
            layer.run(x, After::BiasAndGelu, &mut out, &mut Rounded::default()).unwrap();
            out
        };
        let together = run(&x);
        for (at, row) in x.chunks_exact(inputs).enumerate() {
            prop_assert!(run(row) == together[at * outputs..][..outputs]);
        }
    }
}

#[test]
fn integers_of_eight_bits_multiply_without_loss() {
    // The row spans 0 to 255 in steps of one, the weights -127 to 127: nothing is rounded.
    let (inputs, outputs) = (256, 64);
    let x: Vec<f32> = (0..inputs).map(|i| i as f32 - 100.0).collect();
    let weights: Vec<f32> = (0..inputs * outputs)
        .map(|i| if i % inputs == 0 { 127.0 } else { ((i * 7919) % 255) as f32 - 127.0 })
        .collect();
    for level in [Level::Avx512, Level::Avx2] {
        let bias = vec![0.0; outputs];
        let Some(layer) = pack((level, Format::Int8), &weights, &bias, inputs, outputs) else { continue };
        let mut out = vec![0.0; outputs];
        layer.run(&x, After::Bias, &mut out, &mut Rounded::default()).unwrap();
        for (c, found) in out.iter().enumerate() {
            let exact: f64 = (0..inputs).map(|i| f64::from(x[i]) * f64::from(weights[c * inputs + i])).sum();
            let near = (f64::from(*found) - exact).abs() <= 1e-5 * exact.abs().max(1e4);
            assert!(near, "{level:?} {c}: {found} {exact}");
        }
    }
}

#[test]
fn extremes_neither_wrap_nor_trap() {
    // The greatest sums there are: every product 255 · 127, as deep as a layer may be.
    let (inputs, outputs) = (65_536, 64);
    let weights = vec![1.0; inputs * outputs];
    for kind in LAYERS {
        let Some(layer) = pack(kind, &weights, &[0.0; 64], inputs, outputs) else { continue };
        let mut x = vec![1.0; inputs];
        x[0] = 0.0;
        let mut out = vec![0.0; outputs];
        layer.run(&x, After::Bias, &mut out, &mut Rounded::default()).unwrap();
        assert!((out[0] - 65_535.0).abs() < 200.0, "{kind:?} {}", out[0]);
        x.fill(f32::INFINITY);
        layer.run(&x, After::Bias, &mut out, &mut Rounded::default()).unwrap();
        assert!(!out[0].is_finite(), "{kind:?}: an infinity must not look like a number: {}", out[0]);
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let error = |inputs, outputs, weights: usize| {
        Linear::pack(&vec![0.0; weights], &vec![0.0; outputs], inputs, outputs, Format::F32).unwrap_err()
    };
    if Format::F32.level().is_err() {
        return;
    }
    assert_eq!(error(15, 64, 960), PackError::Divisor { what: "inputs", found: 15, by: 16 });
    assert_eq!(error(16, 60, 960), PackError::Divisor { what: "outputs", found: 60, by: 64 });
    assert!(matches!(error(16, 64, 1023), PackError::Mismatch(_)));
    let layer = Linear::pack(&[0.0; 1024], &[0.0; 64], 16, 64, Format::F32).unwrap();
    let mut rounded = Rounded::default();
    assert!(layer.run(&[0.0; 17], After::Bias, &mut [0.0; 64], &mut rounded).is_err());
    assert!(layer.run(&[0.0; 16], After::Bias, &mut [0.0; 63], &mut rounded).is_err());
    assert!(layer.run(&[0.0; 16], After::BiasAndAdd(&[0.0; 63]), &mut [0.0; 64], &mut rounded).is_err());
}
