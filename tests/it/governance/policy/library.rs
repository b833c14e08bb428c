//! Do the policies under `policies/library` pass their own tests, and does a node decide by them as OPA does?

use std::{fs, path::PathBuf, process::Command};

use agentbus::policy::{PolicySources, RegoEngine};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value as Json, json};

use super::{
    cases::as_json,
    load,
    parity::decide,
    question::{Owned, random},
};
use crate::support::{opa, root};

fn library() -> PathBuf {
    root().join("policies/library")
}

/// One for each policy, by name.
fn folders() -> Vec<PathBuf> {
    let entries = fs::read_dir(library()).unwrap().map(|entry| entry.unwrap().path());
    let mut folders: Vec<_> = entries.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

#[test]
fn each_policy_of_the_library_loads_beside_what_ships_and_passes_its_tests() {
    for folder in folders() {
        let (name, sources) = (folder.display(), PolicySources::read(Some(&folder), true).unwrap());
        assert_eq!(sources.modules.len(), 1, "{name}");
        let (_, tests) = RegoEngine::tested(&sources).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(tests >= 10, "{name}: {tests} tests");
    }
}

#[test]
fn each_policy_of_the_library_has_a_page_and_a_line_in_the_table() {
    let table = fs::read_to_string(library().join("README.md")).unwrap();
    let folders = folders();
    for folder in &folders {
        let name = folder.file_name().unwrap().to_string_lossy();
        assert!(folder.join("README.md").is_file(), "{name}");
        assert!(table.contains(&format!("| [{name}]({name}/README.md) |")), "{name}");
    }
    assert_eq!(table.matches("/README.md) |").count(), folders.len());
}

#[test]
fn each_policy_of_the_library_passes_its_tests_in_opa() {
    let Some(program) = opa::program() else { return };
    let passes = |arguments: &[&str], paths: &[PathBuf]| {
        let output = Command::new(&program).args(arguments).args(paths).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "opa {arguments:?} {paths:?}: {text}");
    };
    passes(&["check", "--strict"], &[opa::policies(), library()]);
    passes(&["fmt", "--fail", "--list"], &[library()]);
    for folder in folders() {
        passes(&["test"], &[opa::policies(), folder]);
    }
}

/// All of them together, on messages and labels as strangers and tired operators write them.
#[tokio::test]
async fn a_node_and_opa_decide_alike_by_the_whole_library() {
    let Some(program) = opa::program() else { return };
    let server = opa::Opa::with_policy(&program, &whole()).await;
    let engine = load(&whole());
    let mut rng = StdRng::seed_from_u64(3);
    let mut compared = 0;
    for _ in 0..300 {
        let input = odd(&mut rng);
        let answer = server.decide(&input).await.unwrap();
        // A node keeps 16 reasons, OPA all.
        if answer["reasons"].as_array().unwrap().len() <= 16 {
            assert_eq!(as_json(&decide(&engine, &Owned::from_input(&input))), answer, "{input}");
            compared += 1;
        }
    }
    assert!(compared > 200, "{compared} compared");
}

/// All of them beside what ships, with data.
pub(super) fn whole() -> PolicySources {
    let modules =
        folders().into_iter().flat_map(|folder| PolicySources::read(Some(&folder), true).unwrap().modules);
    PolicySources { modules: modules.collect(), data: Some(data().to_string()), ..PolicySources::shipped() }
}

/// Hours that are always open for one tenant, and never for the other; lists of which one cannot be read.
fn data() -> Json {
    let days = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    json!({
        "office_hours": {
            "acme": {"zone": "Europe/Berlin", "days": days, "from": 0, "until": 24},
            "globex": {"zone": "UTC", "days": days, "from": 23.9999, "until": 24, "on_call": ["judge"]},
        },
        "tool_allow_lists": {
            "acme": {"worker": ["read", "mcp__fs__*", 7], "judge": "read", "*": ["read", "transfer", "pay", "delete"]},
        },
    })
}

/// A random message, with labels, tools and content that the library looks at.
pub(super) fn odd(rng: &mut StdRng) -> Json {
    const TOOLS: &[&str] = &["read", "READ", "transfer", "pay", "delete", "mcp__fs__list", "", "*", "%s{}"];
    const NUMBERS: &[&str] = &["", "0", "2", "1000", "-1", "NaN", "1e3", " ", "many", "99999999999999999999"];
    const LABELS: &[(&str, &[&str])] = &[
        ("spending_max", NUMBERS),
        ("spending_max_executive", NUMBERS),
        ("spending_keys", &["", ",", "Price, amount"]),
        ("approval_above", NUMBERS),
        ("approval_count", NUMBERS),
        ("duties_apart", &["executive+auditor", "executive", "+", ""]),
        ("duties_second_tools", &["transfer,delete", ","]),
        ("residency_regions", &["eu,UK", " , "]),
        ("residency_agents", &["worker, judge", ""]),
        ("residency_exempt_classes", &["public", ""]),
        ("secrets_to", &["worker, judge", ""]),
        ("read_only_agents", &["planner", ","]),
        ("read_only_roles", &["executive, implementer", ""]),
        ("glass_tools", &["delete", ""]),
    ];
    const METADATA: &[(&str, &str)] = &[
        ("break_glass", "the disk is full, orders are lost"),
        ("break_glass", "urgent"),
        ("data_class", "public"),
        ("password", "hunter22"),
    ];
    const KEYS: &[&str] = &["amount", "AMOUNT", "price", "password", "", "a.b"];
    let leaves = json!([
        1, 999, 1001, -1, 0.5, 1e300, "10", null, true, [], "password=abcdefgh", "\"\\\u{2028}<&>",
        [{"amount": 600}, {"amount": 600}], {"amount": {"amount": 1}}, {"secret": 1e30},
    ]);
    let mut input = random(rng);
    for _ in 0..rng.random_range(0..4) {
        let (name, values) = LABELS.choose(rng).unwrap();
        input["tenant"]["labels"][*name] = json!(values.choose(rng).unwrap());
    }
    for _ in 0..rng.random_range(0..3) {
        input["message"]["content"][*KEYS.choose(rng).unwrap()] =
            leaves.as_array().unwrap().choose(rng).unwrap().clone();
    }
    if rng.random_bool(0.3) {
        let (key, value) = METADATA.choose(rng).unwrap();
        input["message"]["metadata"][*key] = json!(value);
    }
    if rng.random_bool(0.7) {
        input["message"]["tools"] = json!([TOOLS.choose(rng).unwrap()]);
    }
    if rng.random_bool(0.1) {
        input["message"]["size"] = json!(4_097);
    }
    input
}
