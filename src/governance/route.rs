//! Which way does a permitted message take: now, durably, or past its reviewers first?

use std::time::Duration;

use super::{
    addressees::Addressees,
    message::Decoded,
    recipients::Permitted,
    rules::{Purpose, RetryMode},
};
use crate::{
    domain::{Approval, Impact, Reason, Why},
    impact::{Unassessed, Unscored},
    phrase::counted,
    policy::Lane,
    rejection::Rejection,
};

/// The way of a message that may go.
#[derive(Debug, Clone, PartialEq)]
pub enum Route {
    /// Into live inboxes, now.
    Live,
    /// Into durable inboxes.
    Durable,
    /// Onto the durable lane, to be governed there.
    Queued,
    /// Into durable inboxes, if its reviewers approve it.
    Parked(Why),
}

/// A permitted message with its score, or why it has none.
#[derive(Debug)]
pub struct Assessed<'a> {
    permitted: Permitted<'a>,
    /// Absent only if it needs none.
    impact: Option<Result<Impact, Unassessed>>,
}

/// A message that may go, to whom, and which way.
#[derive(Debug)]
pub struct Routed<'a> {
    pub(super) decoded: &'a Decoded,
    pub(super) purpose: Purpose<'a>,
    pub(super) to: Addressees,
    pub(super) route: Route,
    /// What its words scored.
    pub(super) semantic: Option<f64>,
}

impl<'a> Assessed<'a> {
    pub fn new(permitted: Permitted<'a>, impact: Option<Result<Impact, Unassessed>>) -> Self {
        Self { permitted, impact }
    }

    /// Where it goes. What may be scored after a while is not parked, unless there is no later attempt.
    pub fn route(self) -> Result<Routed<'a>, Rejection> {
        let route = match (self.permitted.purpose.approval, &self.impact) {
            (Some(approval), _) => {
                enough(self.permitted.to.approvals_demanded(), approval)?;
                Route::Durable
            }
            (None, Some(impact)) => self.by_impact(impact)?,
            (None, None) => {
                return Err(Rejection::new(Reason::Unscored, "the impact of this message was not asked for"));
            }
        };
        let Self { permitted: Permitted { decoded, purpose, to }, impact } = self;
        let semantic = impact.and_then(|impact| impact.ok()?.parts.semantic);
        Ok(Routed { decoded, purpose, to, route, semantic })
    }

    fn by_impact(&self, impact: &Result<Impact, Unassessed>) -> Result<Route, Rejection> {
        let Permitted { decoded, purpose, to } = &self.permitted;
        if to.demand(|obligations| obligations.deliberate || obligations.min_approvals.is_some()) {
            return Ok(Route::Parked(Why::Policy));
        }
        let threshold = decoded.tenant().limits.deliberation_threshold;
        match impact {
            // Where nobody waits there is time for it.
            Err(unassessed) if unassessed.why.is_for_its_length() && purpose.mode == RetryMode::Sender => {
                Ok(Route::Queued)
            }
            // Deliberate: an unscored message may be severe.
            Err(unassessed) if comes_again(&unassessed.why, purpose.mode) => Err(Rejection::new(
                Reason::Unscored,
                format!(
                    "the impact of this message is not known ({}); it may find room later",
                    unassessed.why
                ),
            )
            .after(Duration::from_millis(500))),
            Err(unassessed) => Ok(Route::Parked(Why::Unscored { why: unassessed.why.to_string() })),
            Ok(impact) if impact.score >= threshold => {
                Ok(Route::Parked(Why::Impact { score: impact.score, threshold }))
            }
            Ok(_) if !purpose.mode.waits() => Ok(Route::Durable),
            Ok(_) if to.demand(|obligations| obligations.lane == Some(Lane::Durable)) => Ok(Route::Durable),
            Ok(_) => Ok(Route::Live),
        }
    }
}

/// Whether it is tried again: what only finds no room, for as long as it does.
fn comes_again(why: &Unscored, mode: RetryMode) -> bool {
    let waits_its_turn = matches!(why, Unscored::Busy { .. }) && mode == RetryMode::LastOfLane;
    passing(why) && (mode.comes_again() || waits_its_turn)
}

/// Whether the same message could be scored in a moment.
fn passing(why: &Unscored) -> bool {
    match why {
        Unscored::TimedOut { .. } | Unscored::Busy { .. } | Unscored::Stopping => true,
        Unscored::TooLong { .. }
        | Unscored::TooSlow { .. }
        | Unscored::OutOfRange { .. }
        | Unscored::Failed
        | Unscored::NoModel
        | Unscored::BreakerOpen => false,
    }
}

/// The policy may have come to demand more than it did when the message was parked.
fn enough(demanded: Option<u32>, approval: &Approval) -> Result<(), Rejection> {
    let given = approval.approvals.len();
    match demanded {
        Some(demanded) if usize::try_from(demanded).is_ok_and(|demanded| demanded > given) => {
            let demanded = counted(demanded, "approval");
            let detail = format!("approved by {given}, and the policy demands {demanded} by now");
            Err(Rejection::new(Reason::PolicyDenied, detail))
        }
        _ => Ok(()),
    }
}
