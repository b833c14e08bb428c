//! What does a node make of what no node wrote? Whoever writes to Redis must not be able to speak for a node.

use std::time::Duration;

use agentbus::{
    domain::{Encoding, Reason, Status, Verdict},
    state::{
        Claim, Count, Forgery, Idempotency as _, Registration, Registry as _, Seen, SenderHistoryStore as _,
        Tracked as _, Trust,
    },
    wire,
};

use super::{
    DIGEST, LIFETIMES, Node, OTHER_DIGEST, Server, agent, capability, message, record, sealed_by, tenant,
};

const COPY: &str = "EVAL \"redis.call('SET', KEYS[2], redis.call('GET', KEYS[1]), 'PX', 9999)\" 2";

fn key(id: &str) -> String {
    format!("agentbus:{{acme}}:msg:planner:{id}")
}

async fn node_with(server: &Server, trust: Trust) -> Node {
    let node = Node::start_with(server, |settings| settings.trust = trust);
    assert!(node.store.ready(super::SOON).await);
    node
}

async fn settle(node: &Node, id: &str, verdict: &[u8]) {
    let Claim::Mine { token } = node.store.claim(&message(id), &DIGEST, None).await.unwrap() else {
        panic!("{id}")
    };
    node.store.settle(&message(id), &DIGEST, token, verdict, Duration::from_secs(60)).await.unwrap();
}

/// With every field there is.
fn full_verdict() -> Verdict {
    Verdict {
        message_id: "m-1".parse().ok(),
        status: Status::Delivered,
        reason: Reason::Delivered,
        detail: "handed to worker".to_owned(),
        retryable: false,
        retry_after: Some(Duration::from_millis(5)),
        decision_id: "d".to_owned(),
        policy_revision: Some("r".to_owned()),
        impact: None,
        reach: None,
        deliberation_id: "0123456789abcdef01234567".parse().ok(),
        node: "node-1".to_owned(),
        elapsed: Duration::from_micros(1),
    }
}

/// As a string of Redis' inline form.
pub(super) fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect::<String>())
}

#[tokio::test]
async fn a_verdict_that_was_made_up_or_copied_is_not_told() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    let delivered = wire::encode_verdict(&full_verdict(), Encoding::MessagePack);
    settle(&node, "real", &delivered).await;
    assert_eq!(
        node.store.claim(&message("real"), &DIGEST, None).await.unwrap(),
        Claim::Settled { verdict: delivered.clone() }
    );
    assert_eq!(node.store.claim(&message("real"), &OTHER_DIGEST, None).await.unwrap(), Claim::Conflict);

    let made_up = [b"S".as_slice(), &DIGEST, &delivered].concat();
    assert!(server.tell(&format!("SET {} {} PX 9999", key("made-up"), quoted(&made_up))).starts_with("+OK"));
    server.tell(&format!("{COPY} {} {}", key("real"), key("copied")));
    for (count, id) in (1..).zip(["made-up", "copied"]) {
        assert_eq!(node.store.claim(&message(id), &DIGEST, None).await.unwrap(), Claim::Doubtful, "{id}");
        assert_eq!(node.store.forged(Forgery::Verdict), count);
    }
    // Nor is it told that the id was used for another content.
    assert_eq!(node.store.claim(&message("made-up"), &OTHER_DIGEST, None).await.unwrap(), Claim::Doubtful);
    assert!(node.store.distrust().unwrap().contains("a verdict"));
}

