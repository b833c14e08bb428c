//! What is not a guard that can be run, and what does the refusal tell to do?

use std::fs;

use candle_core::{Device, safetensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Guard, golden};
use crate::impact::guard::is_guard;

/// A copy of a golden guard, to be spoilt.
fn copy(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "guard.toml", "model.safetensors", "tokenizer.json"] {
        fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn refused(folder: &TempDir, says: &[&str]) {
    let Err(why) = Guard::load(folder.path()) else { panic!("not refused: {says:?}") };
    let why = why.to_string();
    assert!(says.iter().all(|part| why.contains(part)), "{why}\ndoes not say {says:?}");
}

fn configured(folder: &TempDir, changes: &Value) {
    let path = folder.path().join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_folder_without_one_of_its_files_says_which_and_what_makes_it() {
    for (file, says) in [
        ("config.json", "take all files"),
        ("tokenizer.json", "AutoTokenizer"),
        ("model.safetensors", "take all files"),
        ("guard.toml", "[levels] and below it `\"SAFE\" = …`, `\"INJECTION\" = …`"),
    ] {
        let folder = copy("deberta-v3");
        fs::remove_file(folder.path().join(file)).unwrap();
        refused(&folder, &[&format!("{file} is missing"), says]);
    }
    let folder = copy("deberta-v3");
    fs::remove_file(folder.path().join("guard.toml")).unwrap();
    assert!(is_guard(folder.path()), "a classifier without it is one to be asked for it");
}

#[test]
fn weights_in_another_form_are_to_be_converted() {
    let folder = copy("bert");
    fs::rename(folder.path().join("model.safetensors"), folder.path().join("pytorch_model.bin")).unwrap();
    refused(
        &folder,
        &["pytorch_model.bin can run code and is not read", "convert it to safetensors", "save_pretrained"],
    );
    fs::write(folder.path().join("model.safetensors.index.json"), "{}").unwrap();
    refused(&folder, &["in several files", "max_shard_size"]);
}

#[test]
fn a_model_that_is_no_classifier_of_a_known_type_is_refused_with_those_that_are() {
    for (change, says) in [
        (json!({"model_type": "gpt2"}), ["type `gpt2`", "deberta-v2"]),
        (json!({"model_type": "deberta"}), ["type `deberta`", "modernbert"]),
        (json!({"model_type": null}), ["(not said)", "distilbert, bert"]),
        (json!({"architectures": ["BertForMaskedLM"]}), ["made for `BertForMaskedLM`", "take a classifier"]),
        (json!({"architectures": []}), ["made for `(not said)`", "sequence classification"]),
        (json!({"problem_type": "multi_label_classification"}), ["problem_type", "single_label"]),
        (json!({"problem_type": "regression"}), ["problem_type", "single_label"]),
        (json!({"is_decoder": true}), ["is_decoder", "expected false"]),
        (json!({"hidden_act": "silu"}), ["`hidden_act` is silu", "gelu or relu"]),
        (json!({"position_embedding_type": "relative_key"}), ["relative_key", "absolute"]),
        (json!({"hidden_size": 0}), ["`hidden_size` is 0", "1 to 4096"]),
        (json!({"num_hidden_layers": 4_000_000_000_u64}), ["num_hidden_layers", "1 to 48"]),
        (json!({"vocab_size": null}), ["`vocab_size` is missing", "1 to"]),
        (json!({"num_attention_heads": 5}), ["5 heads", "width of 32"]),
    ] {
        let folder = copy("bert");
        configured(&folder, &change);
        refused(&folder, &says);
    }
    let folder = copy("bert");
    fs::write(folder.path().join("config.json"), "{").unwrap();
    refused(&folder, &["not the JSON", "take the config.json"]);
}

#[test]
fn what_candle_would_read_over_is_refused() {
    for (name, change, says) in [
        ("deberta-v2", json!({"conv_kernel_size": 3}), ["conv_kernel_size", "not to be had"]),
        ("deberta-v3", json!({"pooler_hidden_act": "tanh"}), ["`pooler_hidden_act` is tanh", "gelu"]),
        ("deberta-v3", json!({"pooler_hidden_size": 16}), ["pooler_hidden_size", "width of the model"]),
        ("modernbert", json!({"mlp_bias": true}), ["mlp_bias", "false"]),
        ("modernbert", json!({"hidden_activation": "relu"}), ["hidden_activation", "gelu"]),
        ("modernbert", json!({"classifier_pooling": "max"}), ["classifier_pooling", "cls or mean"]),
        ("modernbert", json!({"global_attn_every_n_layers": 2}), ["layer_types", "full attention"]),
        ("distilbert", json!({"activation": "relu"}), ["activation `relu`", "gelu"]),
    ] {
        let folder = copy(name);
        configured(&folder, &change);
        refused(&folder, &says);
    }
}

#[test]
fn every_label_has_one_level_and_no_other_has() {
    for (toml, says) in [
        ("[levels]\nSAFE = 0", ["no level for the label `INJECTION`", "0 to 3"]),
        ("[levels]\nSAFE = 0\nINJECTION = 3\nTOXIC = 2", ["`TOXIC` is no label", "`SAFE`, `INJECTION`"]),
        ("[levels]\nSAFE = 0\nINJECTION = 4", ["level 4 for the label `INJECTION`", "0 to 3"]),
        ("[levels]\nSAFE = -1\nINJECTION = 3", ["level -1", "0 to 3"]),
        ("[levels]\nSAFE = 2\nINJECTION = 2", ["every label has level 2", "higher one"]),
        ("[levels]\nSAFE = 0\nINJECTION = 2\nINJECTION = 3", ["duplicate key", "[levels] and below it"]),
        ("[levels]\nSAFE = \"low\"\nINJECTION = 3", ["expected i64", "[levels] and below it"]),
        ("level = 3", ["unknown field `level`", "`\"SAFE\" = …`"]),
        ("", ["missing field `levels`", "`\"INJECTION\" = …`"]),
        ("windows = 161\n[levels]\nSAFE = 0\nINJECTION = 3", ["windows = 161", "16 to 160"]),
        ("windows = 2\n[levels]\nSAFE = 0\nINJECTION = 3", ["windows = 2", "16 to 160"]),
    ] {
        let folder = copy("deberta-v3");
        fs::write(folder.path().join("guard.toml"), toml).unwrap();
        refused(&folder, &says);
    }
    let folder = copy("deberta-v3");
    let long = "\u{feff}name = \"a b/c\"\nwindows = 160\n[levels]\nSAFE = 0\nINJECTION = 1";
    fs::write(folder.path().join("guard.toml"), long).unwrap();
    let guard = Guard::load(folder.path()).unwrap();
    assert!(guard.name().starts_with("a-b-c@") && guard.name().ends_with("/f32"), "{}", guard.name());
    assert_eq!(guard.window_tokens(), 160);
}

#[test]
fn labels_and_outputs_of_different_numbers_do_not_belong_together() {
    for name in ["bert", "distilbert", "modernbert", "deberta-v3", "roberta"] {
        let folder = copy(name);
        configured(&folder, &json!({"id2label": {"0": "a", "1": "b", "2": "c", "3": "d"}}));
        fs::write(folder.path().join("guard.toml"), "[levels]\na = 0\nb = 1\nc = 2\nd = 3").unwrap();
        refused(&folder, &["outputs, config.json has 4 labels", "files of one model"]);
    }
    for (labels, says) in [
        (json!({"0": "a"}), "1 labels"),
        (json!({"0": "a", "2": "b"}), "counted from 0"),
        (json!({"0": "a", "1": "a"}), "2 labels"),
        (json!({"0": 1, "1": 2}), "counted from 0"),
        (json!(["a", "b"]), "counted from 0"),
    ] {
        let folder = copy("bert");
        configured(&folder, &json!({"id2label": labels}));
        refused(&folder, &["`id2label` has", says]);
    }
}

/// The weights without one tensor, or with another in its place.
fn without(name: &str, tensor: &str, instead: Option<f32>) -> TempDir {
    let folder = copy(name);
    let path = folder.path().join("model.safetensors");
    let mut tensors = safetensors::load(&path, &Device::Cpu).unwrap();
    let old = tensors.remove(tensor).unwrap_or_else(|| panic!("{name} has no {tensor}"));
    if let Some(value) = instead {
        let new = candle_core::Tensor::full(value, old.shape(), &Device::Cpu).unwrap();
        tensors.insert(tensor.to_owned(), new);
    }
    safetensors::save(&tensors, &path).unwrap();
    folder
}

#[test]
fn weights_without_one_of_their_tensors_are_not_those_of_the_configuration() {
    for (name, tensor) in [
        ("distilbert", "distilbert.transformer.layer.1.ffn.lin1.weight"),
        ("distilbert", "pre_classifier.bias"),
        ("bert", "bert.encoder.layer.2.output.dense.weight"),
        ("bert", "bert.pooler.dense.weight"),
        ("bert", "classifier.weight"),
        ("roberta", "roberta.encoder.layer.0.attention.self.key.bias"),
        ("xlm-roberta", "classifier.dense.weight"),
        ("deberta-v2", "deberta.encoder.layer.1.attention.self.pos_key_proj.weight"),
        ("deberta-v3", "deberta.encoder.rel_embeddings.weight"),
        ("deberta-v3", "pooler.dense.bias"),
        ("modernbert", "model.layers.1.attn_norm.weight"),
        ("modernbert", "model.layers.3.mlp.Wi.weight"),
        ("modernbert", "head.norm.weight"),
    ] {
        refused(&without(name, tensor, None), &[tensor, "not that of this config.json"]);
    }
    let folder = copy("bert");
    let path = folder.path().join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    refused(&folder, &["not a whole safetensors file", "fetch or convert it again"]);
}

#[test]
fn weights_that_are_no_numbers_are_found_when_the_guard_is_measured() {
    let folder = without("modernbert", "classifier.bias", Some(f32::NAN));
    let guard = std::sync::Arc::new(Guard::load(folder.path()).unwrap());
    let why = guard.measure().unwrap_err().to_string();
    assert!(why.contains("a number that is none; fetch or convert"), "{why}");
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let folder = copy("deberta-v3");
    fs::copy(golden("roberta").join("tokenizer.json"), folder.path().join("tokenizer.json")).unwrap();
    refused(&folder, &["vocabulary ends at 87", "take the tokenizer.json that came with"]);
    fs::write(folder.path().join("tokenizer.json"), "{}").unwrap();
    refused(&folder, &["not a tokenizer", "take the tokenizer.json that came with"]);
    let path = golden("deberta-v3").join("tokenizer.json");
    let mut bare: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    bare["post_processor"] = Value::Null;
    fs::write(folder.path().join("tokenizer.json"), bare.to_string()).unwrap();
    refused(&folder, &["0 tokens around a text", "take the tokenizer.json that came with"]);
}
