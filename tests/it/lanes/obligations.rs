//! Does a node do what the policy demands besides: count, note, and label the conversation?

use std::{collections::BTreeMap, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Freeze, FrozenBy, MessageType, Reason, Status, Verdict},
    nats::{Fleet, FreezeBucket, Frozen},
    tenants::BusUser,
};
use async_nats::Message;
use futures_util::{Stream, StreamExt as _};
use serde_json::json;
use tempfile::TempDir;

use crate::support::bus::{self, Bus};

/// What a message wants of it stands in its content.
const MODULE: &str = r#"package agentbus.modules.own

default allow := false

allow if not leaks

leaks if {
	"pii" in input.conversation.labels
	input.message.to.agent == "judge"
}

reasons contains "the conversation holds personal data" if leaks

obligations := object.union_n([rate, note, label, lane, freeze])

default freeze := {}

freeze := {"freeze": input.message.content.rogue}

default rate := {}

rate := {"rate": {"messages": 2, "seconds": 86400}} if input.message.content.often

rate := {"rate": {"messages": 12, "seconds": 86400}} if input.message.content.shared

default note := {}

note := {"note": input.message.content.note}

default label := {}

label := {"label": input.message.content.labels}

default lane := {}

lane := {"lane": "durable"} if input.message.content.kept
"#;

async fn obliging(nodes: usize) -> (Bus, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("own.rego"), MODULE).unwrap();
    let bus = Bus::with(nodes, |options| {
        let dir = folder.path().to_str().unwrap().into();
        let policy = toml::Table::from_iter([("dir".to_owned(), toml::Value::String(dir))]);
        options.node_overrides.insert("policy".to_owned(), policy.into());
    })
    .await;
    (bus, folder)
}

fn to(agent: &str, content: serde_json::Value) -> Draft {
    Draft { message_type: MessageType::Query, ..Draft::new(json!({ "agent": agent }), content) }
}

async fn sent(from: &AgentClient, draft: &Draft) -> Verdict {
    bus::send(from, draft.encode(Encoding::Json)).await
}

async fn next(inbox: &mut (impl Stream<Item = Message> + Unpin)) -> Message {
    tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.expect("in time").unwrap()
}

/// As soon as the thaw is seen.
async fn goes_on(from: &AgentClient, draft: &Draft) {
    loop {
        let verdict = sent(from, draft).await;
        if verdict.reason == Reason::Delivered {
            return;
        }
        assert_eq!(verdict.reason, Reason::Frozen, "{verdict:?}");
    }
}

