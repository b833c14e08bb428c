//! What stands between an approval and the recipient's inbox: the policy, and the time.

use agentbus::{
    servers::RedisData,
    tenants::{BusUser, StoreSettings, provision},
    wire::encode_verdict,
};
use async_nats::{
    HeaderMap,
    jetstream::{self, AckKind, consumer::PullConsumer},
};
use futures_util::TryStreamExt as _;
use tempfile::TempDir;

use super::*;

/// The content says what the policy has come to think of the message when it is asked again.
const SECOND_THOUGHTS: &str = "package agentbus.modules.second_thoughts
default allow := false
allow if not input.approval
allow if input.message.content.text != \"refuse\"
reasons contains \"not even with an approval\" if input.message.content.text == \"refuse\"
obligations := {\"min_approvals\": 2} if {
	input.approval
	input.message.content.text == \"more\"
} else := {\"redact\": [\"secret\"]} if {
	input.approval.rule == \"roles\"
	\"judicial\" in input.approval.approvals[0].roles
}
";

/// And the folder of its policy, which must stay.
async fn with_second_thoughts() -> (Court, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.rego"), SECOND_THOUGHTS).unwrap();
    let court = Court::with(ONE_OF_TWO, |options| {
        let dir = folder.path().to_str().unwrap().into();
        let policy = toml::Table::from_iter([("dir".to_owned(), toml::Value::String(dir))]);
        options.node_overrides.insert("policy".to_owned(), policy.into());
    })
    .await;
    (court, folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_policy_is_asked_again_and_has_the_last_word() {
    let (court, _policy) = with_second_thoughts().await;
    for (text, said) in [("refuse", "not even with an approval"), ("more", "demands 2 approvals")] {
        let parked = court.park(&severe(text)).await;
        assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
        let verdict = told(&court.planner).await;
        assert_eq!((verdict.status, verdict.reason), (Status::Rejected, Reason::PolicyDenied), "{verdict:?}");
        assert!(verdict.detail.contains(said), "{}", verdict.detail);
        court.until(&parked.id, |shown| shown["conclusion"]["reason"] == "policy_denied").await;
        told(&court.judge).await;
    }
    nothing_for(&court.worker).await;

    let mut draft = severe("let through, in part");
    draft.content["secret"] = json!("4711");
    let parked = court.park(&draft).await;
    parked.vote(&court.judge, "approve").await;
    let delivered = take(&court.worker, 1, SOON).await.pop().expect("it is in the durable inbox");
    let body: Value = serde_json::from_slice(&delivered.payload).unwrap();
    assert_eq!(body["content"]["text"], "let through, in part");
    assert!(!body.to_string().contains("4711"), "{body}");
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_expired_meanwhile_is_not_delivered() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let draft = Draft { expires_in: Some(Duration::from_secs(5)), ..severe("now or never") };
    let parked = court.park(&draft).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
    assert_eq!(told(&court.planner).await.reason, Reason::Expired);
    nothing_for(&court.worker).await;
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_the_durable_lane_is_parked_and_released_like_any_other() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let draft = severe("kept, then parked");
    let kept = court.planner.submit(draft.encode(Encoding::MessagePack), Patience::default()).await.unwrap();
    assert_eq!(kept.status, Status::Stored, "{kept:?}");
    let verdict = told(&court.planner).await;
    assert_eq!(verdict.status, Status::Deliberating, "{verdict:?}");
    let id = verdict.deliberation_id.unwrap().to_string();
    let digest = court.show(&court.judge, &id).await["digest"].as_str().unwrap().to_owned();
    assert_eq!(Waiting { id, digest }.vote(&court.judge, "approve").await["judgement"], "approved");
    assert_eq!(told(&court.planner).await.reason, Reason::Delivered);
    let delivered = take(&court.worker, 2, MEANWHILE).await;
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    assert_eq!(header(&delivered[0], "Agentbus-Message-Id"), draft.message_id);
    court.stop().await;
}

/// As a node does that dies right after.
async fn store(court: &Court, subject: String, headers: &[(&str, &str)], payload: Vec<u8>) {
    let node = jetstream::new(court.bus.stack.connect(BusUser::Node).await.unwrap());
    let mut all = HeaderMap::new();
    headers.iter().for_each(|(name, value)| all.insert(*name, *value));
    node.publish_with_headers(subject, all, payload.into()).await.unwrap().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_sender_was_told_stands_though_its_node_died_before_it_said_so() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let draft = severe("open the gate");
    let parked = court.park(&draft).await;
    let refused = Verdict {
        status: Status::Rejected,
        reason: Reason::PolicyDenied,
        detail: "denied when it was asked again".to_owned(),
        decision_id: "of-the-dead".to_owned(),
        ..send(&court.planner, &draft).await
    };
    let subject = format!("tenant.acme.stored.planner.outcome.planner.{}~judged", draft.message_id);
    store(&court, subject, &[], encode_verdict(&refused, Encoding::Json).to_vec()).await;
    assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
    let shown = court.until(&parked.id, |shown| shown["conclusion"].is_object()).await;
    assert_eq!(shown["conclusion"]["reason"], "policy_denied", "{shown}");
    let heard = told(&court.judge).await;
    assert_eq!((heard.reason, heard.decision_id.as_str()), (Reason::PolicyDenied, "of-the-dead"));
    nothing_for(&court.worker).await;
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broadcast_that_was_stored_in_part_and_then_refused_is_told_as_delivered_to_those_who_have_it() {
    let (court, _policy) = with_second_thoughts().await;
    let to_all = Draft::new(json!({ "broadcast": {} }), json!({ "text": "refuse" }));
    let draft = Draft { priority: Priority::Critical, ..to_all };
    let parked = court.park(&draft).await;
    let subject = format!("tenant.acme.stored.worker.message.planner.{}", draft.message_id);
    store(&court, subject, &[("Agentbus-Decision", "of-the-dead")], b"{}".to_vec()).await;
    assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
    let verdict = told(&court.planner).await;
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    assert_eq!(verdict.decision_id, "of-the-dead");
    assert_eq!(verdict.reach.map(|reach| reach.delivered), Some(1));
    court.until(&parked.id, |shown| shown["conclusion"]["reason"] == "delivered").await;
    court.stop().await;
}

/// By which nodes learn of decisions.
async fn effects(court: &Court) -> PullConsumer {
    let node = jetstream::new(court.bus.stack.connect(BusUser::Node).await.unwrap());
    let name = agentbus::tenants::names::DEADLINES_CONSUMER;
    node.get_consumer_from_stream(name, "DELIBERATIONS_acme").await.unwrap()
}

async fn handed_out(effects: &PullConsumer) -> u64 {
    effects.get_info().await.unwrap().delivered.consumer_sequence
}

/// Waits until so many were handed out.
async fn comes_to(effects: &PullConsumer, many: u64) {
    let until = Instant::now() + SOON;
    while handed_out(effects).await < many {
        assert!(Instant::now() < until, "it is not tried again");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// The store is full when the sender is to be told: tried again, and recorded once.
#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_cannot_be_told_for_a_while_is_recorded_once() {
    let court = Court::with(ONE_OF_TWO, |options| {
        options.plan = small(ONE_OF_TWO, 1024 * 1024);
    })
    .await;
    let draft = severe("open the gate");
    let parked = court.park(&draft).await;
    let node = jetstream::new(court.bus.stack.connect(BusUser::Node).await.unwrap());
    for bytes in [100_000, 1_000, 10] {
        let filler = |number| format!("tenant.acme.stored.stranger.message.steward.f{bytes}-{number}");
        let mut number = 0;
        let until_full = async || -> bool {
            number += 1;
            node.publish(filler(number), vec![b'x'; bytes].into()).await.unwrap().await.is_ok()
        };
        let mut publish = until_full;
        while publish().await {}
    }
    let records = format!("record.acme.planner.{}.>", draft.message_id);
    let recorded = async || {
        let operator = jetstream::new(court.bus.stack.connect(BusUser::Operator).await.unwrap());
        let stream = operator.get_stream("RECORDS").await.unwrap();
        let counts: Vec<(String, usize)> =
            stream.info_with_subjects(&records).await.unwrap().try_collect().await.unwrap();
        counts.iter().map(|(_, count)| count).sum::<usize>()
    };
    let before = recorded().await;
    let effects = effects(&court).await;
    let begun = handed_out(&effects).await;
    parked.vote(&court.judge, "reject").await;
    parked.vote(&court.agent("arbiter").await, "reject").await;
    // The first attempts have come to nothing when it is handed out again.
    comes_to(&effects, begun + 3).await;
    assert!(court.show(&court.judge, &parked.id).await["conclusion"].is_null(), "concluded, and told nobody");
    assert_eq!(recorded().await, before, "recorded before it could be told");
    let provisioner = court.bus.stack.connect(BusUser::Provisioner).await.unwrap();
    let larger = small(ONE_OF_TWO, 8 * 1024 * 1024);
    provision(&provisioner, &larger, &StoreSettings::default()).await.unwrap();
    court.until(&parked.id, |shown| shown["conclusion"]["reason"] == "deliberation_denied").await;
    assert_eq!(recorded().await, before + 1);
    assert_eq!(told(&court.planner).await.reason, Reason::DeliberationDenied);
    court.stop().await;
}

/// However often it was tried meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_approval_waits_for_a_registry_that_is_away() {
    let mut court = Court::with(ONE_OF_TWO, |options| options.redis_data = RedisData::OnDisk).await;
    court.worker.register(&["gates"]).await.unwrap();
    let to_one = Draft::new(json!({ "capability": "gates" }), json!({ "text": "open" }));
    let parked = court.park(&Draft { priority: Priority::Critical, ..to_one }).await;
    let effects = effects(&court).await;
    court.bus.stack.redis_mut().unwrap().child_mut().kill().await;
    // The registrations that a node remembers are forgotten.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
    // What the node has in hand when it is paused comes again after 30 s only.
    tokio::time::sleep(Duration::from_millis(700)).await;
    let stack = &mut court.bus.stack;
    stack.node_mut(0).unwrap().child_mut().pause();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // What is given back last may be with the node again before anybody can ask how often it was handed out.
    let (mut attempts, mut begun) = (0, 0);
    while attempts < agentbus::lanes::RELEASES_MAX {
        let mut batch =
            effects.batch().max_messages(1).expires(Duration::from_secs(5)).messages().await.unwrap();
        while let Some(message) = batch.next().await {
            let message = message.unwrap();
            if !message.subject.ends_with(".decided") {
                message.ack().await.unwrap();
                continue;
            }
            let info = message.info().unwrap();
            (attempts, begun) = (u64::try_from(info.delivered).unwrap(), info.consumer_sequence);
            message.ack_with(AckKind::Nak(None)).await.unwrap();
        }
    }
    stack.node_mut(0).unwrap().child_mut().resume();
    comes_to(&effects, begun + 1).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let shown = court.show(&court.judge, &parked.id).await;
    assert!(shown["conclusion"].is_null(), "an approval is thrown away: {shown}");
    court.stop().await;
}

/// With so much room for what is told and delivered.
fn small(terms: &str, inbox_bytes: u64) -> Plan {
    let toml = format!("{}\n[tenants.acme.store]\ninbox_bytes = {inbox_bytes}\n", plan_text(terms));
    Plan::parse(&toml).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_listens_live_hears_that_an_approved_message_is_in_the_durable_inbox() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let mut live = court.worker.everything().await.unwrap();
    let draft = severe("look into your durable inbox");
    let parked = court.park(&draft).await;
    parked.vote(&court.judge, "approve").await;
    let hint = tokio::time::timeout(SOON, live.next()).await.unwrap().unwrap();
    assert!(agentbus::client::is_hint(&hint), "{hint:?}");
    assert!(hint.payload.is_empty() && hint.reply.is_none(), "{hint:?}");
    assert_eq!(header(&hint, "Agentbus-Message-Id"), draft.message_id);
    // It is no delivery, and nobody can take it for one.
    for absent in ["Agentbus-Recipient", "Agentbus-Delivery", "Agentbus-Verdict", "Content-Type"] {
        assert_eq!(header(&hint, absent), "", "{absent}");
    }
    let verdict = told(&court.planner).await;
    assert_eq!(verdict.detail, "handed to worker, into its durable inbox");
    assert_eq!(take(&court.worker, 2, MEANWHILE).await.len(), 1);
    court.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_notes_is_shown_to_the_reviewers_and_then_to_the_recipient() {
    let folder = tempfile::tempdir().unwrap();
    let module = "package agentbus.modules.own\nallow := true\n\
        obligations := {\"note\": \"above the usual\", \"label\": [\"pii\"], \"rate\": {\"messages\": 1, \"seconds\": 86400}}";
    std::fs::write(folder.path().join("own.rego"), module).unwrap();
    let court = Court::with(ONE_OF_TWO, |options| {
        let dir = folder.path().to_str().unwrap().into();
        let policy = toml::Table::from_iter([("dir".to_owned(), toml::Value::String(dir))]);
        options.node_overrides.insert("policy".to_owned(), policy.into());
    })
    .await;
    let draft = Draft { conversation_id: Some("c1".to_owned()), ..severe("look at this") };
    let parked = court.park(&draft).await;
    let shown = court.show(&court.judge, &parked.id).await;
    assert_eq!(shown["notes"], json!(["own: above the usual"]));
    // It has counted when it came: approved, it is not refused for the place that it has taken itself.
    assert_eq!(parked.vote(&court.judge, "approve").await["judgement"], "approved");
    let verdict = told(&court.planner).await;
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    let kept = take(&court.worker, 1, SOON).await;
    assert_eq!(header(&kept[0], "Agentbus-Note"), "own: above the usual");
    let another = Draft { conversation_id: Some("c1".to_owned()), ..Draft::to_agent("worker", "and this") };
    let refused = crate::support::bus::send(&court.planner, another.encode(Encoding::Json)).await;
    assert_eq!(refused.reason, Reason::RateLimited, "{refused:?}");
    court.stop().await;
}
