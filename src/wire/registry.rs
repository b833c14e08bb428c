//! What the registry's requests and replies look like on the wire.
//!
//! Requests are as strict as messages. An empty body is an empty map, so that a heartbeat can be
//! sent with nothing in it.

use std::{collections::BTreeSet, time::Duration};

use super::{
    DecodeError, Limits,
    about::{About, write_about},
    check_size, encoding_of,
    error::{Place, Shown},
    fields::{
        at_most, body, count, duration_ms, encoding, encoding_word, id, list, once, reason, required,
        short_text, text, unknown, word,
    },
    json::Json,
    msgpack::MessagePack,
    reader::{Read, Reader, skip},
    verdict::millis_up,
    writer::Writer,
};
use crate::{
    domain::{AgentId, AgentRecord, CapabilityId, Encoding, freeze::WHY_BYTES_MAX, unseen::unseen},
    rejection::Rejection,
};

/// Capabilities of one agent in a request or a reply; how many may be registered is another matter
/// ([`RegisterRequest::check`]).
const CAPABILITIES_READ: usize = 64;

/// A request and the encoding its reply is due in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryRequest<T> {
    pub request: T,
    pub encoding: Encoding,
}

/// Be found, for a time to live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisterRequest {
    /// Optional, as in a message: it must be the agent that NATS stamped.
    pub agent: Option<AgentId>,
    pub capabilities: BTreeSet<CapabilityId>,
    /// The encoding the agent wants its inbox in; absent means as the sender wrote it.
    pub encoding: Option<Encoding>,
    pub description: String,
}

impl RegisterRequest {
    /// Labels of one agent, where the operator has not listed those that there are.
    pub const CAPABILITIES_MAX: usize = 16;
    pub const DESCRIPTION_BYTES_MAX: usize = 80;

    /// Refuses what others must not be told of. `named`: all that the operator lets agents register.
    pub fn check(&self, named: Option<&BTreeSet<CapabilityId>>) -> Result<(), DecodeError> {
        let field = "capabilities";
        let (expected, other) = match named {
            Some(named) => {
                let other = self.capabilities.iter().find(|capability| !named.contains(*capability));
                ("one that the operator has listed for the tenant", other)
            }
            None => {
                at_most(field, "entries", self.capabilities.len(), Self::CAPABILITIES_MAX)?;
                (CapabilityId::LABEL, self.capabilities.iter().find(|capability| !capability.is_label()))
            }
        };
        match other {
            Some(other) => Err(DecodeError::BadIdentifier {
                field: field.into(),
                expected,
                found: Shown::new(other.as_str()),
            }),
            None => Ok(()),
        }
    }

    /// What others learn of what an agent has registered, which may be by an earlier rule.
    pub fn disclosed(
        capabilities: &BTreeSet<CapabilityId>,
        named: Option<&BTreeSet<CapabilityId>>,
    ) -> BTreeSet<CapabilityId> {
        match named {
            Some(named) => capabilities.intersection(named).cloned().collect(),
            None => {
                let labels = capabilities.iter().filter(|capability| capability.is_label());
                labels.take(Self::CAPABILITIES_MAX).cloned().collect()
            }
        }
    }

    /// The entry of the agent that NATS says is asking; nobody registers another.
    pub fn into_record(self, sender: AgentId) -> AgentRecord {
        AgentRecord {
            id: sender,
            capabilities: self.capabilities.into(),
            encoding: self.encoding,
            description: self.description,
        }
    }
}

/// Stay registered for another time to live.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeartbeatRequest {
    /// As in [`RegisterRequest`].
    pub agent: Option<AgentId>,
}

/// Stop me.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreezeRequest {
    /// As in [`RegisterRequest`].
    pub agent: Option<AgentId>,
    /// For operators.
    pub why: String,
}

/// Be found no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnregisterRequest {
    /// As in [`RegisterRequest`].
    pub agent: Option<AgentId>,
}

/// Who is there? Both given: both must match. Empty: everybody of the tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FindRequest {
    pub capability: Option<CapabilityId>,
    pub agent: Option<AgentId>,
}

