//! Does the shipped policy decide the cases under `tests/cases/policy` as they say?

use std::fs;

use agentbus::policy::Decision;
use serde_json::{Value as Json, json};

use super::{load, question::Owned, with_modules};
use crate::support::root;

/// One decision as data: `input` (merged into the file's `base`), `expect`, and perhaps `modules`.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) modules: Vec<(String, String)>,
    pub(super) input: Json,
    pub(super) expect: Json,
}

pub(super) fn all() -> Vec<Case> {
    let dir = root().join("tests/cases/policy");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut cases = Vec::new();
    for path in files {
        let file: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        for case in file["cases"].as_array().unwrap() {
            let mut input = file["base"].clone();
            merge(&mut input, &case["input"]);
            let modules = case["modules"].as_object().into_iter().flatten();
            cases.push(Case {
                name: format!("{}: {}", path.file_stem().unwrap().display(), case["name"].as_str().unwrap()),
                modules: modules.map(|(name, text)| (name.clone(), lines(text))).collect(),
                input,
                expect: case["expect"].clone(),
            });
        }
    }
    assert!(cases.len() > 40, "only {} cases were found", cases.len());
    cases
}

/// A module's text is a list of lines, to be readable in JSON.
fn lines(text: &Json) -> String {
    text.as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect::<Vec<_>>().join("\n")
}

fn merge(into: &mut Json, from: &Json) {
    match (into, from) {
        (Json::Object(into), Json::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Json::Null), value);
            }
        }
        (into, from) if !from.is_null() => *into = from.clone(),
        _ => {}
    }
}

/// A decision in the form that `data.agentbus.decision` has.
pub(super) fn as_json(decision: &Decision) -> Json {
    match decision {
        Decision::Denied { reasons } => json!({"allow": false, "reasons": reasons, "obligations": {}}),
        Decision::Allowed(obligations) => {
            json!({"allow": true, "reasons": [], "obligations": obligations})
        }
    }
}

/// `expect` names what is promised; what it leaves out is open.
pub(super) fn check(name: &str, expect: &Json, found: &Json) {
    for (key, wanted) in expect.as_object().unwrap() {
        assert_eq!(&found[key], wanted, "{name}: {key} of {found}");
    }
}

#[test]
fn every_case_is_decided_in_process_as_it_says() {
    for case in all() {
        let modules: Vec<(&str, &str)> = case.modules.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        let engine = load(&with_modules(&modules));
        let decision = engine.decide(&Owned::from_input(&case.input).ask()).unwrap();
        check(&case.name, &case.expect, &as_json(&decision));
    }
}
