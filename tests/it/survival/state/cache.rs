//! Does a node's cache ever say what is no longer so?

use std::{sync::Arc, time::Duration};

use agentbus::state::{CacheLimits, CachedRegistry, Clock, Lifetimes, MemoryStore, Registration, Registry};

use super::{Node, Server, agent, capability, eventually, record, tenant};

async fn nodes(server: &Server) -> [(Node, CachedRegistry<agentbus::state::RedisStore>); 2] {
    let mut made = Vec::new();
    for _ in 0..2 {
        let node = Node::ready(server, Lifetimes::default()).await;
        // What is noticed long before that was told.
        let limits = CacheLimits { ttl: Duration::from_secs(600), ..CacheLimits::default() };
        let cached = CachedRegistry::with(Arc::clone(&node.store), limits, Clock::machine());
        eventually(async || cached.is_trusted()).await;
        made.push((node, cached));
    }
    made.try_into().map_err(|_| ()).unwrap()
}

#[tokio::test]
async fn another_nodes_registration_is_seen_at_once() {
    let server = Server::start();
    let [(_a, here), (_b, there)] = nodes(&server).await;
    let (acme, nlp) = (tenant("acme"), capability("nlp"));
    let mut longest = Duration::ZERO;
    for round in 0..20 {
        let id = format!("agent-{round}");
        assert_eq!(here.holders(&acme, &nlp).await.unwrap().len(), round);
        assert_eq!(here.agent(&acme, &agent(&id)).await.unwrap(), None);
        there.register(&acme, &record(&id, &["nlp"]), 100).await.unwrap();
        // One's own writes without delay.
        assert_eq!(there.holders(&acme, &nlp).await.unwrap().len(), round + 1);
        let seen = eventually(async || here.holders(&acme, &nlp).await.unwrap().len() == round + 1);
        longest = longest.max(seen.await);
        assert!(here.agent(&acme, &agent(&id)).await.unwrap().is_some());
    }
    println!("seen within {longest:?}");
}

#[tokio::test]
async fn heartbeats_do_not_empty_the_cache() {
    let server = Server::start();
    let [(_a, here), (_b, there)] = nodes(&server).await;
    let acme = tenant("acme");
    there.register(&acme, &record("writer", &["nlp"]), 100).await.unwrap();
    eventually(async || here.agent(&acme, &agent("writer")).await.unwrap().is_some()).await;
    let list = here.holders(&acme, &capability("nlp")).await.unwrap();
    let globex = tenant("globex");
    assert!(here.agent(&globex, &agent("last")).await.unwrap().is_none());
    for _ in 0..20 {
        assert!(there.heartbeat(&acme, &agent("writer")).await.unwrap());
        there.register(&acme, &record("writer", &["nlp"]), 100).await.unwrap();
    }
    // Changes are heard in order: of this one here means of all before it, too.
    there.register(&globex, &record("last", &[]), 100).await.unwrap();
    eventually(async || here.agent(&globex, &agent("last")).await.unwrap().is_some()).await;
    let again = here.holders(&acme, &capability("nlp")).await.unwrap();
    assert!(Arc::ptr_eq(&list, &again), "the list was read again");
}

/// By the check of the epoch: the client library swallows the server's word of it.
#[tokio::test]
async fn a_server_that_forgets_all_is_noticed_within_the_time_to_live() {
    let server = Server::start();
    let node = Node::ready(&server, Lifetimes::default()).await;
    let here = CachedRegistry::new(Arc::clone(&node.store));
    eventually(async || here.is_trusted()).await;
    let acme = tenant("acme");
    here.register(&acme, &record("writer", &[]), 100).await.unwrap();
    assert!(here.agent(&acme, &agent("writer")).await.unwrap().is_some());
    server.tell("FLUSHALL");
    eventually(async || here.agent(&acme, &agent("writer")).await.unwrap().is_none()).await;
}