/// The answer to any registry request.
#[derive(Debug, Clone, PartialEq)]
pub enum RegistryReply {
    /// Registered, or renewed: renew again within the time to live.
    Live {
        ttl: Duration,
    },
    /// Done; there is nothing to add.
    Done,
    Found {
        /// In the order given, as many as a reply holds; `total` counts all.
        agents: Vec<FoundAgent>,
        total: usize,
    },
    About(Box<About>),
    Refused(Rejection),
}

/// A live agent that matched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundAgent {
    pub id: AgentId,
    pub capabilities: BTreeSet<CapabilityId>,
}

impl RegistryReply {
    /// Agents listed in one reply, if the bytes suffice.
    pub const AGENTS_MAX: usize = 256;
    /// Bytes of the listed agents: a reply stays well below the server's `max_payload`.
    pub const AGENTS_BYTES_MAX: usize = 128 * 1024;
}

pub fn decode_register(
    bytes: &[u8],
    limits: &Limits,
) -> Result<RegistryRequest<RegisterRequest>, DecodeError> {
    decode(bytes, limits, read_register, read_register)
}

pub fn decode_heartbeat(
    bytes: &[u8],
    limits: &Limits,
) -> Result<RegistryRequest<HeartbeatRequest>, DecodeError> {
    decode(bytes, limits, read_heartbeat, read_heartbeat)
}

pub fn decode_unregister(
    bytes: &[u8],
    limits: &Limits,
) -> Result<RegistryRequest<UnregisterRequest>, DecodeError> {
    decode(bytes, limits, read_unregister, read_unregister)
}

pub fn decode_about(bytes: &[u8], limits: &Limits) -> Result<RegistryRequest<HeartbeatRequest>, DecodeError> {
    decode(bytes, limits, read_about, read_about)
}

pub fn decode_freeze(bytes: &[u8], limits: &Limits) -> Result<RegistryRequest<FreezeRequest>, DecodeError> {
    decode_body(bytes, limits, read_freeze, read_freeze)
}

pub fn decode_find(bytes: &[u8], limits: &Limits) -> Result<RegistryRequest<FindRequest>, DecodeError> {
    decode(bytes, limits, read_find, read_find)
}

pub fn encode_register(request: &RegisterRequest, encoding: Encoding) -> Vec<u8> {
    let RegisterRequest { agent, capabilities, encoding: inbox, description } = request;
    let mut w = Writer::new(encoding, 128);
    w.map(
        1 + usize::from(agent.is_some())
            + usize::from(inbox.is_some())
            + usize::from(!description.is_empty()),
    );
    write_agent(&mut w, agent.as_ref());
    write_capabilities(&mut w, capabilities);
    if !description.is_empty() {
        w.key("description");
        w.text(description);
    }
    if let Some(inbox) = inbox {
        w.key("encoding");
        w.text(encoding_word(*inbox));
    }
    w.end_map();
    w.into_bytes()
}

pub fn encode_heartbeat(request: &HeartbeatRequest, encoding: Encoding) -> Vec<u8> {
    agent_alone(request.agent.as_ref(), encoding)
}

pub fn encode_unregister(request: &UnregisterRequest, encoding: Encoding) -> Vec<u8> {
    agent_alone(request.agent.as_ref(), encoding)
}

pub fn encode_find(request: &FindRequest, encoding: Encoding) -> Vec<u8> {
    let FindRequest { capability, agent } = request;
    let mut w = Writer::new(encoding, 128);
    w.map(usize::from(capability.is_some()) + usize::from(agent.is_some()));
    write_agent(&mut w, agent.as_ref());
    if let Some(capability) = capability {
        w.key("capability");
        w.text(capability.as_str());
    }
    w.end_map();
    w.into_bytes()
}

