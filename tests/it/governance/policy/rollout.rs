//! Does another policy take the place of the one in force only when it is good, and between two messages?

use std::{fs, path::Path, sync::Arc};

use agentbus::{
    cpu::{Cpu, CpuSettings},
    domain::{Reason, Timestamp},
    policy::{Event, Folder, Gate, LoadError, OffRuntime, Origin, PolicySources, RegoEngine, Rollout},
};
use serde_json::json;
use tempfile::TempDir;

use super::{Seen, question::Owned, watched};
use crate::support::opa::policies;

const ALLOWS: &str = "package agentbus.modules.own\n\nallow := true\n";
const DENIES: &str =
    "package agentbus.modules.own\n\nallow := false\n\nreasons contains \"not today\" if true\n";

/// A question that the shipped policy allows.
pub(super) fn question() -> Owned {
    Owned::from_input(&json!({
        "message": {"type": "query", "priority": "normal", "to": {"agent": "worker"}, "tools": [],
                    "content": {"zero": 0}, "metadata": {}, "size": 100},
        "sender": {"id": "planner", "roles": [], "capabilities": [], "registered": true},
        "recipient": {"id": "worker", "roles": [], "capabilities": []},
        "tenant": {"id": "acme", "labels": {}},
        "constitution": {"hash": "cdd01ef066bc6cf2"},
    }))
}

/// A policy folder, and what has it in force.
struct Rig {
    folder: TempDir,
    rollout: Rollout,
    seen: Seen,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("own.rego"), ALLOWS).unwrap();
        let read = Folder { dir: Some(folder.path().to_owned()), shipped: true };
        let cpu = Cpu::start(CpuSettings { threads: 2, queue: 64 }, Arc::new(())).unwrap();
        let (engine, cpu) = (read.load().unwrap().0, Arc::new(cpu));
        let (gate, seen) = watched(Gate::new(Arc::new(OffRuntime::new(engine, Arc::clone(&cpu)))));
        let rollout = Rollout::new(Arc::new(gate), cpu, Origin::Folder(read), || Timestamp(7));
        Self { folder, rollout, seen }
    }

    fn write(&self, file: &str, text: &str) {
        fs::write(self.folder.path().join(file), text).unwrap();
    }

    fn remove(&self, file: &Path) {
        fs::remove_file(self.folder.path().join(file)).unwrap();
    }

    fn gate(&self) -> &Gate {
        self.rollout.gate()
    }
}

#[tokio::test]
async fn a_good_policy_takes_the_place_of_the_one_in_force_and_no_cached_answer_outlives_it() {
    let rig = Rig::new();
    let (asked, before) = (question(), rig.gate().revision());
    for _ in 0..2 {
        rig.gate().decide(&asked.ask()).await.unwrap();
    }
    rig.write("own.rego", DENIES);
    rig.write("own_test.rego", "package own_test\n\ntest_it if not data.agentbus.modules.own.allow\n");
    let loaded = rig.rollout.reload().await.unwrap();
    assert!(loaded.changed && loaded.revision != before, "{loaded:?}");
    assert_eq!((loaded.tests, loaded.trial.tried, loaded.trial.changed), (1, 1, 1));
    let denied = rig.gate().decide(&asked.ask()).await.unwrap_err();
    assert_eq!(denied.reason, Reason::PolicyDenied);
    assert!(denied.detail.contains("not today"), "{}", denied.detail);

    let again = rig.rollout.reload().await.unwrap();
    assert!(!again.changed && again.revision == loaded.revision, "{again:?}");
    let counts = [Event::Loaded, Event::Unchanged, Event::Refused].map(|event| rig.seen.count(event));
    assert_eq!(counts, [1, 1, 0]);
}

