//! Does an operator stop an agent, a tenant or everything within a moment, on all nodes, and does nothing get lost by it?

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status, Verdict},
    tenants::BusUser,
};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::process::Command;

use crate::support::bus::Bus;

/// Runs `agentbus …` to its end: its exit code and what it said.
async fn said(bus: &Bus, words: &[&str]) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_agentbus"));
    command.args(words).arg("--dir").arg(bus.stack.dir()).args(["--server", &bus.stack.nats_url()]);
    let output = command.env("USER", "mia").output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code().unwrap(), text)
}

async fn json(bus: &Bus, words: &[&str]) -> Value {
    let (code, text) = said(bus, &[words, &["--json"]].concat()).await;
    assert_eq!(code, 0, "{text}");
    serde_json::from_str(text.trim()).unwrap()
}

async fn once(agent: &AgentClient, draft: Draft) -> Verdict {
    let once = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
    agent.send(draft.encode(Encoding::Json), once).await.unwrap()
}

async fn sent(agent: &AgentClient, to: &str) -> Reason {
    once(agent, Draft::to_agent(to, "the report is ready")).await.reason
}

/// As a node keeps what was submitted, just before its sender was stopped.
async fn queue(bus: &Bus, draft: &Draft) {
    let operator = bus.stack.connect(BusUser::Operator).await.unwrap();
    let subject = format!("tenant.acme.submitted.planner.{}", draft.message_id);
    operator.request(subject, draft.encode(Encoding::Json)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_agent_neither_sends_nor_receives_on_any_node_and_what_it_has_queued_waits() {
    let mut bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    planner.register(&["planning"]).await.unwrap();
    worker.register(&["work"]).await.unwrap();
    let (_inbox, _planners) = (worker.inbox().await.unwrap(), planner.inbox().await.unwrap());
    assert_eq!(sent(&planner, "worker").await, Reason::Delivered);

    let (code, text) = said(&bus, &["freeze", "--agent", "acme/planer", "--why", "it loops"]).await;
    assert!(code == 1 && text.contains("found agent \"planer\", expected one of:"), "{code} {text}");
    let rehearsed =
        json(&bus, &["freeze", "--agent", "acme/planner", "--why", "it loops", "--dry-run"]).await;
    assert_eq!((&rehearsed["done"], &rehearsed["waiting"]), (&"nothing".into(), &0.into()), "{rehearsed}");
    assert_eq!(rehearsed["nodes"].as_array().unwrap().len(), 2);
    assert_eq!(sent(&planner, "worker").await, Reason::Delivered);

    let frozen = json(&bus, &["freeze", "--agent", "acme/planner", "--why", "it loops"]).await;
    let nodes = frozen["in_force_after_ms"].as_object().unwrap();
    assert!(nodes.len() == 2 && nodes.values().all(Value::is_u64), "{frozen}");
    println!("in force after (ms): {nodes:?}");
    let verdict = once(&planner, Draft::to_agent("worker", "again")).await;
    assert_eq!((verdict.status, verdict.reason, verdict.retryable), (Status::Shed, Reason::Frozen, true));
    assert_eq!(verdict.detail, "an operator has stopped agent acme/planner: it loops");
    assert!(verdict.retry_after.is_some());
    assert_eq!(sent(&worker, "planner").await, Reason::Frozen);
    // By its capability, too, since nobody else has it.
    let to = serde_json::json!({ "capability": "planning" });
    assert_eq!(once(&worker, Draft { to, ..Draft::to_agent("", "who plans?") }).await.reason, Reason::Frozen);
    let stranger = bus.agent("globex", "drafter").await;
    stranger.register(&[]).await.unwrap();
    assert_eq!(sent(&stranger, "drafter").await, Reason::RecipientOffline, "its neighbour goes on");

    // What is queued loses none of its five attempts, and a node that comes later knows as well.
    let queued = Draft::to_agent("worker", "for later");
    queue(&bus, &queued).await;
    bus.stack.add_node().await.unwrap();
    let held = async |times: u64| {
        for _ in 0..300 {
            let listed = json(&bus, &["freezes"]).await;
            assert_eq!((&listed["login"], &listed["why"]), (&"mia".into(), &"it loops".into()));
            if listed["stopped"].as_u64().unwrap() >= times {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("the queued message was not tried");
    };
    held(4).await;
    let (code, text) = said(&bus, &["freezes"]).await;
    assert!(code == 0 && text.contains("1 freeze in force on 3 nodes"), "{code} {text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let ready = reqwest::get(format!("http://{}/readyz", bus.stack.nodes()[2].http())).await.unwrap();
    assert!(ready.status().is_success());
    assert!(ready.text().await.unwrap().contains("1 freeze in force: agent acme/planner"));

    let thawed = json(&bus, &["thaw", "--agent", "acme/planner"]).await;
    assert_eq!(thawed["in_force_after_ms"].as_object().unwrap().len(), 3, "{thawed}");
    assert_eq!(sent(&planner, "worker").await, Reason::Delivered);
    let consumer = worker.durable_inbox(&"acme".parse().unwrap()).unwrap();
    let mut inbox = consumer.messages().await.unwrap();
    let kept =
        tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.expect("it came at last").unwrap();
    assert!(String::from_utf8_lossy(&kept.unwrap().payload).contains("for later"));
    let (code, text) = said(&bus, &["thaw", "--agent", "acme/planner"]).await;
    assert!(code == 1 && text.contains("is not stopped by itself; found nothing is"), "{code} {text}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_stopped_but_what_operators_do_and_the_history_says_who_did_it() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let talk =
        |id: &str| Draft { conversation_id: Some(id.to_owned()), ..Draft::to_agent("worker", "hello") };

    json(&bus, &["freeze", "--conversation", "acme/trip-17", "--why", "too long"]).await;
    assert_eq!(once(&planner, talk("trip-17")).await.reason, Reason::Frozen);
    assert_eq!(once(&planner, talk("trip-18")).await.reason, Reason::Delivered);
    json(&bus, &["freeze", "--all", "--why", "drill"]).await;
    assert_eq!(json(&bus, &["freeze", "--all", "--why", "drill again"]).await["done"], "stopped already");
    assert_eq!(once(&planner, talk("trip-18")).await.reason, Reason::Frozen);
    let queued = Draft::to_agent("worker", "hello").encode(Encoding::Json);
    let patience = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
    assert_eq!(planner.submit(queued, patience).await.unwrap().reason, Reason::Frozen);
    // It is alive all the same, and says so.
    worker.register(&["work"]).await.unwrap();
    json(&bus, &["thaw", "--all"]).await;
    assert_eq!(once(&planner, talk("trip-17")).await.reason, Reason::Frozen, "it was stopped by itself");
    assert_eq!(once(&planner, talk("trip-18")).await.reason, Reason::Delivered);

    let (code, text) = said(&bus, &["freezes", "--history", "--json"]).await;
    let acts: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told =
        |act: &Value| format!("{} {} {}", act["act"], act["freeze"]["what"], act["by"]).replace('"', "");
    let acts: Vec<_> = acts.iter().map(told).collect();
    assert_eq!(
        (code, acts),
        (
            0,
            vec![
                "frozen conversation mia".into(),
                "frozen everything mia".into(),
                "thawed everything mia".to_owned()
            ]
        )
    );
    bus.stop().await;
}