pub fn encode_registry_reply(reply: &RegistryReply, encoding: Encoding) -> Vec<u8> {
    let mut w = Writer::new(encoding, 256);
    match reply {
        RegistryReply::Live { ttl } => {
            write_ok(&mut w, 1);
            w.key("ttl_ms");
            w.int(millis_up(*ttl));
        }
        RegistryReply::Done => write_ok(&mut w, 0),
        RegistryReply::About(about) => {
            write_ok(&mut w, About::ENTRIES);
            write_about(&mut w, about);
        }
        RegistryReply::Found { agents, total } => {
            write_ok(&mut w, 2);
            w.key("agents");
            let listed = fitting(agents);
            w.list(listed);
            for FoundAgent { id, capabilities } in agents.iter().take(listed) {
                w.map(2);
                w.key("id");
                w.text(id.as_str());
                write_capabilities(&mut w, capabilities);
                w.end_map();
            }
            w.end_list();
            w.key("total");
            w.int(i128::try_from(*total).unwrap_or(i128::MAX));
        }
        RegistryReply::Refused(rejection) => {
            w.map(5 + usize::from(rejection.retry_after.is_some()));
            w.key("status");
            w.text(rejection.status().as_str());
            w.key("code");
            w.int(rejection.reason.code().into());
            w.key("reason");
            w.text(rejection.reason.as_str());
            w.key("detail");
            w.text(&rejection.detail);
            w.key("retryable");
            w.bool(rejection.reason.retryable());
            if let Some(retry_after) = rejection.retry_after {
                w.key("retry_after_ms");
                w.int(millis_up(retry_after));
            }
        }
    }
    w.end_map();
    w.into_bytes()
}

/// Reads a reply in either encoding. Unknown fields are skipped: the node may be newer.
pub fn decode_registry_reply(bytes: &[u8]) -> Result<RegistryReply, DecodeError> {
    // What `fitting` lets through has at most this many values.
    let values = RegistryReply::AGENTS_MAX * (CAPABILITIES_READ + 3) + 64;
    let limits = Limits { values, ..Limits::default() };
    check_size(bytes, &limits)?;
    match encoding_of(bytes) {
        Encoding::MessagePack => read_reply(&mut MessagePack::new(bytes, &limits)),
        Encoding::Json => read_reply(&mut Json::new(bytes, &limits)?),
    }
}

/// An empty body is an empty map. Both encodings' readers are of different types, so the one way of reading is
/// passed twice.
pub(super) fn decode<'a, T: Default>(
    bytes: &'a [u8],
    limits: &Limits,
    msgpack: impl FnOnce(&mut MessagePack<'a>) -> Read<T>,
    json: impl FnOnce(&mut Json<'a>) -> Read<T>,
) -> Read<RegistryRequest<T>> {
    if bytes.is_empty() {
        return Ok(RegistryRequest { request: T::default(), encoding: encoding_of(bytes) });
    }
    decode_body(bytes, limits, msgpack, json)
}

/// The same for what must be there.
pub(super) fn decode_body<'a, T>(
    bytes: &'a [u8],
    limits: &Limits,
    msgpack: impl FnOnce(&mut MessagePack<'a>) -> Read<T>,
    json: impl FnOnce(&mut Json<'a>) -> Read<T>,
) -> Read<RegistryRequest<T>> {
    let encoding = encoding_of(bytes);
    check_size(bytes, limits)?;
    let request = match encoding {
        Encoding::MessagePack => msgpack(&mut MessagePack::new(bytes, limits))?,
        Encoding::Json => json(&mut Json::new(bytes, limits)?)?,
    };
    Ok(RegistryRequest { request, encoding })
}

fn read_register<'a>(r: &mut impl Reader<'a>) -> Read<RegisterRequest> {
    let (mut agent, mut capabilities, mut inbox, mut description) = (None, None, None, None);
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "agent" => once(r, &mut fields, &mut agent, "agent", |r, name| id(r, name))?,
            "capabilities" => {
                once(r, &mut fields, &mut capabilities, "capabilities", |r, name| read_capabilities(r, name))?
            }
            "encoding" => once(r, &mut fields, &mut inbox, "encoding", |r, name| encoding(r, name))?,
            "description" => {
                once(r, &mut fields, &mut description, "description", |r, name| read_description(r, name))?
            }
            other => return unknown("register", other),
        }
    }
    r.finish()?;
    Ok(RegisterRequest {
        agent,
        capabilities: capabilities.unwrap_or_default(),
        encoding: inbox,
        description: description.unwrap_or_default(),
    })
}

