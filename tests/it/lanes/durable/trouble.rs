//! Nodes that die or stop, stores that are full or gone: nothing that was kept is lost, and nothing is
//! done twice.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Reason, Status},
    fault_points::Step,
    nats::RecordStream,
    servers::RedisData,
    tenants::BusUser,
    wire::decode_verdict,
};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinSet};

use super::desk::{Desk, keep, live, note};
use crate::support::fault_points::FaultPoints;

/// What a node has in hand and does not settle is handed out again after so long.
const COME_AGAIN: Duration = Duration::from_secs(5);

/// Submits so many messages, some at a time, and returns the ids of those that the bus said it keeps.
async fn load(planner: &AgentClient, many: usize) -> HashSet<String> {
    let patience = Patience { attempt: Duration::from_millis(700), deadline: Duration::from_secs(60) };
    let room = Arc::new(Semaphore::new(16));
    let mut submitting = JoinSet::new();
    for _ in 0..many {
        let room = Arc::clone(&room).acquire_owned().await.unwrap();
        let planner = planner.clone();
        submitting.spawn(async move {
            let draft = note("worker", "one of many");
            let verdict = planner.submit(draft.encode(Encoding::MessagePack), patience).await;
            drop(room);
            (draft.message_id, verdict.map(|verdict| verdict.status))
        });
    }
    let mut kept = HashSet::new();
    while let Some(done) = submitting.join_next().await {
        let (id, status) = done.unwrap();
        // Delivered: nobody heard that it was stored, and it was asked again.
        assert!(matches!(status.unwrap(), Status::Stored | Status::Delivered));
        kept.insert(id);
    }
    kept
}

/// One message and one delivered outcome for each, and nothing else.
async fn each_once(desk: &Desk, kept: &HashSet<String>) {
    let mut stored: HashMap<String, (usize, usize)> = HashMap::new();
    for (subject, count) in desk.count("OUT_acme", ">").await {
        let tokens: Vec<&str> = subject.split('.').collect();
        // Told to one who heard nothing in time and asked again.
        if let Some((id, _)) = tokens[6].split_once("~repeated") {
            assert!(kept.contains(id) && tokens[3..5] == ["planner", "outcome"], "{subject}");
            continue;
        }
        let (messages, outcomes) = stored.entry(tokens[6].to_owned()).or_default();
        match (tokens[3], tokens[4]) {
            ("worker", "message") => *messages += count,
            ("planner", "outcome") => *outcomes += count,
            _ => panic!("{subject}"),
        }
    }
    let wrong: Vec<_> = stored.iter().filter(|(_, counts)| **counts != (1, 1)).take(5).collect();
    assert!(wrong.is_empty(), "not once: {wrong:?}");
    let lost: Vec<_> = kept.iter().filter(|id| !stored.contains_key(*id)).take(5).collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert_eq!(stored.len(), kept.len());
    let letters = desk.count("DEAD_acme", ">").await;
    assert!(letters.is_empty(), "{letters:?}");
}

