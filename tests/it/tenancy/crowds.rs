//! What nodes do where nats-server has no limit: one user's connections, and how fast it writes. Against real servers
//! and nodes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason},
    tenants::BusUser,
};
use agentbus_testkit::agents;
use async_nats::jetstream::AckKind;
use futures_util::StreamExt as _;

use crate::support::bus::{Bus, sent};

/// Connections that a tenant may have.
const MOST: usize = 256;
/// For what happens within a second or two, on a busy machine.
const SOON: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 16;
/// Read at 4,000 a second that is a quarter of a minute, in which a node looks many times.
const GATHERED: usize = 60_000;
const READ_AT_ONCE: usize = 200;
const READ_EVERY: Duration = Duration::from_millis(50);
/// Pulls that leave one after the other, many times as fast as an agent may write.
const PULLS: usize = 200;
const PATIENT: Patience = Patience { attempt: Duration::from_secs(10), deadline: Duration::from_secs(60) };

fn connects(agent: &AgentClient) -> u64 {
    agent.nats().statistics().connects.load(Ordering::Relaxed)
}

async fn delivers(from: &AgentClient, to: &str) {
    let draft = Draft::to_agent(to, "is there room?").encode(Encoding::Json);
    assert_eq!(sent(from, draft, PATIENT).await.reason, Reason::Delivered);
}