#[tokio::test]
async fn what_is_no_claim_is_doubtful_and_never_mine() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    let long = "x".repeat(64);
    let digest = "\u{7}".repeat(32);
    let mut count = 0;
    for (id, write) in [
        ("empty", format!("SET {} \"\"", key("empty"))),
        ("short", format!("SET {} P", key("short"))),
        ("noise", format!("SET {} {long}", key("noise"))),
        ("lease", format!("SET {} P{digest}", key("lease"))),
        ("no-lease", format!("SET {} P{digest}tokentok", key("no-lease"))),
        ("half", format!("SET {} P{digest}tokentokr", key("half"))),
        ("hexadecimal", format!("SET {} P{digest}tokentokr0x7", key("hexadecimal"))),
        ("mixed", format!("SET {} T{digest}tokentokr7", key("mixed"))),
        ("for-ever", format!("SET {} P{digest}tokentok99999999999999", key("for-ever"))),
        ("beyond", format!("SET {} P{digest}tokentok{}", key("beyond"), "9".repeat(400))),
        ("no-decision", format!("SET {} \"N{digest}tokentok r7\"", key("no-decision"))),
        ("of-nobody", format!("SET {} \"N{digest}tokentok0123456789abcdef-7 r7\"", key("of-nobody"))),
        ("elsewhere", format!("SET {} \"U{digest}tokentok0123456789abcdef-7-* 7\"", key("elsewhere"))),
        (
            "too-long",
            format!("SET {} \"N{digest}tokentok0123456789abcdef-{}-1 r7\"", key("too-long"), "9".repeat(40)),
        ),
        ("hash", format!("HSET {} a b", key("hash"))),
        ("list", format!("RPUSH {} a", key("list"))),
        ("huge", format!("SETRANGE {} 50000000 x", key("huge"))),
    ] {
        assert!(!server.tell(&write).starts_with('-'), "{write}");
        assert_eq!(node.store.claim(&message(id), &DIGEST, None).await.unwrap(), Claim::Doubtful, "{id}");
        count += 1;
        assert_eq!(node.store.forged(Forgery::Claim), count, "{id}");
        // It does not stay for ever.
        let ttl = server.tell(&format!("PTTL {}", key(id)));
        assert!(!ttl.starts_with(":-1"), "{id}: {ttl}");
    }
    settle(&node, "another", b"verdict").await;
}

#[tokio::test]
async fn one_bad_registration_is_passed_over_and_no_other() {
    let server = Server::start();
    let node = Node::ready(&server, agentbus::state::Lifetimes::default()).await;
    let (acme, writer, nlp) = (tenant("acme"), agent("writer"), capability("nlp"));
    let entry = "agentbus:{acme}:agent:writer";
    let deep = "[".repeat(20_000);
    for write in [
        format!("SET {entry} nonsense"),
        format!("SET {entry} \"\""),
        format!("SET {entry} \"[1,2]\""),
        format!("SET {entry} {deep}"),
        format!("SET {entry} \"{{\\\"id\\\":\\\"other\\\",\\\"capabilities\\\":7}}\""),
        format!("SET {entry} \"{{\\\"id\\\":\\\"writer\\\",\\\"capabilities\\\":[\\\"nlp\\\",7,null]}}\""),
        format!("SET {entry} \"{{\\\"id\\\":\\\"writer\\\",\\\"capabilities\\\":[]}}\""),
        format!("SETRANGE {entry} 50000000 x"),
        format!("HSET {entry} a b"),
        "SET agentbus:{acme}:agents text".to_owned(),
        "SET agentbus:{acme}:cap:nlp text".to_owned(),
        "HSET agentbus:epoch:{acme} a b".to_owned(),
        "SET agentbus:epoch:{acme} -1".to_owned(),
        "SET agentbus:epoch:{acme} nan".to_owned(),
        "ZADD agentbus:{acme}:cap:nlp 9999999999999 NOT*AN*ID inf writer inf ghost".to_owned(),
        format!("ZADD agentbus:{{acme}}:agents inf {deep}"),
    ] {
        let shown = &write[..write.len().min(90)];
        server.tell("FLUSHALL");
        node.store.register(&acme, &record("editor", &["nlp"]), 9).await.unwrap();
        if write.starts_with("HSET") {
            server.tell("DEL agentbus:epoch:{acme}");
        }
        assert!(!server.tell(&write).starts_with('-'), "{shown}");
        node.store.epoch(&acme).await.unwrap();
        node.store.heartbeat(&acme, &agent("editor")).await.unwrap();
        assert!(node.store.agent(&acme, &agent("editor")).await.unwrap().is_some(), "{shown}");
        assert!(node.store.agent(&acme, &writer).await.unwrap().is_none(), "{shown}");
        assert!(node.store.holders(&acme, &nlp).await.unwrap().contains(&agent("editor")), "{shown}");
        assert!(node.store.agents(&acme).await.unwrap().contains(&agent("editor")), "{shown}");
        assert!(!node.store.heartbeat(&acme, &writer).await.unwrap(), "{shown}");
        assert!(matches!(
            node.store.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap(),
            Registration::Registered { .. }
        ));
        assert!(node.store.agent(&acme, &writer).await.unwrap().is_some(), "{shown}");
        assert!(node.store.heartbeat(&acme, &writer).await.unwrap(), "{shown}");
        assert!(node.store.unregister(&acme, &writer).await.unwrap(), "{shown}");
    }
    for what in [Forgery::Registration, Forgery::Index, Forgery::Epoch] {
        assert!(node.store.forged(what) > 0, "{what:?}");
    }
}

