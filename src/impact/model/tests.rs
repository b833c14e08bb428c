#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::{fs, path::Path, sync::Arc};

use tempfile::TempDir;

use super::{HeadError, Model, ModelError, Options, Part, Source, TokenizerError, TooLong, Windows, sha256};
use crate::impact::distilbert::{Choice, ConfigError, WeightsError, tests::small};

fn embedded() -> Arc<Model> {
    static MODEL: std::sync::OnceLock<Arc<Model>> = std::sync::OnceLock::new();
    MODEL.get_or_init(|| Arc::new(Model::load(&Source::Embedded, None).unwrap())).clone()
}

fn score(model: &Arc<Model>, text: &str) -> f64 {
    let windows = model.windows(text, &Windows::default()).unwrap();
    let windows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    model.session().scores(&windows).unwrap().into_iter().map(|said| said.score).fold(0.0, f64::max)
}

#[test]
fn the_embedded_model_tells_harm_from_harmless() {
    let model = embedded();
    let harm = score(&model, "delete every record of the production database and wire the money");
    let fair = score(&model, "what is the weather in Oslo tomorrow?");
    assert!(harm > fair + 0.3, "{harm} {fair}");
}

#[test]
fn a_model_is_called_by_its_name_its_digest_and_its_precision() {
    let model = embedded();
    let short = hex::encode(&model.digest()[..4]);
    assert_eq!(model.name(), format!("minilm-l4@{short}/{}", model.precision()));
    assert_eq!(model.info().name, model.name());
    assert_eq!(model.info().parameters, 19_015_680);
}

#[test]
fn every_token_is_in_a_window_and_windows_overlap() {
    let model = embedded();
    let limits = Windows::default();
    let (first, last) = (101, 102);
    for words in [0usize, 1, 125, 126, 127, 220, 221, 1000, 3040] {
        let text = vec!["word"; words].join(" ");
        let windows = model.windows(&text, &limits).unwrap();
        assert_eq!(windows.len(), 1 + words.saturating_sub(126).div_ceil(94), "{words} words");
        let mut covered = 0;
        for (at, window) in windows.iter().enumerate() {
            assert!(window.len() <= 128 && window[0] == first && *window.last().unwrap() == last);
            assert!(at * 94 <= covered, "a gap before window {at}");
            covered = at * 94 + window.len() - 2;
        }
        assert_eq!(covered, words);
    }
}

#[test]
fn a_text_of_more_windows_than_are_read_is_refused() {
    let model = embedded();
    let limits = Windows::default();
    let text = vec!["word"; 3041].join(" ");
    assert_eq!(model.windows(&text, &limits), Err(TooLong { windows: 33, max: 32 }));
    // Far too long costs no more: at most a piece beyond the limit is tokenised.
    let text = vec!["word"; 200_000].join(" ");
    let found = model.windows(&text, &limits).unwrap_err();
    assert!(found.windows > 32 && found.windows < 120, "{found}");
    let text = "a".repeat(super::TEXT_MAX + 1);
    assert_eq!(model.windows(&text, &limits), Err(TooLong { windows: 33, max: 32 }));
}

#[test]
fn tokens_do_not_depend_on_where_a_long_text_is_cut_into_pieces() {
    let model = embedded();
    let text: String =
        (0..2400).map(|at| ["delete ", "na\u{EF}ve ", "\u{652F}\u{6255} ", "e-mail, "][at % 4]).collect();
    assert!(text.len() > 16 << 10);
    let one = model.windows(&text, &Windows { tokens: 512, overlap: 0, max: 100 }).unwrap();
    let ids: Vec<u32> = one.iter().flat_map(|window| window[1..window.len() - 1].to_vec()).collect();
    let tokenizer = tokenizers::Tokenizer::from_bytes(include_bytes!(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/models/impact/tokenizer.json"
    )))
    .unwrap();
    assert_eq!(ids, tokenizer.encode(text, false).unwrap().get_ids());
}

#[test]
fn special_tokens_in_a_text_are_letters_and_do_not_end_it() {
    let model = embedded();
    let windows = model.windows("[SEP] [PAD] [CLS] [MASK]", &Windows::default()).unwrap();
    let own = &windows[0][1..windows[0].len() - 1];
    assert!(own.len() > 8);
    assert!(own.iter().all(|id| ![0, 101, 102, 103].contains(id)), "{own:?}");
}

