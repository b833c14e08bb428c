//! When did an attempt begin, how long did each stage take, and what is counted of it?

use std::time::{Duration, Instant};

use super::request::Answer;
use crate::{
    domain::{Reach, Reason, Status, Timestamp, Verb, impact::NOT_NEEDED},
    telemetry::{Metrics, Stage},
    trace::TraceId,
    usage::Used,
};

/// The instants of an attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    pub received: Instant,
    /// One instant for the whole way, so that its stages agree on what is expired.
    pub now: Timestamp,
}

/// Whether the message was counted before, when it was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    Now,
    Before,
}

/// What the sender has used by a message of so many bytes.
pub(super) fn used(bytes: usize, answer: &Answer, arrival: Arrival) -> Used {
    let verdict = &answer.verdict;
    let mut used = match (&verdict.reach, answer.repeat) {
        (Some(reach), false) => delivered(bytes, reach),
        _ => Used::default(),
    };
    if arrival == Arrival::Now {
        (used.messages, used.bytes) = (1, number(bytes));
    }
    used.refused = u64::from(matches!(verdict.status, Status::Rejected | Status::Shed));
    if !answer.repeat {
        let judged = matches!(verdict.status, Status::Delivered | Status::Deliberating | Status::Rejected);
        used.decisions = u64::from(judged);
        used.deliberations = u64::from(verdict.status == Status::Deliberating);
        let scored =
            verdict.impact.as_ref().is_some_and(|it| it.unscored.is_none() && it.model != NOT_NEEDED);
        used.scored = u64::from(scored);
        used.tokens = verdict.impact.as_ref().map_or(0, |it| it.tokens);
    }
    used
}

/// The same of what has reached somebody.
pub(super) fn delivered(bytes: usize, reach: &Reach) -> Used {
    let deliveries = u64::from(reach.delivered);
    let stored_bytes = if reach.durable { deliveries.saturating_mul(number(bytes)) } else { 0 };
    Used { deliveries, stored_bytes, ..Used::default() }
}

/// Whether how long it took says how much the node has to do: it went the whole way of a live message, or was not done in
/// time.
pub(super) fn tells_load(Answer { verdict, repeat, .. }: &Answer) -> bool {
    let live =
        verdict.status == Status::Delivered && verdict.reach.as_ref().is_some_and(|reach| !reach.durable);
    (live && !repeat) || verdict.reason == Reason::TimedOut
}

fn number(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A stage that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    pub stage: Stage,
    pub from: Instant,
    pub took: Duration,
}

/// A stopwatch for the stages.
#[derive(Debug)]
pub(super) struct Measured {
    received: Instant,
    last: Instant,
    stages: Vec<Passed>,
    took_over: bool,
}

impl Measured {
    pub(super) fn since(received: Instant) -> Self {
        Self { received, last: received, stages: Vec::with_capacity(Stage::ALL.len()), took_over: false }
    }

    pub(super) fn passed(&mut self, stage: Stage) {
        let now = Instant::now();
        self.stages.push(Passed { stage, from: self.last, took: now.duration_since(self.last) });
        self.last = now;
    }

    pub(super) fn took_over(&mut self) {
        self.took_over = true;
    }

    /// In the order in which they were passed.
    pub(super) fn stages(&self) -> &[Passed] {
        &self.stages
    }

    /// Microseconds of each stage so far, in the order of [`Stage::ALL`], as a record has them: what was done twice is
    /// added up.
    pub(super) fn micros(&self) -> Vec<u64> {
        let last = self.stages.iter().map(|passed| passed.stage as usize + 1).max().unwrap_or(0);
        let mut all = vec![0; last];
        for Passed { stage, took, .. } in &self.stages {
            if let Some(sum) = all.get_mut(*stage as usize) {
                *sum += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            }
        }
        all
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.received.elapsed()
    }

    /// Counts and times. `trace`: the one that tells of it.
    pub(super) fn observe(&self, metrics: &Metrics, verb: Verb, answer: &Answer, trace: Option<TraceId>) {
        for Passed { stage, took, .. } in &self.stages {
            metrics.stage(*stage, *took);
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
        metrics.answered(verb, (verdict.status, verdict.reason), self.elapsed(), trace);
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