#[tokio::test]
async fn a_lost_tracking_connection_is_noticed_and_made_again() {
    let server = Server::start();
    let [(_a, here), (_b, there)] = nodes(&server).await;
    let acme = tenant("acme");
    there.register(&acme, &record("writer", &["old"]), 100).await.unwrap();
    eventually(async || here.holders(&acme, &capability("old")).await.unwrap().len() == 1).await;
    for _ in 0..3 {
        // All connections of both nodes, in one blow; a change while nobody listens.
        server.tell("CLIENT KILL TYPE normal SKIPME yes");
        server.tell("ZREM agentbus:{acme}:cap:old writer");
        server.tell("SET agentbus:epoch:{acme} 1");
        eventually(async || here.holders(&acme, &capability("old")).await.is_ok_and(|list| list.is_empty()))
            .await;
        eventually(async || here.is_trusted() && there.is_trusted()).await;
        there.unregister(&acme, &agent("writer")).await.unwrap();
        there.register(&acme, &record("writer", &["old"]), 100).await.unwrap();
        eventually(async || here.holders(&acme, &capability("old")).await.is_ok_and(|list| list.len() == 1))
            .await;
    }
}

/// Two nodes change and read one tenant as fast as they can; at the end both know the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_before_a_change_is_not_kept_after_it() {
    let server = Server::start();
    let [(_a, here), (_b, there)] = nodes(&server).await;
    let (here, there) = (Arc::new(here), Arc::new(there));
    let (acme, nlp) = (tenant("acme"), capability("nlp"));
    let readers: Vec<_> = (0..8)
        .map(|i| {
            let cached = Arc::clone(if i % 2 == 0 { &here } else { &there });
            let (acme, nlp) = (acme.clone(), nlp.clone());
            tokio::spawn(async move {
                for _ in 0..400 {
                    cached.holders(&acme, &nlp).await.unwrap();
                    cached.agent(&acme, &agent("agent-0")).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for round in 0..200 {
        let id = format!("agent-{}", round % 7);
        there.register(&acme, &record(&id, &["nlp"]), 100).await.unwrap();
        assert!(there.holders(&acme, &nlp).await.unwrap().contains(&agent(&id)), "own write not read");
        if round % 3 == 0 {
            there.unregister(&acme, &agent(&id)).await.unwrap();
            assert!(!there.holders(&acme, &nlp).await.unwrap().contains(&agent(&id)), "own write not read");
        }
    }
    for reader in readers {
        reader.await.unwrap();
    }
    let truth = _a.store.holders(&acme, &nlp).await.unwrap();
    for cached in [here, there] {
        eventually(async || cached.holders(&acme, &nlp).await.unwrap() == truth).await;
    }
}

#[tokio::test]
async fn a_full_cache_forgets_the_tenant_that_filled_it_only() {
    let store = Arc::new(MemoryStore::new(Lifetimes::default()));
    let limits = CacheLimits { entries: 300, entries_per_tenant: 100, ..CacheLimits::default() };
    let cached = CachedRegistry::with(store, limits, Clock::machine());
    let (loud, quiet) = (tenant("loud"), tenant("quiet"));
    cached.register(&quiet, &record("writer", &["nlp"]), 9).await.unwrap();
    let list = cached.holders(&quiet, &capability("nlp")).await.unwrap();
    for i in 0..1000 {
        assert_eq!(cached.agent(&loud, &agent(&format!("nobody-{i}"))).await.unwrap(), None);
        assert!(cached.entries() <= 300, "{}", cached.entries());
    }
    assert!(Arc::ptr_eq(&list, &cached.holders(&quiet, &capability("nlp")).await.unwrap()));
    for tenants in 0..1000 {
        cached.agents(&tenant(&format!("tenant-{tenants}"))).await.unwrap();
        assert!(cached.entries() <= 301, "{}", cached.entries());
    }
}

#[tokio::test]
async fn an_agent_that_expires_is_gone_from_the_cache_within_its_time_to_live() {
    let (clock, time) = Clock::manual();
    let lifetimes = Lifetimes::default();
    let store = Arc::new(MemoryStore::with(lifetimes, 10, clock.clone()));
    let cached = CachedRegistry::with(store, CacheLimits::default(), clock);
    let acme = tenant("acme");
    let answer = cached.register(&acme, &record("writer", &["nlp"]), 9).await.unwrap();
    assert!(matches!(answer, Registration::Registered { .. }));
    assert_eq!(cached.holders(&acme, &capability("nlp")).await.unwrap().len(), 1);
    time.advance(lifetimes.agent - Duration::from_secs(1));
    assert_eq!(cached.holders(&acme, &capability("nlp")).await.unwrap().len(), 1);
    time.advance(Duration::from_secs(1) + CacheLimits::default().ttl / 2);
    assert!(cached.holders(&acme, &capability("nlp")).await.unwrap().is_empty());
    assert_eq!(cached.agent(&acme, &agent("writer")).await.unwrap(), None);
}
