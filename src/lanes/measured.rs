//! When did an attempt begin, how long did each stage take, and what is counted of it?

use std::time::{Duration, Instant};

use super::request::Answer;
use crate::{
    domain::{Reason, Timestamp, Verb},
    telemetry::{Metrics, Stage},
};

/// The instants of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub received: Instant,
    /// One instant for the whole way, so that its stages agree on what is expired.
    pub now: Timestamp,
}

/// A stopwatch for the stages.
#[derive(Debug)]
pub(super) struct Measured {
    received: Instant,
    last: Instant,
    stages: Vec<(Stage, Duration)>,
    took_over: bool,
}

impl Measured {
    pub(super) fn since(received: Instant) -> Self {
        Self { received, last: received, stages: Vec::with_capacity(Stage::ALL.len()), took_over: false }
    }

    pub(super) fn passed(&mut self, stage: Stage) {
        let now = Instant::now();
        self.stages.push((stage, now.duration_since(self.last)));
        self.last = now;
    }

    /// What has passed since the last stage belongs to none.
    pub(super) fn waited(&mut self) {
        self.last = Instant::now();
    }

    pub(super) fn took_over(&mut self) {
        self.took_over = true;
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.received.elapsed()
    }

    /// Counts and times.
    pub(super) fn observe(&mut self, metrics: &Metrics, verb: Verb, answer: &Answer) {
        self.passed(Stage::Record);
        for (stage, elapsed) in &self.stages {
            metrics.stage(*stage, *elapsed);
        }
        if answer.repeat {
            metrics.repeated();
        }
        if self.took_over {
            metrics.took_over();
        }
        let verdict = &answer.verdict;
        if let (Some(reach), false) = (&verdict.reach, answer.repeat) {
            metrics.delivered(reach.delivered, reach.missed_total);
        }
        metrics.answered(verb, verdict.status, verdict.reason, self.elapsed());
        if matches!(verdict.reason, Reason::TenantMismatch | Reason::SenderMismatch) {
            tracing::warn!(
                decision_id = verdict.decision_id,
                reason = verdict.reason.as_str(),
                "a message claims to be from somebody else than its sender"
            );
        }
        tracing::debug!(
            decision_id = verdict.decision_id,
            status = verdict.status.as_str(),
            reason = verdict.reason.as_str(),
            repeat = answer.repeat,
            "answered"
        );
    }
}
