//! Does `loadtest run` do what it says? Asks the programs that cargo has built, `agentbus` beside `loadtest`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop with its reason"
)]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use agentbus::{
    servers::{Stack, StackOptions},
    tenants::Plan,
};
use serde_json::Value;

fn loadtest(args: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn the_smoke_profile_runs_on_all_sides_and_writes_a_report_and_a_page() {
    let folder = tempfile::tempdir().unwrap();
    let output = loadtest(&["run", "smoke", "--json", "a.json", "--html", "a.html"], folder.path());
    assert!(output.status.success(), "{}", told(&output));
    let report: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("a.json")).unwrap()).unwrap();
    let samples = report["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 6, "three sides at two loads");
    for sample in samples {
        assert!(sample["tally"]["answered"].as_u64().unwrap() > 0, "{sample}");
        assert!(sample["tally"]["latency"].as_str().unwrap().starts_with("HISTFAAA"), "{sample}");
        assert_eq!(sample["miscounted"], 0, "{sample}");
        assert!(!sample["seconds"].as_array().unwrap().is_empty(), "{sample}");
        let bus = sample["side"] == "bus";
        assert_eq!(!sample["stages"].as_object().unwrap().is_empty(), bus, "{sample}");
        assert!(sample["processor_us"]["node"].as_f64().unwrap() > 0.0 || !bus, "{sample}");
    }
    let page = std::fs::read_to_string(folder.path().join("a.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains("<svg"), "{page}");
    // Not a terminal: one plain line for each measurement, and no control characters.
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(lines.lines().filter(|line| line.starts_with("round 1")).count(), 6, "{lines}");
    assert!(!lines.contains('\u{1b}') && !lines.contains('\r'), "{lines:?}");

    let output = loadtest(&["compare", "a.json", "a.json"], folder.path());
    assert!(output.status.success() && told(&output).contains("too few"), "{}", told(&output));
    let output = loadtest(&["compare", "a.json", "a.json", "--fail-above", "5"], folder.path());
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
}

/// Every verb and every form of recipient, several tenants and processes, a neighbour and a reviewer.
#[test]
fn every_way_to_send_is_measured_and_nothing_is_lost_or_doubled() {
    let folder = tempfile::tempdir().unwrap();
    let profile = r#"
        about = "All of it."
        rounds = 1
        measure = "1s"
        warm_up = "250ms"
        warm_up_max = "500ms"
        processes = 2
        connections = 2
        node = ["impact.scorer = \"keywords\""]
        [[group]]
        name = "all"
        tenants = 2
        senders = 2
        recipients = 2
        judges = 1
        tenant = ["labels.deliberate_message_types = \"task_request\""]
        [[group.mix]]
        corpus = "texts.jsonl"
        share = 3
        [[group.mix]]
        to = "capability"
        bytes = [300, 2000]
        [[group.mix]]
        to = "broadcast"
        bytes = [300]
        [[group.mix]]
        verb = "ask"
        bytes = [400]
        [[group.mix]]
        verb = "submit"
        bytes = [400]
        [[group.mix]]
        bytes = [400]
        type = "task_request"
        expect = "deliberating"
        [[group]]
        name = "next"
        background = { rate = 50 }
        [[group.mix]]
        bytes = [512]
        distinct = true
        [[load]]
        in_flight = 6
        beside = ["next"]
        [[load]]
        ramp = { from = 20, to = 100 }
    "#;
    std::fs::write(folder.path().join("mine.toml"), profile).unwrap();
    let texts =
        "{\"content\": {\"text\": \"hello\"}}\n{\"content\": {\"n\": [1, 2]}, \"priority\": \"low\"}\n";
    std::fs::write(folder.path().join("texts.jsonl"), texts).unwrap();
    let output = loadtest(&["run", "mine.toml", "--json", "a.json"], folder.path());
    assert!(output.status.success(), "{}", told(&output));
    let report: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("a.json")).unwrap()).unwrap();
    for sample in report["samples"].as_array().unwrap() {
        assert_eq!(sample["miscounted"], 0);
        // A machine that is busy with other things may be too slow; nothing else may be refused.
        let failures = sample["tally"]["failures"].as_object().unwrap();
        let slow = |what: &str| ["timed", "overloaded", "in time"].iter().any(|word| what.contains(word));
        assert!(failures.keys().all(|what| slow(what)), "{}", told(&output));
        let entries = sample["entries"].as_object().unwrap();
        for entry in [
            "send to agent",
            "send to capability",
            "send to broadcast",
            "ask to agent",
            "submit to agent",
            "send to agent, deliberated",
        ] {
            assert!(entries[entry]["answered"].as_u64().unwrap() > 0, "{entry} in {}", told(&output));
        }
        assert_ne!(entries["submit to agent"]["inbox"], "");
    }
    let beside = &report["samples"][0]["beside"];
    assert!(beside["next"]["answered"].as_u64().unwrap() > 0, "{beside}");
}

#[test]
fn a_profile_that_may_not_be_run_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("mine.toml"), "about = \"x\"\nloads = 1\n").unwrap();
    let output = loadtest(&["run", "mine.toml"], folder.path());
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("mine.toml") && told(&output).contains("unknown field `loads`"),
        "{}",
        told(&output)
    );
}

/// The bus here is one that the test starts, by the tenants file that `loadtest tenants` prints.
#[tokio::test(flavor = "multi_thread")]
async fn a_running_bus_is_put_under_load_by_its_seeds() {
    let folder = tempfile::tempdir().unwrap();
    let profile = "about = \"x\"\nrounds = 1\nmeasure = \"1s\"\nwarm_up_max = \"500ms\"\n[[group]]\nname = \"guest\"\n\
        [[group.mix]]\nbytes = [512]\n[[load]]\nrate = 50\n";
    std::fs::write(folder.path().join("mine.toml"), profile).unwrap();
    let tenants = loadtest(&["tenants", "mine.toml"], folder.path()).stdout;
    let plan = Plan::parse(&String::from_utf8(tenants).unwrap()).unwrap();
    let agentbus = Path::new(env!("CARGO_BIN_EXE_loadtest")).with_file_name("agentbus");
    let options = StackOptions::new(folder.path().join("bus"), plan, agentbus);
    let node_overrides = "impact.scorer = \"keywords\"".parse().unwrap();
    let stack = Stack::start(StackOptions { node_overrides, ..options }).await.unwrap();
    let url = stack.nats_url();
    let args = ["run", "mine.toml", "--server", &url, "--keys", "bus", "--json", "a.json"];
    let output = loadtest(&args, folder.path());
    assert!(output.status.success(), "{}", told(&output));
    let report: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("a.json")).unwrap()).unwrap();
    assert!(report["samples"][0]["tally"]["answered"].as_u64().unwrap() > 0, "{}", told(&output));
    stack.stop().await;
}

#[test]
fn a_client_process_whose_run_is_gone_ends() {
    let output = loadtest(&["load-client"], Path::new("."));
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("no job on the standard input"), "{}", told(&output));
}