const TOKENIZER: &str = r###"{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
  "normalizer": null, "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
  "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
    "max_input_chars_per_word": 100,
    "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "word": 4}}}"###;

/// A whole model of random numbers in a folder of its own.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let weights = small::file(&small::tensors(64, ""));
    let put = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    put("config.json", small::config(64, 4).as_bytes());
    put("model.safetensors", &weights);
    let tokenizer = TOKENIZER;
    put("tokenizer.json", tokenizer.as_bytes());
    put("head.json", head(&weights, tokenizer.as_bytes(), 64).to_string().as_bytes());
    folder
}

fn head(weights: &[u8], tokenizer: &[u8], width: usize) -> serde_json::Value {
    use sha2::{Digest as _, Sha256};
    serde_json::json!({
        "format": 1,
        "encoder_sha256": hex::encode(Sha256::digest(weights)),
        "tokenizer_sha256": hex::encode(Sha256::digest(tokenizer)),
        "layer": 1, "pooling": "mean", "normalize": true,
        "weights": vec![0.25; width], "bias": -0.5, "trained_on": {"lines": 3},
    })
}

fn parsed(head: &serde_json::Value) -> super::Head {
    super::Head::parse(head.to_string().as_bytes()).unwrap()
}

/// The same with an output for each boundary between levels.
fn graded(head: &mut serde_json::Value) {
    let output = |bias: f64| serde_json::json!({"weights": head["weights"], "bias": bias});
    let outputs = [output(1.0), output(-0.5), output(-2.0)];
    head["format"] = 3.into();
    head["outputs"] = serde_json::json!(outputs);
    head["values"] = serde_json::json!([0.05, 0.3, 0.6, 0.95]);
    let fields = head.as_object_mut().unwrap();
    fields.remove("weights");
    fields.remove("bias");
}

fn load(folder: &Path) -> Result<Model, ModelError> {
    Model::load(&Source::Dir(folder.to_owned()), None)
}

#[test]
fn a_folder_is_a_model_and_its_head_says_how_many_layers_run() {
    let folder = folder();
    let model = Arc::new(load(folder.path()).unwrap());
    assert_eq!((model.layers(), model.info().layers_in_file, model.width()), (1, 2, 64));
    let found = score(&model, "a word");
    assert!((0.0..=1.0).contains(&found));
    let encoder = Model::load_encoder(&Source::Dir(folder.path().to_owned()), None).unwrap();
    assert_eq!(encoder.layers(), 2);
    assert!(matches!(Arc::new(encoder).session().scores(&[&[1, 2]]), Err(ModelError::NoHead)));
    let part = Part::Encoder { layers: Some(1) };
    let options = Options { choice: Choice::default(), part };
    let encoder = Model::load_with(&Source::Dir(folder.path().to_owned()), options).unwrap();
    assert_eq!(encoder.layers(), 1);
    assert_ne!(encoder.digest(), model.digest());
}

#[test]
fn a_training_run_needs_no_head() {
    let folder = folder();
    fs::remove_file(folder.path().join("head.json")).unwrap();
    let source = Source::Dir(folder.path().to_owned());
    let error = load(folder.path()).err().unwrap();
    assert!(matches!(&error, ModelError::Missing { path, .. } if path.ends_with("head.json")));
    assert!(error.to_string().contains("train-head"), "{error}");
    assert!(Model::load_encoder(&source, None).is_ok());
}

#[test]
fn a_missing_file_is_named() {
    for name in ["config.json", "model.safetensors", "tokenizer.json", "head.json"] {
        let folder = folder();
        fs::remove_file(folder.path().join(name)).unwrap();
        let error = load(folder.path()).err().unwrap();
        assert!(matches!(&error, ModelError::Missing { path, .. } if path.ends_with(name)), "{error}");
    }
}

