//! What no node can govern is put aside with its reason, and takes nobody with it.

use std::collections::HashMap;

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Priority, Reason},
    tenants::BusUser,
};
use async_nats::jetstream;
use bytes::Bytes;
use serde_json::json;

use super::desk::{Desk, header, keep, live, note};

/// Of each kind.
const MANY: usize = 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_can_do_is_given_up_after_five_attempts_and_its_sender_is_told() {
    let desk = Desk::start(1).await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    let draft = Draft::new(json!({ "capability": "fly" }), json!({ "text": "fly, please" }));
    keep(&planner, &draft).await;
    // It waits for its next attempt most of this time.
    desk.until("agentbus_lane_waiting", 1).await;
    let verdict = live(&mut outcomes).await;
    assert_eq!(verdict.reason.as_str(), "no_capable_agent", "{verdict:?}");
    desk.until("agentbus_lane_waiting", 0).await;
    let letter = desk.waits_for("DEAD_acme", &format!("dead.acme.planner.{}", draft.message_id)).await;
    for (name, value) in
        [("Agentbus-Reason", "no_capable_agent"), ("Agentbus-Attempts", "5"), ("Agentbus-Redriven", "0")]
    {
        assert_eq!(header(&letter.headers, name), value, "{name}");
    }
    // Nothing comes of the same id again, and the sender is told what can be done.
    assert!(!verdict.retryable && verdict.retry_after.is_none(), "{verdict:?}");
    let rest = verdict.detail.strip_prefix(header(&letter.headers, "Agentbus-Detail"));
    assert!(
        rest.is_some_and(|rest| rest.contains("redrive") && rest.contains("new message_id")),
        "{verdict:?}"
    );
    let died: u64 = header(&letter.headers, "Agentbus-Died-At").parse().unwrap();
    assert!(died > 1_600_000_000_000, "{died}");
    assert!(String::from_utf8_lossy(&letter.payload).contains("fly, please"));
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn poison_ends_as_dead_letters_and_ends_no_node() {
    let mut desk = Desk::start(2).await;
    let planner = desk.agent("planner").await;
    // As whoever has got hold of a node's key.
    let node = desk.bus.stack.connect(BusUser::Node).await.unwrap();
    let jetstream = async_nats::jetstream::new(node);
    let message = |to: serde_json::Value| {
        let draft = Draft::new(to, json!({ "text": "hello" }));
        (draft.message_id.clone(), draft.encode(Encoding::MessagePack))
    };
    let mut expected: HashMap<String, &str> = HashMap::new();
    let mut acks = Vec::new();
    for number in 0..MANY {
        let mut publish = async |sender: &str, id: String, payload: Bytes, reason: &'static str| {
            let subject = format!("tenant.acme.submitted.{sender}.{id}");
            acks.push(jetstream.publish(subject, payload).await.unwrap());
            expected.insert(format!("dead.acme.{sender}.{id}"), reason);
        };
        let garbage = Bytes::from(vec![0xc1; 1 + number]);
        publish("planner", format!("garbage-{number}"), garbage, "malformed").await;
        let (_, bytes) = message(json!({ "agent": "worker" }));
        publish("planner", format!("another-{number}"), bytes, "malformed").await;
        let (id, bytes) = message(json!({ "capability": "fly" }));
        publish("planner", id, bytes, "no_capable_agent").await;
        let (id, bytes) = message(json!({ "agent": "worker" }));
        publish("ghost", id, bytes, "sender_unknown").await;
    }
    for ack in acks {
        ack.await.unwrap();
    }
    // Good messages go on meanwhile.
    good(&planner, 20).await;
    assert!(desk.is_empty().await, "something still waits");
    for index in 0..2 {
        let node = desk.bus.stack.node_mut(index).unwrap();
        assert!(node.child_mut().try_exited().is_none(), "a node has exited");
    }
    let letters = desk.count("DEAD_acme", ">").await;
    assert_eq!(letters.len(), expected.len());
    for (subject, reason) in expected.iter().step_by(37) {
        let letter = desk.last("DEAD_acme", subject).await.unwrap();
        assert_eq!(header(&letter.headers, "Agentbus-Reason"), *reason, "{subject}");
        let attempts: u64 = header(&letter.headers, "Agentbus-Attempts").parse().unwrap();
        assert!(attempts <= 5, "{subject}: {attempts} attempts");
    }
    good(&planner, 20).await;
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_and_finds_no_room_ends_all_the_same_and_its_sender_is_told() {
    let desk = Desk::start(1).await;
    desk.fill("DEAD_acme").await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    let draft = Draft::new(json!({ "capability": "fly" }), json!({ "text": "fly, please" }));
    keep(&planner, &draft).await;
    let verdict = live(&mut outcomes).await;
    assert_eq!(verdict.reason, Reason::NoCapableAgent, "{verdict:?}");
    assert!(!verdict.retryable && verdict.detail.contains("no room to put it aside"), "{verdict:?}");
    assert!(desk.is_empty().await, "it still goes round");
    assert!(desk.count("DEAD_acme", ">").await.is_empty());
    desk.until("agentbus_lane_unburied_total", 1).await;
    desk.bus.stop().await;
}

/// Reviewers, and room for one message that waits for them.
const NARROW: &str = "judge = { roles = [\"judicial\"] }\narbiter = { roles = [\"judicial\"] }\n\
    [tenants.acme.deliberation]\nopen_max = 1\n\
    [tenants.acme.deliberation.terms]\nrule = \"roles\"\ndistinct_roles = 1\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_finds_no_room_with_the_reviewers_or_makes_a_rule_fail_holds_up_nobody_else() {
    let desk = Desk::with(1, NARROW, |_| {}).await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    let severe = || Draft { priority: Priority::Critical, ..note("worker", "now") };
    keep(&planner, &severe()).await;
    assert_eq!(live(&mut outcomes).await.reason, Reason::Deliberating);
    let mut expected = HashMap::new();
    for number in 0..16 {
        let (draft, reason) = match number % 3 {
            0 => (severe(), Reason::TooManyParked),
            1 => (note("worker", "two answers"), Reason::PolicyFailed),
            _ => (note("worker", "endless"), Reason::PolicyFailed),
        };
        keep(&planner, &draft).await;
        expected.insert(draft.message_id, reason);
    }
    good(&planner, 20).await;
    assert!(desk.is_empty().await, "something still waits");
    assert_eq!(desk.count("DEAD_acme", ">").await.len(), expected.len());
    let mut told = HashMap::new();
    while told.len() < expected.len() {
        let verdict = live(&mut outcomes).await;
        if verdict.reason != Reason::Delivered {
            told.insert(verdict.message_id.unwrap().as_str().to_owned(), verdict.reason);
        }
    }
    assert_eq!(told, expected);
    desk.bus.stop().await;
}

