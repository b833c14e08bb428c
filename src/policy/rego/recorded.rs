//! What was asked once, read back from a log, to be asked again.

use regorus::Value;

use super::RegoEngine;
use crate::policy::{Decision, PolicyError};

/// What `input` was.
pub struct RecordedInput(pub(super) Value);

impl RecordedInput {
    /// From JSON. Why it is none, for people.
    pub fn parse(json: &str) -> Result<Self, String> {
        let value = Value::from_json_str(json).map_err(super::load::told)?;
        match value {
            Value::Object(_) => Ok(Self(value)),
            _ => Err("input is no object".to_owned()),
        }
    }

    /// Whether one of its objects has this field.
    pub fn has(&self, object: &'static str, field: &'static str) -> bool {
        get(&self.0, object).and_then(|object| get(object, field)).is_some()
    }

    /// A text in it, of one of its objects; empty where there is none.
    pub fn text(&self, object: &'static str, field: &'static str) -> &str {
        match get(&self.0, object).and_then(|object| get(object, field)) {
            Some(Value::String(text)) => text,
            _ => "",
        }
    }
}

fn get<'a>(value: &'a Value, key: &'static str) -> Option<&'a Value> {
    match value {
        Value::Object(fields) => fields.get(&Value::from(key)),
        _ => None,
    }
}

impl RegoEngine {
    /// Decides what was asked once.
    pub fn decide_recorded(&self, input: &RecordedInput) -> Result<Decision, PolicyError> {
        self.run(&input.0)
    }
}
