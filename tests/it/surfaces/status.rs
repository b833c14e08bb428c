//! Does an operator see the whole fleet on one screen, and hear when a node is worse than before?

use std::time::Duration;

use agentbus::tenants::BusUser;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::process::Command;

use crate::support::bus::Bus;

async fn status(bus: &Bus, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.arg("status").args(words).arg("--dir").arg(bus.stack.dir());
    let output =
        command.args(["--server", &bus.stack.nats_url()]).env("COLUMNS", "80").output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_nodes_are_on_one_screen_and_one_that_gets_worse_says_so() {
    let mut bus = Bus::start(2).await;
    let operator = bus.stack.connect(BusUser::Operator).await.unwrap();
    let mut notices = operator.subscribe("nodes.health.*").await.unwrap();
    let (_, text) = status(&bus, &["--json"]).await;
    let nodes: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(nodes.len(), 2, "{text}");
    for node in &nodes {
        assert_eq!(node["version"], env!("CARGO_PKG_VERSION"));
        assert!(node["model"].as_str().unwrap().starts_with("keywords"), "{node}");
        assert!(node["memory_bytes"].as_u64().unwrap() > 1_000_000, "{node}");
        assert!(node["clock_ahead_ms"].is_i64() && node["policy"].as_str().unwrap().len() >= 8, "{node}");
    }

    bus.stack.redis_mut().unwrap().child_mut().kill().await;
    loop {
        let notice = tokio::time::timeout(Duration::from_secs(60), notices.next()).await.unwrap().unwrap();
        let told: Value = serde_json::from_slice(&notice.payload).unwrap();
        assert_eq!(notice.subject.as_str(), format!("nodes.health.{}", told["node"].as_str().unwrap()));
        // They have said before that they are there.
        if told["to"] == "degraded" {
            assert_eq!(told["parts"]["store"]["state"], "degraded", "{told}");
            break;
        }
    }
    let (code, text) = status(&bus, &[]).await;
    assert!(code == 1 && text.contains("store degraded: ") && text.contains("2 nodes, "), "{code} {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    println!("{text}");
    bus.stop().await;
}
