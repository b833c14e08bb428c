//! Does a candidate say what it would change, and change nothing?

use std::{sync::Arc, time::Duration};

use agentbus::{
    cpu::{Cpu, CpuSettings},
    domain::{Priority, Timestamp},
    policy::{
        Event, Folder, Gate, Label, OffRuntime, Origin, PolicyEngine as _, PolicySources, Rollout, Shadow,
        ShadowOffer, ShadowPlan, ShadowStanding, ShadowState, build_bundle,
        comparison::{Change, Comparison, Example, Group},
    },
};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    Seen, load, patiently,
    question::{Owned, random},
    rollout::question,
    with_modules,
};

const NOW: Timestamp = Timestamp(1_790_000_000_000);
const LONG: Duration = Duration::from_secs(60);

/// Denies what is urgent, obliges what asks for tools, and fails where it asks for two.
const CANDIDATE: &str = r#"package agentbus.modules.own

default allow := false

allow if {
	input.message.priority != "high"
	not fails
}

fails if 1 / (count(input.message.tools) - 2) > 1

reasons contains sprintf("%s is not urgent", [input.message.content.text]) if input.message.content.text

obligations := {"deliberate": true} if count(input.message.tools) > 0
"#;

/// The shipped policy in force, and a place beside it.
struct Rig {
    rollout: Rollout,
    shadow: Arc<Shadow>,
    seen: Seen,
}

impl Rig {
    fn new(modules: &[(&str, &str)]) -> Self {
        let cpu = Arc::new(Cpu::start(CpuSettings { threads: 2, queue: 64 }, Arc::new(())).unwrap());
        let engine = OffRuntime::new(load(&with_modules(modules)), Arc::clone(&cpu));
        let seen = Seen::default();
        let shadow = Arc::new(Shadow::start(Arc::new(seen.clone()), || NOW).unwrap());
        let gate = Gate::new(Arc::new(engine)).shadowed(Arc::clone(&shadow));
        let folder = Origin::Folder(Folder { dir: None, shipped: true });
        Self { rollout: Rollout::new(Arc::new(gate), cpu, folder, || NOW), shadow, seen }
    }

    async fn tries(&self, modules: &[(&str, &str)], share: f64) {
        let packed = build_bundle(&with_modules(modules), "v1", NOW).unwrap();
        self.offers(packed, ShadowPlan { sequence: 1, share, until: Timestamp(NOW.0 + 1_000) }).await;
    }

    async fn offers(&self, packed: Vec<u8>, plan: ShadowPlan) {
        self.rollout.try_beside(ShadowOffer { plan, packed: packed.into() }).await;
    }

    async fn ask(&self, question: &Owned, id: &str) -> bool {
        let gate = self.rollout.gate();
        gate.decide_by(&gate.in_force(), &question.ask(), id).await.permit.is_ok()
    }

    fn standing(&self) -> ShadowStanding {
        self.shadow.standing(&self.rollout.gate().revision()).unwrap()
    }

    /// When all that was told is judged.
    async fn counted(&self) -> Comparison {
        assert!(self.shadow.flush(LONG).await);
        let mut comparison = Comparison::new(Shadow::EXAMPLES_MAX);
        comparison.merge_told(self.shadow.summary(100_000).unwrap());
        comparison
    }
}

fn questions(count: usize) -> Vec<Owned> {
    let mut rng = StdRng::seed_from_u64(15);
    std::iter::repeat_with(|| Owned::from_input(&random(&mut rng))).take(count).collect()
}