fn read_heartbeat<'a>(r: &mut impl Reader<'a>) -> Read<HeartbeatRequest> {
    read_agent(r, "heartbeat").map(|agent| HeartbeatRequest { agent })
}

fn read_about<'a>(r: &mut impl Reader<'a>) -> Read<HeartbeatRequest> {
    read_agent(r, "about").map(|agent| HeartbeatRequest { agent })
}

fn read_freeze<'a>(r: &mut impl Reader<'a>) -> Read<FreezeRequest> {
    let (mut agent, mut why) = (None, None);
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "agent" => once(r, &mut fields, &mut agent, "agent", |r, name| id(r, name))?,
            "why" => once(r, &mut fields, &mut why, "why", |r, name| read_why(r, name))?,
            other => return unknown("freeze", other),
        }
    }
    r.finish()?;
    let why = why.ok_or(DecodeError::MissingField { field: "why" })?;
    Ok(FreezeRequest { agent, why })
}

/// One plain line, for people, that says something.
fn read_why<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<String> {
    let text = plain_line(r, field, WHY_BYTES_MAX)?;
    match text.trim() {
        "" => Err(DecodeError::BadIdentifier {
            field: field.into(),
            expected: "one line that says why",
            found: Shown::new(&text),
        }),
        why => Ok(why.to_owned()),
    }
}

fn read_unregister<'a>(r: &mut impl Reader<'a>) -> Read<UnregisterRequest> {
    read_agent(r, "unregister").map(|agent| UnregisterRequest { agent })
}

/// A map in which nothing but the agent may stand.
fn read_agent<'a>(r: &mut impl Reader<'a>, of: &'static str) -> Read<Option<AgentId>> {
    let mut agent = None;
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "agent" => once(r, &mut fields, &mut agent, "agent", |r, name| id(r, name))?,
            other => return unknown(of, other),
        }
    }
    r.finish()?;
    Ok(agent)
}

fn read_find<'a>(r: &mut impl Reader<'a>) -> Read<FindRequest> {
    let mut find = FindRequest::default();
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "capability" => once(r, &mut fields, &mut find.capability, "capability", |r, name| id(r, name))?,
            "agent" => once(r, &mut fields, &mut find.agent, "agent", |r, name| id(r, name))?,
            other => return unknown("find", other),
        }
    }
    r.finish()?;
    Ok(find)
}

/// One plain line, for people: nothing in it steers a terminal or is drawn as something else.
fn read_description<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<String> {
    plain_line(r, field, RegisterRequest::DESCRIPTION_BYTES_MAX)
}

fn plain_line<'a>(r: &mut impl Reader<'a>, field: &'static str, bytes_max: usize) -> Read<String> {
    let text = short_text(r, field, bytes_max)?;
    if text.chars().all(|c| c == ' ' || c.is_ascii_graphic() || (c.is_alphanumeric() && !unseen(c))) {
        return Ok(text.into_owned());
    }
    let expected = "one line of letters, digits, blanks and ASCII punctuation";
    Err(DecodeError::BadIdentifier { field: field.into(), expected, found: Shown::new(&text) })
}

fn read_capabilities<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<BTreeSet<CapabilityId>> {
    let mut capabilities = BTreeSet::new();
    let mut listed = list(r, field)?;
    let mut found = 0;
    while r.more(&mut listed)? {
        found += 1;
        at_most(field, "entries", found, CAPABILITIES_READ)?;
        capabilities.insert(id(r, Place::Item(field, found - 1))?);
    }
    Ok(capabilities)
}

