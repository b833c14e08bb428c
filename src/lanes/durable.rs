//! What the durable lane keeps, as the lanes see it: a foreign boundary. `nats::JetStreamLane` is the
//! one over JetStream.
//!
//! Once, without Redis: of all that is ever stored for one message (tenant, sender, id), the first wins
//! by compare-and-set, be it a delivery or a verdict. Who comes second reads what the first has stored.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;

use super::live::Delivery;
use crate::{
    audit,
    domain::{AgentId, Cause, Encoding, TenantId, Verdict},
    governance::Precondition,
    state::{Digest, MessageKey},
};

#[async_trait]
pub trait DurableLane: Send + Sync {
    /// Counts a message of so many bytes that its sender wants to have stored for those whom it names, if the durable
    /// inboxes have room for it, or it is a repeat. What was let in is stored without being asked again.
    async fn room(&self, key: &MessageKey, to: &[AgentId], bytes: usize) -> Result<(), LaneError>;

    /// Those of these recipients that have so much in their durable inboxes that the rest is for others, each with why.
    async fn crowded(&self, tenant: &TenantId, to: &[AgentId]) -> Vec<(AgentId, LaneError)>;

    /// Keeps a request's bytes to be governed soon, and by which decision it does. Returns when JetStream has them.
    async fn accept(&self, submission: Submission<'_>) -> Result<Accepted, LaneError>;

    /// Puts a message into durable inboxes, unless it was decided before. Returns when it is kept.
    async fn store(&self, write: DurableWrite) -> Result<Stored, LaneError>;

    /// What is stored for this message already.
    async fn evidence(&self, key: &MessageKey) -> Result<Option<Evidence>, LaneError>;

    /// What the sender was told of the reviewers' decision.
    async fn judged(&self, key: &MessageKey) -> Result<Option<Verdict>, LaneError>;

    /// Keeps a verdict for its sender or a voter, and tells those who listen. The first one stands.
    async fn outcome(&self, notice: Notice) -> Result<Noted, LaneError>;

    /// Records a decision and waits until it is kept. What stands in a batch goes there with others of its tenant that
    /// wait.
    async fn record(&self, record: audit::Written) -> Result<(), LaneError>;

    /// Keeps what could not be governed, with all its content, for people.
    async fn dead_letter(&self, letter: DeadLetter) -> Result<(), LaneError>;

    /// Bytes that a delivery's payload may have.
    fn payload_max(&self) -> usize;
}

/// A message that is to be governed later.
#[derive(Debug)]
pub struct Submission<'a> {
    pub key: &'a MessageKey,
    pub digest: &'a Digest,
    pub decision_id: &'a str,
    /// W3C trace context for the node that goes on with it.
    pub traceparent: Option<String>,
    pub payload: Bytes,
}

/// What became of a request to keep a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Accepted {
    New,
    /// The same message was kept before; its verdict, if it has one by now.
    Repeat(Option<Box<Verdict>>),
    /// The id was used before, for another content.
    Conflict,
}

/// One message to one or several durable inboxes.
#[derive(Debug)]
pub struct DurableWrite {
    pub key: MessageKey,
    pub decision_id: String,
    /// At least one.
    pub deliveries: Vec<Delivery>,
    /// A broadcast. Of what an earlier attempt has stored in part, the rest is stored.
    pub to_each: bool,
    /// W3C trace context for the recipient.
    pub traceparent: String,
    /// What led to it, if it says that anything did.
    pub cause: Option<Box<Cause>>,
    pub precondition: Precondition,
    /// [`Evidence::last`] of what was found and does not stand in its way. 0: nothing was, as for most.
    pub after: u64,
    /// Not to be stored after this: by then another node may have decided otherwise.
    pub not_after: Instant,
}

/// Whether a verdict that is stored is the last word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutcomePolicy {
    /// It is: repeats get it.
    Stands,
    /// Another is due: reviewers have decided since, or a person wants the message tried anew.
    Renewed,
}

