//! Redis that answers and is of no use: told by its own word, and found anew where there is another.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    app,
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status},
    servers::{RedisData, RedisServer},
    shutdown::Shutdown,
    skew,
};
use serde_json::Value;

use super::{numbers, report, tell, until};
use crate::{
    support::{
        bus::Bus,
        servers::{self, redis_options},
    },
    survival::intake,
};

/// Sends until one message is delivered; how long that took.
async fn serving_again(sender: &AgentClient, recipient: &AgentClient) -> Duration {
    let started = Instant::now();
    let patience = Patience { attempt: Duration::from_millis(500), deadline: Duration::from_millis(500) };
    loop {
        // It may have been forgotten.
        let _ = recipient.register(&[]).await;
        let draft = Draft::to_agent("worker", "are you back?").encode(Encoding::Json);
        let last = sender.send(draft, patience).await;
        if last.as_ref().is_ok_and(|verdict| verdict.status == Status::Delivered) {
            return started.elapsed();
        }
        assert!(started.elapsed() < Duration::from_secs(60), "nothing is delivered: {last:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn says(report: &Value, word: &str) -> bool {
    let store = &report["parts"]["store"];
    store["state"] == "degraded" && store["note"].as_str().is_some_and(|note| note.contains(word))
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_refuses_writes_a_node_says_so_by_the_word_of_redis_and_is_well_again_by_itself() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let redis = bus.stack.redis().unwrap();
    let (port, password) = (redis.port(), redis.operator_password().to_owned());
    let http = bus.stack.nodes()[0].http();
    // What a dump would be renamed to, so that it fails.
    let folder = redis.node_password_file().with_file_name("dump.rdb");
    for (word, break_it, mend_it) in [
        ("OOM", vec!["CONFIG SET maxmemory 1"], vec!["CONFIG SET maxmemory 0"]),
        (
            "NOREPLICAS",
            vec!["CONFIG SET min-replicas-to-write 1"],
            vec!["CONFIG SET min-replicas-to-write 0"],
        ),
        ("READONLY", vec!["REPLICAOF 127.0.0.1 1"], vec!["REPLICAOF NO ONE"]),
        (
            "MASTERDOWN",
            vec!["CONFIG SET replica-serve-stale-data no", "REPLICAOF 127.0.0.1 1"],
            vec!["REPLICAOF NO ONE"],
        ),
        ("MISCONF", vec!["CONFIG SET save \"3600 1000000\"", "BGSAVE"], vec!["CONFIG SET save \"\""]),
        ("NOPERM", vec!["ACL SETUSER agentbus resetkeys"], vec!["ACL SETUSER agentbus ~agentbus:*"]),
    ] {
        if word == "MISCONF" {
            fs::create_dir_all(&folder).unwrap();
        }
        for command in break_it {
            tell(port, &password, command);
        }
        // Nobody sends anything: the node finds out by itself.
        let (_, told) = until(&http, |_, report| says(report, word)).await;
        assert_eq!((report(&http).await.0, &told["status"]), (200, &"degraded".into()), "{word}: {told}");
        let numbers_now = numbers(&http).await;
        for line in ["agentbus_store_healthy 0", "agentbus_part_healthy{part=\"store\"} 0"] {
            assert!(numbers_now.contains(line), "{word}: {line} is not in\n{numbers_now}");
        }
        let draft = Draft::to_agent("worker", "hello").encode(Encoding::Json);
        let patience = Patience { attempt: Duration::from_secs(2), deadline: Duration::from_secs(2) };
        let verdict = planner.send(draft, patience).await;
        assert!(verdict.is_err() || verdict.as_ref().is_ok_and(|v| v.retryable), "{word}: {verdict:?}");
        for command in mend_it {
            tell(port, &password, command);
        }
        let took = serving_again(&planner, &worker).await;
        let (more, _) = until(&http, |_, report| report["parts"]["store"]["state"] == "up").await;
        println!("{word}: delivered again after {took:?}, ready after {more:?} more");
        assert!(numbers(&http).await.contains("agentbus_store_healthy 1"));
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_holds_redis_up_is_told_as_busy() {
    let bus = Bus::start(1).await;
    let redis = bus.stack.redis().unwrap();
    let (port, password) = (redis.port(), redis.operator_password().to_owned());
    let http = bus.stack.nodes()[0].http();
    tell(port, &password, "CONFIG SET busy-reply-threshold 50");
    let (asked, endless) = (password.clone(), "EVAL \"while true do end\" 0");
    let held = tokio::task::spawn_blocking(move || tell(port, &asked, endless));
    until(&http, |_, report| says(report, "BUSY")).await;
    tell(port, &password, "SCRIPT KILL");
    held.await.unwrap();
    until(&http, |_, report| report["parts"]["store"]["state"] == "up").await;
    bus.stop().await;
}

/// A name or a virtual address that moves: what connects is led to where it points then.
struct Address {
    port: u16,
    target: Arc<AtomicU16>,
}

impl Address {
    async fn of(target: u16) -> Self {
        let target = Arc::new(AtomicU16::new(target));
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let moving = Arc::clone(&target);
        tokio::spawn(async move {
            while let Ok((mut inner, _)) = listener.accept().await {
                let port = moving.load(Ordering::Relaxed);
                tokio::spawn(async move {
                    let Ok(mut outer) = tokio::net::TcpStream::connect(("127.0.0.1", port)).await else {
                        return;
                    };
                    let _ = tokio::io::copy_bidirectional(&mut inner, &mut outer).await;
                });
            }
        });
        Self { port, target }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_finds_the_new_primary_although_the_old_one_keeps_its_connection() {
    let bus = Bus::start(0).await;
    let first = bus.stack.redis().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for file in ["node.password", "operator.password"] {
        fs::copy(first.node_password_file().with_file_name(file), folder.path().join(file)).unwrap();
    }
    let second = RedisServer::start(redis_options(&folder, 0, RedisData::InMemory)).await.unwrap();
    let password = first.operator_password().to_owned();
    let address = Address::of(first.port()).await;
    let mut config = intake::node(&bus, servers::port());
    config.redis.as_mut().unwrap().url = format!("redis://127.0.0.1:{}", address.port);
    let (http, shutdown) = (config.http.listen, Shutdown::default());
    let running =
        tokio::spawn(app::run_with(config, None, shutdown.clone(), Default::default(), skew::wall_clock));
    intake::ready(http.port()).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    assert_eq!(intake::send(&planner, "worker").await.reason, Reason::Delivered);

    for port in [first.port(), second.port()] {
        tell(port, &password, &format!("CONFIG SET masterauth {password}"));
    }
    let (mut old, mut new) = (first.port(), second.port());
    for round in 0..3 {
        tell(new, &password, &format!("REPLICAOF 127.0.0.1 {old}"));
        let started = Instant::now();
        while !tell(new, &password, "INFO replication").contains("master_link_status:up") {
            assert!(started.elapsed() < Duration::from_secs(60), "the replica does not follow");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        tell(new, &password, "REPLICAOF NO ONE");
        address.target.store(new, Ordering::Relaxed);
        tell(old, &password, &format!("REPLICAOF 127.0.0.1 {new}"));
        let took = serving_again(&planner, &worker).await;
        println!("failover {round}: delivered again after {} ms", took.as_millis());
        until(&http.to_string(), |_, report| report["parts"]["store"]["state"] == "up").await;
        let left = Instant::now();
        while tell(old, &password, "CLIENT LIST").contains("user=agentbus") {
            assert!(left.elapsed() < Duration::from_secs(60), "the node stays with the old one");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        (old, new) = (new, old);
    }
    shutdown.request();
    running.await.unwrap().unwrap();
    bus.stop().await;
}
