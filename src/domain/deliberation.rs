//! What is said of a parked message: the record of it, the votes, the decision. Pure data.
//!
//! The events of one deliberation form a log; `deliberation::Case` is what they add up to.

use std::collections::{BTreeMap, BTreeSet};

use super::{AgentId, DeliberationId, Impact, MessageId, TenantId, Timestamp};

/// A message that waits for its reviewers, as it was when it was parked. Nothing in it changes.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parked {
    pub id: DeliberationId,
    pub tenant: TenantId,
    pub sender: AgentId,
    pub message_id: MessageId,
    /// The message as JSON text in its canonical form.
    pub message: String,
    /// What tells this message from another, in lower-case hex (`wire::Decoded::digest`). A vote names it.
    pub digest: String,
    pub why: Why,
    /// What the policy tells its reviewers, each as `module: note`.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub notes: BTreeSet<String>,
    /// Absent only if it could not even be estimated.
    pub impact: Option<Impact>,
    pub policy_revision: String,
    /// The decision that parked it, as in the sender's verdict.
    pub decision_id: String,
    pub node: String,
    pub rule: Rule,
    /// Who may vote from the beginning.
    pub voters: BTreeMap<AgentId, Voter>,
    /// Who may vote as well once it is escalated.
    pub stand_ins: BTreeMap<AgentId, Voter>,
    pub parked_at: Timestamp,
    /// Absent: it is not escalated.
    pub escalate_at: Option<Timestamp>,
    /// Without a decision by then it is denied.
    pub deadline: Timestamp,
    /// W3C trace context of the sender, if there was one.
    pub traceparent: Option<String>,
}

impl Parked {
    pub const NOTES_MAX: usize = 16;
}

/// Why a message was parked.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "because", rename_all = "snake_case")]
pub enum Why {
    /// Its impact is at or above the tenant's threshold.
    Impact { score: f64, threshold: f64 },
    /// The policy demands it.
    Policy,
    /// Its impact is not known, and could matter.
    Unscored { why: String },
    /// It follows too far from what it follows from. Approved, the conversation counts from 0; answers to one delivery do not.
    Chain { why: String, conversation: String },
}

/// One clause for people.
impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Why::Impact { score, threshold } => {
                write!(f, "its impact is {score:.2}, at or above {threshold:.2}")
            }
            Why::Policy => f.write_str("the policy demands approval of this message"),
            Why::Unscored { why } => write!(f, "the impact of this message is not known ({why})"),
            Why::Chain { why, conversation: _ } => write!(f, "may it go on? {why}"),
        }
    }
}

/// Somebody who may vote, as the operator had granted it when the message was parked.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Voter {
    pub roles: BTreeSet<String>,
    /// What the vote counts, at least 1. Other rules than `weighted` count heads.
    pub weight: u32,
}

/// How a deliberation ends. The counts are fixed when the message is parked.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub kind: RuleKind,
    /// Voters who must approve in any case.
    pub min_approvals: u32,
    /// For [`RuleKind::Roles`]: of how many different roles, each approver standing for one.
    pub distinct_roles: u32,
}

/// The ways of deciding (`docs/deliberation.md`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RuleKind {
    /// More than half of the voters.
    #[default]
    Quorum,
    /// All of them.
    Unanimous,
    /// At least two thirds of them.
    SuperMajority,
    /// More than half of the voters' weight.
    Weighted,
    /// Approvers of several roles; one rejection ends it.
    Roles,
}

impl RuleKind {
    pub const ALL: [Self; 5] =
        [Self::Quorum, Self::Unanimous, Self::SuperMajority, Self::Weighted, Self::Roles];

    pub fn as_str(self) -> &'static str {
        match self {
            RuleKind::Quorum => "quorum",
            RuleKind::Unanimous => "unanimous",
            RuleKind::SuperMajority => "super_majority",
            RuleKind::Weighted => "weighted",
            RuleKind::Roles => "roles",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Choice {
    Approve,
    Reject,
}

impl Choice {
    pub fn as_str(self) -> &'static str {
        match self {
            Choice::Approve => "approve",
            Choice::Reject => "reject",
        }
    }
}

/// One vote that counted.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    pub voter: AgentId,
    pub choice: Choice,
    /// Free text for people, at most 512 bytes.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub comment: String,
    pub at: Timestamp,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    Approved,
    Denied,
    /// Nobody decided in time, which denies.
    Expired,
}

impl Judgement {
    pub const ALL: &[Judgement] = &[Judgement::Approved, Judgement::Denied, Judgement::Expired];

    pub fn as_str(self) -> &'static str {
        match self {
            Judgement::Approved => "approved",
            Judgement::Denied => "denied",
            Judgement::Expired => "expired",
        }
    }
}

/// What happened to a deliberation, in the order of its log. `Parked` is always the first.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Parked(Box<Parked>),
    Vote(Vote),
    /// Stand-ins may vote from now on.
    Escalated {
        at: Timestamp,
    },
    /// The end. A vote that decides stands in the same event, so that neither is there without the other.
    Decided {
        judgement: Judgement,
        at: Timestamp,
        /// One sentence for people.
        detail: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vote: Option<Vote>,
    },
    /// What came of the decision: nothing more follows.
    Concluded {
        at: Timestamp,
        /// The verdict's reason, such as `delivered` or `policy_denied`.
        reason: String,
        decision_id: String,
        detail: String,
    },
}

impl Event {
    /// The last token of the event's subject.
    pub fn kind(&self) -> &'static str {
        match self {
            Event::Parked(_) => "parked",
            Event::Vote(_) => "vote",
            Event::Escalated { .. } => "escalated",
            Event::Decided { .. } => "decided",
            Event::Concluded { .. } => "concluded",
        }
    }
}

/// What the policy learns of an approval when it is asked again: `input.approval`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Approval {
    pub deliberation: DeliberationId,
    pub rule: RuleKind,
    /// Who approved, with their roles when the message was parked.
    pub approvals: Vec<Approver>,
    pub escalated: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Approver {
    pub id: AgentId,
    pub roles: BTreeSet<String>,
}