fn read_reply<'a>(r: &mut impl Reader<'a>) -> Read<RegistryReply> {
    const STATUSES: &[&str] = &["ok", "rejected", "shed"];
    let (mut ok, mut why, mut detail, mut retry_after) = (None, None, None, None);
    let (mut ttl, mut agents, mut total) = (None, None, None);
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "status" => once(r, &mut fields, &mut ok, "status", |r, name| {
                word(r, name, STATUSES, |word| match word {
                    "ok" => Some(true),
                    "rejected" | "shed" => Some(false),
                    _ => None,
                })
            })?,
            "reason" => once(r, &mut fields, &mut why, "reason", |r, name| text(r, name))?,
            "detail" => {
                once(r, &mut fields, &mut detail, "detail", |r, name| text(r, name).map(String::from))?
            }
            "retry_after_ms" => {
                once(r, &mut fields, &mut retry_after, "retry_after_ms", |r, name| duration_ms(r, name))?
            }
            "ttl_ms" => once(r, &mut fields, &mut ttl, "ttl_ms", |r, name| duration_ms(r, name))?,
            "agents" => once(r, &mut fields, &mut agents, "agents", |r, name| read_found(r, name))?,
            "total" => once(r, &mut fields, &mut total, "total", |r, name| count(r, name))?,
            _ => skip(r)?,
        }
    }
    r.finish()?;
    if !required(ok, "status")? {
        // Judged only here: an accepted request has `ok` for it, which is no reason of a verdict.
        let reason = reason("reason", &required(why, "reason")?)?;
        let detail = required(detail, "detail")?;
        return Ok(RegistryReply::Refused(Rejection { reason, detail, retry_after }));
    }
    Ok(match (ttl, agents) {
        (_, Some(agents)) => RegistryReply::Found {
            agents,
            total: usize::try_from(required(total, "total")?).unwrap_or(usize::MAX),
        },
        (Some(ttl), None) => RegistryReply::Live { ttl },
        (None, None) => RegistryReply::Done,
    })
}

fn read_found<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<Vec<FoundAgent>> {
    let mut found = Vec::new();
    let mut listed = list(r, field)?;
    while r.more(&mut listed)? {
        at_most(field, "entries", found.len() + 1, RegistryReply::AGENTS_MAX)?;
        let (mut agent, mut capabilities) = (None, None);
        let mut fields = super::fields::map(r, field)?;
        while let Some(key) = r.key(&mut fields)? {
            match key.as_ref() {
                "id" => once(r, &mut fields, &mut agent, "agents.id", |r, name| id(r, name))?,
                "capabilities" => {
                    once(r, &mut fields, &mut capabilities, "agents.capabilities", |r, name| {
                        read_capabilities(r, name)
                    })?;
                }
                _ => skip(r)?,
            }
        }
        found.push(FoundAgent {
            id: required(agent, "agents.id")?,
            capabilities: capabilities.unwrap_or_default(),
        });
    }
    Ok(found)
}

fn write_ok(w: &mut Writer, more: usize) {
    w.map(3 + more);
    w.key("status");
    w.text("ok");
    w.key("code");
    w.int(200);
    w.key("reason");
    w.text("ok");
}

fn write_capabilities(w: &mut Writer, capabilities: &BTreeSet<CapabilityId>) {
    w.key("capabilities");
    w.list(capabilities.len().min(CAPABILITIES_READ));
    for capability in capabilities.iter().take(CAPABILITIES_READ) {
        w.text(capability.as_str());
    }
    w.end_list();
}

/// How many of the agents, from the first, one reply holds.
fn fitting(agents: &[FoundAgent]) -> usize {
    // Field names, headers and quotes of one agent, and of one capability, in the wider encoding.
    const AGENT_BYTES: usize = 32;
    const CAPABILITY_BYTES: usize = 3;
    let mut bytes = 0;
    agents
        .iter()
        .take(RegistryReply::AGENTS_MAX)
        .take_while(|agent| {
            let capabilities: usize =
                agent.capabilities.iter().map(|it| it.as_str().len() + CAPABILITY_BYTES).sum();
            bytes += agent.id.as_str().len() + capabilities + AGENT_BYTES;
            bytes <= RegistryReply::AGENTS_BYTES_MAX
        })
        .count()
}

fn agent_alone(agent: Option<&AgentId>, encoding: Encoding) -> Vec<u8> {
    let mut w = Writer::new(encoding, 96);
    w.map(usize::from(agent.is_some()));
    write_agent(&mut w, agent);
    w.end_map();
    w.into_bytes()
}

fn write_agent(w: &mut Writer, agent: Option<&AgentId>) {
    if let Some(agent) = agent {
        w.key("agent");
        w.text(agent.as_str());
    }
}
