//! What does a line say of a message: a record, a judgement, a message, or a text with a level?

use std::sync::Arc;

use agentbus::domain::{Message, MessageType, Parts, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::line::{LineError, ask};

/// One message, as far as the line tells.
#[derive(Debug)]
pub struct Known {
    /// Its words, if the line has them.
    pub message: Option<Arc<Message>>,
    /// When it counts as sent.
    pub at: Timestamp,
    pub before: Option<Before>,
    pub message_type: Option<MessageType>,
    pub sender: String,
    /// Of harm, if people have said it.
    pub level: Option<u8>,
    /// Of two lines with one of these the later counts.
    pub decision: Option<String>,
}

/// What the bus made of it.
#[derive(Debug, Clone)]
pub struct Before {
    /// Absent if it had no impact: it was decided without.
    pub parts: Option<Parts>,
    /// The score, or the least and the most that it could have been.
    pub score: (f64, f64),
    pub parked: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum Unknown {
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("{0}")]
    Line(#[from] LineError),
    #[error("a record of kind {0:?}, which is no decision on a message")]
    OtherRecord(String),
    #[error("neither an \"impact\" nor the message's words")]
    Nothing,
}

#[derive(Deserialize)]
struct Record {
    kind: String,
    sender: String,
    message_type: Option<MessageType>,
    verdict: Verdict,
}

#[derive(Deserialize)]
struct Verdict {
    #[serde(default)]
    decision_id: Option<String>,
    status: String,
    impact: Option<Scored>,
}

/// The impact of a verdict, as it is written.
#[derive(Deserialize)]
struct Scored {
    score: f64,
    score_max: Option<f64>,
    parts: Written,
}

#[derive(Deserialize)]
struct Written {
    semantic: Option<f64>,
    permission: f64,
    volume: f64,
    context: f64,
    drift: Option<f64>,
    priority: f64,
    #[serde(alias = "type")]
    message_type: f64,
}

#[derive(Deserialize)]
struct Judged {
    message: Option<Value>,
    impact: Option<Scored>,
    digest: Option<String>,
    level: Option<u8>,
}

impl From<Scored> for Before {
    /// Parked until the line says otherwise.
    fn from(Scored { score, score_max, parts }: Scored) -> Self {
        let Written { semantic, permission, volume, context, drift, priority, message_type } = parts;
        let parts = Parts { semantic, permission, volume, context, drift, priority, message_type };
        Self { parts: Some(parts), score: (score, score_max.unwrap_or(score)), parked: true }
    }
}

/// Reads line `number`.
pub fn read(line: &[u8], number: u64) -> Result<Known, Unknown> {
    let value: Value = serde_json::from_slice(line)?;
    if value.get("verdict").is_some() {
        return recorded(serde_json::from_value(value)?);
    }
    if value.get("impact").is_some() || value.get("message").is_some() {
        return judged(serde_json::from_value(value)?, number);
    }
    let level = value.get("level").and_then(Value::as_u64).and_then(|level| u8::try_from(level).ok());
    let asked = ask(line, number)?;
    Ok(Known { level, ..spoken(asked.message, asked.at) })
}

fn recorded(record: Record) -> Result<Known, Unknown> {
    let Record { kind, sender, message_type, verdict } = record;
    if !["verdict", "intent"].contains(&kind.as_str()) {
        return Err(Unknown::OtherRecord(kind));
    }
    let parked = verdict.status == "deliberating";
    let before = verdict.impact.map_or(Before { parts: None, score: (0.0, 0.0), parked }, |scored| Before {
        parked,
        ..Before::from(scored)
    });
    Ok(Known {
        message: None,
        at: Timestamp(0),
        before: Some(before),
        message_type,
        sender,
        level: None,
        decision: verdict.decision_id,
    })
}

fn judged(judged: Judged, number: u64) -> Result<Known, Unknown> {
    let Judged { message, impact, digest, level } = judged;
    let before = impact.map(Before::from);
    let known = match message {
        Some(message) => {
            let asked = ask(message.to_string().as_bytes(), number)?;
            spoken(asked.message, asked.at)
        }
        None if before.is_none() => return Err(Unknown::Nothing),
        None => Known {
            message: None,
            at: Timestamp(0),
            before: None,
            message_type: None,
            sender: "-".to_owned(),
            level: None,
            decision: None,
        },
    };
    Ok(Known { before, level, decision: digest, ..known })
}

fn spoken(message: Arc<Message>, at: Timestamp) -> Known {
    Known {
        at,
        before: None,
        message_type: Some(message.message_type),
        sender: message.sender.to_string(),
        level: None,
        decision: None,
        message: Some(message),
    }
}
