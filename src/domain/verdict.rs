//! The answer to a message: what became of it, why, and the facts.

use std::time::Duration;

use super::{AgentId, Impact, MessageId};

/// What the sender hears. Serialised by `wire`; kept for repeats by `state::Idempotency`.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Absent when the request was not even readable enough to know it.
    pub message_id: Option<MessageId>,
    pub status: Status,
    pub reason: Reason,
    /// One sentence with the facts: what was found, what was expected.
    pub detail: String,
    /// For `shed` and retryable rejections: not before this has passed.
    pub retry_after: Option<Duration>,
    /// Names this decision in records, headers and logs.
    pub decision_id: String,
    /// The policy's revision; absent when the message never reached the policy.
    pub policy_revision: Option<String>,
    /// Absent when the message never reached the scorer.
    pub impact: Option<Impact>,
    /// Absent unless something was delivered.
    pub reach: Option<Reach>,
    pub node: String,
    pub elapsed: Duration,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    Delivered,
    Rejected,
    Shed,
}

impl Status {
    pub const ALL: &[Status] = &[Status::Delivered, Status::Rejected, Status::Shed];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Delivered => "delivered",
            Status::Rejected => "rejected",
            Status::Shed => "shed",
        }
    }
}

/// To whom a message went, and who was meant but missed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Inboxes the message was handed to.
    pub delivered: u32,
    /// The recipient, unless the message was broadcast.
    pub agent: Option<AgentId>,
    /// At most [`Reach::MISSED_MAX`] of them; `missed_total` counts all.
    pub missed: Vec<Missed>,
    pub missed_total: u32,
}

impl Reach {
    /// Names listed in a verdict; more are only counted.
    pub const MISSED_MAX: usize = 32;
}

/// An agent that matched a broadcast and did not get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    pub agent: AgentId,
    pub reason: Reason,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $word:literal, $code:literal, $retry:ident;)+) => {
        /// Why, as a stable word that clients may match on, with a code in HTTP's sense and
        /// whether trying again with the same message id can help.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $variant),+ }

        impl Reason {
            pub const ALL: &[Reason] = &[$(Reason::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Reason::$variant),)+ _ => None }
            }

            /// Status code in HTTP's sense (RFC 9110, section 15).
            pub fn code(self) -> u16 {
                match self { $(Reason::$variant => $code),+ }
            }

            pub fn retryable(self) -> bool {
                match self { $(Reason::$variant => reasons!(@ $retry)),+ }
            }
        }
    };
    (@ retry) => { true };
    (@ final) => { false };
}

reasons! {
    Delivered = "delivered", 200, final;

    // Decoding: the bytes.
    /// Not MessagePack or JSON, or a field of the wrong type.
    Malformed = "malformed", 400, final;
    TooLarge = "too_large", 413, final;
    TooDeep = "too_deep", 400, final;
    TooManyValues = "too_many_values", 400, final;
    DuplicateKey = "duplicate_key", 400, final;
    TrailingBytes = "trailing_bytes", 400, final;
    NotFinite = "not_finite", 400, final;
    UnknownField = "unknown_field", 400, final;
    MissingField = "missing_field", 400, final;
    UnsupportedSchema = "unsupported_schema", 400, final;
    BadIdentifier = "bad_identifier", 400, final;
    // Decoding: who says it.
    TenantMismatch = "tenant_mismatch", 403, final;
    SenderMismatch = "sender_mismatch", 403, final;

    // Constitution and structure.
    ConstitutionalHashMissing = "constitutional_hash_missing", 400, final;
    ConstitutionalHashMismatch = "constitutional_hash_mismatch", 422, final;
    Expired = "expired", 410, final;
    ClockSkew = "clock_skew", 422, final;
    /// The same message id was used before, for another content.
    DuplicateMessage = "duplicate_message", 409, final;

    // Policy.
    PolicyDenied = "policy_denied", 403, final;
    /// The policy could not be asked, or gave no clear answer.
    PolicyUnavailable = "policy_unavailable", 503, retry;
    /// The policy demands the durable lane for this message.
    DurableLaneRequired = "durable_lane_required", 409, final;
    /// The message should be deliberated, and this bus has no deliberation.
    DeliberationUnavailable = "deliberation_unavailable", 503, final;

    // Routing and the registry.
    RecipientUnknown = "recipient_unknown", 404, retry;
    RecipientOffline = "recipient_offline", 404, retry;
    NoCapableAgent = "no_capable_agent", 404, retry;
    RegistryUnavailable = "registry_unavailable", 503, retry;
    /// The registration is another NATS user's.
    NotOwner = "not_owner", 403, final;
    NotRegistered = "not_registered", 404, retry;
    QuotaExceeded = "quota_exceeded", 429, retry;

    // Delivery.
    /// Whether this is a repeat cannot be told, so it is not delivered.
    IdempotencyUnavailable = "idempotency_unavailable", 503, retry;
    DeliveryFailed = "delivery_failed", 503, retry;
    /// The decision could not be recorded, so nothing was delivered.
    AuditUnavailable = "audit_unavailable", 503, retry;

    // Limits.
    TenantUnknown = "tenant_unknown", 403, retry;
    /// NATS let the sender in, and the directory does not list it (yet, or any more).
    SenderUnknown = "sender_unknown", 403, retry;
    RateLimited = "rate_limited", 429, retry;
    Overloaded = "overloaded", 503, retry;
    TimedOut = "timed_out", 408, retry;
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn every_reason_is_read_back_from_its_word() {
        for &reason in Reason::ALL {
            assert_eq!(Reason::parse(reason.as_str()), Some(reason));
        }
    }
}
