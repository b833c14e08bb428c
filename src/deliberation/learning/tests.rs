//! A learned threshold stays in its bounds, waits for enough samples, and moves the right way.

use proptest::prelude::*;

use super::*;
use crate::{
    deliberation::Decision,
    domain::{Impact, Level, Parked, Parts, Rule, RuleKind, Timestamp},
};

const ON: Adaptive = Adaptive { enabled: true, floor: 0.5, ceiling: 0.95 };

use Sample::{FalseNegative, FalsePositive, TrueNegative, TruePositive};

/// Learns so many of each, in order; the last state and all changes.
fn after(start: Learned, samples: &[(Sample, usize)], adaptive: &Adaptive) -> (Learned, Vec<Change>) {
    let mut learned = start;
    let mut changes = Vec::new();
    for sample in samples.iter().flat_map(|(sample, count)| std::iter::repeat_n(*sample, *count)) {
        let (next, change) = learned.learn(sample, adaptive);
        learned = next;
        changes.extend(change);
    }
    (learned, changes)
}

#[track_caller]
fn moves(samples: &[(Sample, usize)], expected: &[(f64, f64)]) {
    let (_, changes) = after(Learned::new(0.8), samples, &ON);
    let steps: Vec<(f64, f64)> = changes.iter().map(|change| (change.from, change.to)).collect();
    assert_eq!(steps, expected, "{samples:?}");
}

#[test]
fn more_than_three_tenths_of_false_alarms_raise_it() {
    moves(&[(FalsePositive, 49)], &[]);
    moves(&[(FalsePositive, 50)], &[(0.8, 0.85)]);
    moves(&[(TruePositive, 35), (FalsePositive, 15)], &[]);
    moves(&[(TruePositive, 34), (FalsePositive, 16)], &[(0.8, 0.85)]);
    moves(&[(FalsePositive, 250)], &[(0.8, 0.85), (0.85, 0.9), (0.9, 0.95)]);
}

#[test]
fn more_than_a_tenth_of_what_slipped_through_lowers_it() {
    moves(&[(TrueNegative, 45), (FalseNegative, 5)], &[]);
    moves(&[(TrueNegative, 44), (FalseNegative, 6)], &[(0.8, 0.75)]);
    moves(&[(FalseNegative, 100), (FalsePositive, 50)], &[(0.8, 0.75), (0.75, 0.7), (0.7, 0.75)]);
    // Both: false alarms go first.
    moves(&[(FalseNegative, 30), (FalsePositive, 20)], &[(0.8, 0.85)]);
}

#[test]
fn a_change_begins_the_count_anew_and_old_samples_are_forgotten() {
    let (learned, changes) = after(Learned::new(0.8), &[(FalsePositive, 50)], &ON);
    assert_eq!((learned.judged.len(), learned.changes, changes.len()), (0, 1, 1));
    moves(&[(TruePositive, 50), (FalsePositive, 15)], &[]);
    moves(&[(FalsePositive, 15), (TruePositive, 50), (FalsePositive, 15)], &[]);
}

#[test]
fn the_threshold_in_force_is_within_todays_bounds() {
    let learned = Learned { changes: 1, ..Learned::new(0.9) };
    let narrow = Adaptive { floor: 0.6, ceiling: 0.7, ..ON };
    assert!((threshold(0.8, Some(&learned), &ON) - 0.9).abs() < 1e-9);
    assert!((threshold(0.8, Some(&learned), &narrow) - 0.7).abs() < 1e-9);
    // A number from a hostile or damaged store.
    let broken = Learned { threshold: f64::NAN, ..learned.clone() };
    assert!((threshold(0.8, Some(&broken), &ON) - 0.5).abs() < 1e-9);
    for learned in [None, Some(&Learned::new(0.6))] {
        assert!((threshold(0.3, learned, &ON) - 0.3).abs() < 1e-9, "nothing is learned yet");
    }
    let off = Adaptive { enabled: false, ..ON };
    assert!((threshold(0.8, Some(&learned), &off) - 0.8).abs() < 1e-9);
}

#[test]
fn what_is_learned_survives_its_encoding() {
    let (learned, _) = after(Learned::new(0.8), &[(FalsePositive, 60), (TrueNegative, 1)], &ON);
    let text = serde_json::to_string(&learned).unwrap();
    assert_eq!(serde_json::from_str::<Learned>(&text).unwrap(), learned);
    assert!(text.contains("\"true_negative\""), "{text}");
}

