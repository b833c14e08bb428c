//! Do reviewers' judgements move the threshold, on all nodes, within its bounds, once each?

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agentbus::{
    client::Draft,
    deliberation::{Case, Decision},
    domain::{
        Encoding, Impact, Judgement, Level, Parked, Parts, Priority, Reason, Rule, RuleKind, Scales,
        TenantId, Timestamp, Voter, Why, scale,
    },
    impact::{Keywords, SemanticScorer},
    lanes::Tenants,
    nats::LearnedBucket,
    review::Thresholds,
    shutdown::Shutdown,
    telemetry::Metrics,
    tenants::{BusUser, Directory, Plan, names},
};
use async_nats::jetstream;
use serde_json::Value;

use crate::support::bus::{self, Bus};

/// Long enough for any machine; nothing waits so long that goes well.
const PATIENCE: Duration = Duration::from_secs(60);

/// `acme` learns, `globex` does not. An urgent message of either scores 0.7, its threshold.
const PLAN: &str = "[tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\n\
    worker = { roles = [\"implementer\"] }\njudge = { roles = [\"judicial\"] }\n\
    [tenants.acme.deliberation.adaptive]\nenabled = true\nceiling = 0.77\n\
    [tenants.acme.limits]\ndeliberation_threshold = 0.7\n\
    weights = { semantic = 0, permission = 0, volume = 0, context = 0, drift = 0, priority = 1, type = 0 }\n\
    [tenants.globex.agents]\nplanner = { roles = [\"executive\"] }\n\
    [tenants.globex.limits]\ndeliberation_threshold = 0.7\n";

async fn start(nodes: usize) -> Bus {
    Bus::with(nodes, |options| options.plan = Plan::parse(PLAN).unwrap()).await
}

/// Of a node whose scores are this model's.
fn of_model(name: &str) -> Scales {
    Scales::new(Some(scale(name)), BTreeMap::new())
}

/// What a node has of learning, in this process.
struct Learner {
    thresholds: Arc<Thresholds>,
    metrics: Arc<Metrics>,
    shutdown: Shutdown,
}

impl Learner {
    async fn start(bus: &Bus) -> Self {
        Self::with(bus, of_model(Keywords.name())).await
    }

    /// Of a node with scores by these scales.
    async fn with(bus: &Bus, scales: Scales) -> Self {
        let client = bus.stack.connect(BusUser::Node).await.unwrap();
        let (shutdown, metrics) = (Shutdown::default(), Arc::new(Metrics::new("learner")));
        let directory = Directory::watch(&client, shutdown.token().clone(), shutdown.tracker());
        let thresholds = Thresholds::new(
            LearnedBucket::new(client),
            directory,
            "learner",
            now,
            Arc::clone(&metrics),
            scales,
        );
        let (stop, followed) = (shutdown.token().clone(), Arc::clone(&thresholds));
        shutdown.tracker().spawn(async move { stop.run_until_cancelled(followed.follow()).await });
        tokio::time::timeout(PATIENCE, thresholds.ready()).await.expect("thresholds are not read");
        Self { thresholds, metrics, shutdown }
    }

    fn threshold(&self, tenant: &str) -> f64 {
        let tenant: TenantId = tenant.parse().unwrap();
        self.thresholds.tenant(&tenant).unwrap().limits.deliberation_threshold
    }

