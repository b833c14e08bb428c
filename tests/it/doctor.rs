//! Does `agentbus doctor` find what stands between an agent and the bus, and say what to do about it?

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use agentbus::{
    client::{Draft, Patience},
    domain::Encoding,
    tenants::User,
};
use tokio::process::Command;

use crate::{
    clients::{AGENTBUS, output, text},
    support::bus::Bus,
};

fn seed(bus: &Bus, agent: &str) -> PathBuf {
    bus.stack.seed_path(&User::Agent("acme".parse().unwrap(), agent.parse().unwrap()))
}

/// What a doctor says of an agent with this key: its exit code and its lines, which fit 80 columns.
async fn doctor(server: &str, agent: &str, key: &Path) -> (i32, String) {
    let mut said = Vec::new();
    let mut code = None;
    for columns in ["80", "400"] {
        let mut command = Command::new(AGENTBUS);
        command.args(["doctor", "--as", &format!("acme/{agent}"), "--server", server, "--nkey-file"]);
        let ended = output({
            command.arg(key).env("COLUMNS", columns);
            command
        })
        .await;
        said.push(text(&ended.stdout) + &text(&ended.stderr));
        code = ended.status.code();
    }
    for line in said[0].lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    (code.unwrap(), said.remove(1))
}

fn marks(said: &str) -> String {
    said.chars().filter(|c| matches!(c, '✓' | '✗')).collect()
}

#[tokio::test]
async fn a_doctor_finds_what_stands_between_an_agent_and_the_bus() {
    let mut bus = Bus::start(1).await;
    let url = bus.stack.nats_url();
    let key = seed(&bus, "worker");

    let (code, said) = doctor(&url, "worker", &key).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✓✓✓✗✓✓"), "not registered: {said}");
    assert!(said.contains("agentbus inbox --as acme/worker"), "{said}");

    let worker = bus.agent("acme", "worker").await;
    worker.register(&["sum"]).await.unwrap();
    let planner = bus.agent("acme", "planner").await;
    let kept = Draft::to_agent("worker", "kept").encode(Encoding::Json);
    planner.submit(kept, Patience::default()).await.unwrap();
    let waiting = "durable inbox: 1 to be fetched, 0 fetched";
    let (code, said) = loop {
        let (code, said) = doctor(&url, "worker", &key).await;
        if said.contains(waiting) {
            break (code, said);
        }
        assert!(said.contains("durable inbox: 0 to"), "{said}");
    };
    assert_eq!((code, marks(&said).as_str()), (0, "✓✓✓✓✓✓✓✓"), "{said}");
    assert!(said.contains("registered: as worker, with sum"), "{said}");

    let (code, said) = doctor(&url, "worker", &seed(&bus, "planner")).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✓✗"), "another agent's key: {said}");
    assert!(said.contains("another agent's key"), "{said}");

    bus.stack.node_mut(0).unwrap().stop().await;
    let (code, said) = doctor(&url, "worker", &key).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✓✓✗✓✓"), "no node: {said}");
    assert!(said.contains("node: none listens") && said.contains("agentbus node"), "{said}");
    bus.stop().await;
}

#[tokio::test]
async fn a_doctor_looks_no_further_than_a_key_or_a_server_that_does_not_serve() {
    let (bus, other) = tokio::join!(Bus::start(0), Bus::start(0));
    let url = bus.stack.nats_url();
    let (code, said) = doctor(&url, "worker", &seed(&other, "worker")).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✗"), "a key of another bus: {said}");
    assert!(said.contains("agentbus tenants apply"), "{said}");

    let key = seed(&bus, "worker");
    let folder = tempfile::tempdir().unwrap();
    let open = folder.path().join("open.nk");
    fs::copy(&key, &open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let broken = folder.path().join("broken.nk");
    fs::write(&broken, "SU").unwrap();
    fs::set_permissions(&broken, fs::Permissions::from_mode(0o600)).unwrap();
    let missing = folder.path().join("missing.nk");
    for (key, told) in [(&open, "chmod 600"), (&broken, "seed"), (&missing, "No such file")] {
        let (code, said) = doctor(&url, "worker", key).await;
        assert_eq!((code, marks(&said).as_str()), (1, "✗"), "{said}");
        assert!(said.contains(told), "{said}");
    }

    let kept = folder.path().join("kept.nk");
    fs::copy(&key, &kept).unwrap();
    tokio::join!(bus.stop(), other.stop());
    let (code, said) = doctor(&url, "worker", &kept).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✗"), "no server: {said}");
    assert!(said.contains("agentbus up"), "{said}");
}
