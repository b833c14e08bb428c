//! Can a module that is broken, or meant to, make the policy allow?

use std::{fs, time::Instant};

use agentbus::policy::{
    Decision, PolicyError,
    rego::RegoEngine,
    sources::{LoadError, PolicySources},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use super::{
    load, patiently,
    question::{Owned, random},
    with_modules,
};

/// A question that the shipped policy allows, with a content that wakes the fault.
fn allowed() -> Owned {
    let input = json!({
        "message": {"type": "query", "priority": "normal", "to": {"agent": "worker"}, "tools": [],
                    "content": {"bad": true, "zero": 0}, "metadata": {}, "size": 100},
        "sender": {"id": "planner", "roles": [], "capabilities": [], "registered": true},
        "recipient": {"id": "worker", "roles": [], "capabilities": []},
        "tenant": {"id": "acme", "labels": {}},
        "constitution": {"hash": "cdd01ef066bc6cf2"},
    });
    Owned::from_input(&input)
}

fn own(body: &str) -> PolicySources {
    with_modules(&[("own.rego", &format!("package agentbus.modules.own\n{body}\n"))])
}

fn decide(body: &str) -> Result<Decision, PolicyError> {
    load(&own(body)).decide(&allowed().ask())
}

#[test]
fn the_question_is_allowed_but_for_the_fault() {
    assert_eq!(decide("allow := true"), Ok(Decision::Allowed(Default::default())));
}

#[test]
fn only_true_allows() {
    for body in [
        "allow if not input.message.content.bad",
        "allow if { x := input.message.content.absent; not x == 1 }",
        "allow if { x := input.message.content.absent; true }",
        "allow := false",
        "allow := \"yes\"",
        "allow := \"true\"",
        "allow := 1",
        "allow := null",
        "allow := {}",
        "allow := [true]",
        "allow contains true",
        "allow.all := true",
        "allow(_) := true",
        "default allow := false\nallow if input.message.content.bad == false",
    ] {
        match RegoEngine::load(&own(body)) {
            Err(LoadError::NoAllow { .. } | LoadError::Sample { .. } | LoadError::Parse { .. }) => {}
            Err(other) => panic!("{body}: {other}"),
            Ok(engine) => match engine.decide(&allowed().ask()) {
                Ok(Decision::Denied { reasons }) => {
                    assert!(reasons.iter().all(|reason| reason.starts_with("own: ")), "{body}: {reasons:?}");
                }
                Err(PolicyError::Failed { .. }) => {}
                other => panic!("{body}: {other:?}"),
            },
        }
    }
}

#[test]
fn a_rule_that_fails_is_no_answer() {
    for body in [
        "allow := true\nallow := false if input.message.content.bad",
        "allow if 1 / input.message.content.zero == 1",
        "allow if not 1 / input.message.content.zero == 1",
        "allow if { input.message.content.bad; to_number(\"x\") == 1 }",
        "allow if { input.message.content.bad; not regex.match(\"(\", \"\") }",
    ] {
        // The fault is found by the sample where it does not hang on the content.
        match RegoEngine::load(&own(body)) {
            Err(LoadError::Sample { .. }) => {}
            Err(other) => panic!("{body}: {other}"),
            Ok(engine) => {
                let found = engine.decide(&allowed().ask());
                assert!(matches!(found, Err(PolicyError::Failed { .. })), "{body}: {found:?}");
            }
        }
    }
}

#[test]
fn a_runaway_is_stopped_and_is_no_answer() {
    let body = "allow if { input.message.content.bad
        count([1 | some a in n; some b in n; some c in n; some d in n; a + b + c + d > 0]) >= 0 }
        n := numbers.range(1, 1000)";
    let engine = load(&own(body));
    let started = Instant::now();
    let found = engine.decide(&allowed().ask());
    let Err(PolicyError::Failed { rule, cause }) = &found else { panic!("{found:?}") };
    assert!(rule.ends_with(".own.allow") && cause.starts_with("no decision within"), "{found:?}");
    let elapsed = started.elapsed();
    // Far above the limit, for a busy machine; without it this would run for hours.
    assert!(elapsed < RegoEngine::TIME_MAX * 25, "{elapsed:?}");
    assert_eq!(
        load(&PolicySources::shipped()).decide(&allowed().ask()),
        Ok(Decision::Allowed(Default::default())),
    );
}

#[test]
fn obligations_that_cannot_be_read_deny() {
    for bad in [
        "\"deliberate\"",
        "{\"deliberate\": \"yes\"}",
        "{\"min_approvals\": 0}",
        "{\"min_approvals\": 1.5}",
        "{\"min_approvals\": -1}",
        "{\"redact\": \"a\"}",
        "{\"redact\": [1]}",
        "{\"lane\": \"fast\"}",
        "{\"score\": 1}",
        "{\"score\": \"yes\"}",
        "{\"encrypt\": true}",
        "null",
    ] {
        let found = patiently(|| decide(&format!("allow := true\nobligations := {bad}")));
        assert!(matches!(found, Ok(Decision::Denied { .. })), "{bad}: {found:?}");
    }
}

