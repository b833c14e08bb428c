//! Stage 7: which way does a permitted message take: now, durably, or past its reviewers first?

use std::time::Duration;

use super::trail::Judged;
use crate::{
    domain::{Impact, Reason, Tenant, Why},
    impact::{Need, Unassessed, Unscored},
    policy::Lane,
    rejection::Rejection,
};

/// The way of a message that may go.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Way {
    /// Into live inboxes, now.
    Live,
    /// Into durable inboxes.
    Durable,
    /// Into durable inboxes, if its reviewers approve it.
    Parked(Why),
}

/// Who waits for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Patience {
    /// The sender, who can ask again.
    Sender,
    /// The asker, for an answer that comes once.
    Asker,
    /// Nobody: it is tried again by itself.
    Lane,
    /// Nobody, and it is the last attempt.
    LastOfLane,
}

impl Patience {
    /// Whether the same message comes again when it is refused for now.
    fn comes_again(self) -> bool {
        match self {
            Patience::Sender | Patience::Lane => true,
            Patience::Asker | Patience::LastOfLane => false,
        }
    }

    /// Whether it goes into a live inbox, or to one who waits.
    fn live(self) -> bool {
        match self {
            Patience::Sender | Patience::Asker => true,
            Patience::Lane | Patience::LastOfLane => false,
        }
    }
}

/// Whether the policy wants to know the score even where it cannot change the verdict.
pub(super) fn need(judged: &Judged) -> Need {
    match judged.permits.iter().any(|permit| permit.obligations().score) {
        true => Need::Demanded,
        false => Need::IfItMatters,
    }
}

/// Where it goes. What may be scored after a while is not parked, unless there is no later attempt.
pub(super) fn way(
    judged: &Judged,
    impact: &Result<Impact, Unassessed>,
    tenant: &Tenant,
    patience: Patience,
) -> Result<Way, Rejection> {
    let demands = |what: fn(&crate::policy::Obligations) -> bool| {
        judged.permits.iter().any(|permit| what(permit.obligations()))
    };
    if demands(|obligations| obligations.deliberate || obligations.min_approvals.is_some()) {
        return Ok(Way::Parked(Why::Policy));
    }
    let threshold = tenant.limits.deliberation_threshold;
    match impact {
        // Deliberate: an unscored message may be severe.
        Err(unassessed) if passing(&unassessed.why) && patience.comes_again() => Err(Rejection::new(
            Reason::Unscored,
            format!("the impact of this message is not known ({}); it may find room later", unassessed.why),
        )
        .after(Duration::from_millis(500))),
        Err(unassessed) => Ok(Way::Parked(Why::Unscored { why: unassessed.why.to_string() })),
        Ok(impact) if impact.score >= threshold => {
            Ok(Way::Parked(Why::Impact { score: impact.score, threshold }))
        }
        Ok(_) if !patience.live() => Ok(Way::Durable),
        Ok(_) if demands(|obligations| obligations.lane == Some(Lane::Durable)) => Ok(Way::Durable),
        Ok(_) => Ok(Way::Live),
    }
}

/// Whether the same message could be scored in a moment.
fn passing(why: &Unscored) -> bool {
    match why {
        Unscored::TimedOut { .. } | Unscored::Busy { .. } | Unscored::Stopping => true,
        Unscored::TooLong { .. }
        | Unscored::TooSlow { .. }
        | Unscored::OutOfRange { .. }
        | Unscored::Failed
        | Unscored::NoModel => false,
    }
}
