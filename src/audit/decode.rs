//! How a record is read: of either schema, in either encoding. What is unknown is skipped, since another version may
//! have written it.

use std::{borrow::Cow, collections::BTreeSet};

use super::record::{
    Act, Body, Change, DeadLetter, Decision, Kind, Link, Record, Recovery, Registration, Step, Threshold,
    Vote,
};
use crate::{
    domain::{
        AgentId, CapabilityId, Cause, Choice, DeliberationId, Encoding, Judgement, MessageId, MessageType,
        TenantId, Timestamp, Verdict,
    },
    wire::{
        DecodeError, Limits, check_size, encoding_of,
        fields::{body, count, id, map, millis, number, once, required, word},
        json::Json,
        msgpack::MessagePack,
        reader::{Open, Read, Reader, skip},
        verdict::{owned, read_verdict},
    },
};

mod cause;
mod facts;
mod steps;

use cause::cause;
use facts::{FactsRead, each, facts, ids};
use steps::steps;

/// Reads a record back.
pub fn decode(bytes: &[u8]) -> Result<Record<'static>, DecodeError> {
    // A broadcast's recipients are all listed, and several records stand in a batch.
    let limits = Limits { request_bytes: 1024 * 1024, values: 65_536, ..Limits::default() };
    check_size(bytes, &limits)?;
    match encoding_of(bytes) {
        Encoding::MessagePack => read(MessagePack::new(bytes, &limits)),
        Encoding::Json => read(Json::new(bytes, &limits)?),
    }
}

fn read<'a>(mut reader: impl Reader<'a>) -> Read<Record<'static>> {
    let map = body(&mut reader)?;
    let fields = Fields::read(&mut reader, map, Depth::Record)?;
    reader.finish()?;
    fields.record(None)
}

/// Records within a batch hold none themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    Record,
    WithinBatch,
}

/// The fields of every kind, as far as they are there.
#[derive(Default)]
struct Fields {
    kind: Option<Kind>,
    id: Option<String>,
    at: Option<Timestamp>,
    tenant: Option<TenantId>,
    node: Option<String>,
    seq: Option<u64>,
    prev: Option<[u8; 32]>,
    sender: Option<AgentId>,
    message_type: Option<MessageType>,
    /// In hex: a vote has whichever its voter has named.
    digest: Option<String>,
    recipients: Option<Vec<AgentId>>,
    verdict: Option<Verdict>,
    facts: Option<FactsRead>,
    submitted_as: Option<String>,
    stages_us: Option<Vec<u64>>,
    cause: Option<Cause>,
    voter: Option<AgentId>,
    deliberation: Option<DeliberationId>,
    choice: Option<Choice>,
    comment: Option<String>,
    result: Option<String>,
    judgement: Option<Judgement>,
    detail: Option<String>,
    from: Option<f64>,
    to: Option<f64>,
    reason: Option<String>,
    agent: Option<AgentId>,
    change: Option<Change>,
    capabilities: Option<BTreeSet<CapabilityId>>,
    changes: Option<u64>,
    message: Option<MessageId>,
    act: Option<Act>,
    by: Option<String>,
    login: Option<String>,
    over_ms: Option<u64>,
    steps: Option<Vec<Step>>,
    records: Option<Vec<Fields>>,
}

