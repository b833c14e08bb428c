//! What does SIGHUP do? A node reads its configuration again and goes on; what a person runs ends in order.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use agentbus::{
    client::Draft,
    domain::{Encoding, Status},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::bus::{self, Bus};

const AGAIN: &str = "SIGHUP: the configuration was read again";
const NOT_TAKEN: &str = "SIGHUP: the configuration is not taken over";

fn log(bus: &Bus) -> String {
    fs::read_to_string(bus.stack.nodes()[0].child().log()).unwrap()
}

/// Waits until the node's log has so many lines with the words; the last one.
async fn told(bus: &Bus, words: &str, count: usize) -> String {
    for _ in 0..1_000 {
        let log = log(bus);
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(words)).collect();
        if lines.len() >= count {
            return lines[count - 1].to_owned();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{words:?} is not {count} times in\n{}", log(bus));
}

fn config(bus: &Bus) -> PathBuf {
    bus.stack.dir().join("nodes/node-1.toml")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_its_configuration_again_under_traffic_and_goes_on() {
    let mut bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let pid = bus.stack.nodes()[0].child().pid();
    let good = fs::read_to_string(config(&bus)).unwrap();
    let send = async || {
        let draft = Draft::to_agent("worker", "the report is ready").encode(Encoding::Json);
        bus::send(&planner, draft).await
    };

    for (number, (text, words, expected)) in [
        (good.clone(), AGAIN, vec![r#""taken":"""#, r#""needs_restart":"""#]),
        (
            format!("{good}\n[log]\nfilter = \"info,agentbus=debug\"\n[limits]\nin_flight = 2000\n"),
            AGAIN,
            vec![r#""taken":"log.filter""#, r#""needs_restart":"limits.in_flight""#],
        ),
        (format!("{good}\n[limits]\nin_flight = 0\n"), NOT_TAKEN, vec!["limits.in_flight: found 0"]),
        (format!("{good}\n[limits]\nin_fligth = 5\n"), NOT_TAKEN, vec!["in_fligth"]),
        (format!("{good}\n[log]\nfilter = \"a=b=c\"\n"), NOT_TAKEN, vec!["log.filter"]),
        ("[[[".to_owned(), NOT_TAKEN, vec!["node-1.toml"]),
        (good, AGAIN, vec![r#""taken":"log.filter""#, r#""needs_restart":"""#]),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(config(&bus), text).unwrap();
        let before = log(&bus).lines().filter(|line| line.contains(words)).count();
        bus.stack.node_mut(0).unwrap().child_mut().reload();
        for _ in 0..20 {
            assert_eq!(send().await.status, Status::Delivered);
        }
        let line = told(&bus, words, before + 1).await;
        for expected in expected {
            assert!(line.contains(expected), "{number}: {expected} is not in {line}");
        }
        assert_eq!(send().await.status, Status::Delivered);
        assert!(bus.stack.node_mut(0).unwrap().child_mut().try_exited().is_none());
    }
    assert_eq!(bus.stack.nodes()[0].child().pid(), pid);
    // Many at once are one or more, and none too many.
    for _ in 0..200 {
        bus.stack.node_mut(0).unwrap().child_mut().reload();
    }
    assert_eq!(send().await.status, Status::Delivered);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_still_starting_survives_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let output = fs::File::create(&log).unwrap();
    // Nobody listens there: it tries to connect without end.
    let mut child = Command::new(env!("CARGO_BIN_EXE_agentbus"))
        .args(["node", "--server", "nats://127.0.0.1:1", "--http", "127.0.0.1:0"])
        .args(["--set", "impact.scorer=keywords"])
        .stderr(output)
        .spawn()
        .unwrap();
    let read = || fs::read_to_string(&log).unwrap();
    until(|| read().contains("trying again")).await;
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::HUP).unwrap();
    until(|| read().contains(AGAIN)).await;
    assert!(child.try_wait().unwrap().is_none());
    kill_process(pid, Signal::TERM).unwrap();
    until(|| child.try_wait().unwrap().is_some()).await;
}

async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..1_500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never came to that");
}

/// `agentbus up`, whose output nobody reads any more, as that of a terminal that was closed.
fn up(folder: &Path, program: &str) -> std::process::Child {
    let mut command = Command::new(program);
    if program != env!("CARGO_BIN_EXE_agentbus") {
        command.arg(env!("CARGO_BIN_EXE_agentbus"));
    }
    command
        .args(["up", "--port", "0", "--http-port", "0", "--redis-port", "0", "--dir"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_terminal_ends_up_and_its_nodes_drain() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = up(folder.path(), env!("CARGO_BIN_EXE_agentbus"));
    until(|| folder.path().join("up.json").exists()).await;
    drop((child.stdout.take(), child.stderr.take()));
    kill_process(Pid::from_child(&child), Signal::HUP).unwrap();
    let mut status = None;
    until(|| {
        status = child.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success(), "{status:?}");
    let log = fs::read_to_string(folder.path().join("nodes/node-1.log")).unwrap();
    // A library may say a word after it.
    assert!(log.contains("\"stopped\"") && !log.contains("did not take the goodbye"), "{log}");
    assert!(!folder.path().join("up.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nohup_starts_outlives_its_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = up(folder.path(), "nohup");
    until(|| folder.path().join("up.json").exists()).await;
    drop((child.stdout.take(), child.stderr.take()));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::HUP).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(child.try_wait().unwrap().is_none());
    kill_process(pid, Signal::TERM).unwrap();
    until(|| child.try_wait().unwrap().is_some()).await;
}