#[tokio::test]
async fn a_candidate_is_asked_what_the_policy_in_force_was_asked_and_nothing_follows() {
    let (rig, alone) = (Rig::new(&[]), Rig::new(&[]));
    rig.tries(&[("own.rego", CANDIDATE)], 1.0).await;
    let [shipped, candidate] = [&[][..], &[("own.rego", CANDIDATE)]].map(|it| load(&with_modules(it)));
    let mut expected = [0; 5];
    let questions = questions(200);
    for (number, question) in questions.iter().enumerate() {
        let id = format!("d-{number}");
        assert_eq!(rig.ask(question, &id).await, alone.ask(question, &id).await);
        let [before, after] = [&shipped, &candidate]
            .map(|engine| patiently(|| engine.decide(&question.ask())).map_err(|error| error.to_string()));
        if let Some(change) = Change::of(&before, &after) {
            expected[Change::ALL.iter().position(|it| *it == change).unwrap()] += 1;
        }
    }
    let comparison = rig.counted().await;
    let standing = rig.standing();
    assert_eq!((standing.state, standing.lost), (ShadowState::Judging, 0));
    assert_eq!(standing.decisions + standing.undecided, 200);
    if standing.undecided == 0 {
        let counted = Change::ALL.iter().map(|&change| comparison.all().of(change)).collect::<Vec<_>>();
        assert_eq!(counted, expected);
    }
    assert!(expected[0] > 5 && expected[2] > 5 && expected[3] > 0, "{expected:?}");
    let seen = [Event::ShadowSame, Event::ShadowChanged].map(|event| rig.seen.count(event) as u64);
    assert_eq!(seen, [standing.decisions - standing.changed, standing.changed]);
    assert!(comparison.rows(Group::Rule).iter().any(|(rule, _)| *rule == "own"));
    let example = comparison.examples().find(|it| it.change == Change::Denied).unwrap();
    let number: usize = example.decision_id.strip_prefix("d-").unwrap().parse().unwrap();
    assert_eq!(example.sender, questions[number].sender.id.as_str());
    assert_eq!(example.before, "allowed");
}

#[tokio::test]
async fn a_share_is_judged_until_the_time_is_over_or_the_candidate_is_in_force_or_stopped() {
    let rig = Rig::new(&[]);
    rig.tries(&[("own.rego", CANDIDATE)], 0.2).await;
    let question = question();
    for number in 0..500 {
        rig.ask(&question, &format!("d-{number}")).await;
    }
    let all = *rig.counted().await.all();
    assert!((50..150).contains(&all.decisions), "{all:?}");
    let (own, revision) = (load(&with_modules(&[("own.rego", CANDIDATE)])), rig.standing().revision);
    assert_eq!(*own.revision(), revision);
    let state = |in_force: &str| rig.shadow.standing(in_force).unwrap().state;
    assert_eq!((state(""), state(&revision)), (ShadowState::Judging, ShadowState::InForce));
    rig.offers(Vec::new(), ShadowPlan { sequence: 2, ..rig.standing().plan }).await;
    rig.ask(&question, "d-0").await;
    assert_eq!((rig.standing().state, rig.standing().plan.sequence), (ShadowState::Stopped, 2));
    assert_eq!(*rig.counted().await.all(), all, "what it has said is still there, and no more");

    // One whose time is over when it comes is not even read.
    rig.offers(b"x".to_vec(), ShadowPlan { sequence: 3, share: 1.0, until: NOW }).await;
    assert_eq!(rig.standing().plan.sequence, 2);
    let label = Label::default();
    let past = ShadowPlan { sequence: 4, share: 1.0, until: NOW };
    rig.shadow.judge(past, label, own, rig.rollout.gate().revision());
    rig.ask(&question, "d-0").await;
    assert_eq!((rig.standing().state, rig.counted().await.all().decisions), (ShadowState::Over, 0));
}

#[tokio::test]
async fn a_candidate_that_cannot_be_loaded_is_told_and_changes_nothing() {
    let rig = Rig::new(&[]);
    rig.tries(&[("own.rego", CANDIDATE)], 1.0).await;
    let plan = ShadowPlan { sequence: 2, share: 1.0, until: Timestamp(NOW.0 + 1) };
    let late = ShadowPlan { until: Timestamp(u64::MAX), ..plan };
    let fails = with_modules(&[("own.rego", CANDIDATE)]);
    let fails = PolicySources {
        tests: with_modules(&[("own_test.rego", "package own_test\n\ntest_it := false\n")]).modules,
        ..fails
    };
    let fails = build_bundle(&fails, "v2", NOW).unwrap();
    for (packed, plan, why) in [
        (b"no bundle".to_vec(), plan, "it is no tar.gz"),
        (fails.clone(), plan, "test_it"),
        (fails.clone(), ShadowPlan { share: 1.5, ..plan }, "found 1.5, expected more than 0 and at most 1"),
        (fails.clone(), ShadowPlan { share: f64::NAN, ..plan }, "its share: found NaN"),
        (fails, late, "its end: expected one within"),
    ] {
        rig.offers(packed, plan).await;
        let standing = rig.standing();
        let told = standing.refused.clone().unwrap_or_default();
        assert!(standing.state == ShadowState::Refused && told.contains(why), "{why} is not in {standing:?}");
        assert!(rig.ask(&question(), "d-1").await && rig.shadow.summary(1_000).is_none());
    }
}

