//! What fields a verdict has on the wire.
//!
//! Read back by the command-line tools, and from the idempotency store by nodes that may be of
//! another version than the writer: unknown fields are skipped here, and only here.

use std::time::Duration;

use super::{
    DecodeError, Limits, check_size, encoding_of,
    fields::{
        at_most, body, boolean, count, duration_ms, id, list, map, number, once, reason, required, text, word,
    },
    json::Json,
    msgpack::MessagePack,
    reader::{Open, Read, Reader, skip},
    writer::Writer,
};
use crate::domain::{Encoding, Impact, LEVELS, Level, Missed, Parts, Reach, Status, Verdict};

/// Writes a verdict. `code` follows from the reason.
pub fn encode_verdict(verdict: &Verdict, encoding: Encoding) -> Vec<u8> {
    let mut w = Writer::new(encoding, 512);
    write_verdict(&mut w, verdict);
    w.into_bytes()
}

/// Writes the reply to an `ask`: the verdict, and the answer's message, which is written in `encoding`.
pub fn encode_asked(verdict: &Verdict, answer: Option<&[u8]>, encoding: Encoding) -> Vec<u8> {
    let mut w = Writer::new(encoding, 512 + answer.map_or(0, <[u8]>::len));
    write_fields(&mut w, verdict, answer);
    w.into_bytes()
}

pub(crate) fn write_verdict(w: &mut Writer, verdict: &Verdict) {
    write_fields(w, verdict, None);
}

fn write_fields(w: &mut Writer, verdict: &Verdict, answer: Option<&[u8]>) {
    // Always there: status, code, reason, detail, retryable, decision_id, node, elapsed_us.
    const ALWAYS: usize = 8;
    let Verdict {
        message_id,
        status,
        reason,
        detail,
        retryable,
        retry_after,
        decision_id,
        policy_revision,
        impact,
        reach,
        deliberation_id,
        node,
        elapsed,
    } = verdict;
    w.map(
        ALWAYS
            + usize::from(message_id.is_some())
            + usize::from(retry_after.is_some())
            + usize::from(policy_revision.is_some())
            + usize::from(impact.is_some())
            + usize::from(reach.is_some())
            + usize::from(deliberation_id.is_some())
            + usize::from(answer.is_some()),
    );
    if let Some(message_id) = message_id {
        w.key("message_id");
        w.text(message_id.as_str());
    }
    w.key("status");
    w.text(status.as_str());
    w.key("code");
    w.int(reason.code().into());
    w.key("reason");
    w.text(reason.as_str());
    w.key("detail");
    w.text(detail);
    w.key("retryable");
    w.bool(*retryable);
    if let Some(retry_after) = retry_after {
        w.key("retry_after_ms");
        w.int(millis_up(*retry_after));
    }
    w.key("decision_id");
    w.text(decision_id);
    if let Some(policy_revision) = policy_revision {
        w.key("policy_revision");
        w.text(policy_revision);
    }
    if let Some(impact) = impact {
        w.key("impact");
        write_impact(w, impact);
    }
    if let Some(reach) = reach {
        w.key("recipients");
        write_reach(w, reach);
    }
    if let Some(deliberation_id) = deliberation_id {
        w.key("deliberation_id");
        w.text(deliberation_id.as_str());
    }
    w.key("node");
    w.text(node);
    w.key("elapsed_us");
    w.int(i128::try_from(elapsed.as_micros()).unwrap_or(i128::MAX).min(u64::MAX.into()));
    if let Some(answer) = answer {
        w.key("answer");
        w.written(answer);
    }
    w.end_map();
}

/// Whole milliseconds, rounded up: who waits that long has waited long enough.
pub(super) fn millis_up(duration: Duration) -> i128 {
    i128::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(i128::MAX).min(u64::MAX.into())
}

