//! Does an operator change the policy of a running fleet, and see what each node has in force?

use std::{
    fs,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use agentbus::{
    client::Draft,
    domain::{Encoding, Reason, Status},
};
use serde_json::Value;
use tokio::process::Command;

use crate::support::bus::{self, Bus};

mod log;
mod shadow;
mod swaps;

const ALLOWS: &str = "package agentbus.modules.own\n\nallow := true\n";
const DENIES: &str = "package agentbus.modules.own\n\nallow := false\n";
const BROKEN: &str = "package agentbus.modules.own\n\nallow if {\n";

/// A bus whose nodes read the policy from a folder.
async fn governed_by(folder: &Path, nodes: usize) -> Bus {
    fs::write(folder.join("own.rego"), ALLOWS).unwrap();
    let dir = folder.to_owned();
    Bus::with(nodes, move |options| {
        let policy = format!("[policy]\ndir = {:?}\n", dir.to_str().unwrap());
        options.node_overrides.extend(policy.parse::<toml::Table>().unwrap());
    })
    .await
}

fn agentbus(bus: &Bus, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words).arg("--dir").arg(bus.stack.dir()).args(["--server", &bus.stack.nats_url()]);
    command
}

/// Runs `agentbus policy …`: its exit code, and each node's answer.
async fn policy(bus: &Bus, word: &str) -> (i32, Vec<Value>) {
    let Output { status, stdout, stderr } =
        agentbus(bus, &["policy", word, "--json"]).output().await.unwrap();
    let text = String::from_utf8(stdout).unwrap();
    let answers = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (status.code().unwrap(), answers)
}

fn revisions(answers: &[Value]) -> Vec<&str> {
    answers.iter().map(|answer| answer["revision"].as_str().unwrap()).collect()
}

async fn page(bus: &Bus, node: usize, path: &str) -> String {
    let url = format!("http://{}{path}", bus.stack.nodes()[node].http());
    reqwest::get(url).await.unwrap().text().await.unwrap()
}

/// Messages go on all the time. Each is judged by the revision that its verdict names, and only that one denies.
#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_take_another_policy_under_traffic_and_keep_theirs_when_it_is_bad() {
    let folder = tempfile::tempdir().unwrap();
    let bus = governed_by(folder.path(), 2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let (code, before) = policy(&bus, "status").await;
    assert_eq!((code, before.len()), (0, 2), "{before:?}");
    let old = revisions(&before)[0].to_owned();

    let (stop, sender) = (Arc::new(AtomicBool::new(false)), planner.clone());
    let stopped = Arc::clone(&stop);
    let traffic = tokio::spawn(async move {
        let mut verdicts = Vec::new();
        while !stopped.load(Ordering::Relaxed) {
            let draft = Draft::to_agent("worker", "the report is ready").encode(Encoding::Json);
            verdicts.push(bus::send(&sender, draft).await);
        }
        verdicts
    });

    fs::write(folder.path().join("own.rego"), BROKEN).unwrap();
    let (code, answers) = policy(&bus, "reload").await;
    assert_eq!((code, revisions(&answers)), (1, vec![old.as_str(); 2]));
    for (node, answer) in answers.iter().enumerate() {
        let why = answer["refused"]["why"].as_str().unwrap();
        assert!(why.starts_with("own.rego:4:") && answer.get("loaded").is_none(), "{answer}");
        let ready: Value = serde_json::from_str(&page(&bus, node, "/readyz").await).unwrap();
        assert_eq!(
            (&ready["status"], &ready["parts"]["policy"]["state"]),
            (&"degraded".into(), &"degraded".into())
        );
        assert!(ready["parts"]["policy"]["note"].as_str().unwrap().contains(why), "{ready}");
        let numbers = page(&bus, node, "/metrics").await;
        for line in [
            "agentbus_policy_refused 1".to_owned(),
            "agentbus_policy_loads_total{outcome=\"refused\"} 1".to_owned(),
            format!("agentbus_policy_info{{revision=\"{old}\"}} 1"),
        ] {
            assert!(numbers.contains(&line), "{line} is not in\n{numbers}");
        }
        let log = fs::read_to_string(bus.stack.nodes()[node].child().log()).unwrap();
        assert!(log.contains("own.rego:4:"), "{log}");
    }
    assert_eq!(policy(&bus, "status").await.0, 1);

    fs::write(folder.path().join("own.rego"), DENIES).unwrap();
    let (code, answers) = policy(&bus, "reload").await;
    assert_eq!(code, 0, "{answers:?}");
    let new = revisions(&answers)[0].to_owned();
    assert!(answers.iter().all(|answer| answer["loaded"]["changed"] == true) && new != old, "{answers:?}");
    let draft = Draft::to_agent("worker", "the report is ready").encode(Encoding::Json);
    assert_eq!(bus::send(&planner, draft).await.reason, Reason::PolicyDenied);
    stop.store(true, Ordering::Relaxed);
    for verdict in traffic.await.unwrap() {
        // A denial names no revision: it has made no permit.
        match verdict.status {
            Status::Delivered => assert_eq!(verdict.policy_revision.as_deref(), Some(old.as_str())),
            _ => assert_eq!(verdict.reason, Reason::PolicyDenied, "{verdict:?}"),
        }
    }
    for node in 0..2 {
        let numbers = page(&bus, node, "/metrics").await;
        assert!(numbers.contains("agentbus_policy_refused 0"), "{numbers}");
        assert!(numbers.contains(&new) && !numbers.contains(&old), "{numbers}");
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_takes_the_policy_over_on_one_node_and_the_mixed_fleet_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let mut bus = governed_by(folder.path(), 2).await;
    fs::write(folder.path().join("own.rego"), DENIES).unwrap();
    bus.stack.node_mut(0).unwrap().child_mut().reload();
    let mut answers = Vec::new();
    for _ in 0..100 {
        let code;
        (code, answers) = policy(&bus, "status").await;
        let revisions = revisions(&answers);
        if revisions[0] != revisions[1] {
            assert_eq!(code, 1);
            break;
        }
    }
    assert_ne!(revisions(&answers)[0], revisions(&answers)[1], "the node never took it over");
    let shown = agentbus(&bus, &["policy", "status"]).output().await.unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains("2 nodes, 2 policies"), "{shown}");
    let (code, answers) = policy(&bus, "reload").await;
    assert_eq!(code, 0, "{answers:?}");
    assert_eq!(revisions(&answers)[0], revisions(&answers)[1]);
    bus.stop().await;
}

