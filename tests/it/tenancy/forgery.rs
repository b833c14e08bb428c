//! Can who writes to Redis make the bus say what is not true? With a real bus, and Redis' operator as the
//! intruder.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Verdict},
};
use futures_util::{Stream, StreamExt as _};

use crate::support::bus::{self, Bus};

/// One command in Redis' inline form, by one who may do everything; all of the answer.
pub(crate) fn intrude(bus: &Bus, command: &str) -> Vec<u8> {
    let redis = bus.stack.redis().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    let lines = format!("AUTH {}\r\n{command}\r\nQUIT\r\n", redis.operator_password());
    stream.write_all(lines.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = answer.strip_prefix(b"+OK\r\n").unwrap().strip_suffix(b"+OK\r\n").unwrap().to_vec();
    assert!(!answer.starts_with(b"-"), "{command}: {}", String::from_utf8_lossy(&answer));
    answer
}

fn key(draft: &Draft) -> String {
    format!("agentbus:{{acme}}:msg:planner:{}", draft.message_id)
}

async fn send(planner: &AgentClient, draft: &Draft) -> Verdict {
    bus::send(planner, draft.encode(Encoding::Json)).await
}

async fn arrived(inbox: &mut (impl Stream<Item = async_nats::Message> + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.is_ok()
}

async fn is_silent(inbox: &mut (impl Stream<Item = async_nats::Message> + Unpin)) -> bool {
    tokio::time::timeout(Duration::from_millis(300), inbox.next()).await.is_err()
}

/// The verdict is stored after it is told.
async fn settled(bus: &Bus, draft: &Draft) {
    for _ in 0..3_000 {
        if intrude(bus, &format!("GETRANGE {} 0 0", key(draft))).ends_with(b"S\r\n") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the verdict is not stored");
}

fn get(bus: &Bus, path: &str) -> String {
    let mut stream = TcpStream::connect(bus.stack.nodes()[0].http()).unwrap();
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").as_bytes())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_to_redis_makes_the_bus_neither_lie_nor_deliver_twice() {
    let bus = Bus::start(1).await;
    let planner = bus.agent("acme", "planner").await;
    let worker = bus.agent("acme", "worker").await;
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    let real = Draft::to_agent("worker", "delivered");
    let told = send(&planner, &real).await;
    assert_eq!(told.reason, Reason::Delivered, "{told:?}");
    assert!(arrived(&mut inbox).await);
    settled(&bus, &real).await;

    // The verdict of one, under the id of another: with the digest of the other, and as it was.
    for patch in ["'S' .. redis.sha1hex('x') .. string.sub(v, 42)", "v"] {
        let other = Draft::to_agent("worker", "never sent");
        let copy = format!(
            "EVAL \"local v = redis.call('GET', KEYS[1]) redis.call('SET', KEYS[2], {patch}, 'PX', 60000)\" 2"
        );
        intrude(&bus, &format!("{copy} {} {}", key(&real), key(&other)));
        let answer = planner.send(other.encode(Encoding::Json), Patience::default()).await.unwrap();
        assert_eq!(answer.reason, Reason::IdempotencyUnavailable, "{answer:?}");
        assert!(answer.retryable && is_silent(&mut inbox).await);
    }

    // In the place of a verdict that was told: the record of the delivery is believed instead.
    intrude(&bus, &format!("SETRANGE {} 40 garbage", key(&real)));
    let again = send(&planner, &real).await;
    assert_eq!((again.reason, &again.decision_id), (Reason::Delivered, &told.decision_id), "{again:?}");
    intrude(&bus, &format!("SET {} garbage", key(&real)));
    assert_eq!(send(&planner, &real).await.reason, Reason::Delivered);
    assert!(is_silent(&mut inbox).await, "delivered again");

    // One agent that cannot be read, and an index that is none.
    intrude(&bus, "SET agentbus:{acme}:agent:reviewer garbage");
    intrude(&bus, "ZADD agentbus:{acme}:agents 9999999999999 reviewer 9999999999999 NOT*ONE");
    intrude(&bus, "SET agentbus:epoch:{acme} garbage");
    let fresh = Draft::to_agent("worker", "others go on");
    let answer = send(&planner, &fresh).await;
    assert_eq!(answer.reason, Reason::Delivered, "{answer:?}");
    assert!(arrived(&mut inbox).await);

    let metrics = get(&bus, "/metrics");
    let count =
        metrics.lines().find_map(|line| line.strip_prefix("agentbus_state_forged_total{kind=\"verdict\"} "));
    assert!(count.unwrap().parse::<u64>().unwrap() >= 3, "{metrics}");
    let ready = get(&bus, "/readyz");
    assert!(ready.contains("redis holds what no node wrote"), "{ready}");
    bus.stop().await;
}
