#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::{collection::vec, prelude::*};

use super::{Norm, add_bias, add_norm, bias_gelu, softmax};
use crate::{Mismatch, math};

fn close(found: &[f32], expected: &[f64], tolerance: f64) -> Result<(), TestCaseError> {
    prop_assert_eq!(found.len(), expected.len());
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (f64::from(*found) - expected).abs();
        prop_assert!(difference <= tolerance * (1.0 + expected.abs()), "{at}: {found} is not {expected}");
    }
    Ok(())
}

/// Rows of any width, odd ones and single values included.
fn rows(most: f32) -> impl Strategy<Value = (usize, Vec<f32>)> {
    (1usize..130, 0usize..6).prop_flat_map(move |(width, rows)| (Just(width), vec(-most..most, width * rows)))
}

proptest! {
    #[test]
    fn softmax_is_the_scalar_one((width, mut x) in rows(80.0)) {
        let mut expected = Vec::new();
        for row in x.chunks_exact(width) {
            let max = row.iter().fold(f64::MIN, |a, b| a.max(f64::from(*b)));
            let sum: f64 = row.iter().map(|v| (f64::from(*v) - max).exp()).sum();
            expected.extend(row.iter().map(|v| (f64::from(*v) - max).exp() / sum));
        }
        softmax(&mut x, width).unwrap();
        close(&x, &expected, 2e-6)?;
    }

    #[test]
    fn add_norm_is_the_scalar_one((width, x) in rows(10.0), seed in 0.1f32..2.0) {
        let make = |k: usize| -> Vec<f32> { (0..width).map(|i| seed * ((i * k % 7) as f32 - 2.5)).collect() };
        let (bias, scale, shift) = (make(3), make(5), make(11));
        let residual: Vec<f32> = x.iter().rev().map(|v| v * 0.5).collect();
        let mut expected = Vec::new();
        for (row, residual) in x.chunks_exact(width).zip(residual.chunks_exact(width)) {
            let sum: Vec<f64> = (0..width).map(|i| f64::from(row[i] + (bias[i] + residual[i]))).collect();
            let mean = sum.iter().sum::<f64>() / width as f64;
            let variance = sum.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / width as f64;
            let root = (variance + 1e-5).sqrt();
            expected.extend((0..width).map(|i| (sum[i] - mean) / root * f64::from(scale[i]) + f64::from(shift[i])));
        }
        let mut found = x;
        add_norm(&mut found, &bias, &residual, Norm { scale: &scale, shift: &shift, epsilon: 1e-5 }).unwrap();
        close(&found, &expected, 2e-3)?;
    }

    #[test]
    fn bias_and_gelu_are_the_scalar_ones((width, x) in rows(20.0)) {
        let bias: Vec<f32> = (0..width).map(|i| i as f32 * 0.01 - 0.3).collect();
        let plain: Vec<f64> = x.iter().enumerate().map(|(i, v)| f64::from(v + bias[i % width])).collect();
        let gelu: Vec<f64> = x.iter().enumerate().map(|(i, v)| f64::from(math::gelu(v + bias[i % width]))).collect();
        let (mut a, mut b) = (x.clone(), x);
        add_bias(&mut a, &bias).unwrap();
        bias_gelu(&mut b, &bias).unwrap();
        close(&a, &plain, 0.0)?;
        close(&b, &gelu, 1e-6)?;
    }
}

#[test]
fn a_row_of_equal_values_normalises_to_the_shift() {
    let mut x = [3.0f32; 5];
    let norm = Norm { scale: &[2.0; 5], shift: &[0.25; 5], epsilon: 1e-12 };
    add_norm(&mut x, &[0.0; 5], &[0.0; 5], norm).unwrap();
    assert_eq!(x, [0.25; 5]);
}

#[test]
fn softmax_of_extremes_is_a_distribution() {
    let mut x = [1e30, -1e30, 0.0, 1e30];
    softmax(&mut x, 4).unwrap();
    assert_eq!(x, [0.5, x[1], x[2], 0.5]);
    assert!(x[1] < 1e-30 && x[2] < 1e-30);
}

#[test]
fn lengths_that_do_not_fit_are_refused() {
    assert_eq!(
        add_bias(&mut [0.0; 5], &[0.0; 2]),
        Err(Mismatch { what: "the last row", found: 1, expected: 2 })
    );
    assert_eq!(softmax(&mut [], 0), Err(Mismatch { what: "a row", found: 0, expected: 1 }));
    let norm = Norm { scale: &[1.0; 2], shift: &[0.0; 3], epsilon: 0.0 };
    assert_eq!(
        add_norm(&mut [0.0; 2], &[0.0; 2], &[0.0; 2], norm),
        Err(Mismatch { what: "shift", found: 3, expected: 2 })
    );
}