#[tokio::test]
async fn a_registration_of_another_agent_or_tenant_is_not_believed() {
    let server = Server::start();
    let node = Node::ready(&server, agentbus::state::Lifetimes::default()).await;
    let acme = tenant("acme");
    node.store.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    for to in ["agentbus:{acme}:agent:editor", "agentbus:{globex}:agent:writer"] {
        server.tell(&format!("{COPY} agentbus:{{acme}}:agent:writer {to}"));
    }
    assert!(node.store.agent(&acme, &agent("editor")).await.unwrap().is_none());
    assert!(node.store.agent(&tenant("globex"), &agent("writer")).await.unwrap().is_none());
    assert_eq!(node.store.forged(Forgery::Registration), 2);
}

#[tokio::test]
async fn members_that_are_no_agents_fill_no_tenant_for_good() {
    let server = Server::start();
    let node = Node::ready(&server, agentbus::state::Lifetimes::default()).await;
    let acme = tenant("acme");
    node.store.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    for key in ["agentbus:{acme}:agents", "agentbus:{acme}:cap:nlp"] {
        let fill = "EVAL \"local t = redis.call('TIME')[1] * 1000 for i = 1, 30000 do \
                    redis.call('ZADD', KEYS[1], t + 20000, 'x' .. i) end\" 1";
        assert!(!server.tell(&format!("{fill} {key}")).starts_with('-'));
    }
    let mut readings = 0;
    while node.store.holders(&acme, &capability("nlp")).await.unwrap().len() != 1 {
        readings += 1;
        assert!(readings < 9, "it does not end");
    }
    // The quota counts agents: each try makes room.
    let mut tries = 0;
    while !matches!(
        node.store.register(&acme, &record("editor", &[]), 9).await.unwrap(),
        Registration::Registered { .. }
    ) {
        tries += 1;
        assert!(tries < 9, "it does not end");
    }
    let found = node.store.forged(Forgery::Index) + node.store.forged(Forgery::Registration);
    assert!(found >= 40_000, "{found}");
}

#[tokio::test]
async fn a_past_that_cannot_be_is_none_and_the_next_one_is() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    let (acme, planner) = (tenant("acme"), agent("planner"));
    let past = "agentbus:{acme}:past:planner";
    let nan = "\\xcb\\x7f\\xf8\\x00\\x00\\x00\\x00\\x00\\x00";
    for (sequence, write) in (1..).zip([
        format!("SET {past} nonsense"),
        format!("SET {past} \"\""),
        format!("SET {past} \"\\x93\\x90\\x90\\x91\\xa1x\""),
        format!("SET {past} \"\\x01\""),
        format!("SET {past} \"\\x93\\x90\\x90\\x91{nan}\""),
        format!("SET {past} \"\\x93\\x90\\x90\\x91\\x07\""),
        format!("SET {past} \"\\x93\\x92{nan}\\x01\\x90\\x90\""),
        format!("SET {past} \"\\x93\\x92\\x01\\xff\\x90\\x90\""),
        format!("SET {past} \"\\x93\\x90\\x93\\xa11\\xff\\x01\\x90\""),
        format!("SETRANGE {past} 50000000 x"),
        format!("HSET {past} a b"),
    ]) {
        server.tell(&format!("DEL {past}"));
        assert!(!server.tell(&write).starts_with('-'), "{write}");
        let seen = Seen {
            teller: 1,
            sequence,
            messages: vec![Count { age: 0, messages: 3 }],
            scores: vec![0.5],
            ..Seen::default()
        };
        let shared = node.store.share(&acme, &planner, &seen).await.unwrap();
        assert_eq!((shared.applied, shared.scores.as_slice()), (sequence, &[0.5][..]), "{write}");
        assert_eq!(shared.messages.iter().map(|count| count.messages).sum::<u64>(), 3, "{write}");
        assert_eq!(node.store.forged(Forgery::Past), sequence, "{write}");
    }
}

#[tokio::test]
async fn a_node_with_another_key_believes_nothing_and_says_so() {
    let server = Server::start();
    let (one, other) = (node_with(&server, sealed_by('a')).await, node_with(&server, sealed_by('b')).await);
    settle(&one, "one", b"verdict").await;
    one.store.register(&tenant("acme"), &record("writer", &[]), 9).await.unwrap();
    assert_eq!(other.store.claim(&message("one"), &DIGEST, None).await.unwrap(), Claim::Doubtful);
    assert!(other.store.agent(&tenant("acme"), &agent("writer")).await.unwrap().is_none());
    assert!(other.store.distrust().is_some());
    assert_eq!(one.store.distrust(), None);
}

