//! Which models do tests bring along? Small ones that do what the shipped one does not.

use std::{collections::HashMap, fs};

use candle_core::{Device, Tensor};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

const WIDTH: usize = 64;

/// A model that loads, since all its numbers are finite, and fails on every text with `word` in it,
/// since the sum of that word's embedding is not.
pub fn failing() -> TempDir {
    let mut tensors = HashMap::new();
    let mut add = |name: &str, shape: &[usize], value: f32| {
        let tensor = Tensor::full(value, shape, &Device::Cpu).unwrap();
        tensors.insert(name.to_owned(), tensor);
    };
    add("embeddings.position_embeddings.weight", &[128, WIDTH], 0.1);
    let layer = "transformer.layer.0";
    for (name, outputs, inputs) in [
        ("attention.q_lin", WIDTH, WIDTH),
        ("attention.k_lin", WIDTH, WIDTH),
        ("attention.v_lin", WIDTH, WIDTH),
        ("attention.out_lin", WIDTH, WIDTH),
        ("ffn.lin1", 2 * WIDTH, WIDTH),
        ("ffn.lin2", WIDTH, 2 * WIDTH),
    ] {
        add(&format!("{layer}.{name}.weight"), &[outputs, inputs], 0.1);
        add(&format!("{layer}.{name}.bias"), &[outputs], 0.1);
    }
    let (attention, output) = (format!("{layer}.sa_layer_norm"), format!("{layer}.output_layer_norm"));
    for norm in ["embeddings.LayerNorm", &attention, &output] {
        add(&format!("{norm}.weight"), &[WIDTH], 1.0);
        add(&format!("{norm}.bias"), &[WIDTH], 0.1);
    }
    let words: Vec<f32> = [0.1, 0.2, 0.3, 0.4, 3e38].into_iter().flat_map(|value| [value; WIDTH]).collect();
    let words = Tensor::from_vec(words, &[5, WIDTH], &Device::Cpu).unwrap();
    tensors.insert("embeddings.word_embeddings.weight".to_owned(), words);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    candle_core::safetensors::save(&tensors, path("model.safetensors")).unwrap();
    let config = json!({
        "model_type": "distilbert", "activation": "gelu", "dim": WIDTH, "n_heads": 4, "n_layers": 1,
        "hidden_dim": 2 * WIDTH, "max_position_embeddings": 128, "vocab_size": 5,
    });
    fs::write(path("config.json"), config.to_string()).unwrap();
    let tokenizer = json!({
        "version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"},
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "word": 4},
        },
    });
    fs::write(path("tokenizer.json"), tokenizer.to_string()).unwrap();
    let sha256 = |name: &str| hex::encode(Sha256::digest(fs::read(path(name)).unwrap()));
    let head = json!({
        "format": 1, "encoder_sha256": sha256("model.safetensors"),
        "tokenizer_sha256": sha256("tokenizer.json"), "layer": 1, "pooling": "mean", "normalize": true,
        "weights": vec![0.25; WIDTH], "bias": -0.5,
    });
    fs::write(path("head.json"), head.to_string()).unwrap();
    folder
}
