//! Does an operator hear why a message was decided so, and what became of it?

use std::{fs, process::Output, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Priority, Reason, Status, Verdict},
    tenants::{BusUser, Plan},
};
use async_nats::jetstream;
use serde_json::Value;
use tokio::process::Command;

use crate::support::bus::{self, Bus};

/// Denies what is for one recipient, parks what is urgent, and allows the rest.
const OWN: &str = r#"package agentbus.modules.own

default allow := false

allow if not on_leave

on_leave if input.recipient.id == "scribe"

reasons contains "it is on leave" if on_leave

obligations := {"deliberate": true} if input.message.priority == "high"
"#;
const PATIENCE: Patience = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(60) };

async fn run(bus: &Bus, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words).arg("--dir").arg(bus.stack.dir()).args(["--server", &bus.stack.nats_url()]);
    let Output { status, stdout, stderr } = command.output().await.unwrap();
    let text = String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr);
    (status.code().unwrap(), text)
}

/// Each field on one line.
fn unwrapped(text: &str) -> String {
    let goes_on = |line: &str| line.trim_start().strip_prefix("↳ ").map(|rest| format!(" {rest}"));
    text.lines().map(|line| goes_on(line).unwrap_or_else(|| format!("\n{line}"))).collect()
}

/// Once its record is there, which comes a moment after the verdict, and says that.
async fn explained(bus: &Bus, words: &[&str], part: &str) -> String {
    let words: Vec<&str> = ["explain"].iter().chain(words).copied().collect();
    let mut last = String::new();
    for _ in 0..100 {
        let (code, text) = run(bus, &words).await;
        assert!(text.contains('{') || text.lines().all(|line| line.chars().count() <= 80), "{text}");
        let text = unwrapped(&text);
        if code == 0 && text.contains(part) {
            return text;
        }
        last = text;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    panic!("{part:?} is not in\n{last}");
}

/// Which decision a line tells.
fn decided(line: &str) -> String {
    let record: Value = serde_json::from_str(line).unwrap();
    record["verdict"]["decision_id"].as_str().unwrap_or_default().to_owned()
}

async fn send(from: &AgentClient, draft: Draft, expected: Status) -> Verdict {
    let verdict = bus::send(from, draft.encode(Encoding::Json)).await;
    assert_eq!(verdict.status, expected, "{verdict:?}");
    verdict
}

#[tokio::test(flavor = "multi_thread")]
async fn each_decision_is_explained_with_its_stages_rules_votes_and_what_became_of_it() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("own.rego"), OWN).unwrap();
    let dir = folder.path().to_str().unwrap();
    let node = format!("[policy]\ndir = {dir:?}\nlog.share = 1.0\n");
    let bus =
        Bus::with(1, |options| options.node_overrides.extend(node.parse::<toml::Table>().unwrap())).await;
    let planner = bus.agent("acme", "planner").await;
    let _listening = bus.listening(&["worker", "scribe"]).await;

    // Delivered: where the policy is not at hand, that is said.
    let delivered = send(&planner, Draft::to_agent("worker", "the report"), Status::Delivered).await;
    let text = explained(&bus, &[&delivered.decision_id], "neither ships nor was pushed").await;
    for part in [
        "delivered  handed to worker",
        "from       planner → worker, event",
        "stages     admit ",
        "about 1 recipient",
        "handed to live inboxes",
        ".batch",
    ] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let again = send(&planner, Draft::to_agent("worker", "the same"), Status::Delivered).await;
    let by_policy = explained(&bus, &["--policy", dir, &again.decision_id], "all allow it to worker").await;
    assert!(by_policy.contains("1 remembered by the node"), "{by_policy}");

    // Denied: by which rule, and where that stands.
    let denied = send(&planner, Draft::to_agent("scribe", "the report"), Status::Rejected).await;
    assert_eq!(denied.reason, Reason::PolicyDenied);
    let text = explained(&bus, &["--policy", dir, &denied.decision_id], "own denied it to scribe").await;
    for part in ["own: it is on leave", "own.rego:5 allow", "own.rego:7 on_leave", "own.rego:9 reasons"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(text.contains("became     refused: policy_denied"), "{text}");
    let words = ["--policy", dir, "--json", "--tenant", "acme", &denied.decision_id];
    let told: Value = serde_json::from_str(&explained(&bus, &words, "").await).unwrap();
    let modules = told["rules"][0]["modules"].as_array().unwrap();
    let own = modules.iter().find(|module| module["name"] == "own").unwrap();
    assert_eq!(own["outcome"]["denied"][0], "own: it is on leave", "{told}");
    assert_eq!(own["rules"][0]["file"], "own.rego");
    assert!(told["record"]["record"]["stages_us"].as_array().is_some_and(|it| it.len() >= 6), "{told}");

    // Parked and approved: whose votes they were, and the decision that released it.
    let urgent = Draft { priority: Priority::High, ..Draft::to_agent("worker", "the urgent report") };
    let parked = send(&planner, urgent, Status::Deliberating).await;
    let id = parked.deliberation_id.as_ref().unwrap().as_str();
    let (_, shown) = run(&bus, &["deliberations", "show", "--as", "acme/judge", "--json", id]).await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let digest = shown["deliberation"]["digest"].as_str().unwrap();
    let vote = ["deliberations", "vote", "--as", "acme/judge", id, "--approve", "--digest", digest];
    assert_eq!(run(&bus, &vote).await.0, 0);
    let text = explained(&bus, &[&parked.decision_id], "released by reviewers").await;
    for part in
        ["deliberating", "vote       approve by judge at", "waited     since 2", "came to    delivered"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    assert!(text.contains("stored in durable inboxes") && text.contains("also       delivered by"), "{text}");

    // Kept to be governed later: by the decision that queued it, too.
    let draft = Draft::to_agent("worker", "the lasting report");
    let stored = planner.submit(draft.encode(Encoding::Json), PATIENCE).await.unwrap();
    assert_eq!(stored.status, Status::Stored, "{stored:?}");
    let text = explained(&bus, &[&stored.decision_id], "stored in durable inboxes").await;
    assert!(text.contains(&format!("queued     by {}", stored.decision_id)), "{text}");

    // All that is on record of an agent or a message, the newest first, also what stands together with others.
    let (code, lines) = run(&bus, &["records", "--agent", "planner", "--since", "1h"]).await;
    let ids: Vec<String> = lines.lines().map(decided).collect();
    let told = [&stored, &parked, &denied, &again, &delivered].map(|verdict| verdict.decision_id.clone());
    let known: Vec<_> = ids.iter().filter(|id| told[1..].contains(id)).cloned().collect();
    assert!(code == 0 && known == told[1..], "{told:?}\n{lines}");
    let of_one =
        ["records", "--tenant", "acme", "--message", delivered.message_id.as_ref().unwrap().as_str()];
    let (_, lines) = run(&bus, &of_one).await;
    assert!(lines.lines().map(decided).eq([delivered.decision_id.clone()]), "{lines}");
    let (code, lines) = run(&bus, &["records", "--tenant", "globex"]).await;
    assert!(code == 0 && lines.is_empty(), "{lines}");

    // What is not known says so, and names nothing of others.
    let (code, text) = run(&bus, &["explain", "--tenant", "globex", &delivered.decision_id]).await;
    assert!(code == 1 && text.contains("no record of globex names the decision"), "{code} {text}");
    let (code, text) = run(&bus, &["explain", "aaaaaaaaaaaaaaaaaaaaaa"]).await;
    assert!(
        code == 1 && text.contains("no record names the decision aaaa") && text.contains("back to 2"),
        "{text}"
    );
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_apart_of_a_tenant_is_found_when_another_has_pushed_it_out_of_what_all_share() {
    let bus = Bus::with(1, |options| {
        let apart = Plan::EXAMPLE.replacen(
            "[tenants.acme.agents]",
            "[tenants.acme.store]\nrecords_bytes = 16777216\n[tenants.acme.agents]",
            1,
        );
        options.plan = Plan::parse(&apart).unwrap();
    })
    .await;
    let planner = bus.agent("acme", "planner").await;
    let _workers = bus.listening(&["worker"]).await;
    let verdict = bus::send(&planner, Draft::to_agent("worker", "hello").encode(Encoding::Json)).await;
    assert_eq!(verdict.reason, Reason::Delivered);
    for words in [&["--tenant", "acme"][..], &[]] {
        let words = [words, &[verdict.decision_id.as_str()]].concat();
        let text = explained(&bus, &words, "delivered").await;
        assert!(text.contains("RECORDS ") && !text.contains("RECORDS_acme"), "{text}");
    }

    // A node's key does what a busy neighbour does in an hour and a half.
    let provisioner = jetstream::new(bus.stack.connect(BusUser::Provisioner).await.unwrap());
    let shared = provisioner.get_stream("RECORDS").await.unwrap().cached_info().config.clone();
    provisioner.update_stream(jetstream::stream::Config { max_bytes: 1 << 20, ..shared }).await.unwrap();
    let node = jetstream::new(bus.stack.connect(BusUser::Node).await.unwrap());
    for number in 0..40 {
        let subject = format!("record.globex.drafter.m-{number}.verdict");
        node.publish(subject, vec![b'x'; 60_000].into()).await.unwrap().await.unwrap();
    }
    let mut pushed_out = provisioner.get_stream("RECORDS").await.unwrap();
    assert!(pushed_out.info().await.unwrap().state.messages < 20);
    for words in [&["--tenant", "acme"][..], &[]] {
        let words = [words, &[verdict.decision_id.as_str()]].concat();
        let text = explained(&bus, &words, "delivered").await;
        assert!(text.contains("RECORDS_acme "), "{text}");
    }
    let (code, text) = run(&bus, &["records", "--tenant", "acme"]).await;
    assert!(code == 0 && text.contains(&verdict.decision_id), "{code} {text}");
    let (code, text) = run(&bus, &["explain", "--tenant", "globex", &verdict.decision_id]).await;
    assert!(code == 1 && text.contains("no record of globex"), "{code} {text}");
    bus.stop().await;
}
