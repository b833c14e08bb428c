//! When is a question the same as one already answered, and for how long does the answer hold?
//!
//! The key is a full SHA-256 over every field the policy can read, each with its length, and always
//! over tenant, policy revision and constitution, so no sender's answer serves another.

use std::{cell::RefCell, collections::BTreeMap, sync::Arc, time::Duration};

use moka::sync::Cache;
use sha2::{Digest, Sha256};

use super::{Decision, Obligations, Party, Question, reads::Fields};
use crate::domain::{ConversationLabel, MessageId, Recipient, Value};

/// SHA-256 of what the policy can read of a question.
pub type Key = [u8; 32];

/// Answers, bounded in number, bytes and age.
pub struct DecisionCache {
    entries: Cache<Key, Arc<Decision>>,
}

impl DecisionCache {
    /// Entries of usual size; one with long reasons counts as several.
    pub const ENTRIES_MAX: u64 = 65_536;
    /// It bounds what is kept of who is gone, no more: whatever an answer depends on is in its key.
    pub const TTL: Duration = Duration::from_secs(3600);

    pub fn get(&self, key: &Key) -> Option<Arc<Decision>> {
        self.entries.get(key)
    }

    pub fn insert(&self, key: Key, decision: Arc<Decision>) {
        self.entries.insert(key, decision);
    }

    pub fn clear(&self) {
        self.entries.invalidate_all();
        // Else what is forgotten goes with the next messages, and there may be none.
        self.entries.run_pending_tasks();
    }

