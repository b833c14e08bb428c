//! When is a queued message tried again, and when is it given up?

use std::time::Duration;

use moka::sync::Cache;
use rand::Rng as _;

use super::backoff::{doubling, jittered};
use crate::{
    domain::{Reason, TenantId},
    impact::LONG_DEADLINE_MAX,
    recent::recent,
    rejection::Rejection,
};

/// Times that a queued message is governed before it is given up, unless the bus itself is in trouble.
pub const ATTEMPTS_MAX: u64 = 5;

/// For one attempt: enough for the longest text, and for a store that does not answer to be known as that. By the
/// fast lane's deadline it would be the message's fault.
pub(super) const ATTEMPT_WITHIN: Duration = LONG_DEADLINE_MAX.saturating_add(Duration::from_secs(5));
/// Parts of the time to give up that pass between the attempts.
const WAITS: [u32; ATTEMPTS_MAX as usize - 1] = [1, 4, 15, 40];
/// What waits for the bus to be well again is tried as often as this, at least.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// Whose the reason is to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FaultOwner {
    /// The message's, or its recipient's: it may never come to anything.
    Message,
    /// The bus's own: any message would fail.
    Bus,
    /// An operator's, who has stopped it: it waits until it is thawed.
    Operator,
}

/// Whether nothing but time stands between the message and a verdict.
pub(super) fn fault_owner(reason: Reason) -> FaultOwner {
    if reason == Reason::Frozen {
        return FaultOwner::Operator;
    }
    let own = matches!(
        reason,
        Reason::RecipientUnknown
            | Reason::RecipientOffline
            | Reason::NoCapableAgent
            | Reason::NotRegistered
            | Reason::SenderUnknown
            | Reason::PolicyFailed
            // By the policy: the tenant's own rate was paid when it was queued.
            | Reason::RateLimited
            | Reason::Unscored
            | Reason::TooManyParked
            | Reason::TimedOut
    );
    if own { FaultOwner::Message } else { FaultOwner::Bus }
}

/// Only what could be read is queued, so these bytes are not what their sender has submitted.
pub(super) fn never_queued(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Malformed
            | Reason::TooDeep
            | Reason::TooManyValues
            | Reason::DuplicateKey
            | Reason::TrailingBytes
            | Reason::NotFinite
            | Reason::UnknownVerb
            | Reason::UnknownField
            | Reason::MissingField
            | Reason::UnsupportedSchema
            | Reason::BadIdentifier
            | Reason::TenantMismatch
            | Reason::SenderMismatch
    )
}

/// What can still be done, to be added to the reason.
pub(super) fn after_giving_up(attempts: u64, put_aside: bool) -> String {
    let attempts = crate::phrase::counted(attempts, "attempt");
    let again = "submit it under a new message_id if it still matters";
    match put_aside {
        true => format!("; given up after {attempts}: the operator can redrive it, or {again}"),
        false => {
            format!("; given up after {attempts}, and there was no room to put it aside: {again}")
        }
    }
}

pub(super) fn overdue(attempt: u64) -> Rejection {
    let within = ATTEMPT_WITHIN.as_secs();
    Rejection::new(Reason::TimedOut, format!("not governed within {within} s, at attempt {attempt}"))
}

/// Ever longer: what hinders a message mostly passes at once, or when its recipient has been started anew.
/// A tenth less or more.
pub(super) fn pause(attempt: u64, give_up_after: Duration) -> Duration {
    let index = usize::try_from(attempt.max(1) - 1).unwrap_or(usize::MAX);
    let wait = match WAITS.get(index) {
        Some(part) => give_up_after * *part / WAITS.iter().sum::<u32>(),
        // Only what is excused comes as far.
        None => (give_up_after / 4).min(BACKOFF_MAX),
    };
    wait.mul_f64(rand::rng().random_range(0.9..1.1))
}

/// While an operator has stopped it: often enough that it goes on soon when it is thawed.
pub(super) fn frozen() -> Duration {
    jittered(Duration::from_secs(4))
}

/// While the bus is in trouble: 0.5 s doubling to 20 s, and up to half as long again.
pub(super) fn backoff(attempt: u64) -> Duration {
    jittered(doubling(Duration::from_millis(500), BACKOFF_MAX.mul_f64(2.0 / 3.0), attempt))
}

/// After the bus was ill, what is the message's own is not held against it for this long: agents that the
/// registry has lost come back, and two attempts are at most 90 s apart.
const EXCUSED_FOR: Duration = Duration::from_secs(180);
const TENANTS_EXCUSED_MAX: u64 = 65_536;

/// Tenants for whose approved messages the bus itself was the hindrance a short while ago.
pub struct RetryGrace(Cache<TenantId, ()>);

impl Default for RetryGrace {
    fn default() -> Self {
        Self(recent(TENANTS_EXCUSED_MAX).time_to_live(EXCUSED_FOR).build())
    }
}

impl RetryGrace {
    /// Whether this is not the message's own trouble, or that was a short while ago. A release has time enough: what
    /// it does not suffice for is the bus's.
    pub(super) fn excuses(&self, tenant: &TenantId, reason: Reason) -> bool {
        if reason == Reason::TimedOut || fault_owner(reason) != FaultOwner::Message {
            self.0.insert(tenant.clone(), ());
            return true;
        }
        self.0.contains_key(tenant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is the bus's own is tried without end and slows its tenant, so a new reason has to be on this
    /// list to be among it.
    #[test]
    fn a_reason_is_the_buss_own_only_where_any_message_would_fail() {
        let bus = [
            Reason::ClockUncertain,
            Reason::ConstitutionPending,
            Reason::PolicyUnavailable,
            Reason::DeliberationUnavailable,
            Reason::RegistryUnavailable,
            Reason::QuotaExceeded,
            Reason::IdempotencyUnavailable,
            Reason::DeliveryFailed,
            Reason::LaneUnavailable,
            Reason::StoreFull,
            Reason::AuditUnavailable,
            Reason::TenantUnknown,
            Reason::Overloaded,
            Reason::BreakerOpen,
        ];
        for &reason in Reason::ALL.iter().filter(|reason| reason.retryable()) {
            assert_eq!(fault_owner(reason) == FaultOwner::Bus, bus.contains(&reason), "{}", reason.as_str());
        }
    }

    #[test]
    fn the_attempts_take_as_long_as_a_message_may_take_to_be_given_up() {
        for give_up_after in [9, 120, 600].map(Duration::from_secs) {
            let pauses: Vec<_> = (1..ATTEMPTS_MAX).map(|attempt| pause(attempt, give_up_after)).collect();
            let all: Duration = pauses.iter().sum();
            assert!((give_up_after.mul_f64(0.9)..=give_up_after.mul_f64(1.1)).contains(&all), "{pauses:?}");
            assert!(pauses.is_sorted(), "{pauses:?}");
            // What is not given up in its last attempt, for it is excused, comes again soon.
            assert!(pause(ATTEMPTS_MAX, give_up_after) <= BACKOFF_MAX.mul_f64(1.1));
        }
    }
}
