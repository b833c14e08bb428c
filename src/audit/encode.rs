//! How a record is written, in either encoding: the same fields in the same order.

use std::collections::BTreeSet;

use super::record::{
    Body, DeadLetter, Decision, Facts, Party, Record, Recovery, Registration, SCHEMA, Step, Threshold, Vote,
};
use crate::{
    domain::{AgentId, CapabilityId, Cause, Encoding, Judgement, MessageId, MessageType},
    wire::{
        verdict::write_verdict,
        writer::{Writer, int_field, text_field},
    },
};

/// Bytes of recipients after which no further one is listed.
const FACTS_BYTES: usize = 4 * 1024;

/// Writes a record.
pub fn encode(record: &Record<'_>, encoding: Encoding) -> Vec<u8> {
    let mut w = Writer::new(encoding, 1024);
    write_record(&mut w, record, None);
    w.into_bytes()
}

/// Writes a record as a part of a batch of its tenant and node, in MessagePack.
pub(super) fn encode_part(record: &Record<'_>) -> Vec<u8> {
    let mut w = Writer::new(Encoding::MessagePack, 1024);
    write_record(&mut w, record, Some(record));
    w.into_bytes()
}

/// Writes a batch of records that are written already. `head`: of the batch, without records.
pub(super) fn encode_batch(head: &Record<'_>, records: &[&[u8]]) -> Vec<u8> {
    let bytes = records.iter().map(|record| record.len()).sum::<usize>();
    let mut w = Writer::new(Encoding::MessagePack, 256 + bytes);
    write_envelope(&mut w, head, None);
    write_records(&mut w, records, |w, record| w.written(record));
    w.end_map();
    w.into_bytes()
}

fn write_record(w: &mut Writer, record: &Record<'_>, batch: Option<&Record<'_>>) {
    write_envelope(w, record, batch);
    match &record.body {
        Body::Intent(decision) | Body::Verdict(decision) => write_decision(w, decision),
        Body::Vote(vote) => write_vote(w, vote),
        Body::Threshold(threshold) => write_threshold(w, threshold),
        Body::Registration(registration) => write_registration(w, registration),
        Body::DeadLetter(letter) => write_dead_letter(w, letter),
        Body::Recovery(recovery) => write_recovery(w, recovery),
        Body::Batch(records) => {
            write_records(w, records, |w, within| write_record(w, within, Some(record)));
        }
    }
    w.end_map();
}

fn write_records<T>(w: &mut Writer, records: &[T], mut write: impl FnMut(&mut Writer, &T)) {
    w.key("records");
    w.list(records.len());
    records.iter().for_each(|record| write(w, record));
    w.end_list();
}

/// Opens the record's map. Within a batch, what equals the batch's is left out.
fn write_envelope(w: &mut Writer, record: &Record<'_>, batch: Option<&Record<'_>>) {
    let Record { id, at, tenant, node, link, body } = record;
    let tenant = Some(tenant).filter(|tenant| batch.is_none_or(|batch| batch.tenant != **tenant));
    let node = Some(node).filter(|node| batch.is_none_or(|batch| batch.node != **node));
    let envelope = 2
        + usize::from(batch.is_none())
        + usize::from(id.is_some())
        + usize::from(tenant.is_some())
        + usize::from(node.is_some())
        + 2 * usize::from(link.is_some());
    w.map(envelope + entries(body));
    if batch.is_none() {
        int_field(w, "schema", SCHEMA);
    }
    text_field(w, "kind", body.kind().as_str());
    optional(w, "id", id.as_deref());
    int_field(w, "at", at.0);
    optional(w, "tenant", tenant.map(|tenant| tenant.as_str()));
    optional(w, "node", node.map(|node| &**node));
    if let Some(link) = link {
        int_field(w, "seq", link.seq);
        text_field(w, "prev", &hex::encode(link.prev));
    }
}