pub(super) fn write_impact(w: &mut Writer, impact: &Impact) {
    let Impact { score, score_max, level, parts, levels, model, unscored, tokens: _ } = impact;
    let Parts { semantic, permission, volume, context, drift, priority, message_type } = *parts;
    let parts = [
        ("semantic", semantic),
        ("permission", Some(permission)),
        ("volume", Some(volume)),
        ("context", Some(context)),
        ("drift", drift),
        ("priority", Some(priority)),
        ("type", Some(message_type)),
    ];
    w.map(
        4 + usize::from(score_max.is_some())
            + usize::from(levels.is_some())
            + usize::from(unscored.is_some()),
    );
    w.key("score");
    w.float(*score);
    if let Some(score_max) = score_max {
        w.key("score_max");
        w.float(*score_max);
    }
    w.key("level");
    w.text(level.as_str());
    w.key("parts");
    w.map(parts.iter().filter(|(_, part)| part.is_some()).count());
    for (name, part) in parts {
        if let Some(part) = part {
            w.key(name);
            w.float(part);
        }
    }
    w.end_map();
    if let Some(levels) = levels {
        w.key("levels");
        w.list(levels.len());
        levels.iter().for_each(|level| w.float(*level));
        w.end_list();
    }
    w.key("model");
    w.text(model);
    if let Some(unscored) = unscored {
        w.key("unscored");
        w.text(unscored);
    }
    w.end_map();
}

fn write_reach(w: &mut Writer, reach: &Reach) {
    let Reach { delivered, agent, missed, missed_total, durable: _ } = reach;
    w.map(3 + usize::from(agent.is_some()));
    w.key("delivered");
    w.int((*delivered).into());
    if let Some(agent) = agent {
        w.key("agent");
        w.text(agent.as_str());
    }
    w.key("missed");
    w.list(missed.len().min(Reach::MISSED_MAX));
    for Missed { agent, reason } in missed.iter().take(Reach::MISSED_MAX) {
        w.map(2);
        w.key("agent");
        w.text(agent.as_str());
        w.key("reason");
        w.text(reason.as_str());
        w.end_map();
    }
    w.end_list();
    w.key("missed_total");
    w.int((*missed_total).into());
    w.end_map();
}

/// Reads a verdict in either encoding; an answer beside it is skipped.
pub fn decode_verdict(bytes: &[u8]) -> Result<Verdict, DecodeError> {
    // Room for an answer as large as any, one deeper than by itself.
    let message = Limits::default();
    let limits = Limits {
        request_bytes: 8 * 1024 * 1024,
        values: message.values + 256,
        depth: message.depth + 1,
        ..message
    };
    check_size(bytes, &limits)?;
    match encoding_of(bytes) {
        Encoding::MessagePack => read(MessagePack::new(bytes, &limits)),
        Encoding::Json => read(Json::new(bytes, &limits)?),
    }
}

fn read<'a>(mut reader: impl Reader<'a>) -> Read<Verdict> {
    let fields = body(&mut reader)?;
    let verdict = read_verdict(&mut reader, fields)?;
    reader.finish()?;
    Ok(verdict)
}

/// The fields of a verdict whose map is open.
pub(crate) fn read_verdict<'a>(r: &mut impl Reader<'a>, mut fields: Open) -> Read<Verdict> {
    let (mut message_id, mut status, mut why, mut detail) = (None, None, None, None);
    let (mut retryable, mut retry_after, mut decision_id, mut policy_revision) = (None, None, None, None);
    let (mut impact, mut reach, mut deliberation, mut node, mut elapsed) = (None, None, None, None, None);
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "message_id" => once(r, &mut fields, &mut message_id, "message_id", |r, name| id(r, name))?,
            "status" => once(r, &mut fields, &mut status, "status", |r, name| {
                word(r, name, &["delivered", "stored", "deliberating", "rejected", "shed"], |word| {
                    Status::ALL.iter().copied().find(|status| status.as_str() == word)
                })
            })?,
            "reason" => once(r, &mut fields, &mut why, "reason", |r, name| reason(name, &text(r, name)?))?,
            "detail" => once(r, &mut fields, &mut detail, "detail", |r, name| owned(r, name))?,
            "retryable" => once(r, &mut fields, &mut retryable, "retryable", |r, name| boolean(r, name))?,
            "retry_after_ms" => {
                once(r, &mut fields, &mut retry_after, "retry_after_ms", |r, name| duration_ms(r, name))?
            }
            "decision_id" => once(r, &mut fields, &mut decision_id, "decision_id", |r, name| owned(r, name))?,
            "policy_revision" => {
                once(r, &mut fields, &mut policy_revision, "policy_revision", |r, name| owned(r, name))?
            }
            "impact" => once(r, &mut fields, &mut impact, "impact", |r, name| read_impact(r, name))?,
            "recipients" => once(r, &mut fields, &mut reach, "recipients", |r, name| read_reach(r, name))?,
            "deliberation_id" => {
                once(r, &mut fields, &mut deliberation, "deliberation_id", |r, name| id(r, name))?
            }
            "node" => once(r, &mut fields, &mut node, "node", |r, name| owned(r, name))?,
            "elapsed_us" => {
                once(r, &mut fields, &mut elapsed, "elapsed_us", |r, name| {
                    count(r, name).map(Duration::from_micros)
                })?;
            }
            // `code` follows from the reason.
            _ => skip(r)?,
        }
    }
    let reason = required(why, "reason")?;
    Ok(Verdict {
        message_id,
        status: required(status, "status")?,
        reason,
        detail: required(detail, "detail")?,
        retryable: retryable.unwrap_or_else(|| reason.retryable()),
        retry_after,
        decision_id: required(decision_id, "decision_id")?,
        policy_revision,
        impact,
        reach,
        deliberation_id: deliberation,
        node: required(node, "node")?,
        elapsed: required(elapsed, "elapsed_us")?,
    })
}

