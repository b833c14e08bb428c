//! One message of the demo: who says what to whom, and which verdicts would be right.

use agentbus::domain::{Level, Reason, Status, Verdict};
use bytes::Bytes;

use crate::context::Who;

/// A message ready to be sent, with what the demo claims about it.
#[derive(Debug, Clone)]
pub(super) struct Letter {
    pub(super) from: Who,
    /// As in `worker` or `all of translate`, for the story.
    pub(super) target: String,
    /// What kind of act, for the story.
    pub(super) act: String,
    /// What it says, for the story.
    pub(super) text: String,
    pub(super) routing: Routing,
    pub(super) message_id: String,
    pub(super) body: Bytes,
    pub(super) expected: Expected,
}

/// How a recipient is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Routing {
    Agent,
    Capability,
    Broadcast,
}

impl Routing {
    pub(super) const ALL: [Routing; 3] = [Routing::Agent, Routing::Capability, Routing::Broadcast];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Routing::Agent => "to an agent",
            Routing::Capability => "to a capability",
            Routing::Broadcast => "broadcast",
        }
    }
}

/// Which verdicts are right.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expected {
    One(Reason),
    Either(Reason, Reason),
    /// Delivered below the tenant's threshold, parked for its reviewers at or above it.
    ByImpact {
        threshold: f64,
    },
}

impl Expected {
    pub(super) fn met_by(&self, verdict: &Verdict) -> bool {
        let delivered = verdict.reason == Reason::Delivered;
        let consistent =
            delivered == (verdict.status == Status::Delivered) && delivered == verdict.reach.is_some();
        consistent
            && match self {
                Expected::One(reason) => verdict.reason == *reason,
                Expected::Either(one, other) => verdict.reason == *one || verdict.reason == *other,
                Expected::ByImpact { threshold } => match (&verdict.impact, verdict.reason) {
                    (Some(impact), Reason::Delivered) => impact.score < *threshold,
                    // No answer in time, on a machine that is busy: nobody knows, so not delivered.
                    (Some(impact), Reason::Unscored) => {
                        impact.unscored.is_some() && impact.score_max.is_some_and(|max| max >= *threshold)
                    }
                    (Some(impact), Reason::Deliberating) => {
                        let alarming = impact.score >= *threshold && impact.level >= Level::High;
                        // Too slow for this machine at this moment: nobody knows, so people look.
                        let unknown = impact.unscored.is_some()
                            && impact.score_max.is_some_and(|max| max >= *threshold);
                        verdict.deliberation_id.is_some() && (alarming || unknown)
                    }
                    _ => false,
                },
            }
    }

    pub(super) fn words(&self) -> String {
        match self {
            Expected::One(reason) => reason.as_str().to_owned(),
            Expected::Either(one, other) => format!("{} or {}", one.as_str(), other.as_str()),
            Expected::ByImpact { threshold } => {
                format!("delivered below an impact of {threshold}, else parked")
            }
        }
    }
}