impl OutcomePolicy {
    pub(super) fn after(precondition: Precondition) -> Self {
        match precondition {
            Precondition::Undecided => Self::Stands,
            Precondition::Undelivered => Self::Renewed,
        }
    }
}

#[derive(Debug, Clone, PartialEq)]
pub enum Stored {
    /// `last`: [`Evidence::last`] from now on.
    Now { last: u64 },
    /// Nothing was stored now: this stands.
    Before(Box<Evidence>),
}

/// What is stored for a message.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    /// Into whose durable inboxes it went.
    pub recipients: Vec<AgentId>,
    /// The decision that delivered it, if it was delivered.
    pub decision_id: Option<String>,
    /// The verdict that its sender was told.
    pub verdict: Option<Verdict>,
    /// Of the content that the verdict is about.
    pub digest: Option<Digest>,
    /// The place of the last that was stored of it: who stores more expects this one to be the last still.
    pub last: u64,
}

/// A verdict for somebody who may be away.
#[derive(Debug)]
pub struct Notice {
    /// Of the message it is about.
    pub key: MessageKey,
    /// In whose durable inbox it is kept.
    pub to: AgentId,
    pub stage: OutcomeStage,
    /// For [`OutcomeStage::Delivered`], [`Evidence::last`] as far as it is known.
    pub after: u64,
    /// As for a write.
    pub not_after: Instant,
    /// Of the message's content. Kept with the sender's own outcome alone: of what is redacted from a
    /// recipient, the digest would tell.
    pub digest: Option<Digest>,
    pub verdict: Verdict,
    pub encoding: Encoding,
}

/// Which of the verdicts of one message. Each is kept once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeStage {
    /// What governing came to. Not kept if the message was delivered or decided before.
    Governed,
    /// The same, for a message that is in its recipient's inbox: it is kept beside the delivery.
    Delivered,
    /// What the reviewers' decision came to.
    Judged,
    /// What stands, for who submitted the message again after JetStream had forgotten it. Each time under a
    /// number of its own.
    Repeated(u64),
    /// What governing came to after a person had redriven it for the n-th time.
    Redriven(u32),
}

#[derive(Debug, Clone, PartialEq)]
pub enum Noted {
    Now,
    /// Something stands already: for [`OutcomeStage::Governed`] a delivery or a verdict, else this verdict.
    Before,
}

/// A message that is given up, with everything to try again.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    /// Tokens of its subject; `~` where they could not be read.
    pub tenant: String,
    pub sender: String,
    pub message: String,
    pub payload: Bytes,
    pub traceparent: Option<String>,
    pub reason: String,
    pub detail: String,
    pub attempts: u64,
    pub redriven: u32,
}

/// Why the lane did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LaneError {
    /// It may be kept or not.
    #[error("JetStream did not confirm in time")]
    Unconfirmed,
    /// The same, of what went in one message with another, which is told so.
    #[error("JetStream did not confirm in time")]
    UnconfirmedBeside,
    /// Nothing was stored: NATS was not reached in time.
    #[error("NATS was not reached in time")]
    Away,
    /// Nothing was stored: the time for it was over.
    #[error("it was too late to store it")]
    TooLate,
    #[error("JetStream has no room: {0}")]
    Full(String),
    /// Others have nothing or little there, and would find no room.
    #[error("{} has {held} bytes in the tenant's durable inboxes, and {left} are left", whose(recipient.as_ref()))]
    ShareStored {
        /// Whose inbox it is; `None`: its sender has sent it.
        recipient: Option<AgentId>,
        held: u64,
        left: u64,
    },
    #[error("JetStream refused: {0}")]
    Refused(String),
    #[error("what is stored could not be read: {0}")]
    Unreadable(String),
    /// It has not answered of late, and was not asked.
    #[error("its breaker is open")]
    BreakerOpen { retry_after: Duration },
}

fn whose(recipient: Option<&AgentId>) -> &str {
    recipient.map_or("the sender", AgentId::as_str)
}
