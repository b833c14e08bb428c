//! A node died after it had claimed a message: what does its sender hear, and how often is it
//! delivered? The dead node is played by the test, which leaves in Redis and JetStream what a node
//! killed at that moment leaves there.

use std::{borrow::Cow, time::Duration};

use agentbus::{
    audit::{self, Body, Decision, Kind, Place, Record, Written},
    client::{AgentClient, Draft, Patience},
    domain::{AgentId, DecisionId, Encoding, Reason, Status, TenantId, Timestamp, Verdict},
    skew::Skew,
    state::{Claim, Idempotency as _, Lifetimes, MessageKey, RedisStore},
    supervisor::Supervisor,
    tenants::BusUser,
    wire,
};
use futures_util::{Stream, StreamExt as _};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::bus::Bus;

/// Short, so that the test need not wait long, and long enough for a busy machine.
const LEASE: Duration = Duration::from_secs(3);

/// A bus whose worker listens, and the means to leave traces of a dead node.
struct Scene {
    bus: Bus,
    planner: AgentClient,
    dead: RedisStore,
    /// As the dead node was logged in.
    records: async_nats::Client,
    _stop: tokio_util::sync::DropGuard,
}

impl Scene {
    async fn start() -> (Self, impl Stream<Item = async_nats::Message> + Unpin) {
        let bus = Bus::with(1, |options| {
            options.node_overrides =
                toml::from_str("impact = { scorer = \"keywords\", deadline = \"200ms\" }\n[limits]\ndeadline = \"1500ms\"\n[idempotency]\nlease = \"3s\"").unwrap();
        })
        .await;
        let worker = bus.agent("acme", "worker").await;
        worker.register(&[]).await.unwrap();
        let inbox = worker.inbox().await.unwrap();
        let stop = CancellationToken::new();
        let mut settings = bus.redis_settings();
        settings.lifetimes = Lifetimes { lease: LEASE, ..Lifetimes::default() };
        let dead = RedisStore::connect(
            settings,
            stop.clone(),
            &TaskTracker::new(),
            &Supervisor::default(),
            &Skew::default(),
        )
        .unwrap();
        assert!(dead.ready(Duration::from_secs(60)).await);
        let planner = bus.agent("acme", "planner").await;
        let records = bus.stack.connect(BusUser::Node).await.unwrap();
        (Self { bus, planner, dead, records, _stop: stop.drop_guard() }, inbox)
    }

    fn key(draft: &Draft) -> MessageKey {
        let (tenant, sender) = ("acme".parse().unwrap(), "planner".parse().unwrap());
        MessageKey { tenant, sender, message: draft.message_id.parse().unwrap() }
    }

    /// The dead node claims the message, by the name of a decision or without; returns its digest.
    async fn claim(&self, draft: &Draft, message: &[u8], named: Option<&DecisionId>) -> [u8; 32] {
        let key = Self::key(draft);
        let stamp = wire::Stamp { tenant: &key.tenant, sender: &key.sender };
        let digest = wire::decode(message, stamp, &wire::Limits::default()).unwrap().digest;
        assert!(matches!(self.dead.claim(&key, &digest, named).await.unwrap(), Claim::Mine { .. }));
        digest
    }

    /// The dead node records what it is about to do, or that it came to nothing.
    async fn record(&self, draft: &Draft, kind: Kind, digest: [u8; 32]) {
        self.record_as(draft, kind, digest, None).await;
    }