fn case(why: Why, score: Option<(f64, Option<f64>)>, judgement: Option<Judgement>) -> Case {
    let impact = score.map(|(score, score_max)| Impact {
        score,
        score_max,
        level: Level::of(score),
        parts: Parts::default(),
        levels: None,
        model: "keywords".to_owned(),
        unscored: None,
        tokens: 0,
    });
    let parked = Parked {
        id: "0123456789abcdef01234567".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        sender: "planner".parse().unwrap(),
        message_id: "m".parse().unwrap(),
        message: "{}".to_owned(),
        digest: "d".to_owned(),
        why,
        notes: Default::default(),
        impact,
        policy_revision: String::new(),
        decision_id: "d".to_owned(),
        node: "n".to_owned(),
        rule: Rule { kind: RuleKind::Quorum, min_approvals: 1, distinct_roles: 2 },
        voters: [].into(),
        stand_ins: [].into(),
        parked_at: Timestamp(1),
        escalate_at: None,
        deadline: Timestamp(2),
        traceparent: None,
    };
    Case {
        parked,
        votes: Vec::new(),
        escalated_at: None,
        decision: judgement.map(|judgement| Decision { judgement, at: Timestamp(1), detail: String::new() }),
        conclusion: None,
        version: 1,
    }
}

#[test]
fn only_what_people_judged_and_the_scorer_scored_teaches() {
    let impact = || Why::Impact { score: 0.9, threshold: 0.8 };
    let unscored = || Why::Unscored { why: "busy".to_owned() };
    let known = |score| Some((score, None));
    let approved = Some(Judgement::Approved);
    let denied = Some(Judgement::Denied);
    for (why, score, judgement, expected) in [
        (impact(), known(0.9), approved, Some(FalsePositive)),
        (impact(), known(0.9), denied, Some(TruePositive)),
        (impact(), known(0.9), Some(Judgement::Expired), None),
        (impact(), known(0.9), None, None),
        (Why::Policy, known(0.5), approved, Some(TrueNegative)),
        (Why::Policy, known(0.5), denied, Some(FalseNegative)),
        (Why::Policy, known(0.5), Some(Judgement::Expired), None),
        (Why::Policy, known(0.8), denied, None),
        (Why::Policy, Some((0.1, Some(0.7))), denied, Some(FalseNegative)),
        (Why::Policy, Some((0.1, Some(0.9))), denied, None),
        (Why::Policy, None, denied, None),
        (unscored(), known(0.1), denied, None),
    ] {
        let case = case(why, score, judgement);
        assert_eq!(Sample::of(&case, 0.8), expected, "{:?}", (&case.parked.why, score, judgement));
    }
    let mut failed = case(Why::Policy, known(0.5), denied);
    failed.parked.impact.as_mut().unwrap().unscored = Some("failed".to_owned());
    assert_eq!(Sample::of(&failed, 0.8), None);
}

fn any_sample() -> impl Strategy<Value = Sample> {
    prop_oneof![Just(FalsePositive), Just(TruePositive), Just(FalseNegative), Just(TrueNegative)]
}

fn any_bounds() -> impl Strategy<Value = Adaptive> {
    (0.5..=0.95_f64, 0.5..=0.95_f64).prop_map(|(a, b)| Adaptive {
        enabled: true,
        floor: a.min(b),
        ceiling: a.max(b),
    })
}

proptest! {
    #[test]
    fn it_stays_within_bounds_and_waits_for_fifty(
        start in 0.0..=1.0_f64,
        adaptive in any_bounds(),
        samples in proptest::collection::vec(any_sample(), 0..400),
    ) {
        let mut learned = Learned::new(start);
        let mut since = 0;
        for sample in samples {
            let before = learned.changes;
            let (next, change) = learned.learn(sample, &adaptive);
            since += 1;
            prop_assert!(next.judged.len() <= SAMPLES);
            prop_assert_eq!(next.changes, before + u64::from(change.is_some()));
            if let Some(change) = change {
                prop_assert!(since >= SAMPLES, "moved after {}", since);
                prop_assert!((adaptive.floor..=adaptive.ceiling).contains(&change.to));
                prop_assert!((change.to - change.from).abs() <= STEP + 1e-4, "rounded to four digits");
                prop_assert!(next.judged.is_empty());
                since = 0;
            }
            let force = threshold(start, Some(&next), &adaptive);
            prop_assert!(next.changes == 0 || (adaptive.floor..=adaptive.ceiling).contains(&force));
            learned = next;
        }
    }

    #[test]
    fn more_false_alarms_never_make_it_lower_and_more_that_slipped_through_never_higher(
        samples in proptest::collection::vec(any_sample(), SAMPLES),
        which in 0..SAMPLES,
    ) {
        let end = |samples: &[Sample]| {
            let pairs: Vec<(Sample, usize)> = samples.iter().map(|sample| (*sample, 1)).collect();
            after(Learned::new(0.7), &pairs, &ON).0.threshold
        };
        let mut more = samples.clone();
        more[which] = FalsePositive;
        prop_assert!(end(&more) >= end(&samples));
        more[which] = FalseNegative;
        prop_assert!(end(&more) <= end(&samples));
    }
}
