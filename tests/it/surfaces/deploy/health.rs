//! Does `agentbus health` say how the node is, to people and by its exit code?

use std::process::Command;

use super::run;
use crate::{support::bus::Bus, surfaces::clients::AGENTBUS};

fn health(words: &[&str]) -> (bool, String) {
    run(Command::new(AGENTBUS).arg("health").args(words))
}

#[tokio::test(flavor = "multi_thread")]
async fn health_ends_with_0_for_a_node_that_is_well_and_with_1_for_one_that_is_not_or_is_not_there() {
    let mut bus = Bus::start(1).await;
    let config = bus.stack.dir().join("nodes/node-1.toml").display().to_string();
    let http = bus.stack.nodes()[0].http();
    // By where its configuration says that it listens, and by name.
    for words in [["--config", &config], ["--http", &http]] {
        assert_eq!(health(&words), (true, "ready  node-1\n".to_owned()), "{words:?}");
    }
    assert_eq!(health(&["--http", &http, "--live"]), (true, "alive\n".to_owned()));

    bus.stack.redis_mut().unwrap().child_mut().kill().await;
    let told = loop {
        let (well, told) = health(&["--http", &http]);
        assert!(well, "what all nodes share makes none unready: {told}");
        if told.starts_with("degraded") {
            break told;
        }
    };
    assert!(told.starts_with("degraded  node-1\n  store      degraded: redis"), "{told}");

    bus.stack.nats_mut().child_mut().kill().await;
    let told = loop {
        match health(&["--http", &http]) {
            (true, _) => {}
            (false, told) => break told,
        }
    };
    assert!(told.starts_with("not ready  node-1\n") && told.contains("\n  nats       down: "), "{told}");

    bus.stack.node_mut(0).unwrap().child_mut().kill().await;
    let (well, told) = health(&["--http", &http]);
    assert!(!well && told.contains(&format!("agentbus: the node at {http} (http.listen): ")), "{told}");
}
