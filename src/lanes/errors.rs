//! Why a store did not do it, as the sender hears it.

use std::time::Duration;

use super::durable::LaneError;
use crate::{
    deliberation::LogError,
    domain::{MessageId, Reason},
    phrase::counted,
    rejection::Rejection,
    state::StoreError,
};

pub(super) fn used_before(id: &MessageId) -> Rejection {
    Rejection::new(Reason::DuplicateMessage, format!("message_id {id} was used before for another message"))
}

/// Of agents.
pub fn registry_unavailable(error: StoreError) -> Rejection {
    tracing::warn!(%error, "registry unavailable");
    if let StoreError::BreakerOpen { retry_after } = error {
        return Rejection::breaker_open("the registry of agents", retry_after);
    }
    Rejection::new(Reason::RegistryUnavailable, "the registry of agents does not answer")
        .after(Duration::from_millis(500))
}

pub(super) fn of_lane(error: LaneError) -> Rejection {
    tracing::warn!(%error, "durable lane");
    match error {
        LaneError::Full(_) => Rejection::new(
            Reason::StoreFull,
            "the tenant's store of the durable lane is full; it empties as it ages",
        )
        .after(Duration::from_secs(5)),
        LaneError::ShareStored { recipient, held, left } => {
            let whose = match recipient {
                None => "with what stays of acknowledged messages, its sender has".to_owned(),
                Some(agent) => format!("its recipient {agent} has not acknowledged"),
            };
            let detail = format!(
                "{whose} {held} bytes in the tenant's durable inboxes, about, and the {left} that are left are for \
                 others: there is room when messages are acknowledged, or too old"
            );
            Rejection::new(Reason::RateLimited, detail).after(Duration::from_secs(60))
        }
        LaneError::TooLate => {
            Rejection::new(Reason::LaneUnavailable, "it took too long to be stored, so it was not")
                .after(Duration::from_millis(500))
        }
        LaneError::BreakerOpen { retry_after } => {
            Rejection::breaker_open("the durable lane of the tenant", retry_after)
        }
        LaneError::Unconfirmed
        | LaneError::UnconfirmedBeside
        | LaneError::Away
        | LaneError::Refused(_)
        | LaneError::Unreadable(_) => {
            Rejection::new(Reason::LaneUnavailable, "the durable lane does not answer at the moment")
                .after(Duration::from_secs(1))
        }
    }
}

pub(super) fn of_deliberations(error: LogError) -> Rejection {
    tracing::warn!(%error, "deliberations unavailable");
    let detail = match error {
        LogError::TooLarge { bytes, limit } => {
            return Rejection::new(
                Reason::TooLarge,
                format!(
                    "its reviewers should decide, and with all that is recorded it has {bytes} bytes, at \
                     most {limit} can be kept"
                ),
            );
        }
        LogError::TooManyParked { open_max } => {
            return Rejection::new(
                Reason::TooManyParked,
                format!(
                    "its reviewers should decide, and {open_max} messages of the tenant wait for theirs \
                     already, its open_max: when some of these are decided there is room"
                ),
            )
            .after(Duration::from_secs(5));
        }
        LogError::ShareParked { held, left } => {
            return Rejection::new(
                Reason::TooManyParked,
                format!(
                    "its reviewers should decide, and its sender has {} parked, which leaves {} to others: \
                     when some of these are decided there is room",
                    counted(held, "message"),
                    counted(left, "place")
                ),
            )
            .after(Duration::from_secs(5));
        }
        // The stream is the tenant's own: no other message of the tenant is concerned, and no other tenant.
        LogError::Full(_) => {
            return Rejection::new(
                Reason::TooManyParked,
                "its reviewers should decide, and the tenant's store of deliberations has no room for more",
            )
            .after(Duration::from_secs(5));
        }
        LogError::BreakerOpen { retry_after } => {
            return Rejection::breaker_open("the tenant's store of deliberations", retry_after);
        }
        LogError::Unconfirmed | LogError::NotComputed | LogError::Refused(_) | LogError::Unreadable(_) => {
            "its reviewers should decide, and it cannot be parked at the moment"
        }
    };
    Rejection::new(Reason::DeliberationUnavailable, detail).after(Duration::from_secs(1))
}