impl Fields {
    fn read<'a, R: Reader<'a>>(r: &mut R, mut of: Open, depth: Depth) -> Read<Self> {
        let mut f = Self::default();
        while let Some(key) = r.key(&mut of)? {
            match key.as_ref() {
                "kind" => once(r, &mut of, &mut f.kind, "kind", kind)?,
                "id" => once(r, &mut of, &mut f.id, "id", |r, name| owned(r, name))?,
                "at" => once(r, &mut of, &mut f.at, "at", |r, name| millis(r, name))?,
                "tenant" => once(r, &mut of, &mut f.tenant, "tenant", |r, name| id(r, name))?,
                "node" => once(r, &mut of, &mut f.node, "node", |r, name| owned(r, name))?,
                "seq" => once(r, &mut of, &mut f.seq, "seq", |r, name| count(r, name))?,
                "prev" => once(r, &mut of, &mut f.prev, "prev", hash)?,
                "sender" => once(r, &mut of, &mut f.sender, "sender", |r, name| id(r, name))?,
                "message_type" => once(r, &mut of, &mut f.message_type, "message_type", message_type)?,
                "digest" => once(r, &mut of, &mut f.digest, "digest", |r, name| owned(r, name))?,
                "recipients" => once(r, &mut of, &mut f.recipients, "recipients", ids)?,
                "verdict" => once(r, &mut of, &mut f.verdict, "verdict", |r, name| {
                    let fields = map(r, name)?;
                    read_verdict(r, fields)
                })?,
                "facts" => once(r, &mut of, &mut f.facts, "facts", facts)?,
                "submitted_as" => {
                    once(r, &mut of, &mut f.submitted_as, "submitted_as", |r, name| owned(r, name))?;
                }
                "stages_us" => once(r, &mut of, &mut f.stages_us, "stages_us", |r, name| {
                    each(r, name, |r| count(r, name))
                })?,
                "cause" => once(r, &mut of, &mut f.cause, "cause", cause)?,
                "voter" => once(r, &mut of, &mut f.voter, "voter", |r, name| id(r, name))?,
                "deliberation_id" => {
                    once(r, &mut of, &mut f.deliberation, "deliberation_id", |r, name| id(r, name))?;
                }
                "choice" => once(r, &mut of, &mut f.choice, "choice", choice)?,
                "comment" => once(r, &mut of, &mut f.comment, "comment", |r, name| owned(r, name))?,
                "result" => once(r, &mut of, &mut f.result, "result", |r, name| owned(r, name))?,
                "judgement" => once(r, &mut of, &mut f.judgement, "judgement", judgement)?,
                "detail" => once(r, &mut of, &mut f.detail, "detail", |r, name| owned(r, name))?,
                "from" => once(r, &mut of, &mut f.from, "from", |r, name| number(r, name))?,
                "to" => once(r, &mut of, &mut f.to, "to", |r, name| number(r, name))?,
                "reason" => once(r, &mut of, &mut f.reason, "reason", |r, name| owned(r, name))?,
                "agent" => once(r, &mut of, &mut f.agent, "agent", |r, name| id(r, name))?,
                "change" => once(r, &mut of, &mut f.change, "change", change)?,
                "capabilities" => once(r, &mut of, &mut f.capabilities, "capabilities", |r, name| {
                    Ok(ids(r, name)?.into_iter().collect())
                })?,
                "changes" => once(r, &mut of, &mut f.changes, "changes", |r, name| count(r, name))?,
                "message_id" => once(r, &mut of, &mut f.message, "message_id", |r, name| id(r, name))?,
                "act" => once(r, &mut of, &mut f.act, "act", act)?,
                "by" => once(r, &mut of, &mut f.by, "by", |r, name| owned(r, name))?,
                "login" => once(r, &mut of, &mut f.login, "login", |r, name| owned(r, name))?,
                "over_ms" => once(r, &mut of, &mut f.over_ms, "over_ms", |r, name| count(r, name))?,
                "steps" => once(r, &mut of, &mut f.steps, "steps", steps)?,
                "records" if depth == Depth::Record => {
                    once(r, &mut of, &mut f.records, "records", |r, name| {
                        each(r, name, |r| {
                            let within = map(r, "records")?;
                            Self::read(r, within, Depth::WithinBatch)
                        })
                    })?;
                }
                _ => skip(r)?,
            }
        }
        Ok(f)
    }

