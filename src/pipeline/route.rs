//! Stage 7: may a permitted message go now, or must people look at it first?

use super::trail::Judged;
use crate::{
    domain::{Impact, Reason, Tenant},
    impact::{Need, Unassessed, Unscored},
    policy::Lane,
    rejection::Rejection,
};

/// Whether the policy wants to know the score even where it cannot change the verdict.
pub(super) fn need(judged: &Judged) -> Need {
    match judged.permits.iter().any(|permit| permit.obligations().score) {
        true => Need::Demanded,
        false => Need::IfItMatters,
    }
}

/// What the sender can do about it, where there is something.
fn advice(why: &Unscored) -> &'static str {
    match why {
        Unscored::TimedOut { .. } | Unscored::Busy { .. } | Unscored::Stopping => {
            "; the same message may find room later"
        }
        Unscored::TooLong { .. } => "; a shorter one can be read",
        Unscored::OutOfRange { .. } | Unscored::Failed | Unscored::NoModel => "",
    }
}

/// Refuses what should be deliberated, or should take another lane: this bus cannot park yet, and
/// what cannot be parked is never delivered.
pub(super) fn may_go_now(
    judged: &Judged,
    impact: &Result<Impact, Unassessed>,
    tenant: &Tenant,
) -> Result<(), Rejection> {
    let threshold = tenant.limits.deliberation_threshold;
    let refuse = |why: String| {
        Err(Rejection::new(
            Reason::DeliberationUnavailable,
            format!("{why}, so it needs deliberation, which this bus does not offer yet"),
        ))
    };
    if judged.permits.iter().any(|permit| permit.obligations().lane == Some(Lane::Durable)) {
        return Err(Rejection::new(
            Reason::DurableLaneRequired,
            "the policy demands the durable lane for this message, and it came by `send`",
        ));
    }
    if judged.permits.iter().any(|p| p.obligations().deliberate || p.obligations().min_approvals.is_some()) {
        return refuse("the policy demands approval of this message".to_owned());
    }
    match impact {
        // Deliberate: an unscored message may be severe.
        Err(unassessed) => refuse(format!(
            "the impact of this message is not known ({}){}",
            unassessed.why,
            advice(&unassessed.why)
        )),
        Ok(impact) if impact.score >= threshold => {
            refuse(format!("the impact of this message is {:.2}, at or above {threshold:.2}", impact.score))
        }
        Ok(_) => Ok(()),
    }
}
