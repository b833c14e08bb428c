//! Do nodes that are stopped under load end in time, and lose nothing? Asks the programs that cargo has built,
//! `agentbus` beside `loadtest`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on should stop with its reason"
)]

use std::process::{Command, Stdio};

/// A node that is stopped gives back what it holds, so nothing waits for the thirty seconds after which
/// JetStream misses a dead one.
#[test]
fn nodes_that_are_stopped_under_durable_load_end_in_time_and_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(["stops", "--stops", "4", "--rate", "150", "--logs"])
        .arg(folder.path().join("books"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let last = told.lines().last().unwrap_or_default();
    assert!(last.starts_with("stops: ") && last.ends_with(" 4 stops, 0 lost, 0 doubled"), "{told}");
    println!("{told}");
}
