//! Durable inboxes that somebody fills: what is acknowledged gives its place back and is delivered once all the same,
//! and who reads nothing keeps nobody else from being served. Against real servers and nodes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status, Verdict},
    fault_points::Step,
    tenants::BusUser,
};
use serde_json::json;

use super::desk::{Desk, Kept, PATIENT, header, note};
use crate::support::fault_points::FaultPoints;

/// A stream that is soon full.
const LITTLE: &str = "[tenants.acme.store]\ninbox_bytes = 1048576\n";
const INBOX_BYTES: u64 = 1_048_576;
const LARGE: usize = 30_000;
/// Within it place comes back.
const A_MINUTE: Duration = Duration::from_secs(60);
/// What nodes count of the stores is at most as old as this.
const COUNTED_FOR: Duration = Duration::from_secs(4);
const HASTY: Patience = Patience { attempt: Duration::from_secs(10), deadline: Duration::from_secs(10) };

fn large(to: &str) -> Draft {
    note(to, &"x".repeat(LARGE))
}

/// The verdict on it as it is: nothing that is refused is tried again.
async fn submitted(from: &AgentClient, draft: &Draft) -> Verdict {
    from.submit(draft.encode(Encoding::MessagePack), HASTY).await.unwrap()
}

/// Submits until it is refused: what was let in, and how it was refused.
async fn fill(from: &AgentClient, to: &str) -> (Vec<Draft>, Verdict) {
    let mut kept = Vec::new();
    loop {
        let draft = large(to);
        let verdict = submitted(from, &draft).await;
        if verdict.status != Status::Stored {
            return (kept, verdict);
        }
        kept.push(draft);
        assert!(kept.len() < 100, "it is never refused");
    }
}

/// What is in an agent's inbox, acknowledged or not: subjects of messages.
async fn in_inbox(desk: &Desk, agent: &str) -> BTreeSet<String> {
    let subjects = format!("tenant.acme.stored.{agent}.message.*.*");
    desk.count("OUT_acme", &subjects).await.into_keys().collect()
}

async fn receipts(desk: &Desk) -> usize {
    desk.count("OUT_acme", "tenant.acme.stored.~.*.*.*").await.len()
}

