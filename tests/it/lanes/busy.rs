//! An agent that is busy for longer than a node may be silent, such as with a model's answer.

use std::{sync::mpsc, time::Duration};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Status},
    tenants::{Seed, User},
};
use futures_util::StreamExt as _;

use crate::support::bus::{self, Bus};

const MESSAGES: usize = 14;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_reads_nothing_for_six_seconds_keeps_its_place_and_gets_everything_in_order() {
    blocked(Duration::from_secs(6)).await;
}

/// As long as a registration lives: beyond that the agent is not there, and its sender is told so.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes half a minute: cargo test --test it -- --ignored busy"]
async fn an_agent_that_reads_nothing_for_thirty_seconds_keeps_its_place_and_gets_everything_in_order() {
    blocked(Duration::from_secs(30)).await;
}

async fn blocked(busy_for: Duration) {
    let bus = Bus::start(1).await;
    let planner = bus.agent("acme", "planner").await;
    let (url, worker) = (bus.stack.nats_url(), "worker".parse().unwrap());
    let seed = bus.stack.seed_path(&User::Agent("acme".parse().unwrap(), worker));
    let (ready, is_ready) = mpsc::channel();
    // A runtime of one thread: while that sleeps, nothing of the connection is read and no ping is answered.
    let agent = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let seed = Seed::read(&seed).unwrap();
            let worker = AgentClient::connect(&url, &"worker".parse().unwrap(), seed.reveal()).await.unwrap();
            let mut inbox = worker.inbox().await.unwrap();
            worker.register(&[]).await.unwrap();
            ready.send(()).unwrap();
            std::thread::sleep(busy_for);
            let mut heard = Vec::new();
            while heard.len() < MESSAGES
                && let Ok(Some(message)) = tokio::time::timeout(Duration::from_secs(60), inbox.next()).await
            {
                heard.push(message.headers.unwrap().get("Agentbus-Message-Id").unwrap().to_string());
            }
            heard
        })
    });
    tokio::task::block_in_place(|| is_ready.recv()).unwrap();
    let mut sent = Vec::new();
    for number in 0..MESSAGES {
        let draft = Draft::to_agent("worker", &format!("number {number}"));
        let verdict = bus::send(&planner, draft.encode(Encoding::Json)).await;
        assert_eq!(verdict.status, Status::Delivered, "{verdict:?}");
        sent.push(draft.message_id);
        tokio::time::sleep(busy_for / 16).await;
    }
    let heard = tokio::task::spawn_blocking(move || agent.join().unwrap()).await.unwrap();
    assert_eq!(heard, sent);
    bus.stop().await;
}