/// Its rules run into their time limit, and the messages are more than it can judge: nobody waits, and what was not
/// judged is counted.
#[tokio::test]
async fn a_slow_candidate_loses_comparisons_and_holds_up_no_message() {
    const SLOW: &str = r#"package agentbus.modules.own

allow if count([x | some x in numbers.range(1, input.message.size * 3)]) > 0
"#;
    let rig = Rig::new(&[]);
    rig.tries(&[("own.rego", SLOW)], 1.0).await;
    let mut large = question();
    large.size = 100_000;
    for number in 0..30 {
        assert!(rig.ask(&large, &format!("d-{number}")).await);
    }
    let standing = rig.standing();
    assert!(standing.lost >= 15, "a megabyte waits, and no more: {standing:?}");
    assert_eq!(rig.seen.count(Event::ShadowLost) as u64, standing.lost);
    let all = *rig.counted().await.all();
    let standing = rig.standing();
    assert_eq!(all.decisions + standing.undecided + standing.lost, 30, "{standing:?}");
    assert_eq!(all.changed(), all.newly_failing);
}

/// What the rules of the log hide, an example hides too; what they drop is counted all the same.
#[tokio::test]
async fn no_example_shows_what_the_log_would_hide() {
    const HIDES: &str = r#"package system.log

mask contains "/result/reasons"

mask contains {"op": "upsert", "path": "/input/sender/id", "value": "somebody"}

drop if input.input.recipient.id == "secret"
"#;
    for (in_force, candidate) in [
        (vec![("log.rego", HIDES)], vec![("own.rego", CANDIDATE)]),
        (vec![], vec![("own.rego", CANDIDATE), ("log.rego", HIDES)]),
    ] {
        let rig = Rig::new(&in_force);
        rig.tries(&candidate, 1.0).await;
        let mut asked = question();
        Arc::make_mut(&mut asked.message).priority = Priority::parse("high").unwrap();
        assert!(rig.ask(&asked, "d-1").await);
        asked.recipient.id = "secret".parse().unwrap();
        assert!(rig.ask(&asked, "d-2").await);
        let comparison = rig.counted().await;
        assert_eq!(comparison.all().newly_denied, 2);
        let [example]: [&Example; 1] = comparison.examples().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!(
            (&*example.decision_id, &*example.sender, &*example.recipient),
            ("d-1", "(masked)", "worker")
        );
        assert_eq!(example.after, r#"(masked) {"allow":false,"obligations":{}}"#);
        assert_eq!(comparison.rows(Group::Sender)[0].0, "acme/planner", "counts are by the names of agents");
    }
}

#[tokio::test]
async fn what_was_compared_with_another_policy_is_forgotten_when_that_is_in_force_no_more() {
    let rig = Rig::new(&[]);
    rig.tries(&[("own.rego", CANDIDATE)], 1.0).await;
    rig.ask(&question(), "d-1").await;
    assert_eq!(rig.counted().await.all().decisions, 1);
    let before = rig.rollout.gate().revision();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("lib.rego"), "package lib.nothing\n\nx := 1\n").unwrap();
    let another = Folder { dir: Some(folder.path().to_owned()), shipped: true };
    let another = rig.rollout.prepare(another).await.unwrap();
    let loaded = rig.rollout.put_in_force(another);
    let standing = rig.standing();
    assert_eq!((standing.decisions, &standing.against), (0, &loaded.revision));
    assert_ne!(standing.against, before);
    rig.ask(&question(), "d-2").await;
    assert_eq!(rig.counted().await.all().decisions, 1);
}