#[tokio::test]
async fn a_heartbeat_renews_a_seal_that_is_getting_old_and_nothing_else() {
    let server = Server::start();
    let one = Node::ready(&server, agentbus::state::Lifetimes::default()).await;
    // Its seals live for four hours, so that of the other, of an hour, is old to it.
    let hour = agentbus::state::Lifetimes { agent: Duration::from_secs(3_600), ..LIFETIMES };
    let other = Node::ready(&server, hour).await;
    let (acme, writer, entry) = (tenant("acme"), agent("writer"), "GET agentbus:{acme}:agent:writer");
    one.store.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    let (before, epoch) = (server.tell(entry), one.store.epoch(&acme).await.unwrap());
    assert!(one.store.heartbeat(&acme, &writer).await.unwrap());
    assert_eq!(server.tell(entry), before);
    assert!(other.store.heartbeat(&acme, &writer).await.unwrap());
    let after = server.tell(entry);
    assert_ne!(after, before);
    assert_eq!(after.len(), before.len());
    assert_eq!(one.store.epoch(&acme).await.unwrap(), epoch);
    for node in [&one, &other] {
        assert_eq!(*node.store.agent(&acme, &writer).await.unwrap().unwrap(), record("writer", &["nlp"]));
        assert_eq!(node.store.distrust(), None);
    }
    let ttl = server.tell("PTTL agentbus:{acme}:agent:writer");
    assert!(ttl.trim_start_matches(':').trim().parse::<u64>().unwrap() > 3_000_000, "{ttl}");
}

/// What the version before this one wrote, and what it makes of what this one writes.
#[tokio::test]
async fn two_versions_side_by_side_read_each_other() {
    let server = Server::start();
    let trust = Trust { unsealed_for: Duration::from_secs(60), ..sealed_by('a') };
    let (lenient, strict) = (node_with(&server, trust).await, node_with(&server, sealed_by('a')).await);
    let verdict = full_verdict();
    let bytes = wire::encode_verdict(&verdict, Encoding::MessagePack);
    let old = [b"S".as_slice(), &DIGEST, &bytes].concat();
    server.tell(&format!("SET {} {} PX 9999", key("old"), quoted(&old)));
    let settled = Claim::Settled { verdict: bytes.clone() };
    assert_eq!(lenient.store.claim(&message("old"), &DIGEST, None).await.unwrap(), settled);
    assert_eq!(strict.store.claim(&message("old"), &DIGEST, None).await.unwrap(), Claim::Doubtful);

    let (acme, writer) = (tenant("acme"), agent("writer"));
    let entry = "\"{\\\"id\\\":\\\"writer\\\",\\\"capabilities\\\":[\\\"nlp\\\"]}\"";
    server.tell(&format!("SET agentbus:{{acme}}:agent:writer {entry} PX 9999"));
    assert!(lenient.store.heartbeat(&acme, &writer).await.unwrap());
    assert_eq!(*lenient.store.agent(&acme, &writer).await.unwrap().unwrap(), record("writer", &["nlp"]));
    assert!(!strict.store.heartbeat(&acme, &writer).await.unwrap());

    // The version before read what stands after the digest, and skipped what it did not know.
    settle(&strict, "new", &bytes).await;
    let stored = server.tell_bytes(&format!("GETRANGE {} 33 -1", key("new")));
    let stored = stored.splitn(2, |byte| *byte == b'\n').nth(1).unwrap().strip_suffix(b"\r\n").unwrap();
    assert_eq!(stored.len(), bytes.len() + 40);
    assert_eq!(wire::decode_verdict(stored).unwrap(), verdict);
    strict.store.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    let stored = server.tell("GET agentbus:{acme}:agent:writer");
    let json = stored.lines().nth(1).unwrap();
    assert!(json.starts_with(r#"{"id":"writer","capabilities":["nlp"],"seal":"1"#), "{json}");
    let read: agentbus::domain::AgentRecord = serde_json::from_str(json).unwrap();
    assert_eq!(read, record("writer", &["nlp"]));
    let epoch = strict.store.epoch(&acme).await.unwrap();
    strict.store.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    assert_eq!(strict.store.epoch(&acme).await.unwrap(), epoch, "another seal is no change");
}