    /// About how many there are.
    pub fn len(&self) -> u64 {
        self.entries.entry_count()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for DecisionCache {
    fn default() -> Self {
        let entries = Cache::builder()
            .max_capacity(Self::ENTRIES_MAX)
            .weigher(|_, decision: &Arc<Decision>| weight(decision))
            .time_to_live(Self::TTL)
            .build();
        Self { entries }
    }
}

/// One for each 128 bytes of text, so that long answers cannot fill the memory.
fn weight(decision: &Decision) -> u32 {
    let bytes: usize = match decision {
        Decision::Allowed(obligations) => {
            let Obligations { redact, rates, notes, labels, .. } = obligations;
            let names = redact.iter().chain(rates.keys()).chain(notes.keys()).chain(notes.values());
            names.map(String::len).chain(labels.iter().map(|label| label.as_str().len())).sum()
        }
        Decision::Denied { reasons } => reasons.iter().map(String::len).sum(),
    };
    u32::try_from(1 + bytes / 128).unwrap_or(u32::MAX)
}

thread_local! {
    // One per thread: a key is made without allocating, and never across an await.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Bytes of a message whose content makes up a key: it is hashed on a thread of the runtime, and no two
/// large contents are the same but for repeats, which have their verdict from elsewhere.
const KEYED_BYTES_MAX: usize = 16 * 1024;

/// Whether a key of the question is quickly made.
pub(super) fn is_small(question: &Question<'_>, fields: Fields) -> bool {
    let large = fields.contains(Fields::CONTENT) || fields.contains(Fields::METADATA);
    !large || question.size <= KEYED_BYTES_MAX
}

/// A buffer that once held a large content is not kept.
const BUFFER_KEPT_MAX: usize = 16 * 1024;

/// The key of a question under a policy that can read `fields` of it.
pub fn key(question: &Question<'_>, revision: &str, fields: Fields) -> Key {
    BUFFER.with_borrow_mut(|buffer| {
        buffer.clear();
        write(buffer, question, revision, fields);
        let key = Sha256::digest(&*buffer).into();
        if buffer.capacity() > BUFFER_KEPT_MAX {
            *buffer = Vec::new();
        }
        key
    })
}

/// Of what is hashed. Nodes of two versions share answers: who hashes otherwise takes another number.
const FORM: u8 = 1;

fn write(out: &mut Vec<u8>, question: &Question<'_>, revision: &str, fields: Fields) {
    let message = question.message;
    out.push(FORM);
    text(out, question.tenant.id.as_str());
    text(out, revision);
    out.extend_from_slice(&message.constitution.to_bytes());
    if fields.contains(Fields::TYPE) {
        text(out, message.message_type.as_str());
    }
    if fields.contains(Fields::PRIORITY) {
        text(out, message.priority.as_str());
    }
    if fields.contains(Fields::TO) {
        recipient(out, &message.to);
    }
    if fields.contains(Fields::TOOLS) {
        list(out, message.tools.iter().map(String::as_str));
    }
    if fields.contains(Fields::CONTENT) {
        map(out, &message.content);
    }
    if fields.contains(Fields::METADATA) {
        pairs(out, &message.metadata);
    }
    if fields.contains(Fields::SIZE) {
        out.extend_from_slice(&question.size.to_le_bytes());
    }
    party(
        out,
        question.sender,
        fields,
        [Fields::SENDER_ID, Fields::SENDER_ROLES, Fields::SENDER_CAPABILITIES, Fields::SENDER_REGISTERED],
    );
    // `registered` is no part of what the policy sees of a recipient.
    party(
        out,
        question.recipient,
        fields,
        [Fields::RECIPIENT_ID, Fields::RECIPIENT_ROLES, Fields::RECIPIENT_CAPABILITIES, Fields::NONE],
    );
    if fields.contains(Fields::TENANT_LABELS) {
        pairs(out, &question.tenant.labels);
    }
    if fields.contains(Fields::CONVERSATION_ID) {
        list(out, message.conversation_id.iter().map(MessageId::as_str));
    }
    if fields.contains(Fields::CONVERSATION_LABELS) {
        count(out, usize::from(question.labels.is_some()));
        question
            .labels
            .into_iter()
            .for_each(|labels| list(out, labels.iter().map(ConversationLabel::as_str)));
    }
}

fn party(
    out: &mut Vec<u8>,
    party: Party<'_>,
    fields: Fields,
    [id, roles, capabilities, registered]: [Fields; 4],
) {
    if fields.contains(id) {
        text(out, party.id.as_str());
    }
    if fields.contains(roles) {
        list(out, party.roles.iter().map(String::as_str));
    }
    if fields.contains(capabilities) {
        list(out, party.capabilities.iter().map(|capability| capability.as_str()));
    }
    if registered != Fields::NONE && fields.contains(registered) {
        out.push(u8::from(party.registered));
    }
}

fn recipient(out: &mut Vec<u8>, to: &Recipient) {
    match to {
        Recipient::Agent(agent) => {
            out.push(0);
            text(out, agent.as_str());
        }
        Recipient::Capability(capability) => {
            out.push(1);
            text(out, capability.as_str());
        }
        Recipient::Broadcast(filter) => {
            out.push(2);
            list(out, filter.capability.iter().map(|capability| capability.as_str()));
            list(out, filter.role.iter().map(String::as_str));
        }
    }
}

fn count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&count.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    count(out, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn list<'a>(out: &mut Vec<u8>, items: impl ExactSizeIterator<Item = &'a str>) {
    count(out, items.len());
    items.for_each(|item| text(out, item));
}

fn pairs(out: &mut Vec<u8>, map: &BTreeMap<String, String>) {
    count(out, map.len());
    for (name, value) in map {
        text(out, name);
        text(out, value);
    }
}

fn map(out: &mut Vec<u8>, map: &BTreeMap<String, Value>) {
    count(out, map.len());
    for (name, item) in map {
        text(out, name);
        value(out, item);
    }
}

/// The decoder bounds the depth.
fn value(out: &mut Vec<u8>, item: &Value) {
    match item {
        Value::Null => out.push(0),
        Value::Bool(bool) => out.extend_from_slice(&[1, u8::from(*bool)]),
        Value::Int(int) => {
            out.push(2);
            out.extend_from_slice(&int.to_le_bytes());
        }
        Value::Float(float) => {
            out.push(3);
            out.extend_from_slice(&float.to_bits().to_le_bytes());
        }
        Value::Text(string) => {
            out.push(4);
            text(out, string);
        }
        Value::List(items) => {
            out.push(5);
            count(out, items.len());
            items.iter().for_each(|item| value(out, item));
        }
        Value::Map(entries) => {
            out.push(6);
            map(out, entries);
        }
    }
}
