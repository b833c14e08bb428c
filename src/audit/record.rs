//! What does a record say? One envelope, and a body for each kind.

use std::{borrow::Cow, collections::BTreeSet};

use crate::domain::{
    AgentId, CapabilityId, Cause, Choice, ConstitutionHash, DeliberationId, Judgement, MessageId,
    MessageType, TenantId, Timestamp, Verdict,
};

/// Version of the fields. 1 has no `id`, and of decisions no `node` of its own and no `facts`.
pub(super) const SCHEMA: u64 = 2;

/// One record. Borrowed where it is written, owned where it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// No other record has it. Absent in schema 1.
    pub id: Option<Cow<'a, str>>,
    /// When it happened; of a decision, when the node began to govern the message.
    pub at: Timestamp,
    pub tenant: Cow<'a, TenantId>,
    /// Which node wrote it.
    pub node: Cow<'a, str>,
    /// Where it stands in its writer's chain. Read, and written by no node of this version.
    pub link: Option<Link>,
    pub body: Body<'a>,
}

/// A place in a chain of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Counts from 1.
    pub seq: u64,
    /// SHA-256 of the bytes of the one before.
    pub prev: [u8; 32],
}

#[derive(Debug, Clone, PartialEq)]
pub enum Body<'a> {
    /// The delivery is about to be sent; the verdict is the one of its success.
    Intent(Decision<'a>),
    /// The verdict was given, and this is all there was.
    Verdict(Decision<'a>),
    Vote(Vote<'a>),
    Threshold(Threshold<'a>),
    Registration(Registration<'a>),
    DeadLetter(DeadLetter<'a>),
    Recovery(Recovery<'a>),
    /// Several in one message; none of them is a batch.
    Batch(Vec<Record<'a>>),
}

/// The word for a kind of record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Intent,
    Verdict,
    Vote,
    Threshold,
    Registration,
    DeadLetter,
    Recovery,
    Batch,
}

/// What was decided of one message.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<'a> {
    pub sender: Cow<'a, AgentId>,
    /// Absent when the message could not be read.
    pub message_type: Option<MessageType>,
    /// SHA-256 of the message's canonical form, without its times.
    pub digest: Option<[u8; 32]>,
    /// To whom it is about to go.
    pub recipients: Cow<'a, [AgentId]>,
    pub verdict: Cow<'a, Verdict>,
    /// Absent when judging did not come to the policy, and in schema 1.
    pub facts: Option<Facts<'a>>,
    /// Of a message that was queued before: the decision id that `submit` has answered with.
    pub submitted_as: Option<Cow<'a, str>>,
    /// Microseconds that each stage took before the record was made, in the order in which `telemetry` names them.
    /// Without those at the end that it had not come to. Empty in records of earlier versions.
    pub stages_us: Cow<'a, [u64]>,
    /// What led to the message. Absent where its sender says of nothing that it does, and in records of earlier versions.
    pub cause: Option<Cow<'a, Cause>>,
}

/// What judging saw, for who wants to judge again.
#[derive(Debug, Clone, PartialEq)]
pub struct Facts<'a> {
    /// Which the message names.
    pub constitution: ConstitutionHash,
    /// Which was asked.
    pub policy_revision: Cow<'a, str>,
    pub sender: Party<'a>,
    /// Those whom the policy was asked about, as many as there is room for.
    pub recipients: Vec<Party<'a>>,
    /// How many they were.
    pub recipients_total: u64,
    /// Absent in records of earlier versions.
    pub remembered: Option<Remembered>,
}

/// How many of the policy's answers about the recipients were remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Remembered {
    /// By the node.
    pub cached: u64,
    /// By all nodes, in the store that they share.
    pub shared: u64,
}

/// An agent as the policy saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party<'a> {
    pub id: Cow<'a, AgentId>,
    /// Granted by the operator.
    pub roles: Cow<'a, BTreeSet<String>>,
    /// Claimed by the agent when it registered.
    pub capabilities: Cow<'a, BTreeSet<CapabilityId>>,
    pub registered: bool,
}

/// What came of a vote, whether it counted or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote<'a> {
    pub voter: Cow<'a, AgentId>,
    pub deliberation: Cow<'a, DeliberationId>,
    pub choice: Choice,
    /// Of the message that the voter has seen, in hex.
    pub digest: Cow<'a, str>,
    pub comment: Cow<'a, str>,
    /// `counted`, or the word of the reason why it was refused.
    pub result: Cow<'a, str>,
    /// What it decided, if it did.
    pub judgement: Option<Judgement>,
    pub detail: Cow<'a, str>,
}

/// What reviewers' judgements have made of a tenant's threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold<'a> {
    /// The judgement that tipped the scales.
    pub deliberation: Cow<'a, DeliberationId>,
    pub from: f64,
    pub to: f64,
    /// One sentence for people.
    pub reason: Cow<'a, str>,
}

