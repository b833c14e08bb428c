//! What fields a message has on the wire, and its canonical form.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use super::{
    DecodeError, Limits, Stamp,
    error::{Place, Shown},
    fields::{
        at_most, body, id, int, list, map, millis, once, required, role, short_text, text, tool, unknown,
        word,
    },
    reader::{Read, Reader, entries, skip},
    writer::{Writer, int_field, text_field},
};
use crate::domain::{
    BroadcastFilter, ConstitutionHash, Encoding, Message, MessageId, MessageType, Priority, Recipient,
    Timestamp, Value,
};

/// The one version of the message's fields so far.
const SCHEMA: i128 = 1;

#[derive(Default)]
struct Fields {
    constitution: Option<ConstitutionHash>,
    content: Option<BTreeMap<String, Value>>,
    conversation_id: Option<MessageId>,
    created_at: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    from_agent: Option<()>,
    in_reply_to: Option<MessageId>,
    message_id: Option<MessageId>,
    message_type: Option<MessageType>,
    metadata: Option<BTreeMap<String, String>>,
    priority: Option<Priority>,
    schema: Option<()>,
    tenant_id: Option<()>,
    to: Option<Recipient>,
    tools: Option<BTreeSet<String>>,
}

pub(super) fn read<'a>(mut reader: impl Reader<'a>, stamp: Stamp<'_>, limits: &Limits) -> Read<Message> {
    let r = &mut reader;
    let mut f = Fields::default();
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "constitutional_hash" => {
                once(r, &mut fields, &mut f.constitution, "constitutional_hash", |r, name| id(r, name))?
            }
            "content" => once(r, &mut fields, &mut f.content, "content", |r, name| {
                let content = map(r, name)?;
                entries(r, content).map_err(|error| error.within(name))
            })?,
            "conversation_id" => {
                once(r, &mut fields, &mut f.conversation_id, "conversation_id", |r, name| id(r, name))?
            }
            "created_at" => once(r, &mut fields, &mut f.created_at, "created_at", |r, name| millis(r, name))?,
            "expires_at" => once(r, &mut fields, &mut f.expires_at, "expires_at", |r, name| millis(r, name))?,
            "from_agent" => {
                once(r, &mut fields, &mut f.from_agent, "from_agent", |r, name| from_agent(r, name, stamp))?
            }
            "in_reply_to" => once(r, &mut fields, &mut f.in_reply_to, "in_reply_to", |r, name| id(r, name))?,
            "message_id" => once(r, &mut fields, &mut f.message_id, "message_id", |r, name| id(r, name))?,
            "message_type" => once(r, &mut fields, &mut f.message_type, "message_type", |r, name| {
                word(r, name, MessageType::WORDS, MessageType::parse)
            })?,
            "metadata" => {
                once(r, &mut fields, &mut f.metadata, "metadata", |r, name| metadata(r, name, limits))?
            }
            "priority" => once(r, &mut fields, &mut f.priority, "priority", |r, name| {
                word(r, name, Priority::WORDS, Priority::parse)
            })?,
            "schema" => once(r, &mut fields, &mut f.schema, "schema", |r, name| schema(r, name))?,
            "tenant_id" => {
                once(r, &mut fields, &mut f.tenant_id, "tenant_id", |r, name| tenant_id(r, name, stamp))?
            }
            "to" => once(r, &mut fields, &mut f.to, "to", |r, name| recipient(r, name))?,
            "tools" => once(r, &mut fields, &mut f.tools, "tools", |r, name| tools(r, name, limits))?,
            other => return unknown("the message", other),
        }
    }
    r.finish()?;
    let content = required(f.content, "content")?;
    if content.is_empty() {
        return Err(DecodeError::EmptyContent);
    }
    Ok(Message {
        id: required(f.message_id, "message_id")?,
        tenant: stamp.tenant.clone(),
        sender: stamp.sender.clone(),
        conversation_id: f.conversation_id,
        in_reply_to: f.in_reply_to,
        message_type: required(f.message_type, "message_type")?,
        to: required(f.to, "to")?,
        priority: f.priority.unwrap_or(Priority::Normal),
        constitution: f.constitution.ok_or(DecodeError::ConstitutionalHashMissing)?,
        content,
        tools: f.tools.unwrap_or_default(),
        metadata: f.metadata.unwrap_or_default(),
        created_at: required(f.created_at, "created_at")?,
        expires_at: f.expires_at,
    })
}