/// Of each body.
fn entries(body: &Body<'_>) -> usize {
    match body {
        Body::Intent(it) | Body::Verdict(it) => {
            3 + usize::from(it.message_type.is_some())
                + usize::from(it.digest.is_some())
                + usize::from(it.facts.is_some())
                + usize::from(it.submitted_as.is_some())
                + usize::from(!it.stages_us.is_empty())
                + usize::from(it.cause.is_some())
        }
        Body::Vote(it) => 6 + usize::from(!it.comment.is_empty()) + usize::from(it.judgement.is_some()),
        Body::Threshold(_) => 4,
        Body::Registration(it) => 2 + usize::from(!it.capabilities.is_empty()) + usize::from(it.changes > 1),
        Body::DeadLetter(it) => {
            3 + usize::from(it.sender.is_some())
                + usize::from(it.message.is_some())
                + usize::from(it.digest.is_some())
                + usize::from(it.login.is_some())
        }
        Body::Recovery(_) => 2,
        Body::Batch(_) => 1,
    }
}

fn write_decision(w: &mut Writer, decision: &Decision<'_>) {
    let Decision { sender, message_type, digest, recipients, verdict, facts, submitted_as, stages_us, cause } =
        decision;
    text_field(w, "sender", sender.as_str());
    optional(w, "message_type", message_type.map(MessageType::as_str));
    optional(w, "digest", digest.map(hex::encode).as_deref());
    w.key("recipients");
    write_texts(w, recipients.len(), recipients.iter().map(AgentId::as_str));
    w.key("verdict");
    write_verdict(w, verdict);
    if let Some(facts) = facts {
        w.key("facts");
        write_facts(w, facts, verdict.policy_revision.as_deref());
    }
    optional(w, "submitted_as", submitted_as.as_deref());
    if !stages_us.is_empty() {
        w.key("stages_us");
        w.list(stages_us.len());
        stages_us.iter().for_each(|stage| w.int((*stage).into()));
        w.end_list();
    }
    if let Some(cause) = cause {
        w.key("cause");
        write_cause(w, cause);
    }
}

fn write_cause(w: &mut Writer, cause: &Cause) {
    let Cause { conversation, hops, chain } = cause;
    w.map(2 + usize::from(!chain.is_empty()));
    text_field(w, "conversation", &conversation.to_string());
    int_field(w, "hops", u64::from(*hops));
    if !chain.is_empty() {
        w.key("chain");
        let links: Vec<String> = chain.iter().map(ToString::to_string).collect();
        write_texts(w, links.len(), links.iter().map(String::as_str));
    }
    w.end_map();
}

/// `told`: the policy's revision, where the verdict names it.
fn write_facts(w: &mut Writer, facts: &Facts<'_>, told: Option<&str>) {
    let Facts { constitution, policy_revision, sender, recipients, recipients_total, remembered } = facts;
    let revision = Some(&**policy_revision).filter(|revision| told != Some(*revision));
    let listed = with_room(recipients);
    let more = *recipients_total > u64::try_from(listed.len()).unwrap_or(u64::MAX);
    let shared = remembered.map(|it| it.shared).filter(|shared| *shared > 0);
    w.map(
        3 + usize::from(revision.is_some())
            + usize::from(more)
            + usize::from(remembered.is_some())
            + usize::from(shared.is_some()),
    );
    text_field(w, "constitution", &constitution.to_string());
    optional(w, "policy_revision", revision);
    w.key("sender");
    write_party(w, sender, None);
    w.key("recipients");
    w.list(listed.len());
    listed.iter().for_each(|party| write_party(w, party, Some(party.id.as_str())));
    w.end_list();
    if more {
        int_field(w, "recipients_total", *recipients_total);
    }
    if let Some(remembered) = remembered {
        int_field(w, "cached", remembered.cached);
    }
    if let Some(shared) = shared {
        int_field(w, "shared", shared);
    }
    w.end_map();
}

