#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use candle_core::{Device, safetensors};

use super::{
    Choice, Config, ConfigError, Encoder, Engine, LoadError, Precision, RunError, Scratch, Unavailable,
    WeightsError, fast, passes, weights::values,
};

macro_rules! file {
    ($path:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/", $path)).as_slice()
    };
}

/// What the reference implementation answers, of which models/golden.py tells more.
struct Golden {
    cases: Vec<Vec<u32>>,
    hidden: Vec<(usize, Vec<f32>)>,
    pooled: Vec<Vec<f32>>,
}

fn golden() -> Golden {
    #[derive(serde::Deserialize)]
    struct Case {
        ids: Vec<u32>,
    }
    let cases: Vec<Case> = serde_json::from_slice(file!("tests/golden/model/cases.json")).unwrap();
    let tensors =
        safetensors::load_buffer(file!("tests/golden/model/hidden.safetensors"), &Device::Cpu).unwrap();
    let hidden = tensors.iter().filter_map(|(name, tensor)| {
        Some((name.strip_prefix("hidden.")?.parse().unwrap(), values(tensor).unwrap()))
    });
    Golden {
        cases: cases.into_iter().map(|case| case.ids).collect(),
        hidden: hidden.collect(),
        pooled: tensors["pooled"].to_vec2().unwrap(),
    }
}

fn config() -> Config {
    Config::parse(file!("models/impact/config.json")).unwrap()
}

fn encoder(engine: Engine, precision: Precision) -> Encoder {
    let choice = Choice { engine: Some(engine), precision: Some(precision) };
    Encoder::load(&config(), 4, file!("models/impact/model.safetensors"), choice).unwrap()
}

fn slices(cases: &[Vec<u32>]) -> Vec<&[u32]> {
    cases.iter().map(Vec::as_slice).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot =
        |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum() };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Every engine and precision that this CPU has. What it has not is told, and may not be declared.
fn encoders() -> Vec<(Engine, Precision, Encoder)> {
    let mut found = vec![(Engine::Candle, Precision::F32, encoder(Engine::Candle, Precision::F32))];
    for precision in Precision::ALL {
        match fast::available(&config(), precision) {
            Ok(()) => found.push((Engine::Kernels, precision, encoder(Engine::Kernels, precision))),
            Err(cause) => {
                assert!(!declared(precision), "AGENTBUS_CPU_HAS declares what is needed, but: {cause}");
                println!("not tested: kernels in {precision}: {cause}");
            }
        }
    }
    found
}

/// Whether CI says that this CPU runs kernels in this precision: names as in /proc/cpuinfo.
fn declared(precision: Precision) -> bool {
    let names = std::env::var("AGENTBUS_CPU_HAS").unwrap_or_default();
    let has = |name: &str| names.split([' ', ',']).any(|found| found == name);
    match precision {
        Precision::F32 => has("avx2") && has("fma"),
        Precision::Bf16 => has("avx512f") && has("avx512_bf16"),
        Precision::Int8 => has("avx2") && has("fma") && (!has("avx512f") || has("avx512_vnni")),
    }
}

#[test]
fn f32_answers_as_the_reference_to_a_hundred_thousandth() {
    let golden = golden();
    for (engine, precision, encoder) in encoders() {
        if precision != Precision::F32 {
            continue;
        }
        let found = encoder.hidden(&slices(&golden.cases), &mut Scratch::default()).unwrap();
        let mut worst = 0.0f32;
        for (case, expected) in &golden.hidden {
            assert_eq!(found[*case].len(), expected.len());
            for (found, expected) in found[*case].iter().zip(expected) {
                worst = worst.max((found - expected).abs());
            }
        }
        println!("{engine}: hidden states differ by {worst:e} at most");
        assert!(worst <= 1e-5, "{engine}: {worst}");
    }
}

#[test]
fn every_path_pools_as_the_reference() {
    let golden = golden();
    for (engine, precision, encoder) in encoders() {
        let pooled = encoder.pooled(&slices(&golden.cases), &mut Scratch::default()).unwrap();
        let cosines: Vec<f64> = pooled.iter().zip(&golden.pooled).map(|(a, b)| cosine(a, b)).collect();
        let least = cosines.iter().copied().fold(1.0, f64::min);
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        println!("{engine} {precision}: cosine to the reference at least {least:.6}, {mean:.6} on average");
        let (least_wanted, mean_wanted) = match precision {
            Precision::F32 => (0.999_999_9, 0.999_999_9),
            Precision::Bf16 => (0.9999, 0.999_95),
            Precision::Int8 => (0.995, 0.999),
        };
        assert!(least >= least_wanted && mean >= mean_wanted, "{engine} {precision}: {least} {mean}");
    }
}

