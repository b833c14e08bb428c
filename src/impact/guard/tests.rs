#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "tests"
)]

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::{DType, Device, Tensor, safetensors};
use serde::Deserialize;

use super::{Guard, GuardSession};
use crate::impact::model::Windows;

mod refused;

const ALL: [&str; 8] = [
    "distilbert",
    "bert",
    "roberta",
    "xlm-roberta",
    "deberta-v2",
    "deberta-v3",
    "modernbert",
    "modernbert-mean",
];

#[derive(Deserialize)]
struct Case {
    text: String,
    ids: Vec<u32>,
    logits: Vec<f32>,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/guards").join(name)
}

fn guard(name: &str) -> Arc<Guard> {
    Arc::new(Guard::load(&golden(name)).unwrap_or_else(|why| panic!("{name}: {why}")))
}

fn cases(name: &str) -> Vec<Case> {
    serde_json::from_slice(&std::fs::read(golden(name).join("golden.json")).unwrap()).unwrap()
}

/// A golden guard, one of whose words is there and no number: its sum is infinite.
pub fn failing_on(name: &str, embeddings: &str, word: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "guard.toml", "tokenizer.json"] {
        std::fs::copy(golden(name).join(file), folder.path().join(file)).unwrap();
    }
    let tokenizer = std::fs::read(golden(name).join("tokenizer.json")).unwrap();
    let tokenizer: serde_json::Value = serde_json::from_slice(&tokenizer).unwrap();
    let row = usize::try_from(tokenizer["model"]["vocab"][word].as_u64().unwrap()).unwrap();
    let mut tensors = safetensors::load(golden(name).join("model.safetensors"), &Device::Cpu).unwrap();
    let mut rows = tensors[embeddings].to_dtype(DType::F32).unwrap().to_vec2::<f32>().unwrap();
    rows[row].fill(3e38);
    tensors.insert(embeddings.to_owned(), Tensor::new(rows, &Device::Cpu).unwrap());
    safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    folder
}

fn furthest(found: &[Vec<f32>], cases: &[Case]) -> f32 {
    assert_eq!(found.len(), cases.len());
    let of_case = |(found, case): (&Vec<f32>, &Case)| {
        assert_eq!(found.len(), case.logits.len());
        found.iter().zip(&case.logits).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    };
    found.iter().zip(cases).map(of_case).fold(0.0, f32::max)
}

#[test]
fn logits_of_each_architecture_are_the_references_to_a_ten_thousandth() {
    for name in ALL {
        let cases = cases(name);
        let mut session = guard(name).session();
        let one_by_one: Vec<Vec<f32>> =
            cases.iter().map(|case| session.logits(&[&case.ids]).unwrap().remove(0)).collect();
        let windows: Vec<&[u32]> = cases.iter().map(|case| case.ids.as_slice()).collect();
        let together = session.logits(&windows).unwrap();
        for found in [one_by_one, together] {
            let furthest = furthest(&found, &cases);
            println!("{name}: {furthest:e} from the reference");
            assert!(furthest <= 1e-4, "{name}: {furthest}");
        }
    }
}

#[test]
fn windows_of_one_length_are_run_together_and_score_as_each_alone() {
    for name in ALL {
        let guard = guard(name);
        let mut session = guard.session();
        let windows: Vec<Vec<u32>> = (5..9).map(|id| [&[1, id, 7, 9, id][..], &[id; 20]].concat()).collect();
        let windows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
        let together = session.scores(&windows).unwrap();
        for (window, said) in windows.iter().zip(together) {
            let alone = session.scores(&[window]).unwrap()[0];
            assert!((alone.score - said.score).abs() < 1e-5, "{name}: {alone:?} {said:?}");
        }
    }
}

#[test]
fn token_ids_are_the_references() {
    for name in ALL {
        let guard = guard(name);
        for case in cases(name) {
            let windows = guard.windows(&case.text, &Windows::default()).unwrap();
            // Within a word of WordPiece, what the vocabulary does not know is set apart (`tokens.rs`).
            if case.text.is_ascii() || !["distilbert", "bert"].contains(&name) {
                let (found, expected) = (&windows[0], &case.ids);
                assert_eq!(found[..found.len() - 1], expected[..expected.len() - 1], "{name}: {}", case.text);
            }
        }
    }
}

#[test]
fn special_tokens_in_a_text_are_letters_to_every_tokenizer() {
    for name in ALL {
        let guard = guard(name);
        let text = "<s> </s> [CLS] [SEP] <pad> [PAD] <mask> [MASK]";
        let window = guard.windows(text, &Windows::default()).unwrap().remove(0);
        let (first, last) = (window[0], window[window.len() - 1]);
        let own = &window[1..window.len() - 1];
        assert!(own.len() >= 8 && !own.contains(&first) && !own.contains(&last), "{name}: {window:?}");
    }
}

fn scores_of(session: &mut GuardSession, text: &str) -> f64 {
    let windows = session.guard().windows(text, &Windows::default()).unwrap();
    let windows: Vec<&[u32]> = windows.iter().map(Vec::as_slice).collect();
    session.scores(&windows).unwrap().into_iter().map(|said| said.score).fold(0.0, f64::max)
}

#[test]
fn a_score_is_the_expected_value_of_the_level() {
    let guard = guard("bert");
    // Three labels of levels 0, 1 and 3.
    for (logits, levels) in [
        ([100.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]),
        ([0.0, 0.0, 90.0], [0.0, 0.0, 0.0, 1.0]),
        ([3.0, 3.0, 3.0], [1.0 / 3.0, 1.0 / 3.0, 0.0, 1.0 / 3.0]),
    ] {
        let found = guard.labels.say(&logits).levels.unwrap();
        assert!(found.iter().zip(levels).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
    }
    assert!((guard.labels.say(&[0.0, 0.0, 0.0]).score - (0.05 + 0.3 + 0.95) / 3.0).abs() < 1e-9);
    for name in ALL {
        let found = scores_of(&mut self::guard(name).session(), "hello");
        assert!((0.05..=0.95).contains(&found), "{name}: {found}");
    }
}

#[test]
fn a_guard_computes_on_the_calling_thread_and_no_other() {
    std::thread::spawn(move || {
        let mut session = guard("modernbert").session();
        scores_of(&mut session, "hello");
        assert_eq!((rayon::current_num_threads(), rayon::current_thread_index()), (1, Some(0)));
        rayon::scope(|scope| {
            let own = std::thread::current().id();
            scope.spawn(move |_| assert_eq!(std::thread::current().id(), own));
        });
    })
    .join()
    .unwrap();
}

#[test]
fn a_window_is_as_long_as_the_guard_says_and_never_longer_than_its_positions() {
    let longest = guard("roberta").windows(&"a b c d ".repeat(200), &Windows::default()).unwrap();
    assert_eq!(longest.iter().map(Vec::len).max(), Some(128));
    assert_eq!(guard("roberta").config.positions, 128);
    let mut session = guard("roberta").session();
    assert!(
        session.logits(&[&vec![5; 129]]).unwrap_err().to_string().contains("129 tokens, expected 1 to 128")
    );
    assert!(session.logits(&[&[343]]).unwrap_err().to_string().contains("vocabulary ends at 343"));
}

#[test]
fn a_full_window_is_measured() {
    assert!(guard("deberta-v3").measure().unwrap() > std::time::Duration::ZERO);
}
