//! Where does a record stand?

use bytes::Bytes;

use super::{Record, encode};
use crate::{
    domain::{AgentId, DecisionId, DeliberationId, Encoding, MessageId, TenantId},
    state::MessageKey,
};

/// Of what stands by itself: auditors read it with any tool, and nodes of the last version read nothing else.
const WRITTEN: Encoding = Encoding::Json;

/// Stands where no id could be read; no id contains it.
const UNREADABLE: &str = "~";

/// What a node publishes now and then to see that records are stored. A reader passes over it.
pub const PROBE: &str = r#"{"kind":"probe"}"#;
/// A subject that no record has.
pub const PROBE_SUBJECT: &str = "record.~.probe";

/// What the record is about, within its tenant.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A message; or a sender whose request did not say which.
    Message {
        sender: &'a AgentId,
        message: Option<&'a MessageId>,
        /// It is an intent to deliver, or says what became of one. Only the holder of the message's claim writes
        /// there, so the last record tells whether it was sent.
        claimed: bool,
    },
    /// A threshold that a judgement has moved.
    Threshold(&'a DeliberationId),
    /// An agent's entry in the registry.
    Registration(&'a AgentId),
    /// What a node has done to look after itself.
    Recovery,
    /// A message that was given up, as far as its address could be read.
    DeadLetter { sender: Option<&'a AgentId>, message: Option<&'a MessageId> },
}

/// A record in the bytes that are stored, and its subject.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    subject: String,
    payload: Bytes,
}

impl Record<'_> {
    /// As it is published.
    pub fn entry(&self, place: Place<'_>) -> Entry {
        let tenant = &*self.tenant;
        let subject = match place {
            Place::Message { sender, message, claimed } => {
                let message = message.map_or(UNREADABLE, MessageId::as_str);
                let last = if claimed { "intent" } else { "verdict" };
                format!("record.{tenant}.{sender}.{message}.{last}")
            }
            Place::Threshold(deliberation) => {
                format!("record.{tenant}.{UNREADABLE}.{deliberation}.threshold")
            }
            Place::Registration(agent) => format!("record.{tenant}.{agent}.{UNREADABLE}.registration"),
            // A node's name is one token.
            Place::Recovery => format!("record.{tenant}.{UNREADABLE}.{}.recovery", self.node),
            Place::DeadLetter { sender, message } => {
                let sender = sender.map_or(UNREADABLE, AgentId::as_str);
                let message = message.map_or(UNREADABLE, MessageId::as_str);
                format!("record.{tenant}.{sender}.{message}.dead_letter")
            }
        };
        Entry::new(subject, encode(self, WRITTEN))
    }
}

impl Entry {
    pub(super) fn new(subject: String, payload: Vec<u8>) -> Self {
        Self { subject, payload: payload.into() }
    }

    pub fn subject(&self) -> &str {
        &self.subject
    }

    pub fn payload(&self) -> &Bytes {
        &self.payload
    }

    pub fn into_parts(self) -> (String, Bytes) {
        (self.subject, self.payload)
    }
}

/// Where the batch with this decision's record is looked for; without a tenant, whoever's it is.
pub fn batch_subject(tenant: Option<&TenantId>, decision: &DecisionId) -> String {
    let tenant = tenant.map_or("*", TenantId::as_str);
    format!("record.{tenant}.{UNREADABLE}.{}.batch", decision.batch())
}

/// All batches of a tenant.
pub fn batches_of(tenant: &TenantId) -> String {
    format!("record.{tenant}.{UNREADABLE}.*.batch")
}

/// Where the last record is looked for of a claim's holder whose decision stands in no batch.
pub fn intent_subject(key: &MessageKey) -> String {
    format!("record.{}.{}.{}.intent", key.tenant, key.sender, key.message)
}