/// The first, and so many more that a record of a broadcast stays within what NATS takes.
fn with_room<'a, 'b>(parties: &'b [Party<'a>]) -> &'b [Party<'a>] {
    let mut bytes = 0;
    let fit = parties.iter().take_while(|party| {
        let first = bytes == 0;
        let texts = party.roles.iter().map(String::len);
        let texts = texts.chain(party.capabilities.iter().map(|capability| capability.as_str().len()));
        bytes += 64 + party.id.as_str().len() + texts.map(|text| text + 3).sum::<usize>();
        first || bytes <= FACTS_BYTES
    });
    let fit = fit.count();
    parties.get(..fit).unwrap_or_default()
}

/// Without an id where the record names the agent already. Agents without capabilities are as frequent as those
/// that are registered.
fn write_party(w: &mut Writer, party: &Party<'_>, id: Option<&str>) {
    let Party { id: _, roles, capabilities, registered } = party;
    w.map(1 + usize::from(id.is_some()) + usize::from(!capabilities.is_empty()) + usize::from(!registered));
    optional(w, "id", id);
    w.key("roles");
    write_texts(w, roles.len(), roles.iter().map(String::as_str));
    write_capabilities(w, capabilities);
    if !registered {
        w.key("registered");
        w.bool(false);
    }
    w.end_map();
}

fn write_capabilities(w: &mut Writer, capabilities: &BTreeSet<CapabilityId>) {
    if !capabilities.is_empty() {
        w.key("capabilities");
        write_texts(w, capabilities.len(), capabilities.iter().map(CapabilityId::as_str));
    }
}

fn write_vote(w: &mut Writer, vote: &Vote<'_>) {
    let Vote { voter, deliberation, choice, digest, comment, result, judgement, detail } = vote;
    text_field(w, "voter", voter.as_str());
    text_field(w, "deliberation_id", deliberation.as_str());
    text_field(w, "choice", choice.as_str());
    text_field(w, "digest", digest);
    optional(w, "comment", Some(&**comment).filter(|comment| !comment.is_empty()));
    text_field(w, "result", result);
    optional(w, "judgement", judgement.map(Judgement::as_str));
    text_field(w, "detail", detail);
}

fn write_threshold(w: &mut Writer, threshold: &Threshold<'_>) {
    let Threshold { deliberation, from, to, reason } = threshold;
    text_field(w, "deliberation_id", deliberation.as_str());
    for (key, threshold) in [("from", *from), ("to", *to)] {
        w.key(key);
        w.float(threshold);
    }
    text_field(w, "reason", reason);
}

fn write_registration(w: &mut Writer, registration: &Registration<'_>) {
    let Registration { agent, change, capabilities, changes } = registration;
    text_field(w, "agent", agent.as_str());
    text_field(w, "change", change.as_str());
    write_capabilities(w, capabilities);
    if *changes > 1 {
        int_field(w, "changes", *changes);
    }
}

fn write_dead_letter(w: &mut Writer, letter: &DeadLetter<'_>) {
    let DeadLetter { sender, message, digest, act, reason, by, login } = letter;
    optional(w, "sender", sender.as_deref().map(AgentId::as_str));
    optional(w, "message_id", message.as_deref().map(MessageId::as_str));
    optional(w, "digest", digest.map(hex::encode).as_deref());
    text_field(w, "act", act.as_str());
    text_field(w, "reason", reason);
    text_field(w, "by", by);
    optional(w, "login", login.as_deref());
}

fn write_recovery(w: &mut Writer, recovery: &Recovery<'_>) {
    let Recovery { over_ms, steps } = recovery;
    int_field(w, "over_ms", *over_ms);
    w.key("steps");
    w.list(steps.len());
    for Step { what, of, times } in steps.iter() {
        w.map(2 + usize::from(!of.is_empty()));
        text_field(w, "what", what.as_str());
        optional(w, "of", Some(&**of).filter(|of| !of.is_empty()));
        int_field(w, "times", *times);
        w.end_map();
    }
    w.end_list();
}

fn optional(w: &mut Writer, key: &'static str, text: Option<&str>) {
    if let Some(text) = text {
        text_field(w, key, text);
    }
}

fn write_texts<'a>(w: &mut Writer, items: usize, texts: impl Iterator<Item = &'a str>) {
    w.list(items);
    texts.for_each(|text| w.text(text));
    w.end_list();
}
