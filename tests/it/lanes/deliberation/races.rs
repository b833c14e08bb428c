//! Two nodes decide at the same instant: is there one decision, whoever comes first?

use std::sync::Arc;

use agentbus::{
    cpu::{Cpu, CpuSettings},
    deliberation::{Appended, DeliberationLog, LogError},
    domain::{
        Choice, DeliberationId, Event, Judgement, Parked, Rule, RuleKind, Tenant, TenantId, Timestamp, Voter,
        Why,
    },
    lanes::Tenants,
    nats::Deliberations,
    telemetry::Metrics,
    tenants::BusUser,
};

use super::*;

const TRIES: usize = 1_000;
/// Deliberations that are raced side by side.
const AT_ONCE: usize = 8;

/// A directory of one.
struct One(Arc<Tenant>);

impl Tenants for One {
    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>> {
        (self.0.id == *id).then(|| Arc::clone(&self.0))
    }
}

/// The logs as a node has them, over a connection of its own.
pub(super) async fn node(bus: &Bus, open_max: usize) -> Arc<Deliberations> {
    let client = bus.stack.connect(BusUser::Node).await.unwrap();
    let mut tenant = Tenant::new("acme".parse().unwrap());
    tenant.deliberation.open_max = open_max;
    let cpu = Cpu::start(CpuSettings { threads: 2, queue: 64 }, Arc::new(())).unwrap();
    let (tenants, metrics) = (Arc::new(One(Arc::new(tenant))), Arc::new(Metrics::new("test")));
    Arc::new(Deliberations::new(client, tenants, metrics, Arc::new(cpu)))
}

pub(super) fn parked(number: usize) -> Parked {
    let voter = Voter { roles: ["judicial".to_owned()].into(), weight: 1 };
    Parked {
        id: format!("{number:024x}").parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        sender: "planner".parse().unwrap(),
        message_id: format!("m{number}").parse().unwrap(),
        message: severe("open the gate").json().to_string(),
        digest: "ab".repeat(32),
        why: Why::Policy,
        notes: Default::default(),
        impact: None,
        policy_revision: "0123456789abcdef".to_owned(),
        decision_id: format!("d{number}"),
        node: "node-1".to_owned(),
        rule: Rule { kind: RuleKind::Quorum, min_approvals: 1, distinct_roles: 1 },
        voters: [("judge".parse().unwrap(), voter)].into(),
        stand_ins: Default::default(),
        parked_at: Timestamp(1_000),
        escalate_at: None,
        deadline: Timestamp(2_000),
        traceparent: None,
    }
}

