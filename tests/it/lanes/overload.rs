//! What happens when a node is sent far more than it can do?

use std::time::Duration;

use agentbus::{
    client::{Draft, Patience},
    domain::{Encoding, Reason, Status},
    tenants::{Plan, User},
    wire,
};
use futures_util::StreamExt as _;

use crate::support::{
    bus::{Bus, sent},
    raw::RawClient,
};

/// At one time; the flood is some hundred times as much.
const IN_FLIGHT: usize = 8;
const FLOOD: usize = 2_000;
/// One of so many is MessagePack.
const PACKED: usize = 4;
const QUIET: usize = 20;
const A_WHILE: Duration = Duration::from_secs(60);
/// What is told at the gate.
const NO_ROOM: &str = "the node has as much to do as it can, and as much waits";

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_answered_to_the_last_and_another_tenant_is_served_meanwhile() {
    let plan = Plan::EXAMPLE.replace("messages_per_minute = 10000 ", "messages_per_minute = 10000000 ");
    let bus = Bus::with(1, |options| {
        options.plan = Plan::parse(&plan).unwrap();
        let limits = format!("limits.in_flight = {IN_FLIGHT}\nlimits.in_flight_per_tenant = {IN_FLIGHT}");
        options.node_overrides.extend(limits.parse::<toml::Table>().unwrap());
    })
    .await;
    let (quiet, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    let (drafter, builder) = (bus.agent("globex", "drafter").await, bus.agent("globex", "builder").await);
    builder.register(&[]).await.unwrap();
    let mut flooded = builder.inbox().await.unwrap();
    tokio::spawn(async move { while flooded.next().await.is_some() {} });
    let mut answers = drafter.nats().subscribe("_INBOX.drafter.flood").await.unwrap();
    drafter.nats().flush().await.unwrap();

    // Written at once, so that all of it lies before the node.
    let seed = bus.stack.seed_path(&User::Agent("globex".parse().unwrap(), "drafter".parse().unwrap()));
    let mut flooder = RawClient::connect(&bus.stack.nats_url(), &seed).await;
    // Among them some in the other encoding, and what the bus itself might have said, which is not answered.
    let flood = (0..FLOOD).flat_map(|number| {
        let encoding = if number % PACKED == 0 { Encoding::MessagePack } else { Encoding::Json };
        let body = Draft::to_agent("builder", &format!("number {number}")).encode(encoding);
        let head = format!("PUB bus.drafter.send _INBOX.drafter.flood {}\r\n", body.len());
        let verdict = "HPUB bus.drafter.send _INBOX.drafter.flood 33 35\r\n\
                       NATS/1.0\r\nAgentbus-Verdict: x\r\n\r\n{}\r\n";
        [head.as_bytes(), &body, b"\r\n", verdict.as_bytes()].concat()
    });
    let flood: Vec<u8> = flood.collect();
    flooder.write(&flood).await;
    flooder.round_trip().await;
    let patience = Patience { attempt: A_WHILE, deadline: A_WHILE };
    for number in 0..QUIET {
        let draft = Draft::to_agent("worker", &format!("number {number}"));
        let verdict = sent(&quiet, draft.encode(Encoding::Json), patience).await;
        assert_eq!(verdict.status, Status::Delivered, "{verdict:?}");
        tokio::time::timeout(A_WHILE, inbox.next()).await.unwrap().unwrap();
    }

    let (mut refused, mut packed) = (0, 0);
    for _ in 0..FLOOD {
        let answer = tokio::time::timeout(A_WHILE, answers.next()).await.unwrap().unwrap();
        let verdict = wire::decode_verdict(&answer.payload).unwrap();
        packed += usize::from(wire::encoding_of(&answer.payload) == Encoding::MessagePack);
        let headers = answer.headers.as_ref().unwrap();
        assert_eq!(headers.get("Agentbus-Decision").unwrap().as_str(), verdict.decision_id);
        assert_eq!(headers.get("Agentbus-Verdict").unwrap().as_str(), verdict.status.as_str());
        if verdict.reason == Reason::Overloaded {
            assert_eq!(verdict.status, Status::Shed);
            assert!(verdict.retryable && verdict.retry_after > Some(Duration::ZERO), "{verdict:?}");
            refused += 1;
        }
    }
    assert!(refused > FLOOD as u64 / 10, "{refused} of {FLOOD} found no room");
    assert_eq!(packed, FLOOD / PACKED, "each is answered as it asks");
    let shed = "agentbus_requests_total{verb=\"send\",status=\"shed\",reason=\"overloaded\"}";
    assert_eq!(bus.counted(shed).await, refused, "each is counted");
    assert_eq!(bus.counted("agentbus_requests_malformed_total").await, FLOOD as u64);
    assert_eq!(bus.counted("agentbus_requests_unanswered_total").await, 0);
    assert_eq!(bus.counted("agentbus_requests_dropped_total").await, 0);
    assert_eq!(bus.counted("agentbus_requests_waiting").await, 0);
    let places = bus.counted("agentbus_requests_places").await;
    assert!((1..=IN_FLIGHT as u64).contains(&places), "{places}");
    bus.stop().await;
}

/// A place that were given back before the message is claimed and delivered would bound nothing, and tell nothing of how
/// long that takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_its_place_until_it_is_answered_also_after_its_score() {
    let mut bus = Bus::with(1, |options| {
        let one = "limits.in_flight = 1\nlimits.in_flight_per_tenant = 1";
        options.node_overrides.extend(one.parse::<toml::Table>().unwrap());
    })
    .await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut inbox = worker.inbox().await.unwrap();
    tokio::spawn(async move { while inbox.next().await.is_some() {} });
    let draft = || Draft::to_agent("worker", "the weekly summary").encode(Encoding::Json);
    let patience = Patience { attempt: A_WHILE, deadline: A_WHILE };
    let mut told = Vec::new();
    for _ in 0..20 {
        sent(&planner, draft(), patience).await;
        // The first waits for its claim, after its score.
        bus.stack.redis_mut().unwrap().child_mut().pause();
        let (first, message) = (planner.clone(), draft());
        let first = tokio::spawn(async move { first.send(message, patience).await });
        tokio::time::sleep(Duration::from_millis(100)).await;
        let second = planner.send(draft(), patience).await.unwrap();
        bus.stack.redis_mut().unwrap().child_mut().resume();
        first.await.unwrap().unwrap();
        if second.detail == NO_ROOM {
            return bus.stop().await;
        }
        told.push(second.detail);
    }
    panic!("the second of two messages was never refused at the gate: {told:?}");
}