/// Runs `agentbus …` to its end: its exit code and all it said.
async fn said(bus: &Bus, words: &[&str]) -> (i32, String) {
    let Output { status, stdout, stderr } = agentbus(bus, words).output().await.unwrap();
    (
        status.code().unwrap(),
        String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr),
    )
}

/// Nodes that get their policy by the bus. What happens to messages meanwhile is told in `swaps.rs`.
#[tokio::test(flavor = "multi_thread")]
async fn what_nodes_would_refuse_is_not_pushed_and_the_policy_before_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap().to_owned();
    let write = |text: &str| fs::write(folder.path().join("own.rego"), text).unwrap();
    write(ALLOWS);
    let mut bus = Bus::with(0, |options| {
        let policy = "[policy.bundle]\nfrom = \"bus\"\n";
        options.node_overrides.extend(policy.parse::<toml::Table>().unwrap());
    })
    .await;
    let (code, text) = said(&bus, &["policy", "push", &path, "--revision", "v0"]).await;
    assert!(code == 0 && text.contains("no node runs that follows"), "{code} {text}");
    for _ in 0..2 {
        bus.stack.add_node().await.unwrap();
    }
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();

    // What nodes refuse is refused before it is pushed: it does not compile, its tests fail, it is older.
    write(BROKEN);
    let (code, text) = said(&bus, &["policy", "push", &path, "--revision", "v6"]).await;
    assert!(code == 1 && text.contains("own.rego:4:"), "{code} {text}");
    write(DENIES);
    let bundle = folder.path().join("v6.tar.gz");
    let bundle = bundle.to_str().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    let built = command.args(["policy", "build", &path, "--revision", "v6", "--output", bundle]).output();
    assert!(built.await.unwrap().status.success());
    write(ALLOWS);
    assert_eq!(said(&bus, &["policy", "push", &path, "--revision", "v7"]).await.0, 0);
    let (code, text) = said(&bus, &["policy", "push", bundle]).await;
    assert!(code == 1 && text.contains("older than v7") && text.contains("--force v6"), "{code} {text}");
    let (code, text) = said(&bus, &["policy", "push", bundle, "--force", "v6"]).await;
    assert_eq!(code, 0, "{text}");
    let draft = || Draft::to_agent("worker", "the report is ready").encode(Encoding::Json);
    assert_eq!(bus::send(&planner, draft()).await.reason, Reason::PolicyDenied);
    // And back, also for a node that starts only now.
    let (code, text) = said(&bus, &["policy", "rollback"]).await;
    assert!(code == 0 && text.contains("pushed v7"), "{code} {text}");
    assert_eq!(bus::send(&planner, draft()).await.status, Status::Delivered);
    bus.stack.add_node().await.unwrap();
    let (code, answers) = policy(&bus, "status").await;
    assert_eq!((code, answers.len()), (0, 3), "{answers:?}");
    bus.stop().await;
}