/// How long it took until nothing is in an agent's inbox.
async fn is_emptied(desk: &Desk, agent: &str, within: Duration) -> Duration {
    let started = Instant::now();
    loop {
        let left = in_inbox(desk, agent).await;
        if left.is_empty() {
            return started.elapsed();
        }
        assert!(started.elapsed() < within, "still there after {within:?}: {left:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// As after the window in which JetStream knows it for a repeat: to a node it is new.
async fn comes_anew(desk: &Desk, draft: &Draft) {
    let node = async_nats::jetstream::new(desk.bus.stack.connect(BusUser::Node).await.unwrap());
    let subject = format!("tenant.acme.submitted.planner.{}", draft.message_id);
    node.publish(subject, draft.encode(Encoding::MessagePack)).await.unwrap().await.unwrap();
}

/// As an operator has a dead letter tried anew.
async fn redriven(desk: &Desk, draft: &Draft, times: u32) {
    let node = async_nats::jetstream::new(desk.bus.stack.connect(BusUser::Node).await.unwrap());
    let subject = format!("tenant.acme.submitted.planner.{}", draft.message_id);
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("Agentbus-Redriven", times.to_string());
    let payload = draft.encode(Encoding::MessagePack);
    node.publish_with_headers(subject, headers, payload).await.unwrap().await.unwrap();
}

async fn message_ids(kept: &mut Kept, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let message = kept.next().await;
        ids.insert(header(message.headers.as_ref().unwrap(), "Agentbus-Message-Id").to_owned());
    }
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_gives_its_place_back_and_comes_no_second_time() {
    let mut desk = Desk::with(1, LITTLE, |_| {}).await;
    let (planner, helper, worker) =
        (desk.agent("planner").await, desk.agent("helper").await, desk.agent("worker").await);
    let (sent, refused) = fill(&planner, "worker").await;
    assert_eq!((refused.reason, refused.retryable), (Reason::RateLimited, true), "{refused:?}");
    assert!(sent.len() >= 8, "{} were let in", sent.len());
    // Another goes on meanwhile.
    assert_eq!(submitted(&helper, &note("planner", "and I?")).await.status, Status::Stored);
    assert!(desk.is_empty().await);

    let mut inbox = Kept::of(&worker).await;
    let all: BTreeSet<String> = sent.iter().map(|draft| draft.message_id.clone()).collect();
    assert_eq!(message_ids(&mut inbox, sent.len()).await, all);
    let took = is_emptied(&desk, "worker", A_MINUTE).await;
    println!("the place of {} messages came back {took:?} after they were acknowledged", sent.len());
    assert_eq!(receipts(&desk).await, 0, "their outcomes say enough");
    desk.until("agentbus_inbox_released_total", i64::try_from(sent.len() + 1).unwrap()).await;
    tokio::time::sleep(COUNTED_FOR).await;
    let (again, _) = fill(&planner, "worker").await;
    assert!(again.len() + 1 >= sent.len(), "{} found room, of {}", again.len(), sent.len());
    assert!(desk.is_empty().await);
    message_ids(&mut inbox, again.len()).await;

    // What says that they were delivered outlives the node.
    for draft in &sent {
        comes_anew(&desk, draft).await;
    }
    assert!(desk.is_empty().await);
    let node = desk.bus.stack.node_mut(0).unwrap();
    node.stop().await;
    node.restart().await.unwrap();
    for draft in &sent {
        comes_anew(&desk, draft).await;
    }
    assert!(desk.is_empty().await);
    assert!(inbox.is_silent().await, "delivered twice");
    let other = Draft { content: json!({ "text": "another" }), ..sent[0].clone() };
    comes_anew(&desk, &other).await;
    assert!(desk.is_empty().await);
    assert!(inbox.is_silent().await, "another content under the same id was delivered");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_delivered_and_has_gone_is_not_delivered_again_when_it_is_redriven() {
    let mut desk = Desk::start(1).await;
    let (planner, worker) = (desk.agent("planner").await, desk.agent("worker").await);
    let draft = note("worker", "once");
    assert_eq!(submitted(&planner, &draft).await.status, Status::Stored);
    let mut inbox = Kept::of(&worker).await;
    message_ids(&mut inbox, 1).await;
    is_emptied(&desk, "worker", A_MINUTE).await;
    assert_eq!(receipts(&desk).await, 0, "its outcome alone says that it was delivered");

    redriven(&desk, &draft, 1).await;
    assert!(desk.is_empty().await);
    let outcome = |times: u32| {
        format!("tenant.acme.stored.planner.outcome.planner.{}~redriven{times}", draft.message_id)
    };
    let told = desk.waits_for("OUT_acme", &outcome(1)).await;
    assert_eq!(header(&told.headers, "Agentbus-Verdict"), "delivered");
    // Another node knows of nothing but what is stored.
    let node = desk.bus.stack.node_mut(0).unwrap();
    node.stop().await;
    node.restart().await.unwrap();
    redriven(&desk, &draft, 2).await;
    assert!(desk.is_empty().await);
    desk.waits_for("OUT_acme", &outcome(2)).await;
    assert!(inbox.is_silent().await, "delivered twice");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_has_no_outcome_a_receipt_stays_which_no_agent_gets_and_a_killed_node_leaves_it_to_another() {
    let mut points = FaultPoints::default();
    let desk = Desk::with(2, "", |options| points = FaultPoints::of(options)).await;
    let (planner, worker, helper) =
        (desk.agent("planner").await, desk.agent("worker").await, desk.agent("helper").await);
    worker.register(&[]).await.unwrap();
    helper.register(&[]).await.unwrap();
    // The policy has it stored, and the answer says so: nothing else does.
    let sent = note("worker", "for later");
    let to_all = Draft::new(json!({ "broadcast": {} }), json!({ "text": "for later" }));
    let mut told = Vec::new();
    for draft in [&sent, &to_all] {
        told.push(planner.send(draft.encode(Encoding::MessagePack), PATIENT).await.unwrap());
    }
    assert!(told.iter().all(|verdict| verdict.reason == Reason::Delivered), "{told:?}");
    let mut workers = Kept::of(&worker).await;
    message_ids(&mut workers, 2).await;
    let armed = points.arm(Step::Receipted, "kill");
    let started = Instant::now();
    while armed.exists() {
        assert!(started.elapsed() < A_MINUTE, "no node has written a receipt");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(receipts(&desk).await >= 1);
    let took = is_emptied(&desk, "worker", 2 * A_MINUTE).await;
    println!("{took:?} after the kill the place was free");
    assert_eq!(in_inbox(&desk, "helper").await.len(), 1, "it has not acknowledged");
    let started = Instant::now();
    while receipts(&desk).await < 3 {
        assert!(started.elapsed() < A_MINUTE, "{} receipts", receipts(&desk).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(receipts(&desk).await, 3, "one for each delivery");

    // By the other lane, and for the rest of a broadcast.
    for draft in [&sent, &to_all] {
        comes_anew(&desk, draft).await;
    }
    assert!(desk.is_empty().await);
    assert!(workers.is_silent().await, "delivered twice");
    let mut helpers = Kept::of(&helper).await;
    message_ids(&mut helpers, 1).await;
    assert!(helpers.is_silent().await, "delivered twice");
    is_emptied(&desk, "helper", A_MINUTE).await;
    let told_by = format!("tenant.acme.stored.*.outcome.planner.{}", sent.message_id);
    let outcome = desk.last("OUT_acme", &told_by).await.expect("its sender is told what stands");
    let decision = header(&outcome.headers, "Agentbus-Decision").to_owned();
    assert_eq!(decision, told[0].decision_id, "it is the decision that delivered it");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_acknowledges_nothing_keeps_no_other_recipient_from_its_messages() {
    let desk = Desk::with(1, &format!("second = {{}}\nthird = {{}}\nfourth = {{}}\n{LITTLE}"), |_| {}).await;
    let worker = desk.agent("worker").await;
    worker.register(&["idle"]).await.unwrap();
    let mut last = None;
    let mut let_in = 0;
    for sender in ["planner", "helper", "second", "third"] {
        let sender = desk.agent(sender).await;
        let (kept, refused) = fill(&sender, "worker").await;
        assert_eq!(refused.reason, Reason::RateLimited, "{refused:?}");
        let_in += kept.len();
        assert!(desk.is_empty().await);
        tokio::time::sleep(COUNTED_FOR).await;
        last = Some(refused);
    }
    let refused = last.unwrap();
    assert!(refused.detail.contains("its recipient worker"), "{}", refused.detail);
    assert!(refused.retry_after.is_some(), "{refused:?}");
    let held = u64::try_from(let_in * LARGE).unwrap();
    assert!(held < INBOX_BYTES / 10 * 6, "one recipient holds {held} of {INBOX_BYTES} bytes");

    // Who is it by name hears it at once, by what it can do in the end, and of all it is left out.
    let fourth = desk.agent("fourth").await;
    assert_eq!(submitted(&fourth, &large("worker")).await.reason, Reason::RateLimited);
    let helper = desk.agent("helper").await;
    helper.register(&[]).await.unwrap();
    let mut outcomes = fourth.outcomes().await.unwrap();
    let to_all = Draft::new(json!({ "broadcast": {} }), json!({ "text": "to all" }));
    assert_eq!(submitted(&fourth, &to_all).await.status, Status::Stored);
    let verdict = super::desk::live(&mut outcomes).await;
    let reach = verdict.reach.clone().unwrap();
    assert_eq!((reach.delivered, reach.missed_total), (1, 1), "{verdict:?}");
    assert_eq!((reach.missed[0].agent.as_str(), reach.missed[0].reason), ("worker", Reason::RateLimited));
    // Others get theirs.
    for to in ["planner", "helper"] {
        assert_eq!(submitted(&fourth, &large(to)).await.status, Status::Stored, "{to}");
        assert_eq!(super::desk::live(&mut outcomes).await.reason, Reason::Delivered, "{to}");
    }
    // As soon as it reads, it gets more.
    let mut inbox = Kept::of(&worker).await;
    message_ids(&mut inbox, let_in).await;
    is_emptied(&desk, "worker", A_MINUTE).await;
    let started = Instant::now();
    while submitted(&fourth, &large("worker")).await.status != Status::Stored {
        assert!(started.elapsed() < A_MINUTE, "it is still refused");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    desk.bus.stop().await;
}