pub(crate) fn owned<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<String> {
    text(r, field).map(Into::into)
}

fn read_impact<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<Impact> {
    let (mut score, mut level, mut parts, mut model) = (None, None, None, None);
    let (mut score_max, mut levels, mut unscored) = (None, None, None);
    let mut fields = map(r, field)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "score" => once(r, &mut fields, &mut score, "impact.score", |r, name| number(r, name))?,
            "level" => once(r, &mut fields, &mut level, "impact.level", |r, name| {
                const WORDS: [Level; 4] = [Level::Low, Level::Medium, Level::High, Level::Critical];
                word(r, name, &["low", "medium", "high", "critical"], |word| {
                    WORDS.into_iter().find(|level| level.as_str() == word)
                })
            })?,
            "parts" => once(r, &mut fields, &mut parts, "impact.parts", |r, name| read_parts(r, name))?,
            "model" => once(r, &mut fields, &mut model, "impact.model", |r, name| owned(r, name))?,
            "score_max" => {
                once(r, &mut fields, &mut score_max, "impact.score_max", |r, name| number(r, name))?
            }
            "levels" => once(r, &mut fields, &mut levels, "impact.levels", read_levels)?,
            "unscored" => once(r, &mut fields, &mut unscored, "impact.unscored", |r, name| owned(r, name))?,
            _ => skip(r)?,
        }
    }
    Ok(Impact {
        score: required(score, "impact.score")?,
        score_max,
        level: required(level, "impact.level")?,
        parts: required(parts, "impact.parts")?,
        levels: levels.flatten(),
        model: required(model, "impact.model")?,
        unscored,
        // Of the node's own account, not of the verdict.
        tokens: 0,
    })
}

/// Of another version there may be more or fewer; what they mean is not known then.
fn read_levels<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<Option<[f64; LEVELS]>> {
    const LEVELS_MAX: usize = 32;
    let mut all = Vec::new();
    let mut listed = list(r, field)?;
    while r.more(&mut listed)? {
        at_most(field, "levels", all.len() + 1, LEVELS_MAX)?;
        all.push(number(r, field)?);
    }
    Ok(all.try_into().ok())
}

fn read_parts<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<Parts> {
    let (mut semantic, mut permission, mut volume, mut context) = (None, None, None, None);
    let (mut drift, mut priority, mut message_type) = (None, None, None);
    let mut fields = map(r, field)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "semantic" => {
                once(r, &mut fields, &mut semantic, "impact.parts.semantic", |r, name| number(r, name))?
            }
            "permission" => {
                once(r, &mut fields, &mut permission, "impact.parts.permission", |r, name| number(r, name))?
            }
            "volume" => once(r, &mut fields, &mut volume, "impact.parts.volume", |r, name| number(r, name))?,
            "context" => {
                once(r, &mut fields, &mut context, "impact.parts.context", |r, name| number(r, name))?
            }
            "drift" => once(r, &mut fields, &mut drift, "impact.parts.drift", |r, name| number(r, name))?,
            "priority" => {
                once(r, &mut fields, &mut priority, "impact.parts.priority", |r, name| number(r, name))?
            }
            "type" => {
                once(r, &mut fields, &mut message_type, "impact.parts.type", |r, name| number(r, name))?
            }
            _ => skip(r)?,
        }
    }
    Ok(Parts {
        semantic,
        permission: required(permission, "impact.parts.permission")?,
        volume: required(volume, "impact.parts.volume")?,
        context: required(context, "impact.parts.context")?,
        drift,
        priority: required(priority, "impact.parts.priority")?,
        message_type: required(message_type, "impact.parts.type")?,
    })
}

