//! What does an operator see of a node? Health, numbers, logs, and how it ends.

use std::{collections::BTreeSet, time::Duration};

use agentbus::{
    audit::{Body, Record},
    client::Draft,
    domain::{Encoding, MessageType, Reason},
    nats::RecordStream,
    tenants::Plan,
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::support::bus::{self, Bus};

async fn get(bus: &Bus, path: &str) -> (u16, String) {
    let url = format!("http://{}{path}", bus.stack.nodes()[0].http());
    let answer = reqwest::get(url).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

/// Asks until the node's report says so, at most a minute.
async fn until(bus: &Bus, expected: impl Fn(u16, &Value) -> bool) -> Value {
    let mut last = Value::Null;
    for _ in 0..1_200 {
        let (status, body) = get(bus, "/readyz").await;
        last = serde_json::from_str(&body).unwrap();
        if expected(status, &last) {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the report never came to that: {last}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_count_every_verdict_and_name_nobody() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&["sum"]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    for _ in 0..3 {
        let draft = Draft::to_agent("worker", "secret-canary-text");
        bus::send(&planner, draft.encode(Encoding::Json)).await;
        inbox.next().await.unwrap();
    }
    let nobody = Draft::to_agent("nobody", "secret-canary-text").encode(Encoding::MessagePack);
    assert_eq!(bus::send(&planner, nobody).await.reason, Reason::RecipientUnknown);
    bus::send(&planner, b"\xc1secret-canary-text"[..].into()).await;

    let (status, numbers) = get(&bus, "/metrics").await;
    assert_eq!(status, 200);
    for line in [
        r#"agentbus_requests_total{verb="send",status="delivered",reason="delivered"} 3"#,
        r#"agentbus_requests_total{verb="send",status="rejected",reason="recipient_unknown"} 1"#,
        r#"agentbus_requests_total{verb="send",status="rejected",reason="malformed"} 1"#,
        r#"agentbus_requests_total{verb="register",status="ok",reason="ok"} 1"#,
        "agentbus_deliveries_total 3",
        "agentbus_store_healthy 1",
        "agentbus_nats_connected 1",
        "agentbus_tenants 2",
        r#"agentbus_stage_seconds_count{stage="policy"} 3"#,
        r#"agentbus_policy_decisions_total{source="cache"} 2"#,
    ] {
        assert!(numbers.contains(line), "{line} is not in\n{numbers}");
    }
    for name in ["acme", "planner", "worker", "secret-canary"] {
        assert!(!numbers.contains(name), "{name} is in a metric");
    }
    let log = std::fs::read_to_string(bus.stack.nodes()[0].child().log()).unwrap();
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "not on a terminal, so JSON: {line}");
    }
    assert!(!log.contains("secret-canary"), "a message's text is in the log");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_says_what_it_misses_and_recovers_by_itself() {
    let mut bus = Bus::start(1).await;
    assert_eq!(get(&bus, "/livez").await.0, 200);
    until(&bus, |status, report| status == 200 && report["status"] == "ready").await;

    bus.stack.redis_mut().unwrap().child_mut().kill().await;
    let report = until(&bus, |_, report| report["parts"]["store"]["state"] == "degraded").await;
    assert_eq!(report["status"], "degraded", "{report}");

    bus.stack.nats_mut().child_mut().kill().await;
    // Each part notices on its own connection, in any order.
    until(&bus, |status, report| status == 503 && report["parts"]["nats"]["state"] == "down").await;
    assert_eq!(get(&bus, "/livez").await.0, 200, "a short loss is no reason to restart it");

    bus.stack.nats_mut().restart().await.unwrap();
    bus.stack.redis_mut().unwrap().restart().await.unwrap();
    until(&bus, |status, report| status == 200 && report["status"] == "ready").await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_content_limit_of_the_tenants_file_is_the_one_that_counts() {
    let plan = "[tenants.acme.limits]\ncontent_bytes = 131072\n[tenants.acme.agents]\n\
                planner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }";
    let bus = Bus::with(1, |options| options.plan = Plan::parse(plan).unwrap()).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    for (bytes, reason) in [(131_000, Reason::Delivered), (131_073, Reason::TooLarge)] {
        let draft = Draft::to_agent("worker", &"x".repeat(bytes));
        let verdict = bus::send(&planner, draft.encode(Encoding::Json)).await;
        assert_eq!(verdict.reason, reason, "{bytes} bytes: {verdict:?}");
    }
    assert!(inbox.next().await.is_some());
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verdict_leaves_a_record() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&["sum"]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let (mut expected, mut ids) = (Vec::new(), BTreeSet::new());
    let denied =
        Draft { message_type: MessageType::ConstitutionalValidation, ..Draft::to_agent("worker", "hello") };
    for draft in [Draft::to_agent("worker", "hello"), Draft::to_agent("nobody", "hello"), denied] {
        let verdict = bus::send(&planner, draft.encode(Encoding::Json)).await;
        expected.push(verdict.decision_id);
    }
    let unreadable = bus::send(&planner, b"\xc1"[..].into()).await;

    let operator = bus.stack.connect(agentbus::tenants::BusUser::Operator).await.unwrap();
    let records = RecordStream::new(operator);
    for decision_id in expected {
        let record = recorded(&records, &decision_id).await;
        assert_eq!((record.tenant.as_str(), &*record.node), ("acme", "node-1"), "{record:?}");
        let id = record.id.as_ref().unwrap().to_string();
        assert!(ids.insert(id), "two records with one id: {record:?}");
        let (Body::Intent(decision) | Body::Verdict(decision)) = &record.body else { panic!("{record:?}") };
        assert!(decision.digest.is_some(), "{record:?}");
        // What the policy saw, where it was asked.
        let facts = decision.facts.as_ref().map(|facts| (facts.sender.clone(), facts.recipients.clone()));
        let reached = matches!(decision.verdict.reason, Reason::Delivered | Reason::PolicyDenied);
        assert_eq!(facts.is_some(), reached, "{record:?}");
        if let Some((sender, recipients)) = facts {
            assert_eq!(sender.roles.iter().collect::<Vec<_>>(), ["executive"], "{record:?}");
            assert_eq!(recipients[0].id.as_str(), "worker");
            assert_eq!(recipients[0].capabilities.iter().map(|it| it.as_str()).collect::<Vec<_>>(), ["sum"]);
        }
    }
    let record = recorded(&records, &unreadable.decision_id).await;
    assert!(matches!(record.body, Body::Verdict(it) if it.verdict.reason == Reason::Malformed));
    bus.stop().await;
}

/// What is on record of a decision; it is written beside the verdict.
async fn recorded(records: &RecordStream, decision_id: &str) -> Record<'static> {
    for _ in 0..3_000 {
        if let Some(stored) = records.in_batch(decision_id, None).await.unwrap().pop() {
            return stored.record;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no record of {decision_id}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_registry_leaves_a_record() {
    let bus = Bus::start(1).await;
    let worker = bus.agent("acme", "worker").await;
    let operator = bus.stack.connect(agentbus::tenants::BusUser::Operator).await.unwrap();
    let records = async_nats::jetstream::new(operator).get_stream_no_info("RECORDS").await.unwrap();
    let subject = "record.acme.worker.~.registration";
    worker.register(&["sum"]).await.unwrap();
    let first = last(&records, subject).await;
    assert_eq!(
        (&first["change"], &first["capabilities"]),
        (&json!("registered"), &json!(["sum"])),
        "{first}"
    );
    assert_eq!((&first["schema"], &first["node"]), (&json!(2), &json!("node-1")), "{first}");

    // What follows at once is told together, as it was in the end.
    worker.register(&["sum", "sort"]).await.unwrap();
    worker.register(&["sum", "sort"]).await.unwrap();
    worker.nats().request("bus.worker.unregister", "{}".into()).await.unwrap();
    let mut changes = 1;
    for _ in 0..3_000 {
        let record = last(&records, subject).await;
        if record["id"] != first["id"] {
            changes += record["changes"].as_u64().unwrap_or(1);
            assert!(record["change"] != "left" || record.get("capabilities").is_none(), "{record}");
            if record["change"] == "left" {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(changes, 3, "registered, changed, left, and no more");
    bus.stop().await;
}

/// The last record under a subject; records are stored a moment after their verdict.
async fn last<T>(records: &async_nats::jetstream::stream::Stream<T>, subject: &str) -> Value {
    for _ in 0..3_000 {
        if let Ok(message) = records.get_last_raw_message_by_subject(subject).await {
            return serde_json::from_slice(&message.payload).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no record under {subject}");
}