/// As soon as the server has room for it; a client library tries again by itself.
async fn connected(bus: &Bus, name: &str) -> AgentClient {
    let began = Instant::now();
    loop {
        match agents::connect(&bus.stack.nats_url(), bus.stack.dir(), "acme", name).await {
            Ok(client) => return client,
            Err(full) => assert!(began.elapsed() < SOON, "{name}: {full}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn until_counted(bus: &Bus, name: &str, least: u64) {
    let began = Instant::now();
    loop {
        let counted = bus.counted(name).await;
        if counted >= least {
            return;
        }
        assert!(began.elapsed() < SOON, "{name}: found {counted}, expected {least}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_opens_connections_without_end_leaves_room_to_its_colleagues() {
    let bus = Bus::start(2).await;
    let worker = bus.listening(&["worker"]).await.remove(0);
    let over = Arc::new(AtomicBool::new(false));
    // Each that is ended connects again by itself, and more are opened all the time.
    let opens = |_| {
        let (over, url, dir) = (Arc::clone(&over), bus.stack.nats_url(), bus.stack.dir().to_owned());
        tokio::spawn(async move {
            let mut held = Vec::new();
            while !over.load(Ordering::Relaxed) && held.len() < 2 * MOST / AT_ONCE {
                match agents::connect(&url, &dir, "acme", "planner").await {
                    Ok(client) => held.push(client),
                    Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
            while !over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            held.len()
        })
    };
    let crowd: Vec<_> = (0..AT_ONCE).map(opens).collect();
    until_counted(&bus, "agentbus_connections_ended_total{why=\"share\"}", 20).await;
    let began = Instant::now();
    for name in ["scribe", "judge", "watcher", "steward", "worker"] {
        let colleague = connected(&bus, name).await;
        delivers(&colleague, "worker").await;
        assert_eq!(connects(&colleague), 1, "{name} was ended");
    }
    println!("five colleagues have connected and sent after {:?}", began.elapsed());
    let (mut tries, mut refused) = (0, 0);
    while tries < 50 {
        let found = agents::connect(&bus.stack.nats_url(), bus.stack.dir(), "acme", "scribe").await;
        (tries, refused) = (tries + 1, refused + usize::from(found.is_err()));
    }
    println!("{refused} of {tries} tries to connect were refused");
    assert_eq!(connects(&worker.1), 1, "who has one connection keeps it");
    over.store(true, Ordering::Relaxed);
    for one in crowd {
        assert!(one.await.unwrap() > 0);
    }
    assert_eq!(bus.counted("agentbus_nats_reconnects_total").await, 0, "no node's connection was ended");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_alone_has_many_connections_keeps_half_and_a_colleague_all() {
    let bus = Bus::start(2).await;
    let colleague = bus.agent("acme", "worker").await;
    let mut held = Vec::new();
    for _ in 0..MOST / 2 + 10 {
        held.push(connected(&bus, "planner").await);
    }
    until_counted(&bus, "agentbus_connections_ended_total{why=\"share\"}", 8).await;
    // Those that were ended connect again and again meanwhile.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let kept = held.iter().filter(|client| connects(client) == 1).count();
    // Those take places as well, for a moment each.
    assert!((MOST / 3..=MOST / 2).contains(&kept), "{kept} of {} were never ended", held.len());
    assert_eq!(connects(&colleague), 1);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_what_has_gathered_in_its_inbox_faster_than_it_may_write_is_not_kept_out() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    // As nodes store them, but faster than a tenant may send.
    let node = async_nats::jetstream::new(bus.stack.connect(BusUser::Node).await.unwrap());
    let mut stored = Vec::new();
    for number in 0..GATHERED {
        let subject = format!("tenant.acme.stored.worker.message.planner.m-{number}");
        stored.push(node.publish(subject, "x".into()).await.unwrap());
        if stored.len() == 500 {
            for ack in stored.drain(..) {
                ack.await.unwrap();
            }
        }
    }
    let inbox = worker.durable_inbox(&"acme".parse().unwrap()).unwrap();
    let (mut read, began) = (0, Instant::now());
    let mut pace = tokio::time::interval(READ_EVERY);
    while read < GATHERED {
        pace.tick().await;
        assert_eq!(connects(&worker), 1, "ended after it has read {read}");
        let mut batch = inbox.fetch().max_messages(READ_AT_ONCE).messages().await.unwrap();
        while let Some(message) = batch.next().await {
            let message = message.unwrap();
            // As one that says often that it is still at it.
            message.ack_with(AckKind::Progress).await.unwrap();
            message.ack().await.unwrap();
            read += 1;
        }
    }
    println!("read {read} messages in {:?}", began.elapsed());
    assert_eq!(bus.counted("agentbus_connections_ended_total{why=\"rate\"}").await, 0);
    assert_eq!((connects(&worker), connects(&planner)), (1, 1));
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_pulls_without_a_pause_is_kept_out_for_a_while_and_nobody_else_is() {
    let bus = Bus::start(2).await;
    let worker = bus.listening(&["worker"]).await.remove(0);
    let stranger = bus.agent("globex", "drafter").await;
    let planner = bus.agent("acme", "planner").await;
    let over = Arc::new(AtomicBool::new(false));
    let pulls = {
        let (over, nats) = (Arc::clone(&over), planner.nats().clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                for _ in 0..PULLS {
                    let pull =
                        ("$JS.API.CONSUMER.MSG.NEXT.OUT_acme.planner", br#"{"batch":1,"no_wait":true}"#);
                    let reply = nats.new_inbox();
                    let _ = nats.publish_with_reply(pull.0, reply, (&pull.1[..]).into()).await;
                }
                // Until it is let in again nothing leaves.
                let _ = tokio::time::timeout(Duration::from_millis(200), nats.flush()).await;
            }
        })
    };
    // It connects again by itself, and is turned away.
    until_counted(&bus, "agentbus_connections_ended_total{why=\"rate\"}", 2).await;
    over.store(true, Ordering::Relaxed);
    pulls.await.unwrap();
    let draft = Draft::to_agent("drafter", "and we?").encode(Encoding::Json);
    assert_eq!(sent(&stranger, draft, PATIENT).await.reason, Reason::RecipientUnknown, "nodes go on");
    assert_eq!((connects(&worker.1), connects(&stranger)), (1, 1), "colleagues and other tenants stay");
    // As soon as its time is over it is served as before.
    delivers(&planner, "worker").await;
    assert_eq!(bus.counted("agentbus_nats_reconnects_total").await, 0, "no node's connection was ended");
    bus.stop().await;
}
