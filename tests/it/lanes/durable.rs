//! The durable lane: what the bus has said it keeps is governed, and its outcome told, once, whoever is
//! away or dies. Against real servers and nodes.

use std::{collections::HashSet, time::Duration};

use agentbus::{
    audit,
    client::{Draft, is_delivery, outcome},
    domain::{Encoding, Reason, Status, Verb, Verdict},
    nats::RecordStream,
    tenants::BusUser,
    wire::decode_verdict,
};
use serde_json::json;

use desk::{Desk, Kept, PATIENT, SILENCE, header, keep, live, next, note, submit};

mod desk;
mod inboxes;
mod once;
mod poison;
mod trouble;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_waits_for_a_recipient_that_is_away() {
    let desk = Desk::start(1).await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    let draft = note("worker", "when you are back");
    keep(&planner, &draft).await;
    let verdict = live(&mut outcomes).await;
    assert_eq!((verdict.status, verdict.reason), (Status::Delivered, Reason::Delivered), "{verdict:?}");
    assert_eq!(verdict.message_id.unwrap().as_str(), draft.message_id);

    // The worker has never been there.
    let worker = desk.agent("worker").await;
    let mut kept = Kept::of(&worker).await;
    let message = kept.next().await;
    assert!(is_delivery(&message, worker.id()) && outcome(&message, worker.id()).is_none());
    let headers = message.headers.as_ref().unwrap();
    for (name, value) in [
        ("Agentbus-Message-Id", draft.message_id.as_str()),
        ("Agentbus-Sender", "planner"),
        ("Agentbus-Recipient", "worker"),
        ("Agentbus-Tenant", "acme"),
        ("Agentbus-Decision", &verdict.decision_id),
        ("Agentbus-Digest", ""),
    ] {
        assert_eq!(header(headers, name), value, "{name}");
    }
    assert!(!header(headers, "traceparent").is_empty());
    // Acknowledged, it does not come again.
    drop(kept);
    assert!(Kept::of(&worker).await.is_silent().await);
    assert!(desk.is_empty().await);
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_waits_for_a_sender_that_is_away() {
    let desk = Desk::start(1).await;
    let planner = desk.agent("planner").await;
    let draft = note("worker", "forbidden");
    keep(&planner, &draft).await;
    drop(planner);
    desk.waits_for("OUT_acme", &format!("tenant.acme.stored.planner.outcome.planner.{}", draft.message_id))
        .await;
    let planner = desk.agent("planner").await;
    let mut kept = Kept::of(&planner).await;
    let message = kept.next().await;
    assert!(!is_delivery(&message, planner.id()));
    let verdict = outcome(&message, planner.id()).unwrap();
    assert_eq!((verdict.status, verdict.reason), (Status::Rejected, Reason::PolicyDenied), "{verdict:?}");
    assert!(verdict.detail.contains("it is forbidden"), "{verdict:?}");
    let nobodys = desk.count("OUT_acme", "tenant.acme.stored.worker.>").await;
    assert!(nobodys.is_empty(), "{nobodys:?}");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_changes_nothing_and_another_content_under_the_same_id_is_refused() {
    let desk = Desk::start(2).await;
    let planner = desk.agent("planner").await;
    let draft = note("worker", "once");
    let other = Draft { content: json!({ "text": "another" }), ..draft.clone() };
    let both: Vec<_> = (0..8).map(|_| submit(&planner, &draft)).collect();
    let told = |verdict: &Verdict| match verdict.status {
        Status::Stored => None,
        // As soon as there is a verdict, it is what a repeat hears.
        Status::Delivered => Some(verdict.decision_id.clone()),
        _ => panic!("{verdict:?}"),
    };
    let heard = futures_util::future::join_all(both).await;
    let mut decisions: HashSet<String> = heard.iter().filter_map(told).collect();
    // While it waits or just after, and when it is long governed.
    for wait in [Duration::ZERO, SILENCE] {
        tokio::time::sleep(wait).await;
        let verdict = submit(&planner, &other).await;
        assert_eq!(verdict.reason, Reason::DuplicateMessage, "{verdict:?}");
        decisions.extend(told(&submit(&planner, &draft).await));
    }
    assert!(desk.is_empty().await);
    let bytes = draft.encode(Encoding::MessagePack);
    let answer = planner.call(Verb::Submit, bytes, PATIENT).await.unwrap();
    assert_eq!(header(answer.headers.as_ref().unwrap(), "Agentbus-Repeat"), "true");
    decisions.extend(told(&decode_verdict(&answer.payload).unwrap()));
    assert_eq!(decisions.len(), 1, "one decision, whenever it is asked for: {decisions:?}");
    let stored = desk.count("OUT_acme", ">").await;
    assert_eq!(stored.len(), 2, "one message and one outcome: {stored:?}");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_stands_when_jetstream_has_forgotten_that_it_was_submitted() {
    let desk = Desk::start(1).await;
    let planner = desk.agent("planner").await;
    let (draft, denied) = (note("worker", "once"), note("worker", "forbidden"));
    let another = Draft { content: json!({ "text": "another" }), ..draft.clone() };
    keep(&planner, &draft).await;
    keep(&planner, &denied).await;
    assert!(desk.is_empty().await);
    let mut outcomes = planner.outcomes().await.unwrap();
    // Without `Nats-Msg-Id`, as after the window: to a node it is new.
    let node = async_nats::jetstream::new(desk.bus.stack.connect(BusUser::Node).await.unwrap());
    for (again, reason) in
        [(&draft, Reason::Delivered), (&denied, Reason::PolicyDenied), (&another, Reason::DuplicateMessage)]
    {
        let subject = format!("tenant.acme.submitted.planner.{}", again.message_id);
        let bytes = again.encode(Encoding::MessagePack);
        node.publish(subject, bytes).await.unwrap().await.unwrap();
        // Its sender hears what stands.
        let told = next(&mut outcomes).await;
        assert_eq!(header(told.headers.as_ref().unwrap(), "Agentbus-Repeat"), "true");
        let verdict = outcome(&told, planner.id()).unwrap();
        assert_eq!((verdict.reason, verdict.retryable), (reason, false), "{verdict:?}");
        assert_eq!(verdict.message_id.unwrap().as_str(), again.message_id);
    }
    assert!(desk.is_empty().await);
    let mut stored = desk.count("OUT_acme", ">").await;
    stored.retain(|subject, _| !subject.contains("~repeated"));
    assert_eq!(stored.len(), 3, "{stored:?}");
    assert!(stored.values().all(|&count| count == 1), "stored twice: {stored:?}");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_and_a_capability_reach_durable_inboxes() {
    let desk = Desk::start(1).await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    let (worker, helper) = (desk.agent("worker").await, desk.agent("helper").await);
    worker.register(&[]).await.unwrap();
    helper.register(&["translate"]).await.unwrap();

    keep(&planner, &Draft::new(json!({ "broadcast": {} }), json!({ "text": "to all" }))).await;
    let verdict = live(&mut outcomes).await;
    assert_eq!(verdict.reach.unwrap().delivered, 2);
    let (mut workers, mut helpers) = (Kept::of(&worker).await, Kept::of(&helper).await);
    assert!(is_delivery(&workers.next().await, worker.id()));
    assert!(is_delivery(&helpers.next().await, helper.id()));

    keep(&planner, &Draft::new(json!({ "capability": "translate" }), json!({ "text": "hello" }))).await;
    let verdict = live(&mut outcomes).await;
    assert_eq!(verdict.reach.unwrap().agent.unwrap().as_str(), "helper");
    assert!(is_delivery(&helpers.next().await, helper.id()));
    assert!(workers.is_silent().await);
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_wants_durable_is_sent_into_the_durable_inbox() {
    let desk = Desk::start(1).await;
    let (planner, worker) = (desk.agent("planner").await, desk.agent("worker").await);
    // Nobody listens on the live inbox.
    worker.register(&[]).await.unwrap();
    let draft = note("worker", "for later");
    let verdict = planner.send(draft.encode(Encoding::Json), PATIENT).await.unwrap();
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    let again = planner.send(draft.encode(Encoding::Json), PATIENT).await.unwrap();
    assert_eq!(again.decision_id, verdict.decision_id);
    let mut kept = Kept::of(&worker).await;
    let message = kept.next().await;
    assert_eq!(header(message.headers.as_ref().unwrap(), "Agentbus-Message-Id"), draft.message_id);
    assert!(kept.is_silent().await, "delivered twice");
    // Recorded before it was stored, and once.
    let id = &draft.message_id;
    let record = desk.last("RECORDS", &format!("record.acme.planner.{id}.verdict")).await.unwrap();
    let stored = desk.last("OUT_acme", &format!("tenant.acme.stored.worker.message.planner.{id}")).await;
    assert!(record.time < stored.unwrap().time, "stored before it was recorded");
    let audit::Body::Intent(read) = audit::decode(&record.payload).unwrap().body else {
        panic!("no intent: {record:?}")
    };
    assert_eq!(read.verdict.decision_id, verdict.decision_id);
    let records = desk.count("RECORDS", &format!("record.acme.planner.{id}.>")).await;
    assert_eq!(records.values().sum::<usize>(), 1, "{records:?}");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_of_many_messages_is_recorded_together_and_found_by_its_decision() {
    const MANY: usize = 60;
    let desk = Desk::start(1).await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    let draft = |index| note("worker", if index % 10 == 0 { "forbidden" } else { "one of many" });
    let drafts: Vec<_> = (0..MANY).map(draft).collect();
    let kept = futures_util::future::join_all(drafts.iter().map(|draft| submit(&planner, draft))).await;
    let queued_by: HashSet<String> = kept.into_iter().map(|verdict| verdict.decision_id).collect();
    assert_eq!(queued_by.len(), MANY);
    let records = RecordStream::new(desk.bus.stack.connect(BusUser::Operator).await.unwrap());
    for _ in 0..MANY {
        let verdict = live(&mut outcomes).await;
        // What was told is on record by then.
        let found = records.in_batch(&verdict.decision_id, None).await.unwrap();
        let [stored] = found.as_slice() else { panic!("{} records of {verdict:?}", found.len()) };
        let audit::Body::Verdict(read) = &stored.record.body else { panic!("no verdict: {verdict:?}") };
        assert_eq!((read.verdict.reason, &read.verdict.message_id), (verdict.reason, &verdict.message_id));
        assert!(queued_by.contains(read.submitted_as.as_deref().unwrap()), "{verdict:?}");
    }
    let alone = desk.count("RECORDS", "record.acme.planner.>").await;
    assert!(alone.is_empty(), "{alone:?}");
    let batches = desk.count("RECORDS", "record.acme.~.*.batch").await;
    let messages = batches.values().sum::<usize>();
    assert!(messages <= MANY / 2, "{MANY} records in {messages} messages: {batches:?}");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_refused_at_once_is_not_kept() {
    let desk = Desk::start(1).await;
    let planner = desk.agent("planner").await;
    let wrong = Draft { constitutional_hash: "0123456789abcdef".to_owned(), ..note("worker", "hello") };
    let verdict = submit(&planner, &wrong).await;
    assert_eq!(verdict.reason, Reason::ConstitutionalHashMismatch, "{verdict:?}");
    assert!(desk.count("OUT_acme", ">").await.is_empty());
    desk.bus.stop().await;
}

/// The types of the next messages and outcomes, and whether they look like JSON.
async fn types(kept: &mut Kept, count: usize) -> HashSet<(String, bool)> {
    let mut types = HashSet::new();
    for _ in 0..count {
        let message = kept.next().await;
        let headers = message.headers.unwrap();
        let json = message.payload.first() == Some(&b'{');
        types.insert((header(&headers, "Content-Type").to_owned(), json));
    }
    types
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_inbox_has_one_encoding_whoever_wrote_and_whether_its_agent_is_registered() {
    let plan = "packer = { encoding = \"msgpack\" }\n";
    let desk = Desk::with(1, plan, |_| {}).await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    for (id, type_is) in [("worker", "application/json"), ("packer", "application/msgpack")] {
        let agent = desk.agent(id).await;
        // Once as one that has never been there, once registered, and for the other encoding at that.
        for registered in [None, Some("msgpack"), Some("json")] {
            if let Some(encoding) = registered {
                let body = json!({ "encoding": encoding }).to_string();
                assert_eq!(agent.json(Verb::Register, body).await.unwrap()["status"], "ok");
            }
            for encoding in [Encoding::Json, Encoding::MessagePack] {
                let draft = note(id, "one encoding").encode(encoding);
                assert_eq!(planner.submit(draft, PATIENT).await.unwrap().status, Status::Stored);
                assert_eq!(live(&mut outcomes).await.reason, Reason::Delivered);
            }
        }
        let mut kept = Kept::of(&agent).await;
        let json = type_is == "application/json";
        assert_eq!(types(&mut kept, 6).await, HashSet::from([(type_is.to_owned(), json)]), "{id}");
        // Its own outcomes too.
        agent.submit(note("helper", "mine").encode(Encoding::MessagePack), PATIENT).await.unwrap();
        assert_eq!(types(&mut kept, 1).await, HashSet::from([(type_is.to_owned(), json)]), "{id}");
    }
    desk.bus.stop().await;
}
