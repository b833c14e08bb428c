//! Does an operator see what the policy decided, and what another would have decided of it?

use std::fs;

use agentbus::{
    client::Draft,
    domain::{Encoding, Status},
};
use serde_json::Value;

use super::said;
use crate::support::bus::{self, Bus};

/// Denies what is about one recipient, parks what is urgent, and allows the rest.
const CANDIDATE: &str = r#"package agentbus.modules.candidate

default allow := false

allow if input.recipient.id != "scribe"

reasons contains "it is on leave" if input.recipient.id == "scribe"

obligations := {"deliberate": true} if input.message.priority == "high"
"#;
const GOES_BY_TIME: &str =
    "package agentbus.modules.chance\n\nallow if floor(time.now_ns() / 1000) % 2 == 0\n";
const READS_TEXTS: &str = "package agentbus.modules.texts\n\nallow if not input.message.content.secret\n";

/// A policy in a folder of its own.
fn policy(module: &str) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("own.rego"), module).unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    (folder, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_policy_is_tried_on_what_nodes_have_logged() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decisions.jsonl");
    let log = format!("[policy.log]\nshare = 1.0\nfile = {:?}\n", file.to_str().unwrap());
    let bus = Bus::with(1, |options| {
        options.node_overrides.extend(log.parse::<toml::Table>().unwrap());
    })
    .await;
    let planner = bus.agent("acme", "planner").await;
    let _listening = bus.listening(&["worker", "scribe"]).await;
    let mut sent = Vec::new();
    for number in 0..20 {
        let to = if number % 4 == 0 { "scribe" } else { "worker" };
        let verdict = bus::send(&planner, Draft::to_agent(to, "the report").encode(Encoding::Json)).await;
        assert_eq!(verdict.status, Status::Delivered, "{verdict:?}");
        sent.push(verdict.decision_id);
    }
    for _ in 0..200 {
        if bus.counted(r#"agentbus_policy_log_total{outcome="kept"}"#).await >= 20 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let (code, text) = said(&bus, &["policy", "log", "--since", "1h", "--tenant", "acme"]).await;
    let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<&str> = events.iter().map(|event| event["decision_id"].as_str().unwrap()).collect();
    // A message that was tried again, since the node was busy, has a decision of each time.
    assert!(code == 0 && sent.iter().all(|id| ids.contains(&id.as_str())), "{code} {text}");
    assert!(events.iter().all(|event| event["input"]["message"].get("content").is_none()), "{text}");
    let lines = fs::read_to_string(&file).unwrap();
    assert!(text.lines().all(|line| lines.contains(line)), "the file has each of them");
    let to_scribe =
        |event: &&Value| event["input"]["recipient"]["id"] == "scribe" && event["result"]["allow"] == true;
    let denied = events.iter().filter(to_scribe).count();
    assert_eq!(said(&bus, &["policy", "log", "--tenant", "globex"]).await, (0, String::new()));

    let (_candidate, candidate) = policy(CANDIDATE);
    let (code, text) = said(&bus, &["policy", "replay", &candidate, "--json", "--fail-above", "0.2"]).await;
    let told: Value = serde_json::from_str(&text).unwrap();
    let all = &told["all"];
    assert_eq!((code, &all["newly_denied"], &all["newly_allowed"]), (1, &denied.into(), &0.into()), "{text}");
    assert_eq!(told["by_rule"]["candidate"]["newly_denied"], denied);
    assert_eq!(told["by_sender"]["acme/planner"]["decisions"], all["decisions"]);
    assert_eq!(told["examples"][0]["after"], "denied: candidate: it is on leave");
    assert_eq!(told["examples"][0]["decision_id"], *sent[0]);

    // The same at a desk, of a file; the bus is not asked.
    let path = file.to_str().unwrap();
    let desk = |words: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_agentbus"));
        let output = command.args(["policy", "replay"]).args(words).args(["--file", path]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text.into_owned())
    };
    let (code, text) = desk(&[&candidate, "--fail-above", "0.3"]);
    assert!(code == Some(0) && text.contains(&format!(" {denied} would change (2")), "{code:?} {text}");
    assert!(
        text.contains(&format!("  {denied} newly denied\n")) && text.contains("acme/planner → scribe, event"),
        "{text}"
    );
    let (_same, same) = policy("package lib.nothing\n\nx := 1\n");
    let (code, text) = desk(&[&same, "--fail-above", "0"]);
    assert!(code == Some(0) && text.contains("0 would change"), "{code:?} {text}");
    // Beside it another threshold: all were delivered, with scores that differ.
    let records = folder.path().join("records.jsonl");
    let parts =
        r#"{"semantic":0.2,"permission":0.2,"volume":0,"context":0,"drift":0,"priority":0.3,"type":0.1}"#;
    let record = |(number, id): (usize, &String)| {
        let score = if number < 3 { 0.7 } else { 0.2 };
        format!(
            "{{\"kind\":\"verdict\",\"sender\":\"planner\",\"verdict\":{{\"decision_id\":\"{id}\",\"status\":\"delivered\",\"impact\":{{\"score\":{score},\"parts\":{parts}}}}}}}\n"
        )
    };
    fs::write(&records, sent.iter().enumerate().map(record).collect::<String>()).unwrap();
    let records = records.to_str().unwrap();
    let (code, text) = desk(&[&same, "--records", records, "--threshold", "0.6"]);
    assert!(code == Some(0) && text.contains("20 decisions: 3 would change"), "{code:?} {text}");
    assert!(text.contains("after  allowed: deliberate"), "{text}");
    // Equal questions are remembered, but for a policy that goes by time: it is asked each time.
    let line = lines.lines().next().unwrap();
    fs::write(&file, format!("{line}\n").repeat(400)).unwrap();
    let (_chance, chance) = policy(GOES_BY_TIME);
    let (code, text) = desk(&[&chance, "--json", "--threads", "1"]);
    let told: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    let denied = told["all"]["newly_denied"].as_u64().unwrap();
    assert!(code == Some(0) && (100..300).contains(&denied), "{code:?} {text}");
    // A gate that has nothing to judge by does not open.
    let (_texts, texts) = policy(READS_TEXTS);
    let (code, text) = desk(&[&texts, "--fail-above", "1"]);
    assert!(
        code == Some(1) && text.contains("no decision to replay: the policy reads what is not in the log"),
        "{text}"
    );
    bus.stop().await;
}
