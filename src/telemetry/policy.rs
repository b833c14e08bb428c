//! What is asked of the policy, and how does that end?

use std::sync::atomic::AtomicI64;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::{Metrics, SourceLabel};
use crate::policy::{Event, Meter};

/// Cheap to count: a message asks once for each recipient.
#[derive(Debug)]
pub(super) struct PolicyMetrics {
    decisions: Family<SourceLabel, Counter>,
    /// The four of [`Self::decisions`].
    cached: Counter,
    shared: Counter,
    evaluated: Counter,
    by_opa: Counter,
    /// Questions that no OPA server has answered, so that they were asked in process.
    instead_of_opa: Counter,
    denied: Counter,
    unavailable: Counter,
    failed: Counter,
    /// What became of looks at what nodes share, and of what was to be shared.
    sharing: Family<OutcomeLabel, Counter>,
    loads: Family<OutcomeLabel, Counter>,
    log: Family<OutcomeLabel, Counter>,
    shadow: Family<OutcomeLabel, Counter>,
    /// 1 while a candidate judges beside the policy in force.
    pub(super) shadow_judging: Gauge<i64, AtomicI64>,
    /// 1 while what was read last is not in force.
    pub(super) refused: Gauge<i64, AtomicI64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

impl Default for PolicyMetrics {
    fn default() -> Self {
        let decisions = Family::<SourceLabel, Counter>::default();
        let from = |source| decisions.get_or_create(&SourceLabel { source }).clone();
        let [cached, shared, evaluated, by_opa] = ["cache", "shared", "rego", "opa"].map(from);
        let [denied, unavailable, failed, instead_of_opa] = [(); 4].map(|()| Counter::default());
        let loads = outcomes(&["loaded", "unchanged", "refused"]);
        let sharing = outcomes(&["hit", "miss", "unanswered", "unreadable", "kept", "lost"]);
        let (log, refused) = (outcomes(&["kept", "lost", "lost_by_file"]), Gauge::default());
        Self {
            decisions,
            cached,
            shared,
            sharing,
            evaluated,
            by_opa,
            instead_of_opa,
            denied,
            unavailable,
            failed,
            loads,
            log,
            shadow: outcomes(&["same", "changed", "lost", "undecided"]),
            shadow_judging: Gauge::default(),
            refused,
        }
    }
}

/// Each is there from the start, with 0.
fn outcomes(all: &[&'static str]) -> Family<OutcomeLabel, Counter> {
    let family = Family::default();
    for outcome in all {
        drop(family.get_or_create(&OutcomeLabel { outcome }));
    }
    family
}

impl PolicyMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "policy_decisions",
            "Policy decisions by where they came from",
            self.decisions.clone(),
        );
        registry.register(
            "policy_shared",
            "Answers that nodes share: looks for one, and what was to be kept, by what became of it",
            self.sharing.clone(),
        );
        registry.register(
            "policy_loads",
            "Policies that were read while the node ran, by what became of them",
            self.loads.clone(),
        );
        registry.register(
            "policy_log",
            "Decisions that were to be logged, by what became of them",
            self.log.clone(),
        );
        registry.register(
            "policy_shadow",
            "Decisions that a candidate was to judge beside the policy in force, by what became of them",
            self.shadow.clone(),
        );
        registry.register(
            "policy_shadow_judging",
            "1 while a candidate judges beside the policy in force",
            self.shadow_judging.clone(),
        );
        registry.register(
            "policy_refused",
            "1 while the policy that was read last is refused, and the one before in force",
            self.refused.clone(),
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
            (
                "policy_instead_of_opa",
                "Questions that no OPA server answered and Rego in process was asked",
                &self.instead_of_opa,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}

impl Meter for Metrics {
    fn see(&self, event: Event) {
        let load = |outcome| self.policy.loads.get_or_create(&OutcomeLabel { outcome }).inc();
        let log = |outcome| self.policy.log.get_or_create(&OutcomeLabel { outcome }).inc();
        let shadow = |outcome| self.policy.shadow.get_or_create(&OutcomeLabel { outcome }).inc();
        let sharing = |outcome| self.policy.sharing.get_or_create(&OutcomeLabel { outcome }).inc();
        match event {
            Event::Hit => self.policy.cached.inc(),
            // Who is asked is told for itself.
            Event::Miss | Event::Uncached => return,
            Event::AskedRego => self.policy.evaluated.inc(),
            Event::AskedOpa => self.policy.by_opa.inc(),
            Event::InsteadOfOpa => self.policy.instead_of_opa.inc(),
            Event::SharedHit => {
                self.policy.shared.inc();
                sharing("hit")
            }
            Event::SharedMiss => sharing("miss"),
            Event::SharedUnanswered => sharing("unanswered"),
            Event::SharedUnreadable => sharing("unreadable"),
            Event::SharedKept => sharing("kept"),
            Event::SharedLost => sharing("lost"),
            Event::Denied => self.policy.denied.inc(),
            Event::Unavailable => self.policy.unavailable.inc(),
            Event::Failed => self.policy.failed.inc(),
            Event::Loaded => load("loaded"),
            Event::Unchanged => load("unchanged"),
            Event::Refused => load("refused"),
            Event::Logged => log("kept"),
            Event::LogLost => log("lost"),
            Event::LogFileLost => log("lost_by_file"),
            Event::ShadowSame => shadow("same"),
            Event::ShadowChanged => shadow("changed"),
            Event::ShadowLost => shadow("lost"),
            Event::ShadowUndecided => shadow("undecided"),
        };
    }
}