/// What an agent has changed of its entry in the registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration<'a> {
    pub agent: Cow<'a, AgentId>,
    /// The last one, where several are told together.
    pub change: Change,
    /// Of the agent from then on; none of one that left.
    pub capabilities: Cow<'a, BTreeSet<CapabilityId>>,
    /// How many are told together, from 1: an agent has one record a second.
    pub changes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there before.
    Registered,
    /// It was, with something else.
    Changed,
    Left,
}

/// What an operator is about to do with a message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter<'a> {
    /// Absent where they could not be read when it was given up.
    pub sender: Option<Cow<'a, AgentId>>,
    pub message: Option<Cow<'a, MessageId>>,
    /// Of its content, if it can be read.
    pub digest: Option<[u8; 32]>,
    pub act: Act,
    /// Why it was given up.
    pub reason: Cow<'a, str>,
    /// Whom NATS let in.
    pub by: Cow<'a, str>,
    /// What that person's machine calls them, as it says itself.
    pub login: Option<Cow<'a, str>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Back onto the durable lane, to be governed anew.
    Resubmit,
    /// Deleted for good.
    Discard,
}

/// What a node has done to look after itself since it told last. Of no tenant: it stands under [`Record::OF_THE_BUS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery<'a> {
    /// Milliseconds since it told last, or since it began.
    pub over_ms: u64,
    /// Each once.
    pub steps: Cow<'a, [Step]>,
}

/// One of them, and how often.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Step {
    pub what: Mending,
    /// A kind of breaker, a part of the node, a revision of the policy; empty where the word says it all.
    pub of: String,
    pub times: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mending {
    /// What fails is left alone.
    BreakerOpened,
    /// It is tried.
    BreakerTried,
    /// It is well again.
    BreakerClosed,
    /// A part has ended or panicked, and was started again.
    PartRestarted,
    /// A part began anew, as it was told to.
    PartRenewed,
    /// A connection for requests is there again.
    Reconnected,
    /// A panic of the model was caught, and its thread goes on.
    ModelRestarted,
    /// Another policy is in force.
    PolicyChanged,
    /// An operator had the node recover.
    Recover,
}

impl<'a> Record<'a> {
    /// Whose the records are that are of no tenant. No tenant may have this name (`tenants/names.rs`).
    pub const OF_THE_BUS: &'static str = "bus";

    /// With an id of its own.
    pub fn new(at: Timestamp, tenant: &'a TenantId, node: &'a str, body: Body<'a>) -> Self {
        let id = Some(Cow::Owned(nuid::next().to_string()));
        Self { id, at, tenant: Cow::Borrowed(tenant), node: Cow::Borrowed(node), link: None, body }
    }
}

impl Record<'_> {
    /// Those of a batch, in order; else this one.
    pub fn each(self) -> Vec<Self> {
        match self.body {
            Body::Batch(records) => records,
            _ => vec![self],
        }
    }
}

impl Body<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            Self::Intent(_) => Kind::Intent,
            Self::Verdict(_) => Kind::Verdict,
            Self::Vote(_) => Kind::Vote,
            Self::Threshold(_) => Kind::Threshold,
            Self::Registration(_) => Kind::Registration,
            Self::DeadLetter(_) => Kind::DeadLetter,
            Self::Recovery(_) => Kind::Recovery,
            Self::Batch(_) => Kind::Batch,
        }
    }
}

impl Kind {
    pub const ALL: [Kind; 8] = [
        Kind::Intent,
        Kind::Verdict,
        Kind::Vote,
        Kind::Threshold,
        Kind::Registration,
        Kind::DeadLetter,
        Kind::Recovery,
        Kind::Batch,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Intent => "intent",
            Kind::Verdict => "verdict",
            Kind::Vote => "vote",
            Kind::Threshold => "threshold",
            Kind::Registration => "registration",
            Kind::DeadLetter => "dead_letter",
            Kind::Recovery => "recovery",
            Kind::Batch => "batch",
        }
    }
}

impl Change {
    pub const ALL: [Change; 3] = [Change::Registered, Change::Changed, Change::Left];

    pub fn as_str(self) -> &'static str {
        match self {
            Change::Registered => "registered",
            Change::Changed => "changed",
            Change::Left => "left",
        }
    }
}

impl Mending {
    pub const ALL: [Mending; 9] = [
        Mending::BreakerOpened,
        Mending::BreakerTried,
        Mending::BreakerClosed,
        Mending::PartRestarted,
        Mending::PartRenewed,
        Mending::Reconnected,
        Mending::ModelRestarted,
        Mending::PolicyChanged,
        Mending::Recover,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Mending::BreakerOpened => "breaker_opened",
            Mending::BreakerTried => "breaker_tried",
            Mending::BreakerClosed => "breaker_closed",
            Mending::PartRestarted => "part_restarted",
            Mending::PartRenewed => "part_renewed",
            Mending::Reconnected => "reconnected",
            Mending::ModelRestarted => "model_restarted",
            Mending::PolicyChanged => "policy_changed",
            Mending::Recover => "recover",
        }
    }
}

impl Act {
    pub const ALL: [Act; 2] = [Act::Resubmit, Act::Discard];

    pub fn as_str(self) -> &'static str {
        match self {
            Act::Resubmit => "resubmit",
            Act::Discard => "discard",
        }
    }
}
