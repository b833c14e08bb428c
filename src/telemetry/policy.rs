//! What is asked of the policy, and how does that end?

use prometheus_client::{
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};

use super::{Metrics, SourceLabel};
use crate::policy::{Event, Meter};

/// Cheap to count: a message asks once for each recipient.
#[derive(Debug)]
pub(super) struct PolicyMetrics {
    decisions: Family<SourceLabel, Counter>,
    /// Two of [`Self::decisions`].
    cached: Counter,
    evaluated: Counter,
    denied: Counter,
    unavailable: Counter,
    failed: Counter,
}

impl Default for PolicyMetrics {
    fn default() -> Self {
        let decisions = Family::<SourceLabel, Counter>::default();
        let from = |source| decisions.get_or_create(&SourceLabel { source }).clone();
        let (cached, evaluated) = (from("cache"), from("rego"));
        let (denied, unavailable, failed) = (Counter::default(), Counter::default(), Counter::default());
        Self { decisions, cached, evaluated, denied, unavailable, failed }
    }
}

impl PolicyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_decisions",
            "Policy decisions by where they came from",
            self.decisions.clone(),
        );
        for (name, help, counter) in [
            ("policy_denied", "Questions that the policy denied", &self.denied),
            (
                "policy_unavailable",
                "Questions that could not be put to the policy, or came to nothing on a busy processor",
                &self.unavailable,
            ),
            (
                "policy_failed",
                "Questions that a rule of the policy failed on, or took too long over",
                &self.failed,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}

impl Meter for Metrics {
    fn see(&self, event: Event) {
        let counter = match event {
            Event::Hit => &self.policy.cached,
            Event::Miss | Event::Uncached => &self.policy.evaluated,
            Event::Denied => &self.policy.denied,
            Event::Unavailable => &self.policy.unavailable,
            Event::Failed => &self.policy.failed,
        };
        counter.inc();
    }
}