    /// `batch`: tenant and node of the batch that it stands in.
    fn record(self, batch: Option<(&TenantId, &str)>) -> Read<Record<'static>> {
        let tenant = self.tenant.clone().or(batch.map(|(tenant, _)| tenant.clone()));
        // Of decisions, schema 1 has it in the verdict alone.
        let node = self.node.clone().or(batch.map(|(_, node)| node.to_owned()));
        let node = node.or_else(|| self.verdict.as_ref().map(|verdict| verdict.node.clone()));
        let (tenant, node) = (required(tenant, "tenant")?, required(node, "node")?);
        let link = match (self.seq, self.prev) {
            (Some(seq), Some(prev)) => Some(Link { seq, prev }),
            _ => None,
        };
        let (id, at) = (self.id.clone().map(Cow::Owned), required(self.at, "at")?);
        let body = match required(self.kind, "kind")? {
            Kind::Intent => Body::Intent(self.decision()?),
            Kind::Verdict => Body::Verdict(self.decision()?),
            Kind::Vote => Body::Vote(self.vote()?),
            Kind::Threshold => Body::Threshold(self.threshold()?),
            Kind::Registration => Body::Registration(self.registration()?),
            Kind::DeadLetter => Body::DeadLetter(self.dead_letter()?),
            Kind::Recovery => Body::Recovery(Recovery {
                over_ms: required(self.over_ms, "over_ms")?,
                steps: Cow::Owned(required(self.steps, "steps")?),
            }),
            Kind::Batch => {
                let records = required(self.records, "records")?.into_iter();
                let records = records.map(|within| within.record(Some((&tenant, &node))));
                Body::Batch(records.collect::<Read<_>>()?)
            }
        };
        Ok(Record { id, at, tenant: Cow::Owned(tenant), node: Cow::Owned(node), link, body })
    }

    fn decision(self) -> Read<Decision<'static>> {
        let sender = required(self.sender, "sender")?;
        let verdict = required(self.verdict, "verdict")?;
        let facts = self.facts.map(|facts| facts.of(&sender, &verdict)).transpose()?;
        Ok(Decision {
            sender: Cow::Owned(sender),
            message_type: self.message_type,
            digest: self.digest.as_deref().and_then(from_hex),
            recipients: Cow::Owned(self.recipients.unwrap_or_default()),
            verdict: Cow::Owned(verdict),
            facts,
            submitted_as: self.submitted_as.map(Cow::Owned),
            stages_us: Cow::Owned(self.stages_us.unwrap_or_default()),
            cause: self.cause.map(Cow::Owned),
        })
    }

    fn vote(self) -> Read<Vote<'static>> {
        Ok(Vote {
            voter: Cow::Owned(required(self.voter, "voter")?),
            deliberation: Cow::Owned(required(self.deliberation, "deliberation_id")?),
            choice: required(self.choice, "choice")?,
            digest: Cow::Owned(required(self.digest, "digest")?),
            comment: Cow::Owned(self.comment.unwrap_or_default()),
            result: Cow::Owned(required(self.result, "result")?),
            judgement: self.judgement,
            detail: Cow::Owned(required(self.detail, "detail")?),
        })
    }

    fn threshold(self) -> Read<Threshold<'static>> {
        Ok(Threshold {
            deliberation: Cow::Owned(required(self.deliberation, "deliberation_id")?),
            from: required(self.from, "from")?,
            to: required(self.to, "to")?,
            reason: Cow::Owned(required(self.reason, "reason")?),
        })
    }

    fn registration(self) -> Read<Registration<'static>> {
        Ok(Registration {
            agent: Cow::Owned(required(self.agent, "agent")?),
            change: required(self.change, "change")?,
            capabilities: Cow::Owned(self.capabilities.unwrap_or_default()),
            changes: self.changes.unwrap_or(1),
        })
    }

    fn dead_letter(self) -> Read<DeadLetter<'static>> {
        Ok(DeadLetter {
            sender: self.sender.map(Cow::Owned),
            message: self.message.map(Cow::Owned),
            digest: self.digest.as_deref().and_then(from_hex),
            act: required(self.act, "act")?,
            reason: Cow::Owned(required(self.reason, "reason")?),
            by: Cow::Owned(required(self.by, "by")?),
            login: self.login.map(Cow::Owned),
        })
    }
}

fn kind<'a>(r: &mut impl Reader<'a>, name: &'static str) -> Read<Kind> {
    const KINDS: &[&str] =
        &["intent", "verdict", "vote", "threshold", "registration", "dead_letter", "recovery", "batch"];
    word(r, name, KINDS, |word| Kind::ALL.into_iter().find(|kind| kind.as_str() == word))
}

fn change<'a>(r: &mut impl Reader<'a>, name: &'static str) -> Read<Change> {
    word(r, name, &["registered", "changed", "left"], |word| {
        Change::ALL.into_iter().find(|change| change.as_str() == word)
    })
}

fn act<'a>(r: &mut impl Reader<'a>, name: &'static str) -> Read<Act> {
    word(r, name, &["resubmit", "discard"], |word| Act::ALL.into_iter().find(|act| act.as_str() == word))
}

fn choice<'a>(r: &mut impl Reader<'a>, name: &'static str) -> Read<Choice> {
    word(r, name, &["approve", "reject"], |word| {
        [Choice::Approve, Choice::Reject].into_iter().find(|choice| choice.as_str() == word)
    })
}

fn judgement<'a>(r: &mut impl Reader<'a>, name: &'static str) -> Read<Judgement> {
    word(r, name, &["approved", "denied", "expired"], |word| {
        Judgement::ALL.iter().copied().find(|judgement| judgement.as_str() == word)
    })
}

fn message_type<'a>(r: &mut impl Reader<'a>, name: &'static str) -> Read<MessageType> {
    word(r, name, &["a message type of this version"], MessageType::parse)
}

fn hash<'a>(r: &mut impl Reader<'a>, name: &'static str) -> Read<[u8; 32]> {
    word(r, name, &["64 hexadecimal digits"], from_hex)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok().map(|()| bytes)
}
