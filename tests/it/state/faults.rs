//! What do callers see while Redis is away, forgets, or holds what it should not?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::state::{
    CachedRegistry, Claim, Idempotency, Pasts as _, RedisSettings, RedisStore, RedisUrlError, Registry, Seen,
    StoreError,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    DIGEST, LIFETIMES, Node, Server, agent, capability, could_not_ask, eventually, message, record, tenant,
};

#[tokio::test]
async fn a_redis_that_stands_still_is_a_timeout_and_then_no_wait() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    server.pause();
    let start = Instant::now();
    let error = node.store.claim(&message("stuck"), &DIGEST).await.unwrap_err();
    assert_eq!(error, StoreError::Timeout { limit: Duration::from_millis(250) });
    assert!(start.elapsed() < Duration::from_millis(600), "{:?}", start.elapsed());

    eventually(Duration::from_secs(1), async || !node.store.healthy()).await;
    let start = Instant::now();
    let error = node.store.claim(&message("refused"), &DIGEST).await.unwrap_err();
    assert_eq!(error, StoreError::Disconnected);
    assert!(start.elapsed() < Duration::from_millis(150), "{:?}", start.elapsed());

    server.resume();
    let back = eventually(Duration::from_secs(10), async || node.store.healthy()).await;
    eprintln_figure("resumed, healthy after", back);
    // The first claim may have been heard after all; then its lease must run out first.
    eventually(Duration::from_secs(2), async || {
        let answer = node.store.claim(&message("stuck"), &DIGEST).await;
        matches!(answer, Ok(Claim::Mine { .. } | Claim::TakenOver { .. }))
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_was_killed_serves_again_and_nothing_old_is_believed() {
    let mut server = Server::start();
    let long = agentbus::state::Lifetimes::default();
    let node = Node::ready(&server, long).await;
    let cached = CachedRegistry::new(Arc::clone(&node.store));
    let acme = tenant("acme");
    eventually(Duration::from_secs(5), async || cached.is_trusted()).await;
    cached.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    assert_eq!(*cached.holders(&acme, &capability("nlp")).await.unwrap(), [agent("writer")]);
    assert!(cached.agent(&acme, &agent("writer")).await.unwrap().is_some());

    server.kill();
    let noticed = eventually(Duration::from_secs(2), async || !node.store.healthy()).await;
    eprintln_figure("killed, noticed after", noticed);
    // What was read lately still helps; what was not cannot be told.
    assert_eq!(*cached.holders(&acme, &capability("nlp")).await.unwrap(), [agent("writer")]);
    assert!(could_not_ask(&cached.holders(&acme, &capability("other")).await.unwrap_err()));
    assert!(could_not_ask(&node.store.claim(&message("down"), &DIGEST).await.unwrap_err()));

    server.start_again();
    let back =
        eventually(Duration::from_secs(10), async || node.store.healthy() && cached.is_trusted()).await;
    eprintln_figure("started again, healthy and tracked after", back);
    assert!(cached.holders(&acme, &capability("nlp")).await.unwrap().is_empty(), "the server forgot it");
    assert!(matches!(node.store.claim(&message("down"), &DIGEST).await, Ok(Claim::Mine { .. })));
}

#[tokio::test]
async fn what_is_cached_is_believed_for_its_time_to_live_only_while_redis_is_away() {
    let mut server = Server::start();
    let node = Node::ready(&server, agentbus::state::Lifetimes::default()).await;
    let limits = agentbus::state::CacheLimits { ttl: Duration::from_millis(800), ..Default::default() };
    let cached = CachedRegistry::with(Arc::clone(&node.store), limits, agentbus::state::Clock::machine());
    let acme = tenant("acme");
    eventually(Duration::from_secs(5), async || cached.is_trusted()).await;
    cached.register(&acme, &record("writer", &[]), 9).await.unwrap();
    assert!(cached.agent(&acme, &agent("writer")).await.unwrap().is_some());
    server.kill();
    assert!(cached.agent(&acme, &agent("writer")).await.unwrap().is_some());
    let until = eventually(Duration::from_secs(3), async || {
        cached.agent(&acme, &agent("writer")).await.is_err_and(|error| could_not_ask(&error))
    });
    assert!(until.await < Duration::from_millis(1_500));
}

#[tokio::test]
async fn a_node_starts_without_redis_and_is_healthy_once_it_comes() {
    let mut server = Server::start();
    server.kill();
    let start = Instant::now();
    let node = Node::start(&server, LIFETIMES);
    assert!(start.elapsed() < Duration::from_millis(100), "connecting blocks");
    assert!(!node.store.ready(Duration::from_millis(300)).await);
    let error = node.store.agents(&tenant("acme")).await.unwrap_err();
    assert_eq!(error, StoreError::Disconnected);
    server.start_again();
    assert!(node.store.ready(Duration::from_secs(10)).await);
    assert!(node.store.agents(&tenant("acme")).await.unwrap().is_empty());
    assert!(node.stop().await, "tasks outlive the store");
}

#[tokio::test]
async fn a_node_that_never_met_redis_stops_in_time() {
    let mut server = Server::start();
    server.kill();
    let node = Node::start(&server, LIFETIMES);
    assert!(node.stop().await, "tasks outlive the store");
}

#[tokio::test]
async fn scripts_that_the_server_forgot_are_sent_again() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    for round in 0..3 {
        assert!(server.tell("SCRIPT FLUSH SYNC").starts_with("+OK"));
        let answer = node.store.claim(&message(&format!("flushed-{round}")), &DIGEST).await.unwrap();
        assert!(matches!(answer, Claim::Mine { .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn what_others_wrote_is_an_error_and_never_mine() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    let (acme, writer) = (tenant("acme"), agent("writer"));
    let msg = |id: &str| format!("agentbus:{{acme}}:msg:planner:{id}");
    let long = "x".repeat(64);
    for (id, write) in [
        ("empty", format!("SET {} \"\"", msg("empty"))),
        ("short", format!("SET {} P", msg("short"))),
        ("noise", format!("SET {} {long}", msg("noise"))),
        ("lease", format!("SET {} P{}", msg("lease"), "\u{7}".repeat(32))),
        ("no-lease", format!("SET {} P{}tokentok", msg("no-lease"), "\u{7}".repeat(32))),
        ("half", format!("SET {} P{}tokentokr", msg("half"), "\u{7}".repeat(32))),
        ("hexadecimal", format!("SET {} P{}tokentokr0x7", msg("hexadecimal"), "\u{7}".repeat(32))),
        ("mixed", format!("SET {} T{}tokentokr7", msg("mixed"), "\u{7}".repeat(32))),
        ("hash", format!("HSET {} a b", msg("hash"))),
        ("list", format!("RPUSH {} a", msg("list"))),
    ] {
        assert!(!server.tell(&write).starts_with('-'), "{write}");
        let answer = node.store.claim(&message(id), &DIGEST).await;
        assert!(matches!(answer, Err(StoreError::Unexpected { .. })), "{id}: {answer:?}");
    }

    let entry = "agentbus:{acme}:agent:writer";
    for write in [
        format!("SET {entry} nonsense"),
        format!("SET {entry} \"[1,2]\""),
        format!("SET {entry} \"{{\\\"id\\\":\\\"other\\\",\\\"capabilities\\\":7}}\""),
        format!("HSET {entry} a b"),
    ] {
        server.tell(&format!("DEL {entry}"));
        assert!(!server.tell(&write).starts_with('-'), "{write}");
        let unexpected =
            |error: StoreError| assert!(matches!(error, StoreError::Unexpected { .. }), "{error}");
        unexpected(node.store.agent(&acme, &writer).await.unwrap_err());
        unexpected(node.store.heartbeat(&acme, &writer).await.unwrap_err());
        unexpected(node.store.unregister(&acme, &writer).await.unwrap_err());
        unexpected(node.store.register(&acme, &record("writer", &[]), 9).await.unwrap_err());
    }
    let past = "agentbus:{acme}:past:planner";
    for write in [
        format!("SET {past} nonsense"),
        format!("SET {past} \"\""),
        format!("SET {past} \"\\x93\\x90\\x90\\x91\\xa1x\""),
        format!("SET {past} \"\\x01\""),
        format!("HSET {past} a b"),
    ] {
        server.tell(&format!("DEL {past}"));
        assert!(!server.tell(&write).starts_with('-'), "{write}");
        let seen = Seen { teller: 1, sequence: 1, ..Seen::default() };
        let answer = node.store.share(&acme, &agent("planner"), &seen).await;
        assert!(matches!(answer, Err(StoreError::Unexpected { .. })), "{write}: {answer:?}");
    }
    server.tell("ZADD agentbus:{acme}:cap:nlp 9999999999999 NOT*AN*ID");
    let answer = node.store.holders(&acme, &capability("nlp")).await;
    assert!(matches!(answer, Err(StoreError::Unexpected { .. })), "{answer:?}");
    server.tell("SET agentbus:{acme}:agents text");
    let error = node.store.agents(&acme).await.unwrap_err();
    assert_eq!(error, StoreError::Unexpected { found: "error WRONGTYPE".to_owned() });
}

#[tokio::test]
async fn a_full_redis_refuses_and_says_so() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    server.tell("CONFIG SET maxmemory 1");
    assert_eq!(node.store.claim(&message("full"), &DIGEST).await, Err(StoreError::Full));
    server.tell("CONFIG SET maxmemory 0");
    assert!(matches!(node.store.claim(&message("full"), &DIGEST).await, Ok(Claim::Mine { .. })));
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_refused_without_repeating_it() {
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    let refused = |url: &str| {
        let settings = RedisSettings::new(url);
        assert!(!format!("{settings:?}").contains("hunter2"));
        RedisStore::connect(settings, shutdown.clone(), &tracker).unwrap_err()
    };
    assert_eq!(refused("hunter2"), RedisUrlError::Malformed);
    assert_eq!(refused("http://a:hunter2@b"), RedisUrlError::Malformed);
    assert_eq!(refused("redis://a:hunter2@"), RedisUrlError::Malformed);
    assert_eq!(refused("rediss://a:hunter2@b:1"), RedisUrlError::TlsNotBuiltIn);
    assert_eq!(refused("valkeys-cluster://a:hunter2@b:1"), RedisUrlError::TlsNotBuiltIn);
}

#[tokio::test]
async fn a_wrong_password_is_down_and_never_shown() {
    let server = Server::start();
    server.tell("CONFIG SET requirepass right");
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    let connect = |password: &str| {
        let url = server.url().replace("redis://", &format!("redis://:{password}@"));
        RedisStore::connect(RedisSettings::new(url), shutdown.clone(), &tracker).unwrap()
    };
    let wrong = connect("hunter2");
    let right = connect("right");
    assert!(right.ready(Duration::from_secs(5)).await);
    assert!(!wrong.ready(Duration::from_millis(500)).await);
    let error = wrong.agents(&tenant("acme")).await.unwrap_err();
    assert_eq!(error, StoreError::Disconnected);
    assert!(!format!("{wrong:?} {error}").contains("hunter2"));
    shutdown.cancel();
}

/// Shown with `--nocapture`; a figure is never an assertion.
#[allow(clippy::print_stderr, reason = "figures for people")]
fn eprintln_figure(what: &str, took: Duration) {
    eprintln!("{what} {} ms", took.as_millis());
}
