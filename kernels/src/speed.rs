#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
//! How long each part takes at the shipped model's widths: `cargo test --release -p agentbus-kernels
//! speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use crate::{
    Attention, Level, Linear,
    attention::Buffers,
    declared::LAYERS,
    linear::{After, Rounded},
    matmul::{View, matmul},
    rows,
};

fn least(mut run: impl FnMut()) -> Duration {
    (0..80)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .min()
        .unwrap()
}

#[test]
#[ignore = "measures, and tells something only with optimisation"]
fn speed() {
    let tokens = 64;
    for (inputs, outputs) in [(384, 1152), (384, 384), (384, 1536), (1536, 384)] {
        let x: Vec<f32> = (0..tokens * inputs).map(|i| (i % 17) as f32 * 0.1 - 0.8).collect();
        let w: Vec<f32> = (0..inputs * outputs).map(|i| (i % 13) as f32 * 0.01 - 0.06).collect();
        let bias = vec![0.1; outputs];
        let mut out = vec![0.0; tokens * outputs];
        let flops = 2.0 * (tokens * inputs * outputs) as f64;
        let took = least(|| {
            let (a, b) = (View::dense(tokens, inputs), View::dense(inputs, outputs));
            matmul((&x, a), (&w, b), (&mut out, View::dense(tokens, outputs)), 1.0).unwrap();
        });
        println!("gemm {inputs}×{outputs}: {took:?}, {:.0} G/s", flops / took.as_nanos() as f64);
        for (level, format) in LAYERS {
            let Ok(layer) = Linear::pack_for(level, &w, &bias, inputs, outputs, format) else { continue };
            let mut rounded = Rounded::default();
            for after in [After::Bias, After::BiasAndGelu] {
                let took = least(|| layer.run(&x, after, &mut out, &mut rounded).unwrap());
                let gelu = matches!(after, After::BiasAndGelu);
                println!(
                    "{level:?} {format:?} gelu {gelu} {inputs}×{outputs}: {took:?}, {:.0} G/s",
                    flops / took.as_nanos() as f64
                );
            }
        }
    }
    let mut out = vec![0.5; tokens * 384];
    let (scale, shift) = (vec![1.0; 384], vec![0.0; 384]);
    let took =
        least(|| rows::norm(&mut out, rows::Norm { scale: &scale, shift: &shift, epsilon: 1e-12 }).unwrap());
    println!("norm of {tokens}: {took:?}");
    let mut wide = vec![0.5; tokens * 1536];
    let bias = vec![0.0; 1536];
    println!("gelu of {tokens}×1536: {:?}", least(|| rows::bias_gelu(&mut wide, &bias).unwrap()));
    let mut scores = vec![0.5; tokens * tokens * 12];
    println!("softmax of 12×{tokens}×{tokens}: {:?}", least(|| rows::softmax(&mut scores, tokens).unwrap()));
    for level in [Level::Avx512, Level::Avx2] {
        let Ok(attention) = Attention::new_for(level, 384, 12) else { continue };
        let qkv = vec![0.1; tokens * 1152];
        let mut buffers = Buffers::default();
        for lengths in [vec![16; 4], vec![32; 2], vec![64]] {
            let took = least(|| attention.run(&qkv, &lengths, &mut out, &mut buffers).unwrap());
            println!("{level:?} attention {lengths:?}: {took:?}");
        }
    }
}
