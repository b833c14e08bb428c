#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::{Attention, AttentionError, Buffers};
use crate::{Format, Level, declared::skips};

fn numbers(count: usize, seed: u32, most: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((state >> 8) as f32 / 8_388_608.0 - 1.0) * most
        })
        .collect()
}

fn scalar(qkv: &[f32], lengths: &[usize], heads: usize, dim: usize) -> Vec<f64> {
    let width = dim / heads;
    let mut out = Vec::new();
    let mut first = 0;
    for length in lengths {
        let at =
            |token: usize, part: usize, c: usize| f64::from(qkv[(first + token) * 3 * dim + part * dim + c]);
        for i in 0..*length {
            for head in 0..heads {
                let from = head * width;
                let scores: Vec<f64> = (0..*length)
                    .map(|j| {
                        (from..from + width).map(|c| at(i, 0, c) * at(j, 1, c)).sum::<f64>()
                            / (width as f64).sqrt()
                    })
                    .collect();
                let most = scores.iter().fold(f64::MIN, |a, b| a.max(*b));
                let sum: f64 = scores.iter().map(|score| (score - most).exp()).sum();
                out.extend((from..from + width).map(|c| {
                    (0..*length).map(|j| (scores[j] - most).exp() / sum * at(j, 2, c)).sum::<f64>()
                }));
            }
        }
        first += length;
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn attention_is_the_scalar_one(
        level in prop::sample::select(&[Level::Avx512, Level::Avx2][..]),
        lengths in prop::collection::vec(0usize..40, 0..4),
        heads in 1usize..4,
        vectors in prop::sample::select(&[1usize, 2, 4, 8][..]),
        seed: u32,
        most in prop::sample::select(&[0.1f32, 2.0, 6.0][..]),
    ) {
        let dim = heads * vectors * 16;
        if skips(level, Format::F32) {
            return Ok(());
        }
        let attention = Attention::new_for(level, dim, heads).unwrap();
        let tokens: usize = lengths.iter().sum();
        let qkv = numbers(tokens * 3 * dim, seed, most);
        let mut out = vec![f32::NAN; tokens * dim];
        let mut buffers = Buffers::default();
        // Buffers are used again: what is left in them must not matter.
        let noise = numbers(50 * 3 * dim, seed ^ 9, 1e30);
        attention.run(&noise, &[50], &mut vec![0.0; 50 * dim], &mut buffers).unwrap();
        attention.run(&qkv, &lengths, &mut out, &mut buffers).unwrap();
        let expected = scalar(&qkv, &lengths, heads, dim);
        prop_assert_eq!(out.len(), expected.len());
        for (found, expected) in out.iter().zip(&expected) {
            prop_assert!((f64::from(*found) - expected).abs() <= 2e-5 * f64::from(most), "{found} {expected}");
        }
        let mut first = 0;
        for length in lengths {
            let mut alone = vec![f32::NAN; length * dim];
            attention.run(&qkv[first * 3 * dim..][..length * 3 * dim], &[length], &mut alone, &mut buffers).unwrap();
            prop_assert!(alone == out[first * dim..][..length * dim], "company was noticed");
            first += length;
        }
    }
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    if matches!(Attention::new(64, 2), Err(AttentionError::Cpu { .. })) {
        return;
    }
    assert_eq!(Attention::new(60, 2).unwrap_err(), AttentionError::Head { width: 30 });
    assert_eq!(Attention::new(96, 2).unwrap_err(), AttentionError::Head { width: 48 });
    assert_eq!(Attention::new(64, 0).unwrap_err(), AttentionError::Head { width: 0 });
    let attention = Attention::new(64, 2).unwrap();
    let mut buffers = Buffers::default();
    assert!(attention.run(&[0.0; 192], &[2], &mut [0.0; 64], &mut buffers).is_err());
    assert!(attention.run(&[0.0; 191], &[1], &mut [0.0; 64], &mut buffers).is_err());
    assert!(attention.run(&[0.0; 192], &[usize::MAX, 2], &mut [0.0; 64], &mut buffers).is_err());
}
