//! Does a check of tenants or of a node say what its thresholds would park?

use std::{
    fs,
    path::PathBuf,
    process::{Command as Process, Output},
};

use agentbus::{
    domain::Weights,
    impact::reference::{Measure, Reference, texts},
};
use serde_json::Value;

use super::AGENTBUS;
use crate::{support::root, surfaces::clients::text};

fn run(words: &[&str]) -> Output {
    Process::new(AGENTBUS).args(words).output().unwrap()
}

fn checked(words: &[&str]) -> String {
    let output = run(words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    text(&output.stdout)
}

fn has(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

fn in_repository(path: &str) -> PathBuf {
    root().join(path)
}

const PLAN: &str = "\
[tenants.acme]\n\
[tenants.globex.limits]\ndeliberation_threshold = 0.99\n\
[tenants.initech.limits]\ndeliberation_threshold = 0.7\nreport_lift_max = 0.4\nhead = \"own\"\n";

#[test]
fn a_check_of_tenants_says_what_each_threshold_parks_and_warns_of_one_that_no_words_reach() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tenants.toml");
    fs::write(&file, PLAN).unwrap();
    let file = file.display().to_string();
    let said = checked(&["tenants", "check", "--file", &file]);
    has(
        &said,
        &[
            "acme: threshold 0.8 parks 0 % of reads, 0 % of small acts, ",
            "globex: threshold 0.99 parks 0 % of reads, 0 % of small acts, 0 % of acts with weight, 0 % of plainly",
            "warning: globex: no words reach the threshold 0.99",
            "initech: threshold 0.7: what it parks is not known; its head own is not here",
            "(of 252 texts that nothing was learned from",
        ],
    );
    assert!(!said.contains("warning: acme: no words"), "{said}");

    // A node knows its weights and what it scores with.
    let node = ["config", "check", "--http", "127.0.0.1:0", "--tenants", &file];
    let head = in_repository("models/impact/head.json").display().to_string();
    let set = [format!("impact.heads.own={head}"), "impact.weights.permission=1000".to_owned()];
    let sets: Vec<&str> = set.iter().flat_map(|set| ["--set", set]).collect();
    let said = checked(&[&node[..], &sets].concat());
    has(&said, &["is good\n", "acme: threshold 0.8 parks 0 % of reads", "warning: globex: "]);
    assert!(said.contains("initech: threshold 0.7 parks ") || said.contains("takes its time"), "{said}");
    let missing = run(&["config", "check", "--http", "127.0.0.1:0", "--tenants", "/nope"]);
    assert!(!missing.status.success() && text(&missing.stderr).contains("/nope"), "{missing:?}");
}

#[test]
fn a_check_of_a_node_asks_what_the_node_would_ask() {
    let check = ["config", "check", "--http", "127.0.0.1:0"];
    let shipped = checked(&check);
    has(
        &shipped,
        &["tenants that say nothing else: threshold 0.8 parks 0 % of reads", "scored by minilm-l4@"],
    );
    let keywords = checked(&[&check[..], &["--set", "impact.scorer=keywords"]].concat());
    has(
        &keywords,
        &["scored by keywords)", "0 % of plainly harmful", "warning: tenants that say nothing else: "],
    );
    let guard = in_repository("tests/golden/guards/bert").display().to_string();
    let said = checked(&[&check[..], &["--model-dir", &guard]].concat());
    assert!(said.contains("scored by tiny-bert@") || said.contains("takes its time"), "{said}");
    let reports = checked(&[&check[..], &["--set", "impact.report_lift_max=0.2"]].concat());
    has(&reports, &["of the same as reports, by report_lift_max 0.2: 0 %, 0 %, 0 %, 0 %"]);
}

/// If it fails for a model that is meant to be so: `python models/train/reference.py target/debug/agentbus`.
#[test]
fn the_scores_in_the_program_are_those_of_its_model() {
    let data = in_repository("models/train/data/eval_other_writer.jsonl").display().to_string();
    let said = checked(&["score", "--precision", "f32", "--file", &data]);
    let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let levels = texts().unwrap().into_iter().map(|text| text.level);
    let model = said[0]["model"].as_str().unwrap().to_owned();
    let now = Reference::of(&model, levels.zip(said.iter().map(|said| said["semantic"].as_f64().unwrap())));
    let kept = Reference::shipped().unwrap();
    assert_eq!((kept.texts(), kept.is_of(&model)), (now.texts(), true), "{model}");
    for threshold in [0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95] {
        let measure = Measure::of_requests(threshold, Weights::default());
        let (kept, now) = (kept.parked(&measure), now.parked(&measure));
        let close = kept.iter().zip(&now).all(|(kept, now)| (kept - now).abs() < 0.03);
        assert!(close, "at {threshold}: {kept:?}, and now {now:?}");
    }
}