    /// The same, where it has named the decision: among others.
    async fn record_as(&self, draft: &Draft, kind: Kind, digest: [u8; 32], named: Option<&DecisionId>) {
        let (tenant, sender): (TenantId, AgentId) = ("acme".parse().unwrap(), "planner".parse().unwrap());
        let verdict = Verdict {
            message_id: Some(draft.message_id.parse().unwrap()),
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: "handed to worker".to_owned(),
            retryable: false,
            retry_after: None,
            decision_id: named.map_or("of-the-dead", DecisionId::as_str).to_owned(),
            policy_revision: None,
            impact: None,
            reach: None,
            deliberation_id: None,
            node: "node-0".to_owned(),
            elapsed: Duration::from_micros(1),
        };
        let decision = Decision {
            sender: Cow::Borrowed(&sender),
            message_type: None,
            digest: Some(digest),
            recipients: Cow::Borrowed(&[]),
            verdict: Cow::Borrowed(&verdict),
            facts: None,
            submitted_as: None,
            cause: None,
            stages_us: Cow::default(),
        };
        let body = if kind == Kind::Intent { Body::Intent(decision) } else { Body::Verdict(decision) };
        let place = Place::Message { sender: &sender, message: verdict.message_id.as_ref(), claimed: true };
        let record = Record::new(Timestamp(1), &tenant, "node-0", body);
        let written = match named {
            Some(named) => Written::Part(record.part(named)),
            None => record.entry(place).into(),
        };
        let (subject, record) = audit::together([written]).remove(0).into_parts();
        let inbox = self.records.new_inbox();
        let mut acks = self.records.subscribe(inbox.clone()).await.unwrap();
        self.records.publish_with_reply(subject, inbox, record).await.unwrap();
        let ack = tokio::time::timeout(Duration::from_secs(60), acks.next()).await.unwrap().unwrap();
        assert!(String::from_utf8_lossy(&ack.payload).contains("RECORDS"), "{ack:?}");
    }

    async fn send(&self, message: Vec<u8>) -> Verdict {
        let patience = Patience { attempt: Duration::from_secs(2), deadline: Duration::from_secs(20) };
        let mut verdict = self.planner.send(message.clone().into(), patience).await.unwrap();
        // While the dead node's lease runs, the answer is to ask again.
        for _ in 0..20 {
            if verdict.reason != Reason::TimedOut {
                break;
            }
            verdict = self.planner.send(message.clone().into(), patience).await.unwrap();
        }
        verdict
    }
}

