//! Does `agentbus doctor` find what stands between an agent and the bus, and say what to do about it?

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use agentbus::{
    app,
    client::{Draft, Patience},
    config::ConstitutionEntry,
    domain::{Encoding, Timestamp},
    shutdown::Shutdown,
    skew,
    tenants::User,
};
use tokio::process::Command;

use crate::{
    support::{bus::Bus, servers},
    surfaces::clients::{AGENTBUS, output, text},
    survival::intake,
};

fn seed(bus: &Bus, agent: &str) -> PathBuf {
    bus.stack.seed_path(&User::Agent("acme".parse().unwrap(), agent.parse().unwrap()))
}

/// What a doctor says of an agent with this key: its exit code and its lines, which fit 80 columns.
async fn doctor(server: &str, agent: &str, key: &Path) -> (i32, String) {
    doctor_of(server, agent, key, &[]).await
}

async fn doctor_of(server: &str, agent: &str, key: &Path, more: &[&str]) -> (i32, String) {
    let mut said = Vec::new();
    let mut code = None;
    for columns in ["80", "400"] {
        let mut command = Command::new(AGENTBUS);
        command.args(["doctor", "--as", &format!("acme/{agent}"), "--server", server, "--nkey-file"]);
        let ended = output({
            command.arg(key).args(more).env("COLUMNS", columns);
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
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✓✓✓✓✓✗✓✓✓"), "not registered: {said}");
    for found in ["s ahead of that of the node", "s ahead of that of NATS"] {
        let behind = found.replace("ahead of", "behind");
        assert!(said.contains(found) || said.contains(&behind), "{found} is not in {said}");
    }
    assert!(said.contains("agentbus inbox --as acme/worker"), "{said}");

    let worker = bus.agent("acme", "worker").await;
    worker.register(&["sum"]).await.unwrap();
    let planner = bus.agent("acme", "planner").await;
    let kept = Draft::to_agent("worker", "kept").encode(Encoding::Json);
    planner.submit(kept, Patience::default()).await.unwrap();
    let waiting = "durable inbox: 1 to be fetched, 0 fetched";
    let started = Instant::now();
    let (code, said) = loop {
        let (code, said) = doctor(&url, "worker", &key).await;
        if said.contains(waiting) {
            break (code, said);
        }
        assert!(
            said.contains("durable inbox: 0 to") && started.elapsed() < Duration::from_secs(60),
            "{said}"
        );
    };
    assert_eq!((code, marks(&said).as_str()), (0, "✓✓✓✓✓✓✓✓✓✓✓"), "{said}");
    assert!(said.contains("registered: as worker, with sum"), "{said}");

    let (code, said) = doctor(&url, "worker", &seed(&bus, "planner")).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✓✗"), "another agent's key: {said}");
    assert!(said.contains("another agent's key"), "{said}");

    bus.stack.node_mut(0).unwrap().stop().await;
    let (code, said) = doctor(&url, "worker", &key).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✓✓✗✓✓✓"), "no node: {said}");
    assert!(said.contains("node: none listens") && said.contains("agentbus node"), "{said}");
    bus.stop().await;
}

/// The clock is handed in, and its tolerance is such that the node takes requests all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_doctor_finds_a_clock_that_is_off_and_a_constitution_that_is_not_in_force() {
    let bus = Bus::start(0).await;
    let mut config = intake::node(&bus, servers::port());
    config.node.clock_tolerance = Duration::from_secs(3_600);
    let entry = |hash: &str| ConstitutionEntry { hash: hash.parse().unwrap(), from: None, until: None };
    config.constitution = vec![entry("0123456789abcdef"), entry("fedcba9876543210")];
    let (port, shutdown) = (config.http.listen.port(), Shutdown::default());
    let behind = || Timestamp(skew::wall_clock().0 - 120_000);
    let running = tokio::spawn(app::run_with(config, None, shutdown.clone(), Default::default(), behind));
    intake::ready(port).await;

    let (url, key) = (bus.stack.nats_url(), seed(&bus, "worker"));
    let (code, said) = doctor_of(&url, "worker", &key, &["--hash", "cdd01ef066bc6cf2"]).await;
    assert_eq!((code, marks(&said).as_str()), (1, "✓✓✓✓✓✗✗✗✓✓✓"), "{said}");
    let off = said.lines().find(|line| line.contains("that of the node")).unwrap();
    assert!(off.contains("120.") || off.contains("119."), "{said}");
    assert!(off.contains("ahead of") && said.contains("NTP"), "{said}");
    let found = "found cdd01ef066bc6cf2, in force is 0123456789abcdef or fedcba9876543210";
    assert!(said.contains(found), "{said}");

    let (_, said) = doctor_of(&url, "worker", &key, &["--hash", "fedcba9876543210"]).await;
    assert!(said.contains("constitution: fedcba9876543210 is in force"), "{said}");
    // One that asks for it has none of its own.
    let (_, said) = doctor(&url, "worker", &key).await;
    assert!(said.contains("constitution: 0123456789abcdef or fedcba9876543210 is in force"), "{said}");
    shutdown.request();
    running.await.unwrap().unwrap();
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