/// Several at once, so that their records are one message.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_killed_between_two_steps_of_messages_loses_none_and_repeats_none() {
    let mut points = FaultPoints::default();
    let mut desk = Desk::with(2, "", |options| points = FaultPoints::of(options)).await;
    desk.come_again_after(COME_AGAIN).await;
    let planner = desk.agent("planner").await;
    let (mut kept, records) =
        (HashSet::new(), RecordStream::new(desk.bus.stack.connect(BusUser::Operator).await.unwrap()));
    for step in Step::OF_QUEUED {
        let armed = points.arm(step, "kill");
        kept.extend(load(&planner, 16).await);
        assert!(desk.is_empty().await);
        assert!(!armed.exists(), "no node came to {step:?}");
        let mut dead = 0;
        for index in 0..2 {
            let node = desk.bus.stack.node_mut(index).unwrap();
            if node.child_mut().try_exited().is_some() {
                dead += 1;
                node.restart().await.unwrap();
            }
        }
        assert_eq!(dead, 1, "{step:?}");
    }
    each_once(&desk, &kept).await;
    for id in &kept {
        let outcome = format!("tenant.acme.stored.planner.outcome.planner.{id}");
        let told = decode_verdict(&desk.last("OUT_acme", &outcome).await.unwrap().payload).unwrap();
        let (found, _) = records.find(&told.decision_id, None, None).await.unwrap();
        assert!(found.is_some(), "no record of what was told: {told:?}");
    }
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_are_killed_lose_nothing_and_repeat_nothing() {
    let mut desk = Desk::start(2).await;
    desk.come_again_after(COME_AGAIN).await;
    let planner = desk.agent("planner").await;
    let done = Arc::new(AtomicBool::new(false));
    let submitting = {
        let done = Arc::clone(&done);
        tokio::spawn(async move {
            let kept = load(&planner, 3_000).await;
            done.store(true, Ordering::Relaxed);
            kept
        })
    };
    let mut kills = 0;
    while !done.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let node = desk.bus.stack.node_mut(kills % 2).unwrap();
        node.child_mut().kill().await;
        node.restart().await.unwrap();
        kills += 1;
    }
    let kept = submitting.await.unwrap();
    println!("{} kept, {kills} kills", kept.len());
    assert!(desk.is_empty().await, "something still waits");
    each_once(&desk, &kept).await;
    assert!(kills >= 2, "only {kills} kills");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_stalled_does_nothing_that_another_did_meanwhile() {
    let mut desk = Desk::start(2).await;
    desk.come_again_after(COME_AGAIN).await;
    let planner = desk.agent("planner").await;
    let submitting = tokio::spawn(async move { load(&planner, 3_000).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    let stalled = desk.bus.stack.node_mut(0).unwrap();
    stalled.child_mut().pause();
    // Longer than JetStream waits for an acknowledgement, so that another has taken what it had.
    tokio::time::sleep(COME_AGAIN + Duration::from_secs(4)).await;
    desk.bus.stack.node_mut(0).unwrap().child_mut().resume();
    let kept = submitting.await.unwrap();
    assert!(desk.is_empty().await, "something still waits");
    tokio::time::sleep(Duration::from_secs(2)).await;
    each_once(&desk, &kept).await;
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_gives_back_what_it_has_not_begun() {
    let mut desk = Desk::start(2).await;
    let planner = desk.agent("planner").await;
    let submitting = tokio::spawn(async move { load(&planner, 2_000).await });
    let mut slowest = Duration::ZERO;
    let mut stops = 0;
    while !submitting.is_finished() {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let node = desk.bus.stack.node_mut(stops % 2).unwrap();
        let started = Instant::now();
        node.stop().await;
        slowest = slowest.max(started.elapsed());
        node.restart().await.unwrap();
        stops += 1;
    }
    let kept = submitting.await.unwrap();
    println!("{} kept, {stops} stops, the slowest took {slowest:?}", kept.len());
    assert!(desk.is_empty().await, "something still waits");
    each_once(&desk, &kept).await;
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_costs_no_message() {
    let mut desk = Desk::with(1, "", |options| {
        options.redis_data = RedisData::OnDisk;
        let hasty: toml::Table = "durable.give_up_after = \"2s\"".parse().unwrap();
        options.node_overrides.extend(hasty);
    })
    .await;
    let planner = desk.agent("planner").await;
    let mut outcomes = planner.outcomes().await.unwrap();
    desk.bus.stack.redis_mut().unwrap().child_mut().kill().await;
    let drafts: Vec<Draft> = (0..20).map(|_| note("worker", "patience")).collect();
    for draft in &drafts {
        keep(&planner, draft).await;
    }
    // Longer than five attempts take.
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(desk.count("DEAD_acme", ">").await.is_empty(), "given up although the bus is to blame");
    desk.bus.stack.redis_mut().unwrap().restart().await.unwrap();
    let mut heard = HashSet::new();
    let started = Instant::now();
    while heard.len() < drafts.len() && started.elapsed() < Duration::from_secs(180) {
        let verdict = live(&mut outcomes).await;
        assert_eq!(verdict.reason, Reason::Delivered, "{verdict:?}");
        heard.insert(verdict.message_id.unwrap().as_str().to_owned());
    }
    assert!(drafts.iter().all(|draft| heard.contains(&draft.message_id)));
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_answer_is_the_bus_s_trouble_and_not_the_messages() {
    let mut desk = Desk::with(1, "", |options| {
        let log: toml::Table = "log.filter = \"info,agentbus=debug\"".parse().unwrap();
        options.node_overrides.extend(log);
    })
    .await;
    let planner = desk.agent("planner").await;
    let submitting = tokio::spawn(async move { load(&planner, 3_000).await });
    // Longer than the fast lane's deadline, and than a store may take to answer.
    let mut tried_again = Vec::new();
    for _ in 0..5 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        desk.bus.stack.nats_mut().child_mut().pause();
        tokio::time::sleep(Duration::from_millis(2_800)).await;
        desk.bus.stack.nats_mut().child_mut().resume();
        let log = desk.bus.stack.nodes().first().unwrap().child().log().to_owned();
        let log = std::fs::read_to_string(log).unwrap();
        // Before its delivery was stored, or after.
        let again =
            |line: &&str| ["tried again later", "is governed again"].iter().any(|part| line.contains(part));
        tried_again.extend(log.lines().filter(again).map(str::to_owned));
        // What was in hand at that moment has met it.
        if !tried_again.is_empty() {
            break;
        }
    }
    let kept = submitting.await.unwrap();
    assert!(desk.is_empty().await, "something still waits");
    each_once(&desk, &kept).await;
    assert!(!tried_again.is_empty(), "nothing was in hand");
    let own: Vec<_> = tried_again.iter().filter(|line| line.contains("timed_out")).take(3).collect();
    assert!(own.is_empty(), "held against the message: {own:?}");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_refuses_what_is_new_and_loses_nothing() {
    let plan = "[tenants.acme.store]\nwaiting_bytes = 1048576\ninbox_bytes = 1048576\n";
    let desk = Desk::with(1, plan, |_| {}).await;
    let planner = desk.agent("planner").await;
    let patience = Patience { attempt: Duration::from_secs(2), deadline: Duration::from_secs(2) };
    let mut kept = Vec::new();
    let refused = loop {
        let draft = Draft::new(json!({ "agent": "worker" }), json!({ "text": "x".repeat(30_000) }));
        let verdict = planner.submit(draft.encode(Encoding::MessagePack), patience).await.unwrap();
        match verdict.status {
            Status::Stored => kept.push(draft.message_id),
            _ => break verdict,
        }
        assert!(kept.len() < 500, "it never fills");
        // Before its sender has its share. A node looks once a second how full it is.
        if kept.len() == 8 {
            desk.fill("OUT_acme").await;
            tokio::time::sleep(Duration::from_millis(1_200)).await;
        }
    };
    assert_eq!(refused.reason, Reason::StoreFull, "{refused:?}");
    assert!(refused.retry_after.is_some());
    // What is kept is stored for its recipient, or waits still. The first is governed while others are submitted, or soon.
    let all_stored = || desk.count("OUT_acme", "tenant.acme.stored.worker.>");
    for _ in 0..600 {
        if !all_stored().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let waiting = desk.count("IN_acme", ">").await;
    let stored = all_stored().await;
    for id in &kept {
        let found = waiting.keys().chain(stored.keys()).any(|subject| subject.ends_with(id.as_str()));
        assert!(found, "{id} is lost");
    }
    assert!(desk.count("DEAD_acme", ">").await.is_empty());
    desk.bus.stop().await;
}