/// The message's id, if a body that was refused for another reason lets it be known.
pub(super) fn read_id<'a>(mut reader: impl Reader<'a>) -> Option<MessageId> {
    let r = &mut reader;
    let mut fields = body(r).ok()?;
    while let Some(key) = r.key(&mut fields).ok()? {
        if key == "message_id" {
            return id(r, "message_id").ok();
        }
        skip(r).ok()?;
    }
    None
}

fn tenant_id<'a>(r: &mut impl Reader<'a>, field: &'static str, stamp: Stamp<'_>) -> Read<()> {
    let said = text(r, field)?;
    if said == stamp.tenant.as_str() {
        Ok(())
    } else {
        Err(DecodeError::TenantMismatch { found: Shown::new(&said) })
    }
}

fn from_agent<'a>(r: &mut impl Reader<'a>, field: &'static str, stamp: Stamp<'_>) -> Read<()> {
    let said = text(r, field)?;
    if said == stamp.sender.as_str() {
        Ok(())
    } else {
        Err(DecodeError::SenderMismatch { found: Shown::new(&said) })
    }
}

fn schema<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<()> {
    match int(r, field)? {
        SCHEMA => Ok(()),
        found => Err(DecodeError::UnsupportedSchema { found, supported: SCHEMA }),
    }
}

fn recipient<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<Recipient> {
    let (mut agent, mut capability, mut broadcast) = (None, None, None);
    let mut fields = map(r, field)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "agent" => once(r, &mut fields, &mut agent, "to.agent", |r, name| id(r, name))?,
            "capability" => once(r, &mut fields, &mut capability, "to.capability", |r, name| id(r, name))?,
            "broadcast" => once(r, &mut fields, &mut broadcast, "to.broadcast", |r, name| filter(r, name))?,
            other => return unknown("to", other),
        }
    }
    match (agent, capability, broadcast) {
        (Some(agent), None, None) => Ok(Recipient::Agent(agent)),
        (None, Some(capability), None) => Ok(Recipient::Capability(capability)),
        (None, None, Some(filter)) => Ok(Recipient::Broadcast(filter)),
        (agent, capability, broadcast) => Err(DecodeError::Recipients {
            found: usize::from(agent.is_some())
                + usize::from(capability.is_some())
                + usize::from(broadcast.is_some()),
        }),
    }
}

fn filter<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<BroadcastFilter> {
    let mut filter = BroadcastFilter::default();
    let mut fields = map(r, field)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "capability" => {
                once(r, &mut fields, &mut filter.capability, "to.broadcast.capability", |r, name| {
                    id(r, name)
                })?
            }
            "role" => once(r, &mut fields, &mut filter.role, "to.broadcast.role", |r, name| role(r, name))?,
            other => return unknown("to.broadcast", other),
        }
    }
    Ok(filter)
}

/// A word given twice counts once: what is asked for is the same.
fn tools<'a>(r: &mut impl Reader<'a>, field: &'static str, limits: &Limits) -> Read<BTreeSet<String>> {
    let mut tools = BTreeSet::new();
    let mut listed = list(r, field)?;
    let mut found = 0;
    while r.more(&mut listed)? {
        found += 1;
        at_most(field, "entries", found, limits.tools)?;
        tools.insert(tool(r, Place::Item(field, found - 1))?);
    }
    Ok(tools)
}

fn metadata<'a>(
    r: &mut impl Reader<'a>,
    field: &'static str,
    limits: &Limits,
) -> Read<BTreeMap<String, String>> {
    let mut metadata = BTreeMap::new();
    let mut listed = map(r, field)?;
    while let Some(key) = r.key(&mut listed)? {
        at_most(field, "entries", metadata.len() + 1, limits.metadata_entries)?;
        let place = Place::Entry(field, &key);
        at_most("metadata key", "bytes", key.len(), limits.metadata_key_bytes)?;
        if metadata.contains_key(key.as_ref()) {
            return Err(DecodeError::DuplicateKey { key: Shown::new(&key) }.within(field));
        }
        let value = short_text(r, place, limits.metadata_value_bytes)?;
        metadata.insert(key.into_owned(), value.into_owned());
    }
    Ok(metadata)
}

