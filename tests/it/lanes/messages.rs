//! Are messages understood that other languages' libraries write? Each of them writes the same message, and a real
//! bus takes all for one.

use std::{
    path::PathBuf,
    process::{Output, Stdio},
};

use agentbus::{client::AgentClient, config::DEFAULT_CONSTITUTION};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    process::Command,
    time::{Duration, timeout},
};

use crate::support::{bus::Bus, root};

/// Go builds its program first.
const PATIENCE: Duration = Duration::from_secs(300);

fn tools(path: &str) -> PathBuf {
    root().join("deploy/tools").join(path)
}

/// The same message as each writer of a program has it: name and bytes. Nothing if the program is not here.
async fn written(mut command: Command, message: &Value) -> Option<Vec<(String, Vec<u8>)>> {
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = spawned.ok()?;
    // It may have ended already, because a library is not here.
    let _ = child.stdin.take().unwrap().write_all(message.to_string().as_bytes()).await;
    let Output { status, stdout, stderr } =
        timeout(PATIENCE, child.wait_with_output()).await.expect("ends in time").unwrap();
    if !status.success() {
        println!("{}", String::from_utf8_lossy(&stderr));
        return None;
    }
    let lines = String::from_utf8(stdout).unwrap();
    let parted = lines.lines().map(|line| line.split_once('\t').unwrap());
    Some(parted.map(|(name, digits)| (name.to_owned(), hex::decode(digits).unwrap())).collect())
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

fn message(id: &str) -> Value {
    json!({
        "message_id": id, "message_type": "notification", "to": { "agent": "worker", "capability": null },
        "constitutional_hash": DEFAULT_CONSTITUTION, "content": { "text": "hello" },
        "created_at": now_ms(), "in_reply_to": null, "metadata": null,
    })
}

async fn verdict(planner: &AgentClient, body: Vec<u8>) -> (Value, bool) {
    let answer = planner.nats().request("bus.planner.send", body.into()).await.unwrap();
    let repeat = answer.headers.as_ref().is_some_and(|headers| headers.get("Agentbus-Repeat").is_some());
    let verdict = match answer.payload.first() {
        Some(b'{') => serde_json::from_slice(&answer.payload).unwrap(),
        _ => rmp_serde::from_slice(&answer.payload).unwrap(),
    };
    (verdict, repeat)
}

/// One message of a language's libraries is governed once, whichever of them wrote it.
async fn all_write_one_message(language: &str, command: Command) {
    let message = message(&format!("of-{language}"));
    let Some(written) = written(command, &message).await else {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{language} is needed in CI");
        println!("skipped: {language} or its libraries are not here; `deploy/install-servers --clients`");
        return;
    };
    let bus = Bus::start(1).await;
    let planner = bus.agent("acme", "planner").await;
    let worker = bus.agent("acme", "worker").await;
    let _inbox = worker.inbox().await.unwrap();
    worker.register(&[]).await.unwrap();
    let (first, _) = verdict(&planner, message.to_string().into_bytes()).await;
    assert_eq!(first["reason"], "delivered", "{first}");
    for (name, body) in written {
        let (verdict, repeat) = verdict(&planner, body).await;
        assert_eq!((&verdict["reason"], repeat), (&json!("delivered"), true), "{name}: {verdict}");
        assert_eq!(verdict["decision_id"], first["decision_id"], "{name}");
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_javascripts_writers_is_the_one_that_json_says() {
    let mut command = Command::new("node");
    command.arg(tools("javascript/messages.mjs"));
    all_write_one_message("javascript", command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_pythons_msgpack_is_the_one_that_json_says() {
    let local = tools("../../.servers/venv/bin/python");
    let mut command = Command::new(if local.exists() { local } else { PathBuf::from("python3") });
    command.arg(tools("python/messages.py"));
    all_write_one_message("python", command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_gos_msgpack_is_the_one_that_json_says() {
    let mut command = Command::new("go");
    command.args(["run", "-mod=readonly", "."]).current_dir(tools("go-msgpack")).env("CGO_ENABLED", "0");
    all_write_one_message("go", command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn times_in_another_unit_are_told_by_its_name() {
    let bus = Bus::start(1).await;
    let planner = bus.agent("acme", "planner").await;
    let now = now_ms();
    for (field, value, reason, unit) in [
        ("created_at", now / 1_000, "malformed", "seconds"),
        ("created_at", now * 1_000, "clock_skew", "microseconds"),
        ("created_at", now * 1_000_000, "clock_skew", "nanoseconds"),
        ("expires_at", now / 1_000 + 60, "expired", "seconds"),
        ("expires_at", (now + 60_000) * 1_000, "malformed", "microseconds"),
    ] {
        let mut late = message("in-another-unit");
        late[field] = json!(value);
        let (verdict, _) = verdict(&planner, late.to_string().into_bytes()).await;
        let detail = verdict["detail"].as_str().unwrap();
        assert_eq!(verdict["reason"], reason, "{field}: {verdict}");
        let said = format!("{field} {value}, which looks like {unit}");
        assert!(detail.contains(&said), "{detail}");
    }
    bus.stop().await;
}

/// What an editor puts before a text changes nothing of what operators' files say.
#[tokio::test(flavor = "multi_thread")]
async fn operators_files_with_a_byte_order_mark_and_windows_line_ends_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let mark = "\u{feff}";
    let rego =
        "package agentbus.modules.mine\r\n\r\ndefault allow := false\r\n\r\nallow if data.mine.open\r\n";
    std::fs::write(folder.path().join("mine.rego"), format!("{mark}{rego}")).unwrap();
    std::fs::write(folder.path().join("data.json"), format!("{mark}{{\"mine\": {{\"open\": true}}}}\r\n"))
        .unwrap();
    let sources = agentbus::policy::PolicySources::read(Some(folder.path()), true).unwrap();
    assert!(!sources.modules[0].text.starts_with(mark));
    assert!(sources.data.unwrap().starts_with('{'));

    let example = std::fs::read_to_string(crate::support::root().join("nats/tenants.example.toml")).unwrap();
    let path = folder.path().join("tenants.toml");
    std::fs::write(&path, format!("{mark}{}", example.replace('\n', "\r\n"))).unwrap();
    let plan = agentbus::tenants::Plan::load(&path).unwrap();
    assert_eq!(plan.tenants().len(), agentbus::tenants::Plan::parse(&example).unwrap().tenants().len());

    std::fs::write(folder.path().join("m.rego"), b"\xff\xfep\0").unwrap();
    let refused = agentbus::policy::PolicySources::read(Some(folder.path()), true).unwrap_err();
    assert!(refused.to_string().contains("UTF-16"), "{refused}");
}