    async fn reaches(&self, expected: f64) {
        let reached = async {
            while self.threshold("acme") != expected {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let what = || format!("{expected} is not in force, but {}", self.threshold("acme"));
        tokio::time::timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{}", what()));
    }

    async fn teach(&self, cases: impl IntoIterator<Item = Case>) {
        for case in cases {
            self.thresholds.learn_from(&case).await;
        }
    }

    async fn stop(self) {
        self.shutdown.request();
        assert!(self.shutdown.finished_within(PATIENCE).await);
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

fn case(tenant: &str, number: u32, why: Why, score: f64, judgement: Judgement) -> Case {
    let voters = BTreeMap::from([("judge".parse().unwrap(), Voter { roles: BTreeSet::new(), weight: 1 })]);
    let parked = Parked {
        id: format!("{number:024x}").parse().unwrap(),
        tenant: tenant.parse().unwrap(),
        sender: "planner".parse().unwrap(),
        message_id: format!("m{number}").parse().unwrap(),
        message: "{}".to_owned(),
        digest: "0a".repeat(32),
        why,
        notes: Default::default(),
        impact: Some(Impact {
            score,
            score_max: None,
            level: Level::of(score),
            parts: Parts::default(),
            levels: None,
            model: "keywords".to_owned(),
            unscored: None,
            tokens: 0,
        }),
        policy_revision: "r1".to_owned(),
        decision_id: "d1".to_owned(),
        node: "node-1".to_owned(),
        rule: Rule { kind: RuleKind::Quorum, min_approvals: 1, distinct_roles: 2 },
        voters,
        stand_ins: BTreeMap::new(),
        parked_at: now(),
        escalate_at: None,
        deadline: now().plus(Duration::from_secs(60)),
        traceparent: None,
    };
    let decision = Some(Decision { judgement, at: now(), detail: "told".to_owned() });
    Case { parked, votes: Vec::new(), escalated_at: None, decision, conclusion: None, version: 3 }
}

/// Parked for its impact, and approved.
fn harmless(tenant: &str, number: u32) -> Case {
    let why = Why::Impact { score: 0.9, threshold: 0.7 };
    case(tenant, number, why, 0.9, Judgement::Approved)
}

/// Parked by the policy alone, and denied.
fn missed(number: u32) -> Case {
    case("acme", number, Why::Policy, 0.2, Judgement::Denied)
}

/// What is under the tenant's key.
async fn entry(bus: &Bus, tenant: &str) -> Option<Value> {
    let context = jetstream::new(bus.stack.connect(BusUser::Node).await.unwrap());
    let stream = context.get_stream_no_info(names::THRESHOLDS_STREAM).await.unwrap();
    let subject = format!("$KV.{}.{tenant}", names::THRESHOLDS_BUCKET);
    let message = stream.get_last_raw_message_by_subject(&subject).await.ok()?;
    Some(serde_json::from_slice(&message.payload).unwrap())
}

async fn urgent(bus: &Bus) -> Reason {
    let draft = Draft { priority: Priority::High, ..Draft::to_agent("worker", "hello") };
    let planner = bus.agent("acme", "planner").await;
    bus::send(&planner, draft.encode(Encoding::Json)).await.reason
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_that_were_parked_in_vain_raise_the_threshold_on_all_nodes_up_to_the_ceiling() {
    let bus = start(2).await;
    let learner = Learner::start(&bus).await;
    let worker = bus.agent("acme", "worker").await;
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    assert_ne!(urgent(&bus).await, Reason::Delivered, "0.7 is at the threshold");

    learner.teach((1..50).map(|number| harmless("acme", number))).await;
    assert_eq!(entry(&bus, "acme").await.unwrap()["learned"]["changes"], 0, "49 are not enough");
    learner.teach([harmless("acme", 50)]).await;
    learner.reaches(0.75).await;
    for node in bus.stack.nodes() {
        let url = format!("http://{}/thresholds", node.http());
        let reached = async {
            loop {
                let shown: Value =
                    serde_json::from_str(&reqwest::get(&url).await.unwrap().text().await.unwrap()).unwrap();
                if shown["thresholds"]["acme"]["in_force"] == 0.75 {
                    return shown;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let shown = tokio::time::timeout(PATIENCE, reached).await.expect("a node does not learn of it");
        assert_eq!(shown["thresholds"]["acme"]["configured"], 0.7, "{shown}");
        assert_eq!(shown["thresholds"]["acme"]["last_change"]["from"], 0.7, "{shown}");
        assert!(shown["thresholds"].get("globex").is_none(), "{shown}");
    }
    // Whichever node takes it.
    for _ in 0..6 {
        assert_eq!(urgent(&bus).await, Reason::Delivered, "0.7 is below the threshold in force");
    }

    learner.teach((51..=200).map(|number| harmless("acme", number))).await;
    learner.reaches(0.77).await;
    let text = learner.metrics.encode();
    assert!(text.contains("threshold_changes_total{direction=\"up\"} 2"), "{text}");
    assert!(text.contains("threshold_lessons_lost_total 0"), "{text}");
    learner.stop().await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_nodes_change_over_to_another_head_what_the_two_learn_does_not_mix() {
    let bus = start(0).await;
    let (old, new) =
        (Learner::start(&bus).await, Learner::with(&bus, of_model("minilm@00000002/int8")).await);
    old.teach((1..=50).map(missed)).await;
    old.reaches(0.65).await;
    let modelless = Learner::with(&bus, Scales::default()).await;
    modelless.reaches(0.65).await;
    assert_eq!(new.threshold("acme"), 0.7, "as configured, until it has learned itself");
    // Parked by the old head's score, and concluded by a node with the new one.
    new.teach((51..=200).map(missed)).await;
    assert_eq!(entry(&bus, "acme").await.unwrap()["learned"]["changes"], 1);
    let mut own = missed(201);
    own.parked.impact.as_mut().unwrap().model = "minilm@00000002/f32".to_owned();
    new.teach([own]).await;
    let begun = entry(&bus, "acme").await.unwrap();
    assert_eq!(
        (&begun["learned"]["changes"], begun["learned"]["judged"].as_array().unwrap().len()),
        (&Value::from(0), 1)
    );
    old.reaches(0.7).await;
    for learner in [old, new, modelless] {
        learner.stop().await;
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_the_policy_had_parked_and_was_denied_lowers_the_threshold_and_is_recorded() {
    let bus = start(0).await;
    let learner = Learner::start(&bus).await;
    learner.teach((1..=50).map(missed)).await;
    learner.reaches(0.65).await;
    let context = jetstream::new(bus.stack.connect(BusUser::Node).await.unwrap());
    let records = context.get_stream_no_info(names::RECORDS_STREAM).await.unwrap();
    let subject = format!("record.acme.~.{:024x}.threshold", 50);
    let record = records.get_last_raw_message_by_subject(&subject).await.expect("no record of the change");
    let record: Value = serde_json::from_slice(&record.payload).unwrap();
    assert_eq!(record["kind"], "threshold");
    assert_eq!((&record["from"], &record["to"]), (&Value::from(0.7), &Value::from(0.65)), "{record}");
    let reason = "of the last 50 that were judged, 50 were below the threshold and denied";
    assert_eq!(record["reason"], reason);
    // Down to the floor and no further.
    learner.teach((51..=400).map(missed)).await;
    learner.reaches(0.5).await;
    learner.stop().await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_does_not_learn_is_left_alone() {
    let bus = start(0).await;
    let learner = Learner::start(&bus).await;
    learner.teach((1..=60).map(|number| harmless("globex", number))).await;
    assert_eq!(entry(&bus, "globex").await, None, "nothing is kept");
    assert_eq!(learner.threshold("globex"), 0.7);
    learner.stop().await;
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_nodes_that_learn_at_once_neither_loses_a_judgement_and_none_counts_twice() {
    let bus = start(0).await;
    let (one, two) = (Learner::start(&bus).await, Learner::start(&bus).await);
    let (odd, even): (Vec<_>, Vec<_>) = (1..=40).partition(|number| number % 2 == 1);
    let teach = async |learner: &Learner, numbers: Vec<u32>| {
        learner.teach(numbers.into_iter().map(|number| harmless("acme", number))).await;
    };
    tokio::join!(teach(&one, odd.clone()), teach(&two, even));
    let judged = async || entry(&bus, "acme").await.unwrap()["learned"]["judged"].as_array().unwrap().len();
    assert_eq!(judged().await, 40);
    teach(&two, odd).await;
    assert_eq!(judged().await, 40, "a judgement counted again");
    for learner in [one, two] {
        let text = learner.metrics.encode();
        assert!(text.contains("threshold_lessons_lost_total 0"), "{text}");
        learner.stop().await;
    }
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_taken_at_its_strictest() {
    let bus = start(0).await;
    let context = jetstream::new(bus.stack.connect(BusUser::Node).await.unwrap());
    let subject = format!("$KV.{}.acme", names::THRESHOLDS_BUCKET);
    context.publish(subject, "nonsense".into()).await.unwrap().await.unwrap();
    let learner = Learner::start(&bus).await;
    assert_eq!(learner.threshold("acme"), 0.5, "the floor");
    assert_eq!(learner.threshold("globex"), 0.7);
    learner.teach([harmless("acme", 1)]).await;
    assert!(learner.metrics.encode().contains("threshold_lessons_lost_total 1"));
    learner.stop().await;
    bus.stop().await;
}