#[tokio::test]
async fn a_bad_policy_leaves_the_one_in_force_and_says_where_it_is_wrong() {
    let rig = Rig::new();
    let (asked, before) = (question(), rig.gate().revision());
    rig.gate().decide(&asked.ask()).await.unwrap();
    let zero = "package agentbus.modules.own\n\nallow if 1 / input.message.content.zero == 1\n";
    let faults: &[(&str, &str, &[&str])] = &[
        ("own.rego", "package agentbus.modules.own\n\nallow if {\n", &["own.rego:4:"]),
        ("own.rego", "package agentbus.modules.own\n\nallow if some_function(1)\n", &["own.rego:3:"]),
        ("own.rego", "package agentbus.modules.own\n\nallow if x > 1\n", &["own.rego:3:"]),
        ("own.rego", "package agentbus.modules.own\n\nreasons := []\n", &["own does not define `allow`"]),
        (
            "own.rego",
            "package agentbus.modules.roles\n\nallow := true\n",
            &["own.rego", "belongs to the bus"],
        ),
        ("own.rego", "package agentbus.modules.own\nallow := true\nallow := 1 / 0\n", &["a sample message"]),
        ("own.rego", zero, &["a question of late", "data.agentbus.modules.own.allow"]),
        ("data.json", "[1]", &["data.json", "must be a JSON object"]),
        ("own_test.rego", "package own_test\n\ntest_it if {\n", &["own_test.rego:4:"]),
        (
            "own_test.rego",
            "package own_test\n\ntest_good if true\n\ntest_bad if data.agentbus.modules.own.allow == 1\n",
            &["own_test.rego:5", "test_bad is undefined, expected true", "of 2 tests 1 fail"],
        ),
        ("own_test.rego", "package own_test\n\ntest_bad := false\n", &["test_bad is false, expected true"]),
        (
            "own_test.rego",
            "package own_test\n\ntest_slow if { n := numbers.range(1, 2000)\n count([1 | some a in n; some b in n; some c in n; a + b + c > 0]) > 0 }\n",
            &["own_test.rego:3", "test_slow cannot be evaluated"],
        ),
    ];
    for (number, (file, text, expected)) in faults.iter().enumerate() {
        rig.write(file, text);
        let error = rig.rollout.reload().await.unwrap_err().to_string();
        for expected in *expected {
            assert!(error.contains(expected), "{number}: {expected:?} is not in {error:?}");
        }
        assert!(!error.contains('\n'), "{error:?}");
        let standing = rig.rollout.standing();
        assert_eq!(standing.revision, before);
        assert_eq!(standing.refused.unwrap().why, error);
        rig.gate().decide(&asked.ask()).await.unwrap();
        assert_eq!(rig.seen.count(Event::Refused), number + 1);
        if *file == "own.rego" {
            rig.write(file, ALLOWS);
        } else {
            rig.remove(Path::new(file));
        }
    }
    // Mended: nothing is refused any more.
    rig.rollout.reload().await.unwrap();
    assert_eq!(rig.rollout.standing().refused, None);
}

#[tokio::test]
async fn a_message_is_judged_by_one_policy_from_its_first_question_to_its_last() {
    let rig = Rig::new();
    let asked = question();
    let held = rig.gate().in_force();
    rig.write("own.rego", DENIES);
    rig.rollout.reload().await.unwrap();
    for _ in 0..2 {
        let permit = rig.gate().decide_by(&held, &asked.ask(), "").await.permit.unwrap();
        assert_eq!(permit.revision(), held.revision());
        assert!(rig.gate().decide(&asked.ask()).await.is_err());
    }
}

#[test]
fn the_tests_that_ship_pass_in_process_too() {
    let shipped = Folder { dir: Some(policies()), shipped: false };
    let (_, tests) = shipped.load().unwrap();
    assert!(tests >= 10, "{tests}");
}

/// What a node would not put in force, it does not start with either.
#[test]
fn a_folder_whose_tests_fail_is_not_loaded_at_all() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("own.rego"), ALLOWS).unwrap();
    fs::write(folder.path().join("own_test.rego"), "package own_test\n\ntest_it if false\n").unwrap();
    let read = Folder { dir: Some(folder.path().to_owned()), shipped: true };
    assert!(matches!(read.load(), Err(LoadError::Test { line: 3, failed: 1, all: 1, .. })));
    // A test decides nothing, so it is no part of the revision.
    let with = PolicySources::read(read.dir.as_deref(), true).unwrap();
    let without = PolicySources { tests: Vec::new(), ..with.clone() };
    assert_eq!(with.revision(), without.revision());
    assert_eq!(*RegoEngine::load(&with).unwrap().modules().last().unwrap(), *"own");
}
