//! What do agents notice when nodes, Redis or NATS die, stall or stop? With real processes, killed
//! by their own process id, and clients that ask again as the protocol tells them to.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status, Verdict},
};
use agentbus_testkit::{
    checker::{Fault, What},
    traffic::{self, ONCE, PERSISTENT, Receipts, Traffic},
};
use tokio::task::JoinSet;

use crate::support::bus;
use cluster::Cluster;

mod cluster;
mod steps;
mod trio;

/// Far more than anything takes that goes well.
const SOON: Duration = Duration::from_secs(60);

/// A planner that sends and a worker that keeps its receipts.
async fn pair(cluster: &Cluster) -> (AgentClient, AgentClient, Receipts) {
    let planner = cluster.agent("planner").await;
    let worker = cluster.agent("worker").await;
    let receipts = Receipts::of(&worker, "acme").await.unwrap();
    register(&worker).await;
    (planner, worker, receipts)
}

async fn register(agent: &AgentClient) {
    let started = Instant::now();
    loop {
        let last = agent.register(&[]).await;
        if last.as_ref().is_ok_and(|answer| answer["status"] == "ok") {
            return;
        }
        assert!(started.elapsed() < SOON, "{} cannot register: {last:?}", agent.id());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn traffic(sender: &AgentClient, messages: usize, pause: Duration) -> Traffic {
    let (sender, recipient) = (sender.clone(), "worker".to_owned());
    Traffic { sender, recipient, in_flight: 32, messages, pause, how: PERSISTENT, denied_one_in: 0 }
}

/// Sends new messages until one is delivered, and says how long that took.
async fn serving_again(sender: &AgentClient) -> Duration {
    let started = Instant::now();
    let patience = Patience { attempt: Duration::from_millis(500), deadline: Duration::from_millis(500) };
    loop {
        let draft = Draft::to_agent("worker", "are you back?");
        let last = sender.send(draft.encode(Encoding::MessagePack), patience).await;
        if last.as_ref().is_ok_and(|verdict| verdict.status == Status::Delivered) {
            return started.elapsed();
        }
        assert!(started.elapsed() < SOON, "not serving after {SOON:?}: {last:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_share_the_work() {
    let cluster = Cluster::start(2).await;
    let (planner, _worker, receipts) = pair(&cluster).await;
    let heard = traffic(&planner, 400, Duration::ZERO).run(Arc::default()).await;
    assert_eq!(heard.faults(&receipts).await, []);
    let shares = heard.by_node();
    assert_eq!(shares.len(), 2, "{shares:?}");
    assert!(shares.values().all(|&share| share >= 40), "one node is hardly used: {shares:?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_nodes_cost_no_message_its_one_outcome() {
    // The full form: NODE_KILLS=100, with some 10,000 messages or more.
    let wanted: usize = std::env::var("NODE_KILLS").map_or(4, |kills| kills.parse().unwrap());
    let mut cluster = Cluster::start(2).await;
    let (planner, _worker, receipts) = pair(&cluster).await;
    let done = Arc::new(AtomicBool::new(false));
    let load = {
        let traffic = traffic(&planner, usize::MAX / 2, Duration::from_millis(60));
        let done = Arc::clone(&done);
        tokio::spawn(async move { traffic.run(done).await })
    };
    for kill in 0..wanted {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let node = cluster.node(kill % 2);
        node.child_mut().kill().await;
        node.restart().await.unwrap();
    }
    let missing = (100 * wanted).saturating_sub(receipts.count());
    receipts.more(missing.max(20), SOON).await.unwrap();
    done.store(true, Ordering::Relaxed);
    let heard = load.await.unwrap();
    let late = heard.trips.iter().filter(|trip| trip.took > Duration::from_secs(5)).count();
    println!(
        "{} messages, {wanted} kills, verdicts {:?}, the slowest after {:?}, {late} after more than 5 s",
        heard.sent.len(),
        heard.by_reason(),
        heard.slowest
    );
    assert_eq!(heard.faults(&receipts).await, []);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_that_get_one_message_at_once_deliver_it_once_and_say_the_same() {
    let cluster = Cluster::start(2).await;
    let (planner, _worker, receipts) = pair(&cluster).await;
    let mut heard = traffic::Heard { sender: planner.id().to_string(), ..traffic::Heard::default() };
    let mut both_asked = 0;
    for _ in 0..100 {
        let draft = Draft::to_agent("worker", "once, please");
        let bytes = draft.encode(Encoding::MessagePack);
        let mut copies = JoinSet::new();
        // Eight copies at once: that all of them go to one of two nodes is rare.
        for _ in 0..8 {
            let (planner, bytes) = (planner.clone(), bytes.clone());
            copies.spawn(async move { bus::send(&planner, bytes).await });
        }
        let verdicts: Vec<Verdict> = copies.join_all().await;
        let first = verdicts.first().unwrap();
        assert_eq!(first.reason, Reason::Delivered, "{first:?}");
        assert!(verdicts.iter().all(|verdict| verdict == first), "{verdicts:#?}");
        heard.sent.push(draft.message_id.clone());
        heard.verdicts.insert(draft.message_id, first.clone());
        both_asked += 1;
    }
    assert_eq!(heard.faults(&receipts).await, []);
    assert_eq!(receipts.count(), both_asked);
    assert_eq!(heard.by_node().len(), 2, "both nodes won some: {:?}", heard.by_node());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_nothing_is_delivered_and_with_it_the_bus_serves_again() {
    let mut cluster = Cluster::start(2).await;
    let (planner, worker, receipts) = pair(&cluster).await;
    serving_again(&planner).await;
    for _ in 0..2 {
        cluster.redis().child_mut().kill().await;
        let mut sent = Vec::new();
        for _ in 0..20 {
            let draft = Draft::to_agent("worker", "nobody can tell whether this is a repeat");
            let verdict = planner.send(draft.encode(Encoding::Json), Patience::default()).await.unwrap();
            assert_ne!(verdict.status, Status::Delivered, "{verdict:?}");
            assert!(verdict.reason.retryable(), "{verdict:?}");
            sent.push(draft.message_id);
        }

        cluster.redis().restart().await.unwrap();
        let back = Instant::now();
        // Redis keeps nothing: agents register again, as their heartbeats tell them to.
        register(&worker).await;
        serving_again(&planner).await;
        println!("Redis back: served after {:?}", back.elapsed());
        let came: Vec<_> = sent.iter().filter(|id| receipts.has(&id.to_string())).collect();
        assert!(came.is_empty(), "delivered without Redis: {came:?}");
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_of_nats_the_bus_serves_again() {
    let mut cluster = Cluster::start(2).await;
    let (planner, _worker, receipts) = pair(&cluster).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (traffic, stop) =
            (traffic(&planner, usize::MAX / 2, Duration::from_millis(20)), Arc::clone(&stop));
        tokio::spawn(async move { traffic.run(stop).await })
    };
    receipts.more(20, SOON).await.unwrap();
    cluster.nats().child_mut().kill().await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.nats().restart().await.unwrap();
    let back = serving_again(&planner).await;
    println!("NATS back: served after {back:?}");
    receipts.more(20, SOON).await.unwrap();
    stop.store(true, Ordering::Relaxed);
    let heard = load.await.unwrap();
    let faults = heard.faults(&receipts).await;
    println!("{} messages, faults {faults:?}", heard.sent.len());
    // What was in the server when it died is lost with it, also what it had taken for a recipient;
    // the fast lane promises no more (`decisions.md`, 2). Never twice, and never an unknown outcome.
    // Unsent are only the questions of `serving_again`, which are not in these books.
    let within_promise = |fault: &Fault| matches!(fault.what, What::NotDelivered { .. } | What::Unsent);
    assert!(faults.iter().all(within_promise), "{faults:#?}");
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_stopped_under_load_loses_no_request() {
    let mut cluster = Cluster::start(2).await;
    let (planner, _worker, receipts) = pair(&cluster).await;
    for round in 0..3 {
        let stop = Arc::new(AtomicBool::new(false));
        let load = {
            let one_attempt =
                Traffic { how: ONCE, ..traffic(&planner, usize::MAX / 2, Duration::from_millis(5)) };
            let stop = Arc::clone(&stop);
            tokio::spawn(async move { one_attempt.run(stop).await })
        };
        receipts.more(20, SOON).await.unwrap();
        let started = Instant::now();
        let node = cluster.node(round % 2);
        let exit = node.stop().await;
        assert!(exit.0.success(), "{exit}: {}", node.child().tail());
        println!("stopped after {:?}", started.elapsed());
        receipts.more(20, SOON).await.unwrap();
        stop.store(true, Ordering::Relaxed);
        let heard = load.await.unwrap();
        let unanswered = heard.sent.len() - heard.verdicts.len();
        assert_eq!(unanswered, 0, "of {} requests", heard.sent.len());
        let busy = |reason: &str| bus::BUSY.iter().any(|busy| busy.as_str() == reason);
        let refused: Vec<_> =
            heard.by_reason().into_keys().filter(|reason| *reason != "delivered" && !busy(reason)).collect();
        assert!(refused.is_empty(), "{refused:?}");
        let faults: Vec<_> = heard.faults(&receipts).await.into_iter().filter(not_of_another_round).collect();
        assert_eq!(faults, []);
        cluster.node(round % 2).restart().await.unwrap();
    }
    cluster.stop().await;
}

/// Receipts are kept over all rounds, so those of earlier ones look unsent.
fn not_of_another_round(fault: &Fault) -> bool {
    fault.what != What::Unsent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stalled_node_leaves_the_rotation_and_comes_back_without_doubling_a_message() {
    let mut cluster = Cluster::start(2).await;
    let (planner, _worker, receipts) = pair(&cluster).await;
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (traffic, stop) =
            (traffic(&planner, usize::MAX / 2, Duration::from_millis(10)), Arc::clone(&stop));
        tokio::spawn(async move { traffic.run(stop).await })
    };
    receipts.more(20, SOON).await.unwrap();
    cluster.node(0).child_mut().pause();
    let left = out_of_rotation(&planner).await;
    println!("out of the rotation after {left:?}");
    // Longer than the lease: what it held is taken over, and it must notice when it wakes up.
    tokio::time::sleep(Duration::from_secs(1)).await;
    cluster.node(0).child_mut().resume();
    tokio::time::sleep(Duration::from_secs(2)).await;
    stop.store(true, Ordering::Relaxed);
    let heard = load.await.unwrap();
    println!("{} messages, {:?}, the slowest after {:?}", heard.sent.len(), heard.by_reason(), heard.slowest);
    let faults: Vec<_> = heard.faults(&receipts).await.into_iter().filter(not_of_another_round).collect();
    assert_eq!(faults, []);

    let name = cluster.node(0).name().to_owned();
    let after = traffic(&planner, 200, Duration::ZERO).run(Arc::default()).await;
    assert!(
        after.by_node().contains_key(name.as_str()),
        "it is in the rotation again: {:?}",
        after.by_node()
    );
    cluster.stop().await;
}

/// How long until fifty requests in a row are answered at the first attempt.
async fn out_of_rotation(sender: &AgentClient) -> Duration {
    let started = Instant::now();
    let patience = Patience { attempt: Duration::from_millis(500), deadline: Duration::from_millis(500) };
    let mut row = 0;
    let mut row_began = started.elapsed();
    while row < 50 {
        let draft = Draft::to_agent("worker", "is anybody stalled?");
        match sender.send(draft.encode(Encoding::MessagePack), patience).await {
            Ok(verdict) if verdict.status == Status::Delivered => row += 1,
            _ => {
                row = 0;
                row_began = started.elapsed();
            }
        }
        assert!(started.elapsed() < SOON, "the stalled node is still asked after {SOON:?}");
    }
    row_began
}
