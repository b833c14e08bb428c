//! What do the stores cost? Printed, never asserted: `cargo test --test it figures -- --ignored --nocapture`.

#![allow(clippy::print_stdout, reason = "figures for people")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    domain::TenantId,
    state::{
        CacheLimits, CachedRegistry, Claim, Clock, Idempotency, Lifetimes, MemoryStore, RedisStore, Registry,
    },
};

use super::{DIGEST, Node, Server, agent, capability, eventually, message, record, tenant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures_of_claims() {
    for connections in [1, 2, 1, 2] {
        for in_flight in [1, 16, 64, 256] {
            let server = Server::start();
            let node = Node::start_with(&server, |settings| {
                settings.connections = connections;
                settings.command_timeout = Duration::from_secs(2);
            });
            assert!(node.store.ready(super::SOON).await);
            claims(&node, connections, in_flight).await;
        }
    }
}

async fn claims(node: &Node, connections: usize, in_flight: usize) {
    const VERDICT: [u8; 300] = [0x5a; 300];
    let each = 40_000 / in_flight.max(8);
    let start = Instant::now();
    let tasks: Vec<_> = (0..in_flight)
        .map(|task| {
            let store = Arc::clone(&node.store);
            tokio::spawn(async move {
                let mut took = Vec::with_capacity(each);
                for i in 0..each {
                    let key = message(&format!("message-{task:04}-{i:08}"));
                    let asked = Instant::now();
                    let Claim::Mine { token } = store.claim(&key, &DIGEST).await.unwrap() else { panic!() };
                    took.push(asked.elapsed());
                    store.settle(&key, &DIGEST, token, &VERDICT, Duration::ZERO).await.unwrap();
                }
                took
            })
        })
        .collect();
    let mut took = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    let rate = took.len() as f64 / start.elapsed().as_secs_f64();
    took.sort_unstable();
    let at = |share: f64| took[(took.len() as f64 * share) as usize].as_micros();
    println!(
        "{connections} connection(s), {in_flight:3} in flight: {rate:7.0} claim+settle/s, claim P50 {} P99 {} us",
        at(0.5),
        at(0.99)
    );
}

#[tokio::test]
#[ignore = "prints figures"]
async fn figures_of_memory_per_message() {
    let server = Server::start();
    let node = Node::ready(&server, Lifetimes::default()).await;
    let used = || {
        let info = server.tell("INFO memory");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().to_owned();
        line.trim().parse::<u64>().unwrap()
    };
    let before = used();
    const MESSAGES: u64 = 50_000;
    let mut token = Vec::new();
    for i in 0..MESSAGES {
        let key = message(&format!("0193b2c4-7d1e-7000-8000-{i:012}"));
        let Claim::Mine { token: mine } = node.store.claim(&key, &DIGEST).await.unwrap() else { panic!() };
        token.push((key, mine));
    }
    println!("redis, claimed: {} B per message", (used() - before) / MESSAGES);
    for (key, token) in token {
        node.store.settle(&key, &DIGEST, token, &[0x5a; 300], Duration::ZERO).await.unwrap();
    }
    println!("redis, settled with 300 B: {} B per message", (used() - before) / MESSAGES);

    let before = resident();
    let store = MemoryStore::new(Lifetimes::default());
    for i in 0..MESSAGES {
        let key = message(&format!("0193b2c4-7d1e-7000-8000-{i:012}"));
        let Claim::Mine { token } = store.claim(&key, &DIGEST).await.unwrap() else { panic!() };
        store.settle(&key, &DIGEST, token, &[0x5a; 300], Duration::ZERO).await.unwrap();
    }
    println!("memory, settled with 300 B: {} B per message", (resident() - before) / MESSAGES);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures"]
async fn figures_of_the_cache() {
    let server = Server::start();
    let node = Node::start_with(&server, |settings| {
        settings.lifetimes.agent = Duration::from_secs(600);
        settings.command_timeout = Duration::from_secs(5);
    });
    assert!(node.store.ready(super::SOON).await);
    for agents in [1_000_u64, 100_000] {
        let crowd = tenant(&format!("crowd-{agents}"));
        let start = Instant::now();
        let tasks: Vec<_> = (0..64)
            .map(|task| {
                let (store, crowd) = (Arc::clone(&node.store), crowd.clone());
                tokio::spawn(async move {
                    for i in (task..agents).step_by(64) {
                        let record =
                            record(&format!("agent-{i:06}"), &["nlp", ["a", "b", "c", "d"][i as usize % 4]]);
                        store.register(&crowd, &record, 1_000_000).await.unwrap();
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        println!("{agents} agents registered in {:?}", start.elapsed());

        // The first cache grows the process by what reading needs for a moment; the others tell
        // what is kept, if the allocator gives the rest back (MALLOC_MMAP_THRESHOLD_=65536 and
        // MALLOC_TRIM_THRESHOLD_=65536 for that of glibc).
        let cached = filled(&node, &crowd, agents).await;
        let before = resident();
        let mut others = Vec::new();
        for _ in 0..4 {
            others.push(filled(&node, &crowd, agents).await);
        }
        let each = resident().saturating_sub(before) / 4 / agents;
        println!("{agents} agents cached: {each} B each with all lists ({} entries)", cached.entries());

        let (nlp, writer) = (capability("nlp"), agent("agent-000500"));
        let ns = |took: Duration, n: u32| (took / n).as_nanos();
        for _ in 0..3 {
            const READS: u32 = 200_000;
            let start = Instant::now();
            for _ in 0..READS {
                std::hint::black_box(cached.holders(&crowd, &nlp).await.unwrap());
            }
            let holders = start.elapsed();
            let start = Instant::now();
            for _ in 0..READS {
                std::hint::black_box(cached.agent(&crowd, &writer).await.unwrap());
            }
            let agents_took = start.elapsed();
            println!(
                "{agents} agents: holders {} ns, agent {} ns",
                ns(holders, READS),
                ns(agents_took, READS)
            );
        }
    }
}

/// A cache that has read every record, the holders of each capability and the list of all.
async fn filled(node: &Node, crowd: &TenantId, agents: u64) -> Arc<CachedRegistry<RedisStore>> {
    let ttl = Duration::from_secs(600);
    let limits = CacheLimits { ttl, wait: Duration::from_secs(5), ..CacheLimits::default() };
    let cached = Arc::new(CachedRegistry::with(Arc::clone(&node.store), limits, Clock::machine()));
    eventually(async || cached.is_trusted()).await;
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (cached, crowd) = (Arc::clone(&cached), crowd.clone());
            tokio::spawn(async move {
                for i in (task..agents).step_by(64) {
                    assert!(cached.agent(&crowd, &agent(&format!("agent-{i:06}"))).await.unwrap().is_some());
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    for list in ["nlp", "a", "b", "c", "d"] {
        cached.holders(crowd, &capability(list)).await.unwrap();
    }
    cached.agents(crowd).await.unwrap();
    cached
}

/// Bytes of this process in memory, of pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
