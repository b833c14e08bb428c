//! Does what a node may do in Redis suffice for what it does, and is it no more than that?

use std::{collections::BTreeSet, time::Duration};

use agentbus::{
    domain::{Cause, Conversation, MessageId},
    servers::redis::{NODE_RIGHTS, NODE_USER},
    state::{
        CachedRegistry, Causes as _, Claim, ConversationLabels as _, Counted, Followed, HandedBack,
        Idempotency as _, Name, Registry as _, Seen, SenderHistoryStore as _, Tracked as _,
    },
};

use super::{DIGEST, LIFETIMES, Node, Server, agent, capability, eventually, message, record, tenant};

/// Everything that a node asks of Redis.
async fn all(node: &Node) {
    let (acme, store) = (tenant("acme"), &node.store);
    let cached = CachedRegistry::new(std::sync::Arc::clone(store));
    eventually(async || cached.is_trusted()).await;
    store.register(&acme, &record("writer", &["nlp"]), 1).await.unwrap();
    store.register(&acme, &record("writer", &["sql"]), 1).await.unwrap();
    store.register(&acme, &record("editor", &["nlp"]), 1).await.unwrap();
    assert!(store.heartbeat(&acme, &agent("writer")).await.unwrap());
    assert!(store.agent(&acme, &agent("writer")).await.unwrap().is_some());
    store.holders(&acme, &capability("sql")).await.unwrap();
    store.agents(&acme).await.unwrap();
    store.epoch(&acme).await.unwrap();
    store.unregister(&acme, &agent("writer")).await.unwrap();
    let Claim::Mine { token } = store.claim(&message("one"), &DIGEST, None).await.unwrap() else { panic!() };
    store.claim(&message("one"), &DIGEST, None).await.unwrap();
    store.settle(&message("one"), &DIGEST, token, b"verdict", Duration::ZERO).await.unwrap();
    store.claim(&message("one"), &DIGEST, None).await.unwrap();
    let Claim::Mine { token } = store.claim(&message("two"), &DIGEST, None).await.unwrap() else { panic!() };
    store.release(&message("two"), token).await.unwrap();
    let seen = Seen { teller: 1, sequence: 1, scores: vec![0.5], ..Seen::default() };
    store.share(&acme, &agent("planner"), &seen).await.unwrap();
    let (by, conversation) = ((&acme, &agent("planner")), "c-1".parse().unwrap());
    store.label(by, &conversation, &["pii".parse().unwrap()].into()).await.unwrap();
    store.labels(&acme, &conversation).await.unwrap();
    let conversation: Conversation = "planner/c-1".parse().unwrap();
    let cause = Cause { conversation: conversation.clone(), hops: 1, chain: Vec::new() };
    let answered: MessageId = "m-1".parse().unwrap();
    let names = vec![Name::Message(answered.clone())];
    let handed = HandedBack {
        by: agent("worker"),
        answered: Some(answered.clone()),
        span: None,
        to: None,
        conversation: conversation.clone(),
    };
    let counted =
        Counted { conversation: conversation.clone(), answered: Some((agent("planner"), answered)) };
    store.count(&acme, &counted).await.unwrap();
    store.follow(&acme, &Followed { recipients: vec![agent("worker")], names, cause }).await.unwrap();
    store.cause(&acme, &handed).await.unwrap();
    store.renew(&acme, &conversation).await.unwrap();
}

#[tokio::test]
async fn a_node_does_all_it_has_to_with_its_rights_and_uses_every_one() {
    let server = Server::start();
    server.tell("CONFIG RESETSTAT");
    let node = Node::ready(&server, LIFETIMES).await;
    all(&node).await;
    assert_eq!(node.store.refusal(), None);
    assert!(node.stop().await);
    let log = server.tell("ACL LOG");
    assert!(log.starts_with("*0"), "{log}");
    let stats = server.tell("INFO commandstats");
    let used: BTreeSet<String> = stats
        .lines()
        .filter_map(|line| line.strip_prefix("cmdstat_")?.split(':').next())
        // What the operator of this test does.
        .filter(|command| !["config|resetstat", "acl|log", "auth"].contains(command))
        .map(str::to_owned)
        .collect();
    let granted: BTreeSet<String> = NODE_RIGHTS
        .split_whitespace()
        .filter_map(|word| word.strip_prefix('+'))
        // Only on the way out, which a busy machine may cut short.
        .filter(|command| *command != "quit")
        .map(str::to_owned)
        .collect();
    assert_eq!(used.into_iter().filter(|command| command != "quit").collect::<BTreeSet<_>>(), granted);
}

#[tokio::test]
async fn a_node_can_do_no_harm_beside_its_own_keys() {
    let server = Server::start();
    for command in [
        "config get *",
        "flushall",
        "flushdb",
        "keys *",
        "debug sleep 0",
        "script flush",
        "acl list",
        "scan 0",
        "shutdown",
        "save",
        "monitor",
        "client list",
        "client kill id 1",
        "replicaof no one",
        "module list",
        "get agentbus:x",
        "mget agentbus:x",
        "subscribe x",
        "publish x y",
        "set other x",
        "del other",
    ] {
        let allowed = server.tell(&format!("ACL DRYRUN {NODE_USER} {command}"));
        assert!(!allowed.starts_with("+OK"), "{command}: {allowed}");
    }
    assert!(server.tell(&format!("ACL DRYRUN {NODE_USER} set agentbus:x y")).starts_with("+OK"));
}

#[tokio::test]
async fn a_right_that_is_missing_is_told_at_the_start_and_when_it_is_missed() {
    let server = Server::start();
    for (right, told) in [("-getrange", "getrange"), ("-zadd", "zadd"), ("-eval", "eval")] {
        server.tell(&format!("ACL SETUSER {NODE_USER} {right}"));
        let node = Node::ready(&server, LIFETIMES).await;
        eventually(async || node.store.refusal().is_some()).await;
        let refusal = node.store.refusal().unwrap();
        assert!(refusal.contains("NOPERM") && refusal.contains(told), "{right}: {refusal}");
        server.tell(&format!("ACL SETUSER {NODE_USER} {}", right.replace('-', "+")));
    }
    let node = Node::ready(&server, LIFETIMES).await;
    eventually(async || node.store.refusal().is_none()).await;
    server.tell(&format!("ACL SETUSER {NODE_USER} -evalsha"));
    assert!(node.store.agents(&tenant("acme")).await.is_err());
    eventually(async || node.store.refusal().is_some()).await;
}