/// A written message, and where what is in it.
pub(super) struct Written {
    pub(super) bytes: Vec<u8>,
    pub(super) content_bytes: usize,
    /// Where the fields begin, after their number.
    fields: usize,
    /// `created_at` and `expires_at`, which are neighbours.
    times: Range<usize>,
}

impl Written {
    /// All fields but the times. Their number is not in it: it would tell whether there is an end.
    pub(super) fn without_times(&self) -> [&[u8]; 2] {
        let part = |range: Range<usize>| self.bytes.get(range).unwrap_or_default();
        [part(self.fields..self.times.start), part(self.times.end..self.bytes.len())]
    }
}

/// Writes all fields of a message, keys in bytewise order and defaults applied. In MessagePack that
/// is the canonical form; an absent optional field and an empty `tools` or `metadata` are left out.
pub(super) fn write(message: &Message, encoding: Encoding, capacity: usize) -> Written {
    // Always there: hash, content, created_at, from_agent, message_id, message_type, priority,
    // schema, tenant_id, to.
    const ALWAYS: usize = 10;
    // Taken apart, so that a new field of the domain cannot be forgotten here.
    let Message {
        id,
        tenant,
        sender,
        conversation_id,
        in_reply_to,
        message_type,
        to,
        priority,
        constitution,
        content,
        tools,
        metadata,
        created_at,
        expires_at,
    } = message;
    let mut w = Writer::new(encoding, capacity);
    w.map(
        ALWAYS
            + usize::from(conversation_id.is_some())
            + usize::from(in_reply_to.is_some())
            + usize::from(expires_at.is_some())
            + usize::from(!tools.is_empty())
            + usize::from(!metadata.is_empty()),
    );
    let fields = w.len();
    text_field(&mut w, "constitutional_hash", &constitution.to_string());
    w.key("content");
    let content_from = w.len();
    w.entries(content);
    let content_bytes = w.len() - content_from;
    if let Some(conversation_id) = conversation_id {
        text_field(&mut w, "conversation_id", conversation_id.as_str());
    }
    let times_from = w.len();
    int_field(&mut w, "created_at", created_at.0);
    if let Some(expires_at) = expires_at {
        int_field(&mut w, "expires_at", expires_at.0);
    }
    let times = times_from..w.len();
    text_field(&mut w, "from_agent", sender.as_str());
    if let Some(in_reply_to) = in_reply_to {
        text_field(&mut w, "in_reply_to", in_reply_to.as_str());
    }
    text_field(&mut w, "message_id", id.as_str());
    text_field(&mut w, "message_type", message_type.as_str());
    if !metadata.is_empty() {
        w.key("metadata");
        w.map(metadata.len());
        for (key, value) in metadata {
            w.any_key(key);
            w.text(value);
        }
        w.end_map();
    }
    text_field(&mut w, "priority", priority.as_str());
    w.key("schema");
    w.int(SCHEMA);
    text_field(&mut w, "tenant_id", tenant.as_str());
    w.key("to");
    write_recipient(&mut w, to);
    if !tools.is_empty() {
        w.key("tools");
        w.list(tools.len());
        for tool in tools {
            w.text(tool);
        }
        w.end_list();
    }
    w.end_map();
    Written { bytes: w.into_bytes(), content_bytes, fields, times }
}

fn write_recipient(w: &mut Writer, to: &Recipient) {
    w.map(1);
    match to {
        Recipient::Agent(agent) => text_field(w, "agent", agent.as_str()),
        Recipient::Capability(capability) => text_field(w, "capability", capability.as_str()),
        Recipient::Broadcast(BroadcastFilter { capability, role }) => {
            w.key("broadcast");
            w.map(usize::from(capability.is_some()) + usize::from(role.is_some()));
            if let Some(capability) = capability {
                text_field(w, "capability", capability.as_str());
            }
            if let Some(role) = role {
                text_field(w, "role", role);
            }
            w.end_map();
        }
    }
    w.end_map();
}