#[test]
fn a_hidden_layer_reads_the_mean_and_the_weights_read_the_hidden_layer() {
    let mut pooled = vec![0.0_f32; 11];
    (pooled[0], pooled[10]) = (0.5, -0.25);
    let mut rows = vec![vec![0.0_f32; 11]; 2];
    (rows[0][0], rows[0][10]) = (2.0, 4.0);
    rows[1][10] = -8.0;
    let head = parsed(&serde_json::json!({
        "format": 2, "encoder_sha256": "", "tokenizer_sha256": "", "layer": 1, "pooling": "mean",
        "normalize": true, "weights": [1.0, 0.5], "bias": -0.25,
        "hidden": {"activation": "relu", "units": 2, "weights": rows.concat(), "bias": [-1.0, 1.0]},
    }));
    // relu(2·0.5 − 4·0.25 − 1) = 0 and relu(8·0.25 + 1) = 3; 0.5·3 − 0.25 = 1.25
    assert!((head.say(&pooled).score - 1.0 / (1.0 + (-1.25_f64).exp())).abs() < 1e-12);
}

#[test]
fn a_graded_head_says_how_likely_each_level_is_and_is_written_as_it_was_read() {
    let folder = folder();
    let path = folder.path().join("head.json");
    let mut head: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    graded(&mut head);
    fs::write(&path, head.to_string()).unwrap();
    let model = Arc::new(load(folder.path()).unwrap());
    let said = model.session().scores(&[&[1, 4, 2], &[1, 3, 2]]).unwrap();
    for said in said {
        let levels = said.levels.unwrap();
        assert!((levels.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{levels:?}");
        let expected = 0.05 * levels[0] + 0.3 * levels[1] + 0.6 * levels[2] + 0.95 * levels[3];
        assert!((said.score - expected).abs() < 1e-12);
    }
    let again: serde_json::Value = serde_json::from_str(&parsed(&head).to_json().unwrap()).unwrap();
    assert_eq!(again, head);
}

#[test]
fn a_head_of_another_encoder_layer_or_width_is_refused() {
    let check = |change: fn(&mut serde_json::Value), expected: fn(&HeadError) -> bool| {
        let folder = folder();
        let path = folder.path().join("head.json");
        let mut head: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        change(&mut head);
        fs::write(&path, head.to_string()).unwrap();
        match load(folder.path()) {
            Err(ModelError::Head { cause, .. }) => assert!(expected(&cause), "{cause}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("loaded with {head}"),
        }
    };
    check(
        |head| head["encoder_sha256"] = "00".repeat(32).into(),
        |e| matches!(e, HeadError::OtherEncoder { .. }),
    );
    check(
        |head| head["tokenizer_sha256"] = "00".repeat(32).into(),
        |e| matches!(e, HeadError::OtherTokenizer { .. }),
    );
    check(|head| head["layer"] = 3.into(), |e| *e == HeadError::OtherLayer { found: 3, max: 2 });
    check(|head| head["layer"] = 0.into(), |e| *e == HeadError::OtherLayer { found: 0, max: 2 });
    check(
        |head| head["weights"] = vec![0.5; 63].into(),
        |e| *e == HeadError::OtherWidth { found: 63, expected: 64 },
    );
    check(|head| head["weights"][7] = (-1e308).into(), |e| *e == HeadError::TooLarge { found: -1e308 });
    check(|head| head["pooling"] = "cls".into(), |e| *e == HeadError::OtherPooling { found: "cls".into() });
    check(|head| head["format"] = 2.into(), |e| *e == HeadError::Format { found: 2 });
    fn hidden(width: usize, units: usize) -> serde_json::Value {
        serde_json::json!({"activation": "relu", "units": units, "weights": vec![0.5; 3 * width], "bias": [0.0, 0.0, 0.0]})
    }
    fn with(head: &mut serde_json::Value, hidden: serde_json::Value) {
        head["format"] = 2.into();
        head["weights"] = vec![0.5; 3].into();
        head["hidden"] = hidden;
    }
    check(|head| with(head, hidden(63, 3)), |e| *e == HeadError::OtherWidth { found: 63, expected: 64 });
    check(|head| with(head, hidden(64, 4)), |e| matches!(e, HeadError::Hidden { units: 4, .. }));
    check(
        |head| {
            with(head, hidden(64, 3));
            head["format"] = 1.into();
        },
        |e| *e == HeadError::Format { found: 1 },
    );
    check(
        |head| {
            graded(head);
            head["outputs"][1]["weights"] = vec![0.5; 63].into();
        },
        |e| *e == HeadError::OutputWidth { level: 2, found: 63, expected: 64 },
    );
    check(
        |head| {
            graded(head);
            head["outputs"].as_array_mut().unwrap().pop();
        },
        |e| *e == HeadError::Outputs { found: 2, expected: 3 },
    );
    check(
        |head| {
            graded(head);
            head["outputs"][2]["bias"] = 1e300.into();
        },
        |e| *e == HeadError::TooLarge { found: 1e300 },
    );
    for values in [&[0.1, 0.2, 0.3][..], &[0.1, 0.3, 0.3, 0.9], &[-0.1, 0.3, 0.6, 0.9], &[0.1, 0.3, 0.6, 1.1]]
    {
        let mut head: serde_json::Value = head(b"", b"", 64);
        graded(&mut head);
        head["values"] = values.into();
        let error = super::Head::parse(head.to_string().as_bytes()).unwrap_err();
        assert_eq!(error, HeadError::Values { found: format!("{values:?}") });
    }
    check(
        |head| {
            graded(head);
            head["weights"] = vec![0.5; 64].into();
        },
        |e| *e == HeadError::Format { found: 3 },
    );
    check(|head| head["format"] = 3.into(), |e| *e == HeadError::Format { found: 3 });
    check(|head| head["bias"] = serde_json::Value::Null, |e| *e == HeadError::Format { found: 1 });
    check(|head| head["bias"] = "much".into(), |e| matches!(e, HeadError::Unreadable { .. }));
}

#[test]
fn files_that_are_cut_off_broken_or_of_another_model_are_refused() {
    let with = |name: &str, change: fn(Vec<u8>) -> Vec<u8>| {
        let folder = folder();
        let path = folder.path().join(name);
        fs::write(&path, change(fs::read(&path).unwrap())).unwrap();
        // With its head: that the digest is another one would be true, and no help.
        load(folder.path()).err().unwrap()
    };
    let short = with("model.safetensors", |bytes| bytes[..5].to_vec());
    assert!(matches!(short, ModelError::Weights { cause: WeightsError::Broken { .. }, .. }), "{short}");
    let header = with("model.safetensors", |mut bytes| {
        bytes[8] = b'x';
        bytes
    });
    assert!(matches!(header, ModelError::Weights { cause: WeightsError::Broken { .. }, .. }), "{header}");
    let cut = with("model.safetensors", |bytes| bytes[..bytes.len() - 7].to_vec());
    assert!(matches!(cut, ModelError::Weights { cause: WeightsError::Broken { .. }, .. }), "{cut}");
    let bert = with("config.json", |_| br#"{"model_type": "bert"}"#.to_vec());
    assert!(matches!(bert, ModelError::Config { cause: ConfigError::Architecture { .. }, .. }), "{bert}");
    let cut = with("tokenizer.json", |bytes| bytes[..bytes.len() / 2].to_vec());
    assert!(matches!(cut, ModelError::Tokenizer { cause: TokenizerError::Unreadable { .. }, .. }), "{cut}");
    let unspecial = with("tokenizer.json", |bytes| {
        String::from_utf8(bytes).unwrap().replace("[SEP]", "[sep]").into_bytes()
    });
    let expected = TokenizerError::NoToken { token: "[SEP]" };
    assert!(matches!(&unspecial, ModelError::Tokenizer { cause, .. } if *cause == expected), "{unspecial}");
    let large = with("tokenizer.json", |bytes| {
        String::from_utf8(bytes).unwrap().replace("\"word\": 4", "\"word\": 24").into_bytes()
    });
    let expected = TokenizerError::Vocabulary { found: 24, max: 24 };
    assert!(matches!(&large, ModelError::Tokenizer { cause, .. } if *cause == expected), "{large}");
}

#[test]
fn an_encoder_that_loads_and_is_not_the_heads_may_be_a_damaged_one() {
    let folder = folder();
    let path = folder.path().join("model.safetensors");
    let mut weights = fs::read(&path).unwrap();
    let last = weights.len() - 4;
    weights[last] ^= 1;
    fs::write(&path, weights).unwrap();
    let error = load(folder.path()).err().unwrap();
    assert!(matches!(error, ModelError::Head { cause: HeadError::OtherEncoder { .. }, .. }), "{error}");
    assert!(error.to_string().contains("a damaged copy"), "{error}");
}

#[test]
fn a_state_that_is_no_number_gets_no_score() {
    let head = |format: u32, hidden: serde_json::Value| {
        parsed(&serde_json::json!({
            "format": format, "encoder_sha256": "", "tokenizer_sha256": "", "layer": 1, "pooling": "mean",
            "normalize": true, "weights": [1.0], "bias": 0.0, "hidden": hidden,
        }))
    };
    let hidden = serde_json::json!({"activation": "relu", "units": 1, "weights": [1.0, 1.0], "bias": [0.0]});
    assert!(head(2, hidden).say(&[f32::NAN, 1.0]).score.is_nan());
    assert!(head(1, serde_json::Value::Null).say(&[f32::NAN, 1.0]).score.is_nan());
}

#[test]
fn a_head_goes_with_the_very_tokenizer() {
    let folder = folder();
    let path = folder.path().join("tokenizer.json");
    let mut tokenizer = fs::read(&path).unwrap();
    tokenizer.push(b'\n');
    fs::write(&path, tokenizer).unwrap();
    let error = load(folder.path()).err().unwrap();
    assert!(matches!(error, ModelError::Head { cause: HeadError::OtherTokenizer { .. }, .. }), "{error}");
}

#[test]
fn huge_files_are_refused_before_they_are_read() {
    // Sparse: they take no space.
    for (name, bytes) in [("model.safetensors", (2u64 << 30) + 1), ("tokenizer.json", (64 << 20) + 1)] {
        let folder = folder();
        let file = fs::OpenOptions::new().write(true).open(folder.path().join(name)).unwrap();
        file.set_len(bytes).unwrap();
        let error = load(folder.path()).err().unwrap();
        assert!(matches!(error, ModelError::TooLarge { bytes: found, .. } if found == bytes), "{error}");
    }
}

#[test]
fn parts_of_a_digest_do_not_run_into_each_other() {
    assert_ne!(sha256([&b"ab"[..], b"c"]), sha256([&b"a"[..], b"bc"]));
    assert_ne!(sha256([&b""[..]]), sha256([]));
}

#[test]
fn what_the_vocabulary_does_not_know_hides_no_word_that_it_stands_in() {
    let model = embedded();
    let ids = |text: &str| model.windows(text, &Windows::default()).unwrap().concat();
    for hidden in ["delete\u{1f980}", "\u{1248}delete", "delete\u{1f980}\u{1248}"] {
        let delete = ids("delete")[1];
        assert!(ids(hidden).contains(&delete), "{hidden}: {:?}", ids(hidden));
    }
    for known in [
        "caf\u{e9} na\u{ef}ve",
        "\u{434}\u{43e}\u{43c}",
        "don\u{2019}t \u{201c}go\u{201d}",
        "\u{4e2d}\u{6587}",
    ] {
        let spaced: String = known.chars().flat_map(|c| [' ', c, ' ']).collect();
        assert_eq!(ids(known).contains(&100), ids(&spaced).contains(&100), "{known}: an unknown token");
    }
}

/// What splitting the worst known texts into tokens takes, at the largest size that is read.
#[test]
#[ignore = "prints figures"]
#[allow(clippy::print_stdout, reason = "its output is a table")]
fn figures_of_tokens() {
    const BYTES: usize = 128 << 10;
    let model = embedded();
    let unknown = "q".repeat(99) + "\u{1f980} ";
    let texts = [
        ("words", "word ".to_owned()),
        ("letters without a space", "q".to_owned()),
        ("words of 100 letters", "qzx".repeat(33) + " "),
        ("words with an unknown end", unknown),
        ("punctuation", "!".to_owned()),
        ("Chinese", "\u{4e2d}\u{6587}".to_owned()),
        ("Korean", "\u{d55c}".to_owned()),
        ("accents", "e\u{301}".to_owned()),
    ];
    for (name, unit) in texts {
        let text = unit.repeat(BYTES / unit.len());
        for (size, text) in [("as read", crate::impact::text::normalized(&text)), ("raw", text)] {
            for max in [64, usize::MAX / 256] {
                let started = std::time::Instant::now();
                let windows = model.windows(&text, &Windows { max, ..Windows::default() });
                let took = started.elapsed();
                let found = windows.map_or_else(|why| why.windows, |windows| windows.len());
                println!("{name:<28} {size:<8} {took:>10.1?} for {found} windows, at most {max}");
            }
        }
    }
}
