//! What does a verdict say to a person?

use agentbus::domain::{Reason, Status, Verdict};

use super::{
    context::{Paint, Tone, safe},
    printable::Page,
};

/// A verdict in a few lines, with a word of what it is.
pub(super) fn readable_as(what: &str, verdict: &Verdict, paint: Paint) -> String {
    let tone = match verdict.status {
        Status::Delivered | Status::Stored => Tone::Good,
        Status::Deliberating => Tone::Careful,
        Status::Rejected => Tone::Bad,
        Status::Shed => Tone::Careful,
    };
    let id = verdict.message_id.as_ref().map_or("no readable id", |id| id.as_str());
    let detail = safe(&verdict.detail, 400);
    let told = match verdict.reason {
        Reason::Delivered | Reason::Stored | Reason::Deliberating => detail,
        reason => format!("{} ({}): {detail}", reason.as_str(), reason.code()),
    };
    let mut page = Page::new(paint);
    page.headed(&format!("{what}{}", verdict.status.as_str()), tone, &told);
    let mut line = |name: &str, text: String| page.field(name, &text);
    line("message", id.to_owned());
    if let Some(reach) = &verdict.reach {
        let missed: Vec<String> =
            reach.missed.iter().map(|m| format!("{} ({})", m.agent, m.reason.as_str())).collect();
        if !missed.is_empty() {
            line("missed", format!("{} of them: {}", reach.missed_total, missed.join(", ")));
        }
    }
    if let Some(id) = &verdict.deliberation_id {
        line("parked", format!("deliberation {id}"));
    }
    if let Some(impact) = &verdict.impact {
        let score = match impact.score_max {
            Some(max) => format!("{}, at most", range(impact.score, max)),
            None => format!("{:.2}", impact.score),
        };
        let by = match &impact.unscored {
            Some(why) => format!("not scored: {}", safe(why, 40)),
            None if impact.score_max.is_some() => format!("model {}", safe(&impact.model, 60)),
            // A model and four guards, and whose score it is.
            None => format!("by {}", safe(&impact.model, 400)),
        };
        line("impact", format!("{score} {} ({by})", impact.level.as_str()));
    }
    if let Some(revision) = &verdict.policy_revision {
        line("policy", format!("revision {}", safe(revision, 40)));
    }
    if verdict.retryable {
        let wait =
            verdict.retry_after.map_or("at once".to_owned(), |wait| format!("after {} ms", wait.as_millis()));
        line("retry", format!("{wait}, with the same message id"));
    }
    line(
        "decided",
        format!(
            "{} on {} in {:.2} ms",
            safe(&verdict.decision_id, 40),
            safe(&verdict.node, 64),
            verdict.elapsed.as_secs_f64() * 1000.0
        ),
    );
    page.into_text()
}

/// Two numbers that people read as one are one.
pub(super) fn range(from: f64, to: f64) -> String {
    let (from, to) = (format!("{from:.2}"), format!("{to:.2}"));
    if from == to { from } else { format!("{from} to {to}") }
}

/// Governance says no: the same message from the same sender will not pass. Everything else is a
/// failure to understand or to reach somebody.
pub(super) fn denied(reason: Reason) -> bool {
    match reason {
        Reason::PolicyDenied
        | Reason::TenantMismatch
        | Reason::SenderMismatch
        | Reason::TenantUnknown
        | Reason::SenderUnknown
        | Reason::NotOwner
        | Reason::ConstitutionalHashMismatch
        | Reason::NoReviewers
        | Reason::DeliberationDenied
        | Reason::NotAVoter
        | Reason::LoopDetected
        | Reason::BudgetExceeded
        | Reason::SelfVote => true,
        Reason::Delivered
        | Reason::Stored
        | Reason::Deliberating
        | Reason::DeliberationUnavailable
        | Reason::TooManyParked
        | Reason::DeliberationExpired
        | Reason::DeliberationUnknown
        | Reason::DeliberationClosed
        | Reason::AlreadyVoted
        | Reason::DigestMismatch
        | Reason::Unscored
        | Reason::Unanswered
        | Reason::AnswerRejected
        | Reason::NotAsked
        | Reason::LaneUnavailable
        | Reason::StoreFull
        | Reason::Malformed
        | Reason::TooLarge
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
        | Reason::ConstitutionalHashMissing
        | Reason::Expired
        | Reason::ClockSkew
        | Reason::ClockUncertain
        | Reason::ConstitutionPending
        | Reason::DuplicateMessage
        | Reason::PolicyUnavailable
        | Reason::PolicyFailed
        | Reason::RecipientUnknown
        | Reason::RecipientOffline
        | Reason::NoCapableAgent
        | Reason::RegistryUnavailable
        | Reason::NotRegistered
        | Reason::QuotaExceeded
        | Reason::IdempotencyUnavailable
        | Reason::DeliveryFailed
        | Reason::AuditUnavailable
        | Reason::Frozen
        | Reason::RateLimited
        | Reason::BreakerOpen
        | Reason::Overloaded
        | Reason::TimedOut => false,
    }
}