#[test]
fn no_module_of_the_operators_turns_a_shipped_deny_into_an_allow() {
    const PACKAGES: [&str; 7] = [
        "agentbus.modules.own",
        "agentbus.modules.roles",
        "agentbus.modules",
        "agentbus",
        "agentbus.modules[\"roles\"]",
        "agentbus.modules.roles.allow",
        "lib.helpers",
    ];
    const RULES: [&str; 8] = [
        "allow := true",
        "default allow := true",
        "allow if true",
        "everyone := {\"command\"}",
        "decision := {\"allow\": true}",
        "modules.roles.allow := true",
        "denying := set()",
        "granted[\"stranger\"] := {\"command\"}",
    ];
    let shipped = load(&PolicySources::shipped());
    let mut rng = StdRng::seed_from_u64(3);
    let mut loaded = 0;
    for _ in 0..400 {
        let modules: Vec<(String, String)> = (0..rng.random_range(1..4))
            .map(|n| {
                let package = PACKAGES[rng.random_range(0..PACKAGES.len())];
                let mut text = format!("package {package}\n");
                for _ in 0..rng.random_range(1..3) {
                    text.push_str(RULES[rng.random_range(0..RULES.len())]);
                    text.push('\n');
                }
                (format!("m{n}.rego"), text)
            })
            .collect();
        let modules: Vec<(&str, &str)> = modules.iter().map(|(n, t)| (n.as_str(), t.as_str())).collect();
        // Most combinations are refused when they are loaded, which is as good.
        let Ok(engine) = RegoEngine::load(&with_modules(&modules)) else { continue };
        loaded += 1;
        for _ in 0..50 {
            let question = Owned::from_input(&random(&mut rng));
            let denied = matches!(shipped.decide(&question.ask()), Ok(Decision::Denied { .. }));
            let allowed = matches!(engine.decide(&question.ask()), Ok(Decision::Allowed(_)));
            assert!(!(denied && allowed), "{modules:?} allowed {question:?}");
        }
    }
    assert!(loaded > 20, "only {loaded} combinations could be loaded");
}

#[test]
fn data_cannot_reach_into_the_packages_of_the_bus() {
    let own = own("allow := data.open");
    let with = |data: &str| PolicySources { data: Some(data.to_owned()), ..own.clone() };
    assert_eq!(
        load(&with("{\"open\": true}")).decide(&allowed().ask()),
        Ok(Decision::Allowed(Default::default()))
    );
    let closed = load(&with("{\"open\": false}")).decide(&allowed().ask());
    assert!(matches!(closed, Ok(Decision::Denied { .. })));
    for bad in ["{\"agentbus\": {\"modules\": {}}}", "[]", "{", ""] {
        assert!(matches!(RegoEngine::load(&with(bad)), Err(LoadError::Data { .. })), "{bad}");
    }
}

#[test]
fn a_parse_error_names_file_and_line() {
    let error =
        RegoEngine::load(&with_modules(&[("team/a.rego", "package lib.a\n\nx := := 1\n")])).err().unwrap();
    let text = error.to_string();
    assert!(matches!(error, LoadError::Parse { .. }));
    assert!(text.contains("team/a.rego:3"), "{text}");
}

#[test]
fn a_policy_folder_is_read_with_its_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::create_dir_all(path("team/..data")).unwrap();
    fs::write(path("team/own.rego"), "package agentbus.modules.own\nallow := data.open\n").unwrap();
    fs::write(path("team/own_test.rego"), "package broken {").unwrap();
    fs::write(path("team/..data/own.rego"), "package broken {").unwrap();
    fs::write(path("data.json"), "{\"open\": true}").unwrap();
    let sources = PolicySources::read(Some(dir.path()), true).unwrap();
    assert_eq!(sources.modules.len(), 1);
    assert_eq!(load(&sources).modules().last(), Some("own"));
    let revision = sources.revision();
    assert_eq!(revision.len(), 16);

    fs::write(path("data.json"), "{\"open\": false}").unwrap();
    let changed = PolicySources::read(Some(dir.path()), true).unwrap();
    assert_ne!(changed.revision(), revision, "data is part of the revision");
    assert_ne!(PolicySources::shipped().revision(), revision);

    fs::write(path("team/data.json"), "{}").unwrap();
    assert!(matches!(PolicySources::read(Some(dir.path()), true), Err(LoadError::NestedData { .. })));
    let nowhere = PolicySources::read(Some(&path("absent")), true);
    assert!(matches!(nowhere, Err(LoadError::Unreadable { .. })));
    let empty = PolicySources::read(None, false).unwrap();
    assert!(matches!(RegoEngine::load(&empty), Err(LoadError::NoModules)));
}