#[test]
fn a_sequence_does_not_notice_its_company_nor_what_ran_before() {
    let golden = golden();
    for (engine, precision, encoder) in encoders() {
        let mut scratch = Scratch::default();
        let together = encoder.hidden(&slices(&golden.cases), &mut scratch).unwrap();
        for (case, together) in golden.cases.iter().zip(&together) {
            let alone = encoder.hidden(&[case], &mut scratch).unwrap();
            assert!(alone[0] == *together, "{engine} {precision}: {} tokens", case.len());
        }
    }
}

#[test]
fn what_cannot_be_run_is_refused_and_nothing_else() {
    let encoder = encoder(Engine::Candle, Precision::F32);
    let mut scratch = Scratch::default();
    let mut run = |ids: &[u32]| encoder.pooled(&[&[101, 102], ids], &mut scratch);
    assert!(matches!(run(&[]), Err(RunError::Empty)));
    assert!(matches!(run(&[101; 513]), Err(RunError::TooLong { found: 513, max: 512 })));
    assert!(matches!(run(&[30_522]), Err(RunError::UnknownToken { found: 30_522, max: 30_522 })));
    assert_eq!(run(&[30_521]).unwrap().len(), 2);
    assert!(encoder.pooled(&[], &mut scratch).unwrap().is_empty());
}

#[test]
fn a_long_batch_runs_in_passes_of_bounded_size() {
    let sequences: Vec<Vec<u32>> = [300, 212, 1, 600, 2].map(|length| vec![0; length]).to_vec();
    let sequences = slices(&sequences);
    let found: Vec<Vec<usize>> =
        passes(&sequences).map(|pass| pass.iter().map(|ids| ids.len()).collect()).collect();
    assert_eq!(found, [vec![300, 212], vec![1], vec![600], vec![2]]);
}

#[test]
fn other_architectures_are_refused_with_what_to_do() {
    let config: serde_json::Value = serde_json::from_slice(file!("models/impact/config.json")).unwrap();
    let with = |field: &str, value: serde_json::Value| {
        let mut config = config.clone();
        config[field] = value;
        Config::parse(config.to_string().as_bytes())
    };
    let bert = with("model_type", "bert".into()).unwrap_err();
    assert_eq!(bert, ConfigError::Architecture { found: "bert".into() });
    assert!(bert.to_string().contains("models/convert.py"), "{bert}");
    assert_eq!(with("activation", "relu".into()), Err(ConfigError::Activation { found: "relu".into() }));
    assert_eq!(with("dim", serde_json::Value::Null), Err(ConfigError::Missing { field: "dim" }));
    assert_eq!(
        with("dim", 1_000_000.into()),
        Err(ConfigError::OutOfRange { field: "dim", found: 1_000_000, max: 4096 })
    );
    assert_eq!(with("n_heads", 7.into()), Err(ConfigError::Heads { dim: 384, heads: 7 }));
    assert!(matches!(Config::parse(b"{"), Err(ConfigError::Unreadable { .. })));
    // What BERT's own file has: other names for everything.
    let own = br#"{"model_type": "bert", "hidden_size": 384, "hidden_act": "gelu"}"#;
    assert_eq!(Config::parse(own), Err(ConfigError::Architecture { found: "bert".into() }));
}

/// A small DistilBERT of random numbers, to be broken in many ways.
pub(crate) mod small {
    use std::collections::HashMap;

    use candle_core::{Device, Tensor};

    pub fn config(dim: usize, heads: usize) -> String {
        format!(
            r#"{{"model_type": "distilbert", "activation": "gelu", "dim": {dim}, "n_heads": {heads},
               "n_layers": 2, "hidden_dim": {}, "max_position_embeddings": 40, "vocab_size": 24}}"#,
            2 * dim
        )
    }

    pub fn tensors(dim: usize, prefix: &str) -> HashMap<String, Tensor> {
        let mut tensors = HashMap::new();
        let mut state = 1u32;
        let mut add = |name: String, shape: &[usize], about: f32| {
            let numbers: Vec<f32> = (0..shape.iter().product())
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    about + (state >> 8) as f32 / 8_388_608.0 - 1.0
                })
                .collect();
            tensors
                .insert(format!("{prefix}{name}"), Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap());
        };
        add("embeddings.word_embeddings.weight".into(), &[24, dim], 0.0);
        add("embeddings.position_embeddings.weight".into(), &[40, dim], 0.0);
        add("embeddings.LayerNorm.weight".into(), &[dim], 1.0);
        add("embeddings.LayerNorm.bias".into(), &[dim], 0.0);
        for layer in 0..2 {
            let at = format!("transformer.layer.{layer}");
            for (name, outputs, inputs) in [
                ("attention.q_lin", dim, dim),
                ("attention.k_lin", dim, dim),
                ("attention.v_lin", dim, dim),
                ("attention.out_lin", dim, dim),
                ("ffn.lin1", 2 * dim, dim),
                ("ffn.lin2", dim, 2 * dim),
            ] {
                add(format!("{at}.{name}.weight"), &[outputs, inputs], 0.0);
                add(format!("{at}.{name}.bias"), &[outputs], 0.0);
            }
            for name in ["sa_layer_norm", "output_layer_norm"] {
                add(format!("{at}.{name}.weight"), &[dim], 1.0);
                add(format!("{at}.{name}.bias"), &[dim], 0.0);
            }
        }
        tensors
    }

    pub fn file(tensors: &HashMap<String, Tensor>) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        candle_core::safetensors::save(tensors, &path).unwrap();
        std::fs::read(path).unwrap()
    }
}

