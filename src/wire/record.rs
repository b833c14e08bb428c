//! What the record of a decision says: JSON, so that auditors read it with any tool.

use super::{
    DecodeError, Limits, check_size,
    fields::{body, map, millis, once, required, text, word},
    json::Json,
    reader::{Read, Reader as _, skip},
    verdict::{read_verdict, write_verdict},
    writer::Writer,
};
use crate::domain::{AgentId, DeliberationId, Encoding, MessageType, TenantId, Timestamp, Verdict};

/// One decision, as it goes to the stream RECORDS.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    pub kind: RecordKind,
    /// When the node began to govern the message.
    pub at: Timestamp,
    pub tenant: &'a TenantId,
    pub sender: &'a AgentId,
    /// Absent when the message could not be read.
    pub message_type: Option<MessageType>,
    /// SHA-256 of the message's canonical form.
    pub digest: Option<&'a [u8; 32]>,
    /// To whom it is about to go.
    pub recipients: &'a [AgentId],
    pub verdict: &'a Verdict,
}

/// Whether a record goes ahead of a delivery, or after everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// The delivery is about to be sent; the verdict is the one of its success.
    Intent,
    /// The verdict was given, and this is all there was.
    Verdict,
}

impl RecordKind {
    fn as_str(self) -> &'static str {
        match self {
            RecordKind::Intent => "intent",
            RecordKind::Verdict => "verdict",
        }
    }
}

/// Version of the record's fields.
const SCHEMA: i128 = 1;

/// Writes a record.
pub fn encode_record(record: &Record<'_>) -> Vec<u8> {
    let Record { kind, at, tenant, sender, message_type, digest, recipients, verdict } = record;
    let mut w = Writer::new(Encoding::Json, 1024);
    w.map(7 + usize::from(message_type.is_some()) + usize::from(digest.is_some()));
    w.key("schema");
    w.int(SCHEMA);
    w.key("kind");
    w.text(kind.as_str());
    w.key("at");
    w.int(at.0.into());
    w.key("tenant");
    w.text(tenant.as_str());
    w.key("sender");
    w.text(sender.as_str());
    if let Some(message_type) = message_type {
        w.key("message_type");
        w.text(message_type.as_str());
    }
    if let Some(digest) = digest {
        w.key("digest");
        w.text(&hex::encode(digest));
    }
    w.key("recipients");
    w.list(recipients.len());
    for recipient in *recipients {
        w.text(recipient.as_str());
    }
    w.end_list();
    w.key("verdict");
    write_verdict(&mut w, verdict);
    w.end_map();
    w.into_bytes()
}

/// What reviewers' judgements have made of a tenant's threshold.
#[derive(Debug, Clone, Copy)]
pub struct ThresholdRecord<'a> {
    pub at: Timestamp,
    pub tenant: &'a TenantId,
    /// The judgement that tipped the scales.
    pub deliberation: &'a DeliberationId,
    pub from: f64,
    pub to: f64,
    /// One sentence for people.
    pub reason: &'a str,
    pub node: &'a str,
}

/// Writes the record of a threshold that moved.
pub fn encode_threshold_record(record: &ThresholdRecord<'_>) -> Vec<u8> {
    let ThresholdRecord { at, tenant, deliberation, from, to, reason, node } = record;
    let mut w = Writer::new(Encoding::Json, 512);
    w.map(9);
    w.key("schema");
    w.int(SCHEMA);
    w.key("kind");
    w.text("threshold");
    w.key("at");
    w.int(at.0.into());
    for (key, text) in
        [("tenant", tenant.as_str()), ("deliberation_id", deliberation.as_str()), ("node", node)]
    {
        w.key(key);
        w.text(text);
    }
    for (key, threshold) in [("from", *from), ("to", *to)] {
        w.key(key);
        w.float(threshold);
    }
    w.key("reason");
    w.text(reason);
    w.end_map();
    w.into_bytes()
}

/// What a node needs of a record that another has written.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub kind: RecordKind,
    pub at: Timestamp,
    /// Of the message as it was then.
    pub digest: Option<[u8; 32]>,
    pub verdict: Verdict,
}

/// Reads a record back.
pub fn decode_record(bytes: &[u8]) -> Result<Recorded, DecodeError> {
    // A broadcast's recipients are all listed.
    let limits = Limits { request_bytes: 1024 * 1024, values: 16_384, ..Limits::default() };
    check_size(bytes, &limits)?;
    let mut reader = Json::new(bytes, &limits)?;
    let recorded = read(&mut reader)?;
    reader.finish()?;
    Ok(recorded)
}

fn read(r: &mut Json<'_>) -> Read<Recorded> {
    const KINDS: [RecordKind; 2] = [RecordKind::Intent, RecordKind::Verdict];
    let (mut kind, mut at, mut digest, mut verdict) = (None, None, None, None);
    let mut fields = body(r)?;
    while let Some(key) = r.key(&mut fields)? {
        match key.as_ref() {
            "kind" => once(r, &mut fields, &mut kind, "kind", |r, name| {
                word(r, name, &["intent", "verdict"], |word| {
                    KINDS.into_iter().find(|kind| kind.as_str() == word)
                })
            })?,
            "at" => once(r, &mut fields, &mut at, "at", millis)?,
            "digest" => once(r, &mut fields, &mut digest, "digest", |r, name| {
                let mut bytes = [0; 32];
                let read = hex::decode_to_slice(text(r, name)?.as_ref(), &mut bytes);
                Ok(read.is_ok().then_some(bytes))
            })?,
            "verdict" => once(r, &mut fields, &mut verdict, "verdict", |r, name| {
                let fields = map(r, name)?;
                read_verdict(r, fields)
            })?,
            _ => skip(r)?,
        }
    }
    Ok(Recorded {
        kind: required(kind, "kind")?,
        at: required(at, "at")?,
        digest: digest.flatten(),
        verdict: required(verdict, "verdict")?,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::time::Duration;

    use super::*;
    use crate::domain::{Reason, Status};

    #[test]
    fn a_record_is_read_back() {
        let (tenant, sender): (TenantId, AgentId) = ("acme".parse().unwrap(), "planner".parse().unwrap());
        let verdict = Verdict {
            message_id: Some("m1".parse().unwrap()),
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: "handed to worker".to_owned(),
            retryable: false,
            retry_after: None,
            decision_id: "d1".to_owned(),
            policy_revision: Some("r1".to_owned()),
            impact: None,
            reach: None,
            deliberation_id: None,
            node: "node-1".to_owned(),
            elapsed: Duration::from_micros(42),
        };
        let record = encode_record(&Record {
            kind: RecordKind::Intent,
            at: Timestamp(1),
            tenant: &tenant,
            sender: &sender,
            message_type: Some(MessageType::Command),
            digest: Some(&[7; 32]),
            recipients: &["worker".parse().unwrap()],
            verdict: &verdict,
        });
        let json: serde_json::Value = serde_json::from_slice(&record).unwrap();
        assert_eq!(json["digest"], "07".repeat(32));
        let recorded = decode_record(&record).unwrap();
        assert_eq!(recorded.verdict, verdict);
        assert_eq!((recorded.kind, recorded.at), (RecordKind::Intent, Timestamp(1)));
        assert_eq!(recorded.digest, Some([7; 32]));
    }
}
