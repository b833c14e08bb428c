//! What a message meets on its way, through a real bus: two nodes, NATS, Redis, agents of two tenants.

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, MessageType, Priority, Reason, Status, Verb, Verdict},
    tenants::Plan,
};
use futures_util::{Stream, StreamExt as _};
use serde_json::{Value, json};

use crate::support::bus::{self, Bus};

const BOTH: [Encoding; 2] = [Encoding::Json, Encoding::MessagePack];

/// Sends and returns the verdict.
async fn send(agent: &AgentClient, draft: &Draft, encoding: Encoding) -> Verdict {
    bus::send(agent, draft.encode(encoding)).await
}

/// The next delivery, or nothing within a minute.
async fn next(inbox: &mut (impl Stream<Item = async_nats::Message> + Unpin)) -> Option<async_nats::Message> {
    tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.ok().flatten()
}

/// Nothing more is delivered. The fence of a later message shows that an earlier one is not on its way.
async fn nothing_more(inbox: &mut (impl Stream<Item = async_nats::Message> + Unpin)) {
    let more = tokio::time::timeout(Duration::from_millis(150), inbox.next()).await;
    assert!(more.is_err(), "delivered once too often: {more:?}");
}

fn header<'a>(message: &'a async_nats::Message, name: &str) -> &'a str {
    message.headers.as_ref().and_then(|h| h.get(name)).map(|v| v.as_str()).unwrap_or_default()
}