fn load_small(dim: usize, heads: usize, choice: Choice) -> Result<Encoder, LoadError> {
    let config = Config::parse(small::config(dim, heads).as_bytes()).unwrap();
    Encoder::load(&config, 2, &small::file(&small::tensors(dim, "")), choice)
}

#[test]
fn dimensions_that_the_kernels_cannot_run_fall_back_to_candle() {
    let encoder = load_small(40, 5, Choice::default()).unwrap();
    assert_eq!((encoder.engine(), encoder.precision()), (Engine::Candle, Precision::F32));
    let ids: &[u32] = &[2, 5, 7, 3];
    assert_eq!(encoder.pooled(&[ids], &mut Scratch::default()).unwrap()[0].len(), 40);
    let asked = Choice { engine: None, precision: Some(Precision::Int8) };
    assert!(matches!(load_small(40, 5, asked), Err(LoadError::Unavailable { .. })));
    let asked = Choice { engine: Some(Engine::Candle), precision: Some(Precision::Bf16) };
    assert!(matches!(
        load_small(64, 4, asked),
        Err(LoadError::Unavailable { cause: Unavailable::CandleIsF32, .. })
    ));
}

#[test]
fn both_prefixes_of_names_give_one_encoder() {
    let config = Config::parse(small::config(64, 4).as_bytes()).unwrap();
    let choice = Choice { engine: Some(Engine::Candle), precision: None };
    let run = |prefix: &str| {
        let encoder = Encoder::load(&config, 2, &small::file(&small::tensors(64, prefix)), choice).unwrap();
        encoder.hidden(&[&[2, 9, 3]], &mut Scratch::default()).unwrap()
    };
    assert_eq!(run(""), run("distilbert."));
}

#[test]
fn weights_that_are_cut_off_broken_or_no_numbers_are_refused() {
    let config = Config::parse(small::config(64, 4).as_bytes()).unwrap();
    let load = |bytes: &[u8]| match Encoder::load(&config, 2, bytes, Choice::default()) {
        Err(LoadError::Weights(error)) => error,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("loaded"),
    };
    let tensors = small::tensors(64, "");
    let whole = small::file(&tensors);
    assert!(Encoder::load(&config, 2, &whole, Choice::default()).is_ok());
    for end in [0, 4, 8, 100, whole.len() / 2, whole.len() - 1] {
        assert!(matches!(load(&whole[..end]), WeightsError::Broken { .. }), "{end} bytes");
    }
    let mut broken = whole.clone();
    broken[20] ^= 0xff;
    assert!(matches!(load(&broken), WeightsError::Broken { .. }));
    assert!(matches!(load(b"this is no safetensors file at all"), WeightsError::Broken { .. }));

    let name = "transformer.layer.1.ffn.lin1.bias";
    for value in [f32::NAN, f32::INFINITY] {
        let mut tensors = tensors.clone();
        let mut numbers = vec![0.5f32; 128];
        numbers[77] = value;
        tensors.insert(name.into(), candle_core::Tensor::from_vec(numbers, 128, &Device::Cpu).unwrap());
        assert!(
            matches!(load(&small::file(&tensors)), WeightsError::NotFinite { name: found } if found == name)
        );
    }
    let mut fewer = tensors.clone();
    fewer.remove(name);
    assert!(matches!(load(&small::file(&fewer)), WeightsError::Tensor { name: found, .. } if found == name));
    let wider = small::file(&small::tensors(128, ""));
    assert!(matches!(load(&wider), WeightsError::Tensor { .. }));
    assert!(matches!(
        Encoder::load(&config, 3, &whole, Choice::default()),
        Err(LoadError::Weights(WeightsError::Layers { found: 3, max: 2 }))
    ));
}

/// `cargo test --release --lib model_speed -- --ignored --nocapture`
#[test]
#[ignore = "takes long, and tells something only with optimisation"]
fn model_speed() {
    for (engine, precision, encoder) in encoders() {
        let mut scratch = Scratch::default();
        for tokens in [16u32, 32, 64, 128, 256] {
            let ids: Vec<u32> = (0..tokens).map(|at| 1000 + at * 97).collect();
            let mut times: Vec<_> = (0..60)
                .map(|_| {
                    let start = std::time::Instant::now();
                    encoder.pooled(&[&ids], &mut scratch).unwrap();
                    start.elapsed()
                })
                .collect();
            times.sort();
            println!(
                "{engine} {precision}, 4 layers, {tokens} tokens: {:?}, least {:?}",
                times[30], times[0]
            );
        }
    }
}