async fn arrived(inbox: &mut (impl Stream<Item = async_nats::Message> + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.is_ok()
}

async fn is_silent(inbox: &mut (impl Stream<Item = async_nats::Message> + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_millis(300), inbox.next()).await.is_err()
}

/// The same message, written at another time and for longer.
fn written_again(draft: &Draft) -> Vec<u8> {
    let mut message = draft.json();
    let later = message["created_at"].as_u64().unwrap() + 7;
    message["created_at"] = later.into();
    message["expires_at"] = (later + 3_600_000).into();
    message.to_string().into_bytes()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_written_again_under_its_id_is_a_repeat_and_another_text_is_not() {
    let (scene, mut inbox) = Scene::start().await;
    let draft = Draft::to_agent("worker", "only once");
    let verdict = scene.send(draft.encode(Encoding::MessagePack).to_vec()).await;
    assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    assert!(arrived(&mut inbox).await);
    assert_eq!(scene.send(written_again(&draft)).await, verdict);
    let other = Draft { message_id: draft.message_id.clone(), ..Draft::to_agent("worker", "another") };
    let refused = scene.send(other.encode(Encoding::Json).to_vec()).await;
    assert_eq!(refused.reason, Reason::DuplicateMessage, "{refused:?}");
    assert!(is_silent(&mut inbox).await);
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_had_sent_is_not_delivered_again_when_it_is_written_again() {
    let (scene, mut inbox) = Scene::start().await;
    let draft = Draft::to_agent("worker", "claimed, recorded and sent");
    let digest = scene.claim(&draft, &draft.encode(Encoding::Json), None).await;
    scene.record(&draft, Kind::Intent, digest).await;
    let verdict = scene.send(written_again(&draft)).await;
    assert_eq!(verdict.decision_id, "of-the-dead", "{verdict:?}");
    assert!(is_silent(&mut inbox).await);
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_had_not_sent_is_delivered_once() {
    let (scene, mut inbox) = Scene::start().await;
    let draft = Draft::to_agent("worker", "claimed and no more");
    let message = draft.encode(Encoding::MessagePack).to_vec();
    scene.claim(&draft, &message, None).await;
    let verdict = scene.send(message.clone()).await;
    assert_eq!((verdict.reason, verdict.node.as_str()), (Reason::Delivered, "node-1"), "{verdict:?}");
    assert!(arrived(&mut inbox).await);
    assert_eq!(scene.send(message).await, verdict);
    assert!(is_silent(&mut inbox).await);
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_node_had_sent_keeps_its_verdict_and_is_not_delivered_again() {
    let (scene, mut inbox) = Scene::start().await;
    let draft = Draft::to_agent("worker", "claimed, recorded and sent");
    let message = draft.encode(Encoding::Json).to_vec();
    let digest = scene.claim(&draft, &message, None).await;
    scene.record(&draft, Kind::Intent, digest).await;
    let verdict = scene.send(message.clone()).await;
    assert_eq!(
        (verdict.reason, verdict.decision_id.as_str()),
        (Reason::Delivered, "of-the-dead"),
        "{verdict:?}"
    );
    assert!(verdict.detail.contains("node-0"), "it says on whose word: {}", verdict.detail);
    assert_eq!(scene.send(message).await, verdict);
    assert!(is_silent(&mut inbox).await);
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intent_that_came_to_nothing_or_was_of_another_message_is_no_delivery() {
    let (scene, mut inbox) = Scene::start().await;
    for (text, kinds, other) in [
        ("nobody listened then", &[Kind::Intent, Kind::Verdict][..], false),
        ("the id is used anew", &[Kind::Intent][..], true),
    ] {
        let draft = Draft::to_agent("worker", text);
        let message = draft.encode(Encoding::Json).to_vec();
        let digest = scene.claim(&draft, &message, None).await;
        for &kind in kinds {
            scene.record(&draft, kind, if other { [9; 32] } else { digest }).await;
        }
        let verdict = scene.send(message).await;
        assert_eq!((verdict.reason, verdict.node.as_str()), (Reason::Delivered, "node-1"), "{verdict:?}");
        assert!(arrived(&mut inbox).await, "{text}");
        assert!(is_silent(&mut inbox).await, "{text}");
    }
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_claim_names_is_found_among_the_records_of_its_turn() {
    let (scene, mut inbox) = Scene::start().await;
    let name = |turn, index| DecisionId::new(9, turn, index);
    // By decision and kind, in the order in which they were written: what is to be made of the claim of 0?
    let cases = [
        ("sent", vec![(1, Kind::Intent), (0, Kind::Intent), (2, Kind::Verdict)], true),
        ("came to nothing", vec![(0, Kind::Intent), (1, Kind::Intent), (0, Kind::Verdict)], false),
        ("tried a second holder", vec![(0, Kind::Intent), (0, Kind::Intent)], true),
        ("not sent", vec![(1, Kind::Verdict)], false),
    ];
    for (turn, (text, records, was_sent)) in (1..).zip(cases) {
        let draft = Draft::to_agent("worker", text);
        let message = draft.encode(Encoding::Json).to_vec();
        let digest = scene.claim(&draft, &message, Some(&name(turn, 0))).await;
        for (index, kind) in records {
            // Others of the turn are of the same message, as of a sender that asks twice at once.
            scene.record_as(&draft, kind, digest, Some(&name(turn, index))).await;
        }
        let verdict = scene.send(message.clone()).await;
        assert_eq!(verdict.reason, Reason::Delivered, "{text}: {verdict:?}");
        assert_eq!(verdict.decision_id == name(turn, 0).as_str(), was_sent, "{text}: {verdict:?}");
        if !was_sent {
            assert!(arrived(&mut inbox).await, "{text}");
        }
        assert_eq!(scene.send(message).await, verdict, "{text}");
        assert!(is_silent(&mut inbox).await, "{text}");
    }
    scene.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_from_one_that_took_over_finds_what_either_has_sent() {
    let (scene, mut inbox) = Scene::start().await;
    let name = DecisionId::new(9, 1, 0);
    for second_has_sent in [false, true] {
        let draft = Draft::to_agent("worker", "claimed twice");
        let message = draft.encode(Encoding::Json).to_vec();
        let digest = scene.claim(&draft, &message, Some(&name)).await;
        tokio::time::sleep(LEASE + Duration::from_millis(100)).await;
        // By what its claim says, it has named a decision of its own.
        let second = scene.dead.claim(&Scene::key(&draft), &digest, Some(&DecisionId::new(8, 1, 0))).await;
        assert!(
            matches!(second.as_ref(), Ok(Claim::TakenOver { first: Some(first), .. }) if *first == name),
            "{second:?}"
        );
        match second_has_sent {
            true => scene.record(&draft, Kind::Intent, digest).await,
            false => scene.record_as(&draft, Kind::Intent, digest, Some(&name)).await,
        }
        let expected = if second_has_sent { "of-the-dead" } else { name.as_str() };
        let verdict = scene.send(message).await;
        assert_eq!((verdict.reason, verdict.decision_id.as_str()), (Reason::Delivered, expected));
    }
    assert!(is_silent(&mut inbox).await);
    scene.bus.stop().await;
}
