//! Which numbers does deliberation have? What was parked, how it was voted, how it ended and when.

use std::time::Duration;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::{Registry, Unit},
};

use super::counters;
use crate::domain::{Event, Judgement, Timestamp};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct JudgementLabel {
    /// A word of `Judgement`.
    judgement: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    /// `counted`, or the word of the reason why it was refused.
    result: &'static str,
}

/// Counted by the node that appended the event or answered the vote.
#[derive(Debug)]
pub struct DeliberationMetrics {
    parked: Counter,
    escalated: Counter,
    decided: Family<JudgementLabel, Counter>,
    votes: Family<ResultLabel, Counter>,
    decision: Histogram,
}

impl Default for DeliberationMetrics {
    fn default() -> Self {
        Self {
            parked: Counter::default(),
            escalated: Counter::default(),
            decided: counters(
                Judgement::ALL.iter().map(|judgement| JudgementLabel { judgement: judgement.as_str() }),
            ),
            votes: Family::default(),
            // From 1 s to about 12 days, four times each.
            decision: Histogram::new(prometheus_client::metrics::histogram::exponential_buckets(
                1.0, 4.0, 11,
            )),
        }
    }
}

impl DeliberationMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("parked", "Messages that wait for their reviewers, begun", self.parked.clone());
        registry.register("escalated", "Deliberations that went on to stand-ins", self.escalated.clone());
        registry.register("decided", "Deliberations by how they were decided", self.decided.clone());
        registry.register("votes", "Votes by what became of them", self.votes.clone());
        let decision = "Time from parking a message to the decision on it";
        registry.register_with_unit("decision", decision, Unit::Seconds, self.decision.clone());
    }

    /// An event is in its log.
    pub fn appended(&self, event: &Event) {
        match event {
            Event::Parked(_) => {
                self.parked.inc();
            }
            Event::Escalated { .. } => {
                self.escalated.inc();
            }
            Event::Decided { judgement, .. } => {
                self.decided.get_or_create(&JudgementLabel { judgement: judgement.as_str() }).inc();
            }
            // Votes are counted where they are answered, those that are refused too.
            Event::Vote(_) | Event::Concluded { .. } => {}
        }
    }

    /// From parking to the decision.
    pub fn took(&self, parked: Timestamp, decided: Timestamp) {
        let took = Duration::from_millis(decided.0.saturating_sub(parked.0));
        self.decision.observe(took.as_secs_f64());
    }

    /// `counted`, or the word of a reason.
    pub fn voted(&self, result: &'static str) {
        self.votes.get_or_create(&ResultLabel { result }).inc();
    }
}
