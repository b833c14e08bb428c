//! What is stored of a message is stored once, whichever writers meet over it. The lane itself, over real
//! servers, without nodes.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    config,
    domain::{Encoding, Message, Reason, Status, Tenant, Verdict},
    lanes::{
        Delivery, DurableLane, DurableWrite, LaneError, Noted, Notice, OutcomeStage, Precondition, Stored,
    },
    nats::JetStreamLane,
    policy::{Gate, Party, Permit, PolicySources, Question, RegoEngine, sources::Module},
    shutdown::Shutdown,
    state::MessageKey,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{BusUser, Plan, User},
    wire,
};
use async_nats::jetstream;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::desk::{Desk, note};
use crate::support::cluster::Cluster;

/// Messages that are raced over, and how many side by side.
const RACES: usize = 400;
const AT_ONCE: usize = 4;
const CONNECTED: Duration = Duration::from_secs(20);
const PAYLOAD_MAX: usize = 1024 * 1024;

/// A lane as a node has it, over a connection of its own.
async fn lane(url: String, seed: PathBuf) -> Arc<dyn DurableLane> {
    let settings = config::Nats { url, nkey_file: Some(seed), ..config::Nats::default() };
    let (metrics, background) = (Arc::new(Metrics::new("test")), Shutdown::default());
    let supervisor = Supervisor::default();
    let lane = JetStreamLane::connect("test", &settings, PAYLOAD_MAX, metrics, &background, &supervisor);
    let lane = lane.await.unwrap();
    let started = Instant::now();
    while !lane.connected() {
        assert!(started.elapsed() < CONNECTED, "not connected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Arc::new(lane)
}

/// From a policy that allows everything.
async fn permit(to: &str) -> Permit {
    let text = "package agentbus.modules.all\ndefault allow := true\n".to_owned();
    let module = Module { file: "all.rego".to_owned(), text };
    let sources = PolicySources { shipped: false, modules: vec![module], ..PolicySources::shipped() };
    let gate = Gate::new(Arc::new(RegoEngine::load(&sources).unwrap()));
    let tenant = Tenant::new("acme".parse().unwrap());
    let (sender, bytes) = ("planner".parse().unwrap(), note(to, "hello").encode(Encoding::MessagePack));
    let stamp = wire::Stamp { tenant: &tenant.id, sender: &sender };
    let message: Arc<Message> = wire::decode(&bytes, stamp, &wire::Limits::default()).unwrap().message;
    let (recipient, roles, capabilities) = (to.parse().unwrap(), Default::default(), Default::default());
    let party = |id| Party { id, roles: &roles, capabilities: &capabilities, registered: true };
    let question = Question {
        message: &message,
        size: bytes.len(),
        sender: party(&sender),
        recipient: party(&recipient),
        tenant: &tenant,
        approval: None,
        labels: None,
    };
    gate.decide(&question).await.unwrap()
}

fn key(message: &str) -> MessageKey {
    MessageKey {
        tenant: "acme".parse().unwrap(),
        sender: "planner".parse().unwrap(),
        message: message.parse().unwrap(),
    }
}

async fn write(message: &str, to: &[&str], precondition: Precondition) -> DurableWrite {
    let mut deliveries = Vec::new();
    for to in to {
        let permit = permit(to).await;
        deliveries.push(Delivery { permit, payload: "hello".into(), encoding: Encoding::Json });
    }
    DurableWrite {
        key: key(message),
        decision_id: format!("to-{}", to.join("-")),
        to_each: deliveries.len() > 1,
        deliveries,
        traceparent: String::new(),
        cause: None,
        precondition,
        after: 0,
        not_after: Instant::now() + Duration::from_secs(60),
    }
}

fn refused(message: &str, stage: OutcomeStage) -> Notice {
    let key = key(message);
    Notice {
        to: key.sender.clone(),
        stage,
        after: 0,
        not_after: Instant::now() + Duration::from_secs(60),
        digest: None,
        verdict: Verdict {
            message_id: Some(key.message.clone()),
            status: Status::Rejected,
            reason: Reason::PolicyDenied,
            detail: String::new(),
            retryable: false,
            retry_after: None,
            decision_id: "refused".to_owned(),
            policy_revision: None,
            impact: None,
            reach: None,
            deliberation_id: None,
            node: "test".to_owned(),
            elapsed: Duration::ZERO,
        },
        encoding: Encoding::Json,
        key,
    }
}

/// What stands when writers of two nodes have met over a message.
enum Meet {
    /// A first attempt, and one that a person has ordered or reviewers have approved.
    AttemptAndRelease,
    /// A delivery, and a verdict that there is none.
    DeliveryAndVerdict,
    /// Two attempts at a broadcast.
    Broadcasts,
}

async fn race(number: usize, one: Arc<dyn DurableLane>, other: Arc<dyn DurableLane>) {
    let id = format!("m{number}");
    let meet = match number % 3 {
        0 => Meet::AttemptAndRelease,
        1 => Meet::DeliveryAndVerdict,
        _ => Meet::Broadcasts,
    };
    match meet {
        Meet::AttemptAndRelease => {
            let first = write(&id, &["worker"], Precondition::Undecided).await;
            let release = write(&id, &["helper"], Precondition::Undelivered).await;
            let (first, release) = tokio::join!(one.store(first), other.store(release));
            let now = [first.unwrap(), release.unwrap()];
            let stored = now.iter().filter(|stored| matches!(stored, Stored::Now { .. })).count();
            assert_eq!(stored, 1, "{id}: {now:?}");
        }
        Meet::DeliveryAndVerdict => {
            let delivery = write(&id, &["worker"], Precondition::Undecided).await;
            let (stored, noted) =
                tokio::join!(one.store(delivery), other.outcome(refused(&id, OutcomeStage::Governed)));
            match (stored.unwrap(), noted.unwrap()) {
                (Stored::Now { .. }, Noted::Before) => {}
                (Stored::Before(evidence), Noted::Now) => assert!(evidence.verdict.is_some(), "{id}"),
                both => panic!("{id}: {both:?}"),
            }
        }
        Meet::Broadcasts => {
            let first = write(&id, &["worker", "helper", "planner"], Precondition::Undecided).await;
            let second = write(&id, &["helper", "planner", "worker"], Precondition::Undecided).await;
            let (first, second) = tokio::join!(one.store(first), other.store(second));
            first.unwrap();
            second.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_meet_over_a_message_in_a_cluster_store_it_once() {
    let plan = "[tenants.acme.agents]\nplanner = {}\nworker = {}\nhelper = {}\n";
    let mut cluster = Cluster::start(Plan::parse(plan).unwrap()).await;
    let seed = User::from(BusUser::Node).seed_path(cluster.dir());
    let one = lane(cluster.server_mut(0).url(), seed.clone()).await;
    let other = lane(cluster.server_mut(1).url(), seed).await;
    futures_util::stream::iter(0..RACES)
        .for_each_concurrent(AT_ONCE, |number| race(number, Arc::clone(&one), Arc::clone(&other)))
        .await;
    let operator = jetstream::new(cluster.connect(BusUser::Operator).await);
    let stream = operator.get_stream("OUT_acme").await.unwrap();
    let counted: Vec<(String, usize)> =
        stream.info_with_subjects(">").await.unwrap().try_collect().await.unwrap();
    for number in 0..RACES {
        let of_it = counted.iter().filter(|(subject, _)| subject.ends_with(&format!(".m{number}")));
        let counts: Vec<usize> = of_it.map(|(_, count)| *count).collect();
        let expected: &[usize] = if number % 3 == 2 { &[1, 1, 1] } else { &[1] };
        assert_eq!(counts, expected, "m{number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_found_is_expected_and_what_came_since_is_not_overruled() {
    let desk = Desk::start(0).await;
    let stack = &desk.bus.stack;
    let lane = lane(stack.nats_url(), stack.seed_path(&BusUser::Node.into())).await;

    // Refused, and tried anew: the delivery stands beside the verdict, and a second one does not.
    assert_eq!(lane.outcome(refused("m1", OutcomeStage::Governed)).await, Ok(Noted::Now));
    let last = lane.evidence(&key("m1")).await.unwrap().unwrap().last;
    let anew = DurableWrite { after: last, ..write("m1", &["worker"], Precondition::Undelivered).await };
    assert!(matches!(lane.store(anew).await, Ok(Stored::Now { last: now }) if now > last));
    let late = DurableWrite { after: last, ..write("m1", &["helper"], Precondition::Undelivered).await };
    let Ok(Stored::Before(evidence)) = lane.store(late).await else { panic!("stored twice") };
    assert_eq!(evidence.recipients, ["worker".parse().unwrap()]);
    assert_eq!(evidence.decision_id.as_deref(), Some("to-worker"));

    // A broadcast that an earlier attempt has stored in part goes to the others.
    lane.store(write("m2", &["helper"], Precondition::Undecided).await).await.unwrap();
    let rest = write("m2", &["worker", "helper", "planner"], Precondition::Undecided).await;
    let Ok(Stored::Now { last }) = lane.store(rest).await else { panic!("the rest is not stored") };
    let told = Notice { after: last, ..refused("m2", OutcomeStage::Delivered) };
    assert_eq!(lane.outcome(told).await, Ok(Noted::Now));
    assert_eq!(lane.outcome(refused("m2", OutcomeStage::Delivered)).await, Ok(Noted::Before));
    assert_eq!(lane.evidence(&key("m2")).await.unwrap().unwrap().recipients.len(), 3);
    let stored = desk.count("OUT_acme", "tenant.acme.stored.*.*.planner.m2").await;
    assert!(stored.len() == 4 && stored.values().all(|&count| count == 1), "{stored:?}");
    desk.bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_too_long_ago_is_not_stored() {
    let desk = Desk::start(0).await;
    let stack = &desk.bus.stack;
    let lane = lane(stack.nats_url(), stack.seed_path(&BusUser::Node.into())).await;
    let over = Instant::now();
    let old = DurableWrite { not_after: over, ..write("m1", &["worker"], Precondition::Undelivered).await };
    assert_eq!(lane.store(old).await, Err(LaneError::TooLate));
    let old = Notice { not_after: over, ..refused("m1", OutcomeStage::Judged) };
    assert_eq!(lane.outcome(old).await, Err(LaneError::TooLate));
    assert_eq!(lane.judged(&key("m1")).await, Ok(None));
    assert_eq!(lane.evidence(&key("m1")).await, Ok(None));
    desk.bus.stop().await;
}
