//! What does a line of input ask to be scored: a text or a whole message?

use std::sync::Arc;

use agentbus::{
    config::DEFAULT_CONSTITUTION,
    domain::{AgentId, IdError, Message, MessageType, TenantId, Timestamp},
    wire::{self, DecodeError},
};
use serde_json::{Map, Value, json};

mod once;

use once::Once;

/// Noon, on a day like any other: a text without a message around it is said in working hours.
const NOON: u64 = 12 * 3_600_000;
/// Of a bare text. Its line is bounded already; escapes and the message around it take some more.
const TEXT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Who sent what does not say who sent it.
const NOBODY: &str = "local";

/// One line, understood.
#[derive(Debug)]
pub struct Ask {
    pub id: Option<Value>,
    pub message: Arc<Message>,
    /// Words without a message around them: there is nothing else to score.
    pub bare: bool,
    /// When it counts as sent.
    pub at: Timestamp,
}

#[derive(Debug, thiserror::Error)]
pub enum LineError {
    #[error("not JSON: {0}; expected an object such as {{\"text\": \"…\"}}")]
    Json(serde_json::Error),
    #[error("{0}")]
    Twice(serde_json::Error),
    #[error("a JSON {found}, expected an object such as {{\"text\": \"…\"}}")]
    NotAnObject { found: &'static str },
    #[error("neither a \"text\" nor a message's \"content\"")]
    Neither,
    #[error("\"{field}\" is {found}, expected {expected}")]
    Field { field: &'static str, found: &'static str, expected: &'static str },
    #[error("{0}")]
    Name(#[from] IdError),
    #[error("{0}")]
    Message(#[from] DecodeError),
}

pub fn ask(line: &[u8], number: u64) -> Result<Ask, LineError> {
    let read = serde_json::from_slice(line).map_err(|error| match error.is_data() {
        true => LineError::Twice(error),
        false => LineError::Json(error),
    });
    let fields = match read? {
        Once(Value::Object(fields)) => fields,
        Once(other) => return Err(LineError::NotAnObject { found: kind(&other) }),
    };
    // As an agent sends it, it has `content`; everything else is told apart by that.
    let message = ["content", "message_type", "to"].iter().any(|field| fields.contains_key(*field));
    match (message, fields.get("text")) {
        (true, _) => whole(line, &fields, number),
        (false, Some(Value::String(text))) => bare(text, fields.get("id")),
        (false, Some(other)) => {
            Err(LineError::Field { field: "text", found: kind(other), expected: "a text" })
        }
        (false, None) => Err(LineError::Neither),
    }
}

/// The message that a text alone stands for.
pub fn bare_message(text: &str) -> Result<Arc<Message>, LineError> {
    let mut fields = Map::new();
    fields.insert("content".to_owned(), json!({ "text": text }));
    let limits = wire::Limits {
        request_bytes: TEXT_BYTES_MAX,
        content_bytes: TEXT_BYTES_MAX,
        ..wire::Limits::default()
    };
    let written = Value::Object(fields.clone()).to_string();
    decode(written.as_bytes(), &fields, 0, &limits)
}

fn bare(text: &str, id: Option<&Value>) -> Result<Ask, LineError> {
    let id = match id {
        None | Some(Value::Null) => None,
        Some(id @ (Value::String(_) | Value::Number(_))) => Some(id.clone()),
        Some(other) => {
            return Err(LineError::Field { field: "id", found: kind(other), expected: "a text or a number" });
        }
    };
    Ok(Ask { id, message: bare_message(text)?, bare: true, at: Timestamp(NOON) })
}

fn whole(line: &[u8], fields: &Map<String, Value>, number: u64) -> Result<Ask, LineError> {
    let message = decode(line, fields, number, &wire::Limits::default())?;
    let id = fields.get("message_id").cloned();
    Ok(Ask { id, at: message.created_at, bare: false, message })
}

/// Reads a message by the bus's own decoder, with what it does not say filled in.
fn decode(
    line: &[u8],
    fields: &Map<String, Value>,
    number: u64,
    limits: &wire::Limits,
) -> Result<Arc<Message>, LineError> {
    let tenant: TenantId = name(fields, "tenant_id")?.parse()?;
    let sender: AgentId = name(fields, "from_agent")?.parse()?;
    let defaults = [
        ("message_id", json!(format!("line-{number}"))),
        ("message_type", json!(MessageType::Command.as_str())),
        ("to", json!({ "agent": "anyone" })),
        ("constitutional_hash", json!(DEFAULT_CONSTITUTION)),
        ("created_at", json!(NOON)),
    ];
    // Appended to the line itself: read and written again, it would be another one wherever the bus's
    // decoder is stricter than serde_json.
    let mut whole = line.trim_ascii_end().to_vec();
    whole.pop();
    let mut empty = fields.is_empty();
    for (field, value) in defaults {
        if !fields.contains_key(field) {
            let comma = if empty { "" } else { "," };
            whole.extend_from_slice(format!("{comma}\"{field}\":{value}").as_bytes());
            empty = false;
        }
    }
    whole.push(b'}');
    let stamp = wire::Stamp { tenant: &tenant, sender: &sender };
    let decoded = wire::decode(&whole, stamp, limits).map_err(|failure| failure.error)?;
    Ok(decoded.message)
}

fn name<'a>(fields: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, LineError> {
    match fields.get(field) {
        None => Ok(NOBODY),
        Some(Value::String(name)) => Ok(name),
        Some(other) => Err(LineError::Field { field, found: kind(other), expected: "a name" }),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "list",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use agentbus::domain::Priority;

    #[test]
    fn a_text_is_read_as_an_ordinary_command() {
        let asked = ask(br#"{"id": 7, "text": "hello \u263a", "high": 1, "anything": [1]}"#, 3).unwrap();
        assert_eq!(asked.id, Some(json!(7)));
        assert!(asked.bare);
        let message = asked.message;
        assert_eq!((message.message_type, message.priority), (MessageType::Command, Priority::Normal));
        assert!(message.tools.is_empty());
        assert_eq!(message.content.get("text"), Some(&agentbus::domain::Value::Text("hello ☺".to_owned())));
    }

    #[test]
    fn a_message_is_read_as_a_node_reads_it_with_what_it_does_not_say_filled_in() {
        let line = br#"{"content": {"do": "it"}, "priority": "high", "tools": ["write"], "tenant_id": "acme",
            "from_agent": "planner", "message_id": "m1", "created_at": 7200000}"#;
        let asked = ask(line, 1).unwrap();
        assert_eq!(asked.id, Some(json!("m1")));
        assert!(!asked.bare);
        assert_eq!(asked.at, Timestamp(7_200_000));
        assert_eq!(asked.message.tenant.as_str(), "acme");
        assert_eq!(asked.message.priority, Priority::High);
        assert!(asked.message.tools.contains("write"));
    }

    #[test]
    fn what_is_neither_is_refused_with_what_was_found() {
        for (line, said) in [
            (&b"nonsense"[..], "not JSON"),
            (b"[1]", "a JSON list"),
            (b"{}", "neither"),
            (b"{\"text\": 5}", "\"text\" is number, expected a text"),
            (b"{\"text\": \"a\", \"id\": {}}", "\"id\" is object"),
            (b"{\"content\": {}}", "content"),
            (b"{\"content\": {\"a\": 1}, \"shout\": 1}", "shout"),
            (b"{\"content\": {\"a\": 1}, \"content\": {\"a\": 2}}", "\"content\" occurs twice"),
            (b"{\"text\": \"a\", \"text\": \"b\"}", "\"text\" occurs twice"),
            (b"{\"text\": \"a\", \"t\\u0065xt\": \"b\"}", "\"text\" occurs twice"),
            (b"{\"text\": \"a\", \"more\": [{\"x\": 1, \"x\": 1}]}", "\"x\" occurs twice"),
            (b"{\"content\": {\"a\": 1}, \"tenant_id\": \"not a name\"}", "not a name"),
            (b"{\"message_type\": \"command\"}", "content"),
            (b"\xff", "not JSON"),
        ] {
            let error = ask(line, 1).unwrap_err().to_string();
            assert!(error.contains(said), "{error:?} does not say {said:?}");
        }
    }

    #[test]
    fn a_text_as_long_as_a_line_can_be_is_taken() {
        assert!(bare_message(&"\u{1}".repeat(1024 * 1024)).is_ok());
    }
}
