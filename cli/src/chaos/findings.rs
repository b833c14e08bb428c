//! What was seen, and has the hypothesis held?

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use agentbus::domain::Reason;
use agentbus_testkit::{
    checker::{Fault, What},
    traffic::{Heard, Trip},
};
use serde::Serialize;

use super::experiment::Experiment;

/// A message that is delivered later was not served.
pub(super) const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// Broken promises that are told in words.
const FAULTS_TOLD: usize = 5;

/// Of one experiment.
#[derive(Debug, Serialize)]
pub(super) struct Findings {
    pub(super) experiment: String,
    pub(super) hypothesis: String,
    /// What did not come true; none: it has held.
    pub(super) failed: Vec<String>,
    pub(super) messages: usize,
    /// Of those that were sent while the fault was in force.
    pub(super) served: f64,
    pub(super) lost: usize,
    pub(super) doubled: usize,
    /// Delivered though the policy denies them, without outcome, or told of two ways.
    pub(super) wrong: usize,
    /// Delivered, and not on record.
    pub(super) unrecorded: usize,
    /// Until a node said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) told_after_ms: Option<u128>,
    /// From the moment in which it was to be mended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) healthy_after_ms: Option<u128>,
    pub(super) slowest_ms: u128,
    pub(super) verdicts: BTreeMap<&'static str, usize>,
}

/// When it was in force, and what was seen besides the messages.
pub(super) struct Course {
    pub(super) from: Instant,
    pub(super) until: Instant,
    pub(super) told_after: Option<Duration>,
    pub(super) healthy_after: Option<Duration>,
}

impl Findings {
    pub(super) fn held(&self) -> bool {
        self.failed.is_empty()
    }

    pub(super) fn of(
        experiment: &Experiment,
        course: &Course,
        heard: &Heard,
        faults: &[Fault],
        unrecorded: usize,
    ) -> Self {
        let Experiment { during, after, .. } = experiment;
        let served = served(&heard.trips, course);
        let of = |which: fn(&What) -> bool| faults.iter().filter(|fault| which(&fault.what)).count();
        let lost = of(|what| matches!(what, What::NotDelivered { .. } | What::Lost | What::Stuck));
        let doubled = of(|what| matches!(what, What::Doubled { .. }));
        let wrong = faults.len() - lost - doubled;
        let mut failed = Vec::new();
        if served < during.served_min {
            failed.push(format!(
                "{:.0} % were served, expected {:.0}",
                served * 100.0,
                during.served_min * 100.0
            ));
        }
        if let (Some(part), None) = (&during.tells, course.told_after) {
            failed.push(format!("no node said that its part {part} is not well"));
        }
        let within = humantime::format_duration(after.healthy_within);
        match course.healthy_after {
            None => failed.push(format!("it was not well again, expected within {within}")),
            Some(took) if took > after.healthy_within => {
                failed
                    .push(format!("well again after {:.1} s, expected within {within}", took.as_secs_f64()));
            }
            Some(_) => {}
        }
        let broken = faults
            .iter()
            .filter(|fault| !(during.loses_in_flight && matches!(fault.what, What::NotDelivered { .. })));
        if unrecorded > 0 && !during.loses_records {
            failed.push(format!("{unrecorded} were delivered and are not on record"));
        }
        failed.extend(broken.take(FAULTS_TOLD).map(ToString::to_string));
        Self {
            experiment: experiment.name.clone(),
            hypothesis: experiment.hypothesis.clone(),
            failed,
            messages: heard.sent.len(),
            served,
            lost,
            doubled,
            wrong,
            unrecorded,
            told_after_ms: course.told_after.map(|after| after.as_millis()),
            healthy_after_ms: course.healthy_after.map(|after| after.as_millis()),
            slowest_ms: heard.slowest.as_millis(),
            verdicts: heard.by_reason(),
        }
    }
}

/// Of the messages that were begun while it was in force, the part that was delivered soon.
fn served(trips: &[Trip], course: &Course) -> f64 {
    let begun: Vec<_> =
        trips.iter().filter(|trip| (course.from..course.until).contains(&trip.begun)).collect();
    let served = begun
        .iter()
        .filter(|trip| trip.reason == Some(Reason::Delivered) && trip.took <= SERVED_WITHIN)
        .count();
    if begun.is_empty() { 0.0 } else { served as f64 / begun.len() as f64 }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use agentbus_testkit::books::Key;

    use super::*;

    fn fault(what: What) -> Fault {
        let key = Key { tenant: "acme".to_owned(), sender: "planner".to_owned(), message: "m".to_owned() };
        Fault { key, what }
    }

    #[test]
    fn an_experiment_holds_only_if_all_that_it_expects_came_true_and_nothing_was_broken() {
        let experiment = Experiment::find("nats-dies").unwrap();
        let mut lossless = experiment.clone();
        lossless.during.loses_in_flight = false;
        let mut forgetful = experiment.clone();
        forgetful.during.loses_records = true;
        let mut told = experiment.clone();
        told.during.tells = Some("store".to_owned());
        let mut serving = experiment.clone();
        serving.during.served_min = 0.6;
        let second = Duration::from_secs(1);
        let from = Instant::now();
        let trip = |after: u32, took: u32, reason| Trip {
            begun: from + second * after,
            took: second * took,
            reason,
        };
        let heard = Heard {
            // Half of those within are served; the last one is begun too late to count.
            trips: vec![
                trip(0, 1, Some(Reason::Delivered)),
                trip(1, 3, Some(Reason::Delivered)),
                trip(1, 1, None),
                trip(2, 1, Some(Reason::Delivered)),
                trip(9, 1, Some(Reason::Delivered)),
            ],
            ..Heard::default()
        };
        let course =
            |healthy_after| Course { from, until: from + second * 5, told_after: None, healthy_after };
        let (soon, late) = (course(Some(second)), course(Some(second * 11)));
        let gone = [fault(What::NotDelivered { told: 1, read: 0 })];
        let twice = [fault(What::Doubled { copies: vec!["worker".to_owned()] })];
        for (experiment, course, faults, unrecorded, expected) in [
            (&experiment, &soon, &[][..], 0, None),
            (&experiment, &soon, &gone[..], 0, None),
            (&lossless, &soon, &gone[..], 0, Some("lost")),
            (&experiment, &soon, &twice[..], 0, Some("doubled")),
            (&told, &soon, &[][..], 0, Some("part store is not well")),
            (&serving, &soon, &[][..], 0, Some("50 % were served, expected 60")),
            (&experiment, &late, &[][..], 0, Some("well again after 11.0 s, expected within 10s")),
            (&experiment, &soon, &[][..], 3, Some("3 were delivered and are not on record")),
            (&forgetful, &soon, &[][..], 3, None),
            (&experiment, &course(None), &[][..], 0, Some("not well again")),
        ] {
            let found = Findings::of(experiment, course, &heard, faults, unrecorded);
            match expected {
                None => assert!(found.held(), "{:?}", found.failed),
                Some(words) => {
                    assert!(found.failed.len() == 1 && found.failed[0].contains(words), "{:?}", found.failed)
                }
            }
            assert!((found.served - 0.5).abs() < f64::EPSILON);
        }
    }
}
