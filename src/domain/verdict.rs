//! The answer to a message: what became of it, why, and the facts.

use std::time::Duration;

use super::{AgentId, DeliberationId, Impact, MessageId};

/// What the sender hears. Serialised by `wire`; kept for repeats by `state::Idempotency`.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Absent when the request was not even readable enough to know it.
    pub message_id: Option<MessageId>,
    pub status: Status,
    pub reason: Reason,
    /// One sentence with the facts: what was found, what was expected.
    pub detail: String,
    /// Whether the same message, sent again, can fare better. As the reason says, but for an outcome: by
    /// then the message is done with.
    pub retryable: bool,
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
    /// Absent unless the message was parked.
    pub deliberation_id: Option<DeliberationId>,
    pub node: String,
    pub elapsed: Duration,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Handed to its recipient's inbox, live or durable.
    Delivered,
    /// Kept by the bus; its verdict follows as an outcome.
    Stored,
    /// Parked until reviewers have judged it; their judgement follows as an outcome.
    Deliberating,
    Rejected,
    Shed,
}

impl Status {
    pub const ALL: &[Status] =
        &[Status::Delivered, Status::Stored, Status::Deliberating, Status::Rejected, Status::Shed];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Delivered => "delivered",
            Status::Stored => "stored",
            Status::Deliberating => "deliberating",
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
    /// Into durable inboxes, which the verdict's detail says; it is not written beside that.
    pub durable: bool,
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
    /// Kept on the durable lane; the verdict follows.
    Stored = "stored", 202, final;
    /// Parked for reviewers; their judgement follows.
    Deliberating = "deliberating", 202, final;

    /// The subject asks for what the bus does not do.
    UnknownVerb = "unknown_verb", 404, final;

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
    /// Another node knows the constitution that it names, and this one does not yet, or not any more.
    ConstitutionPending = "constitution_pending", 503, retry;
    Expired = "expired", 410, final;
    ClockSkew = "clock_skew", 422, final;
    /// The clock of the node is off, so what is due or over cannot be told.
    ClockUncertain = "clock_uncertain", 503, retry;
    /// The same message id was used before, for another content.
    DuplicateMessage = "duplicate_message", 409, final;

    // Policy.
    PolicyDenied = "policy_denied", 403, final;
    /// The policy could not be asked, or did not answer in time.
    PolicyUnavailable = "policy_unavailable", 503, retry;
    /// A rule of the policy cannot be evaluated for this message.
    PolicyFailed = "policy_failed", 500, retry;

    // Impact.
    /// Its impact could matter, and could not be scored now.
    Unscored = "unscored", 503, retry;

    // Deliberation.
    /// It should be deliberated, and cannot be parked now.
    DeliberationUnavailable = "deliberation_unavailable", 503, retry;
    /// It should be deliberated, and as many of its tenant's messages are parked as may be.
    TooManyParked = "too_many_parked", 429, retry;
    /// It should be deliberated, and its tenant has too few reviewers for its rule.
    NoReviewers = "no_reviewers", 422, final;
    /// The reviewers said no.
    DeliberationDenied = "deliberation_denied", 403, final;
    /// The reviewers did not decide in time, which is a no.
    DeliberationExpired = "deliberation_expired", 410, final;
    // Voting: why a vote does not count.
    DeliberationUnknown = "deliberation_unknown", 404, final;
    /// Decided or expired before the vote came.
    DeliberationClosed = "deliberation_closed", 409, final;
    NotAVoter = "not_a_voter", 403, final;
    /// Nobody judges their own message.
    SelfVote = "self_vote", 403, final;
    AlreadyVoted = "already_voted", 409, final;
    /// The vote names another content than the one that was parked.
    DigestMismatch = "digest_mismatch", 409, final;

    // Asking.
    /// The question was delivered, and no answer came in time.
    Unanswered = "unanswered", 408, final;
    /// The answer was not let through.
    AnswerRejected = "answer_rejected", 422, final;
    /// Nobody waits for this answer, or not any more.
    NotAsked = "not_asked", 404, final;

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
    /// The durable lane does not take messages at the moment.
    LaneUnavailable = "lane_unavailable", 503, retry;
    /// The tenant's durable inboxes, or what waits on its durable lane, have reached their limit.
    StoreFull = "store_full", 503, retry;
    /// The decision could not be recorded, so nothing was delivered.
    AuditUnavailable = "audit_unavailable", 503, retry;

    // What follows from what.
    /// More messages led to it, one after the other, than may.
    LoopDetected = "loop_detected", 508, final;
    /// What it follows from has had all the messages that it may.
    BudgetExceeded = "budget_exceeded", 429, final;

    // Limits.
    TenantUnknown = "tenant_unknown", 403, retry;
    /// NATS let the sender in, and the directory does not list it (yet, or any more).
    SenderUnknown = "sender_unknown", 403, retry;
    /// An operator has stopped its sender, its recipient, its conversation, its tenant or the whole bus; or the policy or an
    /// agent itself an agent.
    Frozen = "frozen", 423, retry;
    RateLimited = "rate_limited", 429, retry;
    Overloaded = "overloaded", 503, retry;
    TimedOut = "timed_out", 408, retry;
    /// What the message needs has failed of late and was not asked.
    BreakerOpen = "breaker_open", 503, retry;
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