/// An approval at the last instant on one node, the end of its time on the other.
async fn race(number: usize, nodes: [Arc<Deliberations>; 2]) -> Judgement {
    let parked = parked(number);
    let (tenant, id, judge) = (parked.tenant.clone(), parked.id.clone(), "judge".parse().unwrap());
    let [one, other] = &nodes;
    let (first, second) =
        tokio::join!(one.park(&parked, Priority::High), other.park(&parked, Priority::High));
    let begun = [first.unwrap(), second.unwrap()];
    assert!(begun.contains(&Appended::Now) && begun.contains(&Appended::Conflict), "{begun:?}");
    let (here, there) = tokio::join!(one.load(&tenant, &id), other.load(&tenant, &id));
    let (here, there) = (here.unwrap().unwrap(), there.unwrap().unwrap());
    let approval = here.vote(&judge, Choice::Approve, &parked.digest, "", Timestamp(1_999)).unwrap();
    let expiry = there.tick(Timestamp(2_001)).unwrap();
    let (approved, expired) = match number % 2 {
        0 => tokio::join!(one.append(&here, &approval), other.append(&there, &expiry)),
        _ => {
            let (expired, approved) =
                tokio::join!(other.append(&there, &expiry), one.append(&here, &approval));
            (approved, expired)
        }
    };
    let (approved, expired) = (approved.unwrap(), expired.unwrap());
    assert_ne!(approved, expired, "exactly one of them was first");
    let wanted = if approved == Appended::Now { Judgement::Approved } else { Judgement::Expired };
    for node in nodes {
        let case = node.load(&tenant, &id).await.unwrap().unwrap();
        assert_eq!(case.decision.map(|decision| decision.judgement), Some(wanted));
        assert_eq!(case.votes.len(), usize::from(wanted == Judgement::Approved));
    }
    wanted
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_that_races_an_expiry_has_one_outcome_in_a_thousand_tries() {
    let bus = Bus::with(0, |options| options.plan = plan("")).await;
    let nodes = [node(&bus, 100_000).await, node(&bus, 100_000).await];
    let judged: Vec<Judgement> = futures_util::stream::iter(0..TRIES)
        .map(|number| race(number, nodes.clone()))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let approved = judged.iter().filter(|judgement| **judgement == Judgement::Approved).count();
    println!("{approved} of {TRIES} approved, the others expired");
    assert!((1..TRIES).contains(&approved), "{approved} approved: it was no race");
    let open = nodes[0].open(&"acme".parse().unwrap(), 10).await.unwrap();
    assert!(open.is_empty(), "{} are open", open.len());
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_has_room_for_so_many_and_a_repeat_finds_its_own_all_the_same() {
    let bus = Bus::with(0, |options| options.plan = plan("")).await;
    let log = node(&bus, 3).await;
    for number in 0..3 {
        assert_eq!(log.park(&parked_by(number), Priority::High).await, Ok(Appended::Now));
    }
    let full = log.park(&parked_by(3), Priority::High).await;
    assert!(matches!(full, Err(LogError::TooManyParked { open_max: 3 })), "{full:?}");
    assert_eq!(log.park(&parked_by(1), Priority::High).await, Ok(Appended::Conflict), "it is there already");
    let open = log.open(&"acme".parse().unwrap(), 2).await.unwrap();
    let ids: Vec<DeliberationId> = open.iter().map(|head| head.case.parked.id.clone()).collect();
    assert_eq!(ids, [parked(0).id, parked(1).id], "the oldest first");
    // As soon as one is decided, there is room again.
    let tenant = "acme".parse().unwrap();
    let case = log.load(&tenant, &parked(0).id).await.unwrap().unwrap();
    assert_eq!(log.append(&case, &case.tick(Timestamp(2_000)).unwrap()).await, Ok(Appended::Now));
    let until = Instant::now() + SOON;
    while log.park(&parked_by(3), Priority::High).await != Ok(Appended::Now) {
        assert!(Instant::now() < until, "still no room");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bus.stop().await;
}

/// Of a sender of its own.
fn parked_by(sender: usize) -> Parked {
    Parked { sender: format!("sender{sender}").parse().unwrap(), ..parked(sender) }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sender_leaves_places_to_others_and_to_what_is_critical_whichever_node_parks() {
    let bus = Bus::with(0, |options| options.plan = plan("")).await;
    let (log, other) = (node(&bus, 20).await, node(&bus, 20).await);
    let mut held = 0;
    while log.park(&parked(held), Priority::Normal).await == Ok(Appended::Now) {
        held += 1;
    }
    // A tenth is kept, and half of the rest is its share.
    assert_eq!(held, 9);
    let refused = Err(LogError::ShareParked { held: 9, left: 9 });
    assert_eq!(
        other.park(&parked(50), Priority::Normal).await,
        refused,
        "a node that has parked none of them"
    );
    assert_eq!(other.park(&parked_by(60), Priority::Normal).await, Ok(Appended::Now), "another sender");
    assert_eq!(
        other.park(&parked(51), Priority::Critical).await,
        Ok(Appended::Now),
        "it may have what is kept"
    );
    assert_eq!(
        log.park(&parked(3), Priority::Normal).await,
        Ok(Appended::Conflict),
        "a repeat finds its own"
    );
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_no_run_of_the_rules_can_have_written_is_not_believed() {
    let bus = Bus::with(0, |options| options.plan = plan("")).await;
    let log = node(&bus, 10).await;
    let tenant: TenantId = "acme".parse().unwrap();
    assert_eq!(log.load(&tenant, &parked(0).id).await, Ok(None));
    assert_eq!(log.park(&parked(0), Priority::High).await, Ok(Appended::Now));
    let case = log.load(&tenant, &parked(0).id).await.unwrap().unwrap();
    let forged = Event::Decided {
        judgement: Judgement::Approved,
        at: Timestamp(1_500),
        detail: "because I say so".to_owned(),
        vote: None,
    };
    assert_eq!(log.append(&case, &forged).await, Ok(Appended::Now));
    let read = log.load(&tenant, &parked(0).id).await;
    assert!(
        matches!(&read, Err(LogError::Unreadable(why)) if why.contains("no vote decides it")),
        "{read:?}"
    );
    let large = Parked { message: "x".repeat(2 * 1024 * 1024), ..parked(1) };
    assert!(matches!(log.park(&large, Priority::High).await, Err(LogError::TooLarge { .. })));
    bus.stop().await;
}

/// End to end: the vote comes when the time is over, give or take, on nodes that both keep the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn votes_that_come_with_the_deadline_decide_or_are_late_and_never_both() {
    let court = Court::sit(2, &format!("{ONE_OF_TWO}\ntimeout = \"1s\"")).await;
    let mut waiting = Vec::new();
    for number in 0..12 {
        let parked = court.park(&severe(&format!("gate {number}"))).await;
        let judge = court.agent("judge").await;
        waiting.push(tokio::spawn(async move {
            // About its deadline: some before, some after.
            tokio::time::sleep(Duration::from_millis(900 + 15 * number)).await;
            (parked.vote(&judge, "approve").await, parked)
        }));
    }
    let mut delivered = 0;
    for voted in waiting {
        let (voted, parked) = voted.await.unwrap();
        let shown = court.until(&parked.id, |shown| shown["conclusion"].is_object()).await;
        let approved = voted["judgement"] == "approved";
        assert!(approved || voted["reason"] == "deliberation_closed", "{voted}");
        let wanted = if approved { ("approved", "delivered") } else { ("expired", "deliberation_expired") };
        assert_eq!(shown["decision"]["judgement"], wanted.0, "{shown}");
        assert_eq!(shown["conclusion"]["reason"], wanted.1, "{shown}");
        delivered += usize::from(approved);
    }
    assert_eq!(take(&court.worker, 13, Duration::from_secs(1)).await.len(), delivered);
    court.stop().await;
}
