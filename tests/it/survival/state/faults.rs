//! What do callers see while Redis is away, forgets, or holds what it should not?

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    skew::Skew,
    state::{
        CachedRegistry, Claim, Idempotency, RedisSettings, RedisStore, RedisUrlError, Registry, StoreError,
    },
    supervisor::Supervisor,
    tls::Files,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    DIGEST, LIFETIMES, Node, Server, agent, capability, could_not_ask, eventually, message, record, tenant,
};

#[tokio::test]
async fn a_redis_that_stands_still_is_a_timeout_and_then_no_wait() {
    let server = Server::start();
    // With the time that a node gives it.
    let node = Node::start_with(&server, |settings| settings.lifetimes = LIFETIMES);
    assert!(node.store.ready(super::SOON).await);
    server.pause();
    let start = Instant::now();
    let error = node.store.claim(&message("stuck"), &DIGEST, None).await.unwrap_err();
    assert_eq!(error, StoreError::Timeout { limit: Duration::from_millis(250) });
    eprintln_figure("stands still, told after", start.elapsed());

    eventually(async || !node.store.healthy()).await;
    let start = Instant::now();
    let error = node.store.claim(&message("refused"), &DIGEST, None).await.unwrap_err();
    // Not a timeout: nothing was waited for.
    assert_eq!(error, StoreError::Disconnected);
    eprintln_figure("known to stand still, told after", start.elapsed());

    server.resume();
    let back = eventually(async || node.store.healthy()).await;
    eprintln_figure("resumed, healthy after", back);
    // The first claim may have been heard after all; then its lease must run out first.
    eventually(async || {
        let answer = node.store.claim(&message("stuck"), &DIGEST, None).await;
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
    eventually(async || cached.is_trusted()).await;
    cached.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    assert_eq!(*cached.holders(&acme, &capability("nlp")).await.unwrap(), [agent("writer")]);
    assert!(cached.agent(&acme, &agent("writer")).await.unwrap().is_some());

    server.kill();
    let noticed = eventually(async || !node.store.healthy()).await;
    eprintln_figure("killed, noticed after", noticed);
    // What was read lately still helps; what was not cannot be told.
    assert_eq!(*cached.holders(&acme, &capability("nlp")).await.unwrap(), [agent("writer")]);
    assert!(could_not_ask(&cached.holders(&acme, &capability("other")).await.unwrap_err()));
    assert!(could_not_ask(&node.store.claim(&message("down"), &DIGEST, None).await.unwrap_err()));

    server.start_again();
    let back = eventually(async || node.store.healthy() && cached.is_trusted()).await;
    eprintln_figure("started again, healthy and tracked after", back);
    assert!(cached.holders(&acme, &capability("nlp")).await.unwrap().is_empty(), "the server forgot it");
    assert!(matches!(node.store.claim(&message("down"), &DIGEST, None).await, Ok(Claim::Mine { .. })));
}

#[tokio::test]
async fn what_is_cached_is_believed_for_its_time_to_live_only_while_redis_is_away() {
    let mut server = Server::start();
    let node = Node::ready(&server, agentbus::state::Lifetimes::default()).await;
    let limits = agentbus::state::CacheLimits { ttl: Duration::from_secs(3), ..Default::default() };
    let cached = CachedRegistry::with(Arc::clone(&node.store), limits, agentbus::state::Clock::machine());
    let acme = tenant("acme");
    eventually(async || cached.is_trusted()).await;
    cached.register(&acme, &record("writer", &[]), 9).await.unwrap();
    assert!(cached.agent(&acme, &agent("writer")).await.unwrap().is_some());
    server.kill();
    assert!(cached.agent(&acme, &agent("writer")).await.unwrap().is_some());
    let until = eventually(async || {
        cached.agent(&acme, &agent("writer")).await.is_err_and(|error| could_not_ask(&error))
    });
    eprintln_figure("of three seconds, believed for another", until.await);
}

#[tokio::test]
async fn a_node_starts_without_redis_and_is_healthy_once_it_comes() {
    let mut server = Server::start();
    server.kill();
    let start = Instant::now();
    let node = Node::start(&server, LIFETIMES);
    eprintln_figure("began to connect within", start.elapsed());
    assert!(!node.store.ready(Duration::from_millis(300)).await);
    let error = node.store.agents(&tenant("acme")).await.unwrap_err();
    assert_eq!(error, StoreError::Disconnected);
    server.start_again();
    assert!(node.store.ready(super::SOON).await);
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
        let answer = node.store.claim(&message(&format!("flushed-{round}")), &DIGEST, None).await.unwrap();
        assert!(matches!(answer, Claim::Mine { .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn a_full_redis_refuses_and_says_so() {
    let server = Server::start();
    let node = Node::ready(&server, LIFETIMES).await;
    server.tell("CONFIG SET maxmemory 1");
    assert_eq!(node.store.claim(&message("full"), &DIGEST, None).await, Err(StoreError::Full));
    server.tell("CONFIG SET maxmemory 0");
    assert!(matches!(node.store.claim(&message("full"), &DIGEST, None).await, Ok(Claim::Mine { .. })));
}

#[tokio::test]
async fn a_url_that_cannot_be_used_is_refused_without_repeating_it() {
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    for url in [
        "hunter2",
        "http://a:hunter2@b",
        "redisss://a:hunter2@b",
        "redis://a:hunter2@",
        "rediss://a:hunter2@",
    ] {
        let settings = RedisSettings::new(url);
        assert!(!format!("{settings:?}").contains("hunter2"));
        let (skew, supervisor) = (Skew::default(), Supervisor::default());
        let refused =
            RedisStore::connect(settings, shutdown.clone(), &tracker, &supervisor, &skew).unwrap_err();
        assert!(matches!(refused, RedisUrlError::Malformed), "{refused}");
        assert!(!refused.to_string().contains("hunter2"));
    }
    let mut settings = RedisSettings::new("valkeys-cluster://a:hunter2@b:1");
    settings.files = Files { ca: Some("/nope".into()), identity: None };
    let refused = settings.check().unwrap_err().to_string();
    assert!(refused.contains("redis.tls: cannot read /nope"), "{refused}");
}

#[tokio::test]
async fn a_wrong_password_is_down_and_told_and_never_shown() {
    let server = Server::start();
    let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
    let connect = |url: String| {
        RedisStore::connect(
            RedisSettings::new(url),
            shutdown.clone(),
            &tracker,
            &Supervisor::default(),
            &Skew::default(),
        )
        .unwrap()
    };
    let right = connect(server.url());
    assert!(right.ready(super::SOON).await);
    assert_eq!(right.refusal(), None);
    let nobody = server.url_of("agentbus", "x").replace("agentbus:x@", "");
    for (url, code) in [
        (server.url_of("agentbus", "hunter2"), "WRONGPASS"),
        (server.url_of("x", "hunter2"), "WRONGPASS"),
        (nobody, "NOAUTH"),
    ] {
        let wrong = connect(url);
        eventually(async || wrong.refusal().is_some()).await;
        assert!(!wrong.healthy());
        let told = wrong.refusal().unwrap();
        assert!(told.contains(code), "{told}");
        let error = wrong.agents(&tenant("acme")).await.unwrap_err();
        assert_eq!(error, StoreError::Disconnected);
        assert!(!format!("{wrong:?} {error} {told}").contains("hunter2"));
    }
    shutdown.cancel();
}

/// Shown with `--nocapture`; a figure is never an assertion.
#[allow(clippy::print_stderr, reason = "figures for people")]
fn eprintln_figure(what: &str, took: Duration) {
    eprintln!("{what} {} ms", took.as_millis());
}