/// The delivered message, whatever its encoding.
fn body(message: &async_nats::Message) -> Value {
    if message.payload.first() == Some(&b'{') {
        serde_json::from_slice(&message.payload).unwrap()
    } else {
        rmp_serde::from_slice(&message.payload).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_reaches_its_agent_with_its_facts() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&["sum"]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();

    for encoding in BOTH {
        let draft = Draft::to_agent("worker", "the report is ready");
        let verdict = send(&planner, &draft, encoding).await;
        assert_eq!((verdict.status, verdict.reason), (Status::Delivered, Reason::Delivered), "{verdict:?}");
        assert_eq!(verdict.message_id.as_ref().map(|id| id.as_str()), Some(draft.message_id.as_str()));
        assert!(verdict.policy_revision.is_some() && verdict.impact.is_some(), "{verdict:?}");
        assert_eq!(verdict.reach.as_ref().map(|r| r.delivered), Some(1));

        let delivered = next(&mut inbox).await.expect("delivered");
        assert_eq!(header(&delivered, "Agentbus-Message-Id"), draft.message_id);
        assert_eq!(header(&delivered, "Agentbus-Tenant"), "acme");
        assert_eq!(header(&delivered, "Agentbus-Sender"), "planner");
        assert_eq!(header(&delivered, "Agentbus-Decision"), verdict.decision_id);
        assert!(header(&delivered, "traceparent").starts_with("00-"));
        let body = body(&delivered);
        assert_eq!(body["content"]["text"], "the report is ready");
        assert_eq!((&body["from_agent"], &body["tenant_id"]), (&json!("planner"), &json!("acme")));
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capability_is_shared_by_its_holders_and_a_broadcast_reaches_all_but_the_sender() {
    let bus = Bus::start(1).await;
    let (planner, worker, monitor) = (
        bus.agent("acme", "planner").await,
        bus.agent("acme", "worker").await,
        bus.agent("acme", "watcher").await,
    );
    worker.register(&["sum"]).await.unwrap();
    monitor.register(&["sum", "watch"]).await.unwrap();
    planner.register(&["sum"]).await.unwrap();
    let mut inboxes =
        [planner.inbox().await.unwrap(), worker.inbox().await.unwrap(), monitor.inbox().await.unwrap()];

    for encoding in BOTH {
        for _ in 0..2 {
            let draft = Draft::new(json!({ "capability": "sum" }), json!({ "text": "2 + 2" }));
            let verdict = send(&planner, &draft, encoding).await;
            assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
        }
        let shares = [next(&mut inboxes[1]).await, next(&mut inboxes[2]).await];
        assert!(shares.iter().all(Option::is_some), "each holder gets one of two");

        let all = Draft::new(json!({ "broadcast": {} }), json!({ "text": "hello all" }));
        let verdict = send(&planner, &all, encoding).await;
        let reach = verdict.reach.expect("a reach");
        assert_eq!((reach.delivered, reach.missed_total), (2, 0));
        assert!(next(&mut inboxes[1]).await.is_some() && next(&mut inboxes[2]).await.is_some());

        let watchers =
            Draft::new(json!({ "broadcast": { "capability": "watch" } }), json!({ "text": "look" }));
        assert_eq!(send(&planner, &watchers, encoding).await.reach.map(|r| r.delivered), Some(1));
        assert!(next(&mut inboxes[2]).await.is_some());
    }
    for inbox in &mut inboxes {
        nothing_more(inbox).await;
    }

    let none = Draft::new(json!({ "capability": "fly" }), json!({ "text": "go" }));
    assert_eq!(send(&planner, &none, Encoding::Json).await.reason, Reason::NoCapableAgent);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_listen_is_reported_and_not_passed_over() {
    let bus = Bus::start(1).await;
    let (planner, worker, monitor) = (
        bus.agent("acme", "planner").await,
        bus.agent("acme", "worker").await,
        bus.agent("acme", "watcher").await,
    );
    let draft = Draft::to_agent("worker", "are you there?");

    assert_eq!(send(&planner, &draft, Encoding::Json).await.reason, Reason::RecipientUnknown);

    worker.register(&["sum"]).await.unwrap();
    monitor.register(&["sum"]).await.unwrap();
    let offline = send(&planner, &draft, Encoding::Json).await;
    assert_eq!(offline.reason, Reason::RecipientOffline);
    assert!(offline.retry_after.is_some() && offline.reason.retryable());

    let mut heard = monitor.inbox().await.unwrap();
    for _ in 0..2 {
        let to_holder = Draft::new(json!({ "capability": "sum" }), json!({ "text": "2 + 2" }));
        let verdict = send(&planner, &to_holder, Encoding::Json).await;
        let agent = verdict.reach.and_then(|reach| reach.agent).expect("an agent");
        assert_eq!(agent.as_str(), "watcher", "the holder that listens");
        assert!(next(&mut heard).await.is_some());
    }
    let all = Draft::new(json!({ "broadcast": {} }), json!({ "text": "hello all" }));
    let reach = send(&planner, &all, Encoding::Json).await.reach.expect("a reach");
    assert_eq!((reach.delivered, reach.missed_total), (1, 1));
    assert_eq!(
        (reach.missed[0].agent.as_str(), reach.missed[0].reason),
        ("worker", Reason::RecipientOffline)
    );

    // The same message id can succeed later: "offline" is not a lasting verdict.
    let mut inbox = worker.inbox().await.unwrap();
    assert_eq!(send(&planner, &draft, Encoding::Json).await.reason, Reason::Delivered);
    assert!(next(&mut inbox).await.is_some());

    worker.json(Verb::Unregister, "{}".to_owned()).await.unwrap();
    let gone = Draft::to_agent("worker", "still there?");
    assert_eq!(send(&planner, &gone, Encoding::Json).await.reason, Reason::RecipientUnknown);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_gets_the_stored_verdict_and_no_second_delivery() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();

    let draft = Draft { expires_in: Some(Duration::from_secs(3)), ..Draft::to_agent("worker", "once") };
    let message = draft.encode(Encoding::MessagePack);
    let first = bus::send(&planner, message.clone()).await;
    assert_eq!(first.reason, Reason::Delivered);
    for _ in 0..8 {
        assert_eq!(bus::send(&planner, message.clone()).await, first);
    }
    // Later its recipient is gone and it has expired, and still it was delivered.
    worker.json(Verb::Unregister, "{}".to_owned()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    assert_eq!(bus::send(&planner, message.clone()).await, first);
    assert!(next(&mut inbox).await.is_some());
    nothing_more(&mut inbox).await;

    worker.register(&[]).await.unwrap();
    let other = Draft { message_id: draft.message_id.clone(), ..Draft::to_agent("worker", "another text") };
    assert_eq!(send(&planner, &other, Encoding::Json).await.reason, Reason::DuplicateMessage);

    let denied = Draft {
        message_type: MessageType::ConstitutionalValidation,
        ..Draft::to_agent("worker", "I validate myself")
    };
    let bytes = denied.encode(Encoding::Json);
    let verdict = bus::send(&planner, bytes.clone()).await;
    assert_eq!(verdict.reason, Reason::PolicyDenied);
    assert_eq!(bus::send(&planner, bytes).await, verdict, "a judgement is kept as well");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_should_be_deliberated_is_not_delivered() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    let draft = Draft { priority: Priority::Critical, ..Draft::to_agent("worker", "now!") };
    let verdict = send(&planner, &draft, Encoding::Json).await;
    assert_eq!(verdict.status, Status::Deliberating, "{verdict:?}");
    assert!(verdict.deliberation_id.is_some(), "{verdict:?}");
    assert!(verdict.impact.is_some_and(|impact| impact.score >= 0.9), "critical has a floor of 0.9");
    nothing_more(&mut inbox).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_names_its_reason_and_the_node_lives_on() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    let good = || Draft::to_agent("worker", "hello").json();
    let with = |key: &str, value: Value| {
        let mut message = good();
        message[key] = value;
        message
    };
    let without = |key: &str| {
        let mut message = good();
        message.as_object_mut().unwrap().remove(key);
        message
    };
    let nested = (0..40).fold(json!("deep"), |inner, _| json!({ "a": inner }));
    let cases: Vec<(Reason, Value)> = vec![
        (Reason::MissingField, without("message_id")),
        (Reason::ConstitutionalHashMissing, without("constitutional_hash")),
        (Reason::ConstitutionalHashMismatch, with("constitutional_hash", json!("0123456789abcdef"))),
        (Reason::UnknownField, with("sudo", json!(true))),
        (Reason::Malformed, with("priority", json!("urgent"))),
        (Reason::Malformed, with("content", json!("text alone"))),
        (Reason::BadIdentifier, with("to", json!({ "agent": "worker.inbox" }))),
        (Reason::BadIdentifier, with("to", json!({ "agent": ">" }))),
        (Reason::BadIdentifier, with("message_id", json!("a b"))),
        (Reason::TenantMismatch, with("tenant_id", json!("globex"))),
        (Reason::SenderMismatch, with("from_agent", json!("worker"))),
        (Reason::Expired, with("expires_at", json!(1))),
        (Reason::ClockSkew, with("created_at", json!(u64::MAX / 4))),
        (Reason::UnsupportedSchema, with("schema", json!(99))),
        (Reason::TooDeep, with("content", nested)),
        (Reason::TooLarge, with("content", json!({ "text": "x".repeat(100_000) }))),
        (Reason::TooManyValues, with("content", json!({ "list": vec![0; 5000] }))),
    ];
    for (reason, message) in cases {
        for bytes in [message.to_string().into_bytes(), rmp_serde::to_vec_named(&message).unwrap()] {
            let verdict = bus::send(&planner, bytes.into()).await;
            assert_eq!(verdict.reason, reason, "{verdict:?}");
            assert_eq!(verdict.status, Status::Rejected);
            assert!(!verdict.detail.is_empty());
        }
    }
    for (reason, bytes) in [
        (Reason::Malformed, &b""[..]),
        (Reason::Malformed, b"\xc1"),
        (Reason::Malformed, b"{"),
        (Reason::DuplicateKey, b"{\"schema\":1,\"schema\":1}"),
    ] {
        let verdict = bus::send(&planner, bytes.into()).await;
        assert_eq!(verdict.reason, reason, "{verdict:?}");
    }
    nothing_more(&mut inbox).await;
    assert_eq!(
        send(&planner, &Draft::to_agent("worker", "fine"), Encoding::Json).await.reason,
        Reason::Delivered
    );
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_cannot_reach_another_tenants_inbox() {
    let bus = Bus::start(1).await;
    let (planner, victim) = (bus.agent("acme", "planner").await, bus.agent("globex", "builder").await);
    victim.register(&["sum"]).await.unwrap();
    let mut inbox = victim.inbox().await.unwrap();

    for to in [json!({ "agent": "builder" }), json!({ "capability": "sum" }), json!({ "broadcast": {} })] {
        let verdict = send(&planner, &Draft::new(to, json!({ "text": "hi" })), Encoding::Json).await;
        assert!(matches!(verdict.reason, Reason::RecipientUnknown | Reason::NoCapableAgent), "{verdict:?}");
    }
    // A verdict can be sent anywhere by its requester's choice, but never looks like a delivery.
    let message = Draft::to_agent("worker", "hi").encode(Encoding::Json);
    for reply in ["agent.builder.inbox", "tenant.globex.agent.builder.inbox", "$JS.API.STREAM.PURGE.RECORDS"]
    {
        planner
            .nats()
            .publish_with_reply("bus.planner.send", reply.to_owned(), message.clone())
            .await
            .unwrap();
    }
    planner.nats().flush().await.unwrap();
    nothing_more(&mut inbox).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_registers_only_itself_within_its_tenants_quota() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    let stolen = planner.json(Verb::Register, json!({ "agent": "worker" }).to_string()).await.unwrap();
    assert_eq!(stolen["reason"], "not_owner", "{stolen}");
    assert_eq!(worker.json(Verb::Heartbeat, "{}".to_owned()).await.unwrap()["reason"], "not_registered");

    let registered = worker.register(&["sum"]).await.unwrap();
    assert!(registered["ttl_ms"].as_u64().is_some_and(|ttl| ttl > 0), "{registered}");
    let found = planner.json(Verb::Find, json!({ "capability": "sum" }).to_string()).await.unwrap();
    assert_eq!(found["agents"][0]["id"], "worker", "{found}");
    assert_eq!(found["total"], 1);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_grows_too_large_for_its_recipient_is_refused_and_harms_no_other() {
    let bus = Bus::start(1).await;
    let (planner, worker, watcher) = (
        bus.agent("acme", "planner").await,
        bus.agent("acme", "worker").await,
        bus.agent("acme", "watcher").await,
    );
    worker.json(Verb::Register, json!({ "encoding": "json" }).to_string()).await.unwrap();
    watcher.register(&[]).await.unwrap();
    let (mut of_worker, mut of_watcher) = (worker.inbox().await.unwrap(), watcher.inbox().await.unwrap());

    // 60,000 control characters: as many bytes in MessagePack, six times as many in JSON.
    let content = json!({ "text": "\u{1}".repeat(60_000) });
    let alone = Draft::new(json!({ "agent": "worker" }), content.clone());
    let verdict = send(&planner, &alone, Encoding::MessagePack).await;
    assert_eq!(verdict.reason, Reason::TooLarge, "{verdict:?}");

    let all = Draft::new(json!({ "broadcast": {} }), content);
    let reach = send(&planner, &all, Encoding::MessagePack).await.reach.expect("a reach");
    assert_eq!((reach.delivered, reach.missed_total), (1, 1));
    assert_eq!((reach.missed[0].agent.as_str(), reach.missed[0].reason), ("worker", Reason::TooLarge));
    assert!(next(&mut of_watcher).await.is_some());
    nothing_more(&mut of_worker).await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_before_it_is_read_is_answered_in_its_own_encoding() {
    let bus = Bus::with(1, |options| {
        let plan = "[tenants.acme.limits]\nmessages_per_minute = 1\n[tenants.acme.agents]\nplanner = {}\n";
        options.plan = Plan::parse(plan).unwrap();
    })
    .await;
    let planner = bus.agent("acme", "planner").await;
    let first = Draft::to_agent("planner", "the one of this minute");
    send(&planner, &first, Encoding::Json).await;
    for verb in [Verb::Send, Verb::Submit, Verb::Ask] {
        for encoding in BOTH {
            let message = Draft::to_agent("planner", "one more").encode(encoding);
            let answer = planner.call(verb, message, Patience::default()).await.unwrap();
            assert_eq!(header(&answer, "Nats-Service-Error"), "rate_limited", "{verb:?}");
            assert_eq!(body(&answer)["reason"], "rate_limited");
            assert_eq!(agentbus::wire::encoding_of(&answer.payload), encoding, "{verb:?}");
        }
    }
    bus.stop().await;
}