fn read_reach<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<Reach> {
    let (mut delivered, mut agent, mut missed, mut missed_total) = (None, None, None, None);
    let mut fields = map(r, field)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "delivered" => {
                once(r, &mut fields, &mut delivered, "recipients.delivered", |r, name| small(r, name))?
            }
            "agent" => once(r, &mut fields, &mut agent, "recipients.agent", |r, name| id(r, name))?,
            "missed" => {
                once(r, &mut fields, &mut missed, "recipients.missed", |r, name| read_missed(r, name))?
            }
            "missed_total" => {
                once(r, &mut fields, &mut missed_total, "recipients.missed_total", |r, name| small(r, name))?
            }
            _ => skip(r)?,
        }
    }
    Ok(Reach {
        delivered: required(delivered, "recipients.delivered")?,
        agent,
        missed: missed.unwrap_or_default(),
        missed_total: missed_total.unwrap_or_default(),
        durable: false,
    })
}

fn read_missed<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<Vec<Missed>> {
    let mut all = Vec::new();
    let mut listed = list(r, field)?;
    while r.more(&mut listed)? {
        at_most(field, "entries", all.len() + 1, Reach::MISSED_MAX)?;
        let (mut agent, mut why) = (None, None);
        let mut fields = map(r, field)?;
        while let Some(key) = r.key(&mut fields)? {
            match key.as_ref() {
                "agent" => {
                    once(r, &mut fields, &mut agent, "recipients.missed.agent", |r, name| id(r, name))?
                }
                "reason" => once(r, &mut fields, &mut why, "recipients.missed.reason", |r, name| {
                    reason(name, &text(r, name)?)
                })?,
                _ => skip(r)?,
            }
        }
        all.push(Missed {
            agent: required(agent, "recipients.missed.agent")?,
            reason: required(why, "recipients.missed.reason")?,
        });
    }
    Ok(all)
}

/// A count of agents.
fn small<'a>(r: &mut impl Reader<'a>, field: &'static str) -> Read<u32> {
    Ok(u32::try_from(count(r, field)?).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::{domain::Reason, wire};

    /// As deep as a message may be.
    fn deep() -> serde_json::Value {
        let mut value = serde_json::json!("deepest");
        for _ in 0..wire::Limits::default().depth - 2 {
            value = serde_json::json!([value]);
        }
        serde_json::json!({
            "message_id": "a1", "message_type": "response", "to": { "agent": "planner" },
            "constitutional_hash": "cdd01ef066bc6cf2", "content": { "deep": value, "text": "\"}," },
            "created_at": 1,
        })
    }

    #[test]
    fn an_answer_stands_beside_its_verdict_in_either_encoding() {
        let (tenant, sender) = ("acme".parse().unwrap(), "worker".parse().unwrap());
        let stamp = wire::Stamp { tenant: &tenant, sender: &sender };
        let letter = wire::decode(deep().to_string().as_bytes(), stamp, &Limits::default()).unwrap();
        let verdict = Verdict {
            message_id: Some("q1".parse().unwrap()),
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: "handed to worker".to_owned(),
            retryable: false,
            retry_after: None,
            decision_id: "d1".to_owned(),
            policy_revision: None,
            impact: None,
            reach: None,
            deliberation_id: None,
            node: "node-1".to_owned(),
            elapsed: Duration::from_micros(42),
        };
        for encoding in [Encoding::Json, Encoding::MessagePack] {
            let answer = wire::encode_message(&letter.message, &letter.canonical, encoding);
            let reply = encode_asked(&verdict, Some(&answer), encoding);
            assert_eq!(decode_verdict(&reply).unwrap(), verdict);
            let whole: serde_json::Value = match encoding {
                Encoding::Json => serde_json::from_slice(&reply).unwrap(),
                Encoding::MessagePack => rmp_serde::from_slice(&reply).unwrap(),
            };
            assert_eq!(whole["answer"]["content"], deep()["content"]);
            assert_eq!(encode_asked(&verdict, None, encoding), encode_verdict(&verdict, encoding));
        }
    }
}
