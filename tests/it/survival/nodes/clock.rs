//! A node whose clock is wrong. The clock is handed in: the machine's own cannot be set.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use agentbus::{
    app,
    client::{AgentClient, Draft},
    domain::{Encoding, Reason, Timestamp},
    shutdown::Shutdown,
    skew,
    tenants::Plan,
};
use futures_util::future::join_all;
use tokio::task::JoinHandle;

use super::{numbers, until};
use crate::{
    support::{
        bus::{self, Bus},
        servers,
    },
    survival::intake,
};

const MINUTES: i64 = 120_000;

/// Both nodes together let in as many as are sent here.
const PLAN: &str = "[tenants.acme.limits]\nmessages_per_minute = 1000000\n[tenants.acme.agents]\n\
    planner = { roles = [\"executive\"] }\nworker = { roles = [\"implementer\"] }";

fn wall(off: i64) -> Timestamp {
    Timestamp(skew::wall_clock().0.saturating_add_signed(off))
}

/// Sends many messages at once, half of which expire within a minute: every one is delivered, whichever node
/// takes it, and none hears that its times are wrong. Which nodes delivered.
async fn all_delivered(planner: &AgentClient) -> Vec<String> {
    let sends = (0..40).map(|number| async move {
        let mut draft = Draft::to_agent("worker", "hello");
        if number % 2 == 0 {
            draft.expires_in = Some(Duration::from_secs(60));
        }
        // Of its times nothing is said by the node that is off: another will know.
        bus::send(planner, draft.encode(Encoding::Json)).await
    });
    let verdicts = join_all(sends).await;
    for verdict in &verdicts {
        assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
    }
    verdicts.into_iter().map(|verdict| verdict.node).collect()
}

/// Registers it, and again and again: a registration lives for half a minute.
async fn stays(worker: &AgentClient) -> JoinHandle<()> {
    worker.register(&[]).await.unwrap();
    let worker = worker.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_secs(5)).await;
            let _ = worker.register(&[]).await;
        }
    })
}

/// Sends until those who deliver are these.
async fn delivered_by(planner: &AgentClient, expected: impl Fn(&[String]) -> bool) {
    let mut by = Vec::new();
    for _ in 0..200 {
        by = all_delivered(planner).await;
        if expected(&by) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never came to that: {by:?}");
}

/// Sends until no message comes to this node any more.
async fn left_alone(planner: &AgentClient, http: &str) {
    for _ in 0..200 {
        let before = refused(http).await;
        all_delivered(planner).await;
        if refused(http).await == before {
            return;
        }
    }
    panic!("it goes on taking messages");
}

/// How often this node could tell nothing of a message's times.
async fn refused(http: &str) -> Option<String> {
    numbers(http).await.lines().find(|line| line.contains("clock_uncertain")).map(str::to_owned)
}

static OFF: AtomicI64 = AtomicI64::new(0);

fn shifted() -> Timestamp {
    wall(OFF.load(Ordering::Relaxed))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_clock_is_set_wrong_leaves_the_work_to_others_until_it_is_right() {
    let bus = Bus::with(1, |options| options.plan = Plan::parse(PLAN).unwrap()).await;
    let mut config = intake::node(&bus, servers::port());
    config.node.name = "shifted".to_owned();
    let (http, shutdown) = (config.http.listen.to_string(), Shutdown::default());
    let running = tokio::spawn(app::run_with(config, None, shutdown.clone(), Default::default(), shifted));
    intake::ready(http.rsplit(':').next().unwrap().parse().unwrap()).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    let _inbox = worker.inbox().await.unwrap();
    let alive = stays(&worker).await;
    // Told of, and gone by.
    OFF.store(1_500, Ordering::Relaxed);
    until(&http, |status, told| status == 200 && told["parts"]["clock"]["state"] == "degraded").await;
    delivered_by(&planner, |by| by.iter().any(|node| node == "shifted")).await;
    for off in [-MINUTES, MINUTES, -4_000, 4_000] {
        OFF.store(off, Ordering::Relaxed);
        // Also what comes before the node has asked what time it is.
        all_delivered(&planner).await;
        let (took, told) = until(&http, |status, _| status == 503).await;
        println!("{off} ms: noticed within {took:?}");
        let note = told["parts"]["clock"]["note"].as_str().unwrap();
        assert!(note.contains(if off < 0 { "behind" } else { "ahead of" }), "{note}");
        let numbers = numbers(&http).await;
        for line in ["agentbus_ready 0", "agentbus_part_healthy{part=\"clock\"} 0"] {
            assert!(numbers.contains(line), "{line} is not in\n{numbers}");
        }
        // Told to the server a moment later.
        left_alone(&planner, &http).await;
        OFF.store(0, Ordering::Relaxed);
        until(&http, |status, _| status == 200).await;
        // It takes its share again.
        delivered_by(&planner, |by| by.iter().any(|node| node == "shifted")).await;
    }
    alive.abort();
    shutdown.request();
    running.await.unwrap().unwrap();
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_with_a_wrong_clock_takes_nothing() {
    let bus = Bus::start(1).await;
    let mut config = intake::node(&bus, servers::port());
    config.node.name = "behind".to_owned();
    let (http, shutdown) = (config.http.listen.to_string(), Shutdown::default());
    let behind = || wall(-MINUTES);
    let running = tokio::spawn(app::run_with(config, None, shutdown.clone(), Default::default(), behind));
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    while reqwest::get(format!("http://{http}/readyz")).await.is_err() {
        assert!(!running.is_finished(), "it has ended");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    until(&http, |status, told| status == 503 && told["parts"]["clock"]["state"] == "down").await;
    for _ in 0..3 {
        let by = all_delivered(&planner).await;
        assert!(by.iter().all(|node| node == "node-1"), "{by:?}");
    }
    shutdown.request();
    running.await.unwrap().unwrap();
    bus.stop().await;
}