async fn good(planner: &AgentClient, many: usize) {
    let mut outcomes = planner.outcomes().await.unwrap();
    let mut ids = Vec::new();
    for _ in 0..many {
        let draft = note("worker", "a good one");
        keep(planner, &draft).await;
        ids.push(draft.message_id);
    }
    while !ids.is_empty() {
        let verdict = live(&mut outcomes).await;
        let id = verdict.message_id.as_ref().unwrap().as_str().to_owned();
        if let Some(at) = ids.iter().position(|good| *good == id) {
            assert_eq!(verdict.reason.as_str(), "delivered", "{verdict:?}");
            ids.swap_remove(at);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_dead_letters_are_full_keeps_no_other_from_burying_its_own() {
    let more = "[tenants.acme.store]\ndead_letters_bytes = 1048576\n[tenants.globex.agents]\nplanner = {}\n";
    let desk = Desk::with(1, more, |_| {}).await;
    let node = jetstream::new(desk.bus.stack.connect(BusUser::Node).await.unwrap());
    let mut number = 0;
    for bytes in [100_000, 1_000, 1] {
        loop {
            number += 1;
            let subject = format!("dead.acme.planner.fill{number}");
            let sent = node.publish(subject, "x".repeat(bytes).into()).await.unwrap().await;
            if sent.is_err() {
                break;
            }
        }
    }
    // No agent can write there: given up at once, and told to nobody.
    for tenant in ["acme", "globex"] {
        let subject = format!("tenant.{tenant}.submitted.planner.not~an~id");
        node.publish(subject, "junk".into()).await.unwrap().await.unwrap();
    }
    let letter = desk.waits_for("DEAD_globex", "dead.globex.planner.~").await;
    assert_eq!(letter.payload, "junk");
    // What finds no room is counted and ends: going round, it would slow its tenant.
    desk.until("agentbus_lane_unburied_total", 1).await;
    assert!(desk.last("DEAD_acme", "dead.acme.planner.~").await.is_none());
    assert!(desk.is_empty().await, "it still goes round");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sender_whose_messages_are_all_given_up_leaves_room_to_the_dead_letters_of_others() {
    let desk = Desk::with(1, "[tenants.acme.store]\ndead_letters_bytes = 4194304\n", |_| {}).await;
    let node = jetstream::new(desk.bus.stack.connect(BusUser::Node).await.unwrap());
    // What cannot be read is given up at once. Twice what there is room for.
    for number in 0..300 {
        let subject = format!("tenant.acme.submitted.planner.junk-{number}");
        node.publish(subject, vec![0xc1; 30_000].into()).await.unwrap().await.unwrap();
    }
    assert!(desk.is_empty().await, "it still goes round");
    let kept = desk.count("DEAD_acme", "dead.acme.planner.*").await.len();
    // Half of it is 68 of these; what is under way while it is reckoned comes beside that.
    assert!((50..=110).contains(&kept), "found {kept}");
    desk.until("agentbus_lane_unburied_of_share_total", i64::try_from(300 - kept).unwrap()).await;
    assert_eq!(desk.number("agentbus_lane_unburied_total").await, 0, "there is room for others");
    for number in 0..5 {
        let subject = format!("tenant.acme.submitted.helper.junk-{number}");
        node.publish(subject, vec![0xc1; 30_000].into()).await.unwrap().await.unwrap();
    }
    assert!(desk.is_empty().await, "it still goes round");
    assert_eq!(desk.count("DEAD_acme", "dead.acme.helper.*").await.len(), 5);
    desk.bus.stop().await;
}