/// Once something is stopped, all of it goes on.
async fn thaw(bucket: &FreezeBucket) -> u64 {
    loop {
        let frozen = bucket.last().await.unwrap();
        if !frozen.freezes.is_empty() {
            let thawed = frozen.freezes.clone();
            return bucket.replace(&Frozen { freezes: Vec::new(), thawed, ..frozen }).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn note(message: &Message) -> Option<&str> {
    Some(message.headers.as_ref()?.get("Agentbus-Note")?.as_str())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_above_its_rate_is_told_when_to_come_again_on_each_lane_and_a_repeat_counts_once() {
    let (bus, _policy) = obliging(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let often = || to("worker", json!({ "often": true }));
    let first = often();
    for draft in [&first, &first, &first, &often()] {
        let verdict = sent(&planner, draft).await;
        assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    }
    let refused = sent(&planner, &often()).await;
    assert_eq!((refused.reason, refused.retryable), (Reason::RateLimited, true), "{refused:?}");
    assert!(refused.detail.contains("rule own lets a sender send 2 messages in 86400 s"), "{refused:?}");
    let after = refused.retry_after.unwrap();
    assert!(after > Duration::from_secs(3_600) && after <= Duration::from_secs(43_200), "{after:?}");
    let asked = planner.ask(often().encode(Encoding::Json), Patience::FOR_AN_ANSWER).await.unwrap();
    assert_eq!(asked.verdict.reason, Reason::RateLimited, "{:?}", asked.verdict);
    // What has a verdict keeps it, and what the rule says nothing of passes.
    assert_eq!(sent(&planner, &first).await.reason, Reason::Delivered);
    assert_eq!(sent(&planner, &to("worker", json!({ "seldom": true }))).await.reason, Reason::Delivered);
    let other = bus.agent("acme", "judge").await;
    assert_eq!(sent(&other, &often()).await.reason, Reason::Delivered, "each sender has its own");

    // On the durable lane it waits as long as anything that is the message's own, and its sender hears why.
    let mut outcomes = planner.outcomes().await.unwrap();
    let stored = planner.submit(often().encode(Encoding::Json), Patience::default()).await.unwrap();
    assert_eq!(stored.reason, Reason::Stored, "{stored:?}");
    let outcome = agentbus::wire::decode_verdict(&next(&mut outcomes).await.payload).unwrap();
    assert_eq!((outcome.reason, outcome.retryable), (Reason::RateLimited, false), "{outcome:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_let_a_sender_send_as_often_as_one_but_for_what_each_owes_and_each_of_them_at_most_that()
{
    let (mut bus, _policy) = obliging(3).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let shared = || to("worker", json!({ "shared": true }));
    let count = async |of: &AgentClient, tries: usize| {
        let mut delivered = 0;
        for _ in 0..tries {
            let verdict = sent(of, &shared()).await;
            match verdict.reason {
                Reason::Delivered => delivered += 1,
                Reason::RateLimited => {}
                _ => panic!("{verdict:?}"),
            }
        }
        delivered
    };
    // Each counting for itself would make it 36. One after the other, each node owes what it let in last, and a busy
    // machine may be late with an answer.
    let delivered = count(&planner, 72).await;
    assert!((12..=24).contains(&delivered), "{delivered} of 12");
    println!("{delivered} of 12 over three nodes");
    let refused = sent(&planner, &shared()).await;
    assert!(refused.detail.contains("rule own lets a sender send 12 messages in 86400 s"), "{refused:?}");
    assert!(refused.retry_after.unwrap() > Duration::from_secs(600), "{refused:?}");

    // A Redis that comes back without its data begins anew; each node goes on counting what it let in itself.
    let redis = bus.stack.redis_mut().unwrap();
    redis.child_mut().kill().await;
    redis.restart().await.unwrap();
    worker.register(&[]).await.unwrap();
    let more = count(&planner, 72).await;
    assert!(delivered + more <= 36, "{delivered} and {more}: no node lets in more than 12");
    let judge = bus.agent("acme", "judge").await;
    let delivered = count(&judge, 72).await;
    assert!((12..=24).contains(&delivered), "{delivered} of 12 of another sender");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_stops_its_sender_alone_on_all_nodes_whose_message_goes_nowhere_and_an_operator_lets_it_go_on()
{
    let (bus, _policy) = obliging(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    let judge = bus.agent("acme", "judge").await;
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    let rogue = to("worker", json!({ "rogue": "it asks for everything" }));
    let denied = sent(&planner, &rogue).await;
    assert_eq!((denied.reason, denied.retryable), (Reason::PolicyDenied, false), "{denied:?}");
    let told = "own: the sender of this message is stopped until an operator lets it go on";
    assert_eq!(denied.detail, told);
    assert_eq!(sent(&planner, &rogue).await.detail, told, "a repeat hears what stands");

    let rogue_again = || to("worker", json!({ "rogue": "it asks for everything" }));

    // From its next message on, on whichever node, and as long as nobody thaws it.
    let hello = || to("worker", json!({ "text": "hello" }));
    let bucket = FreezeBucket::new(bus.stack.connect(BusUser::Operator).await.unwrap());
    let frozen = loop {
        let frozen = bucket.last().await.unwrap();
        if !frozen.freezes.is_empty() {
            break frozen;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let Freeze { scope, why, by, cut_off, .. } = &frozen.freezes[0];
    assert_eq!((scope.to_string().as_str(), why.as_str()), ("agent acme/planner", "it asks for everything"));
    assert_eq!((by, cut_off), (&Some(FrozenBy::Policy { module: "own".to_owned() }), &false));
    let fleet = Fleet::new(bus.stack.connect(BusUser::Operator).await.unwrap());
    let nodes = fleet.names().await.unwrap();
    loop {
        let answers = fleet.freezes(&nodes, frozen.revision).await.unwrap();
        if answers.values().all(|it| it.as_ref().is_some_and(|it| it.revision >= frozen.revision)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let once = Patience { attempt: Duration::from_secs(30), deadline: Duration::from_secs(30) };
    for _ in 0..8 {
        let stopped = planner.send(hello().encode(Encoding::Json), once).await.unwrap();
        assert_eq!(stopped.reason, Reason::Frozen, "{stopped:?}");
        assert_eq!(stopped.detail, "the policy's rule own has stopped agent acme/planner", "no words of it");
    }
    assert_eq!(sent(&judge, &hello()).await.reason, Reason::Delivered, "others go on");
    let thawed = Frozen { freezes: Vec::new(), ..frozen };
    let revision = bucket.replace(&thawed).await.unwrap();
    loop {
        let verdict = planner.send(hello().encode(Encoding::Json), once).await.unwrap();
        if verdict.reason == Reason::Delivered {
            break;
        }
        assert_eq!(verdict.reason, Reason::Frozen, "{verdict:?}");
    }
    assert_eq!(bucket.last().await.unwrap().revision, revision, "no node wants it again");
    // On the durable lane the message has its verdict before its sender is stopped, and does not stop it again after.
    let mut outcomes = planner.outcomes().await.unwrap();
    let stored = planner.submit(rogue_again().encode(Encoding::Json), Patience::default()).await.unwrap();
    assert_eq!(stored.reason, Reason::Stored, "{stored:?}");
    let outcome = agentbus::wire::decode_verdict(&next(&mut outcomes).await.payload).unwrap();
    assert_eq!((outcome.reason, outcome.detail.as_str()), (Reason::PolicyDenied, told), "{outcome:?}");
    thaw(&bucket).await;
    goes_on(&planner, &hello()).await;
    // A question that would go durably stops its asker as well.
    let kept = to("worker", json!({ "rogue": "it asks for everything", "kept": true }));
    let asked = planner.ask(kept.encode(Encoding::Json), Patience::FOR_AN_ANSWER).await.unwrap();
    assert_eq!((asked.verdict.reason, asked.verdict.detail.as_str()), (Reason::PolicyDenied, told));
    let revision = thaw(&bucket).await;
    goes_on(&planner, &hello()).await;
    assert_eq!(bucket.last().await.unwrap().revision, revision, "nothing has stopped it since");
    // Four were delivered, and none of what was refused.
    for _ in 0..4 {
        assert!(String::from_utf8_lossy(&next(&mut inbox).await.payload).contains("hello"));
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_note_comes_with_the_message_in_plain_characters_and_labels_hold_for_the_whole_conversation() {
    let (mut bus, _policy) = obliging(1).await;
    let mut agents = BTreeMap::new();
    for name in ["planner", "worker", "judge"] {
        let agent = bus.agent("acme", name).await;
        agent.register(&[]).await.unwrap();
        let inbox = agent.inbox().await.unwrap();
        agents.insert(name, (agent, inbox));
    }
    let (planner, _) = agents.remove("planner").unwrap();
    let (_worker, mut inbox) = agents.remove("worker").unwrap();
    for (given, expected) in [
        (json!({ "note": "look twice" }), Some("own: look twice")),
        (json!({ "note": "für\r\nNats-X: y" }), Some("own: f\\u{fc}r\\u{d}\\u{a}Nats-X: y")),
        (json!({ "plain": true }), None),
    ] {
        assert_eq!(sent(&planner, &to("worker", given)).await.reason, Reason::Delivered);
        assert_eq!(note(&next(&mut inbox).await), expected);
    }

    let within =
        |conversation: &str, draft: Draft| Draft { conversation_id: Some(conversation.to_owned()), ..draft };
    let labelling = json!({ "labels": ["pii"] });
    let nowhere = sent(&planner, &to("worker", labelling.clone())).await;
    assert_eq!(nowhere.reason, Reason::PolicyDenied, "{nowhere:?}");
    assert!(nowhere.detail.contains("has no conversation_id"), "{nowhere:?}");
    let hello = || json!({ "text": "hello" });
    assert_eq!(sent(&planner, &within("c1", to("judge", hello()))).await.reason, Reason::Delivered);
    assert_eq!(sent(&planner, &within("c1", to("worker", labelling))).await.reason, Reason::Delivered);
    for _ in 0..2 {
        let leaked = sent(&planner, &within("c1", to("judge", hello()))).await;
        assert_eq!(leaked.reason, Reason::PolicyDenied, "{leaked:?}");
        assert!(leaked.detail.contains("holds personal data"), "{leaked:?}");
        // Another message between takes nothing away.
        assert_eq!(sent(&planner, &within("c1", to("worker", hello()))).await.reason, Reason::Delivered);
    }
    assert_eq!(sent(&planner, &within("c2", to("judge", hello()))).await.reason, Reason::Delivered);

    // Without Redis nobody knows them, and what nobody knows lets nothing pass.
    bus.stack.redis_mut().unwrap().child_mut().kill().await;
    let once = Patience { attempt: Duration::from_secs(5), deadline: Duration::from_secs(5) };
    let draft = within("c1", to("judge", hello()));
    let unknown = planner.send(draft.encode(Encoding::Json), once).await.unwrap();
    assert!(unknown.retryable && unknown.status != Status::Delivered, "{unknown:?}");
    bus.stop().await;
}
