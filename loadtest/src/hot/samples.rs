//! What goes through the stages: a message, its record and its verdict.

use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use agentbus::{
    audit::{self, Body, Decision, Facts, Record, Remembered},
    domain::{AgentId, Encoding, Reach, Reason, Status, Verdict},
    wire::{self, Limits, Stamp, decode, encode_message},
};

use super::{BYTES, NOW};

const WORDS: &str = "Please read the minutes of the last meeting and say what was agreed upon by whom. ";

/// Up to the claim.
const STAGES_US: [u64; 8] = [1, 9, 0, 0, 3, 1, 2, 104];

/// A note as agents send most of them, its text as long as it takes to fill its size.
pub(super) fn sample(stamp: Stamp<'_>, encoding: Encoding) -> anyhow::Result<Vec<u8>> {
    let hash = agentbus::config::DEFAULT_CONSTITUTION;
    let body = |text: &str| {
        format!(
            r#"{{"message_id":"01JGF3Z8Q4-0001","message_type":"event","to":{{"agent":"worker"}},"priority":"normal",
            "constitutional_hash":"{hash}","content":{{"text":"{text}"}},"created_at":1767268800000}}"#
        )
    };
    let written = |length: usize, encoding| {
        let text: String = WORDS.chars().cycle().take(length).collect();
        let decoded = decode(body(&text).as_bytes(), stamp, &Limits::default())?;
        anyhow::Ok(encode_message(&decoded.message, &decoded.canonical, encoding).to_vec())
    };
    for length in 0..BYTES {
        // The same message in any encoding.
        if written(length, Encoding::MessagePack)?.len() == BYTES {
            return written(length, encoding);
        }
    }
    anyhow::bail!("no sample has exactly {BYTES} bytes")
}

/// Of its delivery, with what judging saw.
pub(super) fn record<'a>(decoded: &'a wire::Decoded, verdict: &'a Verdict) -> Record<'a> {
    let message = &decoded.message;
    let party = |id: &'a AgentId, role: &str| audit::Party {
        id: Cow::Borrowed(id),
        roles: Cow::Owned(BTreeSet::from([role.to_owned()])),
        capabilities: Cow::default(),
        registered: true,
    };
    let facts = Facts {
        constitution: message.constitution,
        policy_revision: Cow::Borrowed("0123456789abcdef"),
        sender: party(&message.sender, "executive"),
        recipients: vec![party(&message.sender, "implementer")],
        recipients_total: 1,
        remembered: Some(Remembered { cached: 1, shared: 0 }),
    };
    let decision = Decision {
        sender: Cow::Borrowed(&message.sender),
        message_type: Some(message.message_type),
        digest: Some(decoded.digest),
        recipients: Cow::Borrowed(std::slice::from_ref(&message.sender)),
        verdict: Cow::Borrowed(verdict),
        facts: Some(facts),
        submitted_as: None,
        cause: None,
        stages_us: Cow::Borrowed(&STAGES_US),
    };
    Record::new(NOW, &message.tenant, "node-1", Body::Intent(decision))
}

pub(super) fn verdict() -> anyhow::Result<Verdict> {
    let recipient: AgentId = "worker".parse()?;
    Ok(Verdict {
        message_id: Some("01JGF3Z8Q4-0001".parse()?),
        status: Status::Delivered,
        reason: Reason::Delivered,
        detail: "delivered to worker".to_owned(),
        retryable: false,
        retry_after: None,
        decision_id: "0123456789abcdef0123456789abcdef".to_owned(),
        policy_revision: Some("0123456789abcdef".to_owned()),
        impact: None,
        reach: Some(Reach { delivered: 1, agent: Some(recipient), ..Reach::default() }),
        deliberation_id: None,
        node: "node-1".to_owned(),
        elapsed: Duration::from_micros(87),
    })
}
