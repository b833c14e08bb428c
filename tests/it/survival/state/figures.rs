//! What do the stores cost? Printed, never asserted: `cargo test --test it figures -- --ignored --nocapture`.

#![allow(clippy::print_stdout, reason = "figures for people")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::state::{Claim, Idempotency, Lifetimes, MemoryStore};

use super::{DIGEST, Node, Server, message};

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
                    let Claim::Mine { token } = store.claim(&key, &DIGEST, None).await.unwrap() else {
                        panic!()
                    };
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
        let Claim::Mine { token: mine } = node.store.claim(&key, &DIGEST, None).await.unwrap() else {
            panic!()
        };
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
        let Claim::Mine { token } = store.claim(&key, &DIGEST, None).await.unwrap() else { panic!() };
        store.settle(&key, &DIGEST, token, &[0x5a; 300], Duration::ZERO).await.unwrap();
    }
    println!("memory, settled with 300 B: {} B per message", (resident() - before) / MESSAGES);
}

/// Bytes of this process in memory, of pages of 4 KiB.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
