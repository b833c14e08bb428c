//! The node at one moment, for who looks at the whole fleet.

use super::NodeHealth;
use crate::{
    admin::{Health as _, PartHealth, Report},
    health::State,
    memory,
    nats::{Level, NodeStatus, PartStatus, StatusSource},
};

/// Below it a node is critical though all that it cannot do without is there (`docs/operations.md`).
const CRITICAL_BELOW: f64 = 0.5;

impl StatusSource for NodeHealth {
    fn status(&self) -> NodeStatus {
        let report = self.report();
        let score = score(&report);
        let level = match (report.ready(), score) {
            (false, _) => Level::Critical,
            (true, score) if score < CRITICAL_BELOW => Level::Critical,
            (true, score) if score < 1.0 => Level::Degraded,
            (true, _) => Level::Healthy,
        };
        let note = |name: &str| {
            let part = report.parts.iter().find(|part| part.name == name);
            part.map(|part| part.health.note.clone()).unwrap_or_default()
        };
        let parts = report.parts.iter().filter(|part| part.health.state != State::Up).map(told).collect();
        let numbers = self.numbers.get();
        let (requests, refused) = self.connections.get().map(|it| it.bus.answered()).unwrap_or_default();
        let ahead = numbers.map(|numbers| numbers.skew.ahead()).unwrap_or_default();
        let worst = ahead.into_iter().map(|(_, seconds)| seconds).max_by(|a, b| a.abs().total_cmp(&b.abs()));
        NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: self.started.elapsed().as_secs(),
            level,
            score,
            parts,
            breakers: self.breakers.open(),
            policy: numbers.map(|it| it.rollout.standing().revision.to_string()).unwrap_or_default(),
            model: note("model"),
            constitutions: numbers.map(|it| it.lanes.in_force().0).unwrap_or_default(),
            clock_ahead_ms: worst.map(|seconds| (seconds * 1_000.0) as i64),
            in_flight: numbers.map(|it| it.lanes.admission.in_flight() as u64).unwrap_or_default(),
            waiting: self.metrics.lane.waiting.get(),
            requests,
            refused,
            per_second: self.history.per_second(requests),
            memory_bytes: memory::resident_bytes().unwrap_or_default(),
            memory_limit_bytes: numbers.map(|it| it.memory.reading().limit).unwrap_or_default(),
            node: report.node,
        }
    }
}

fn score(report: &Report) -> f64 {
    let of = |part: &PartHealth| match part.health.state {
        State::Up => 1.0,
        State::Degraded => 0.5,
        State::Down => 0.0,
    };
    let all = report.parts.iter().map(of).sum::<f64>();
    if report.parts.is_empty() { 0.0 } else { all / report.parts.len() as f64 }
}

fn told(part: &PartHealth) -> (String, PartStatus) {
    let (state, note) = (part.health.state.as_str().to_owned(), part.health.note.clone());
    (part.name.to_owned(), PartStatus { state, note, because_of: part.cause.map(str::to_owned) })
}
