//! The content of a message: text, numbers, lists and maps, bounded by the decoder that made it.

use std::collections::BTreeMap;

/// One value of a message's content. Maps are sorted by key, so equal contents have one canonical
/// form; a map never holds two entries for one key.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// Every integer of MessagePack and JSON fits: `i64::MIN..=u64::MAX`.
    Int(i128),
    /// Finite: the decoder refuses NaN and the infinities.
    Float(f64),
    Text(String),
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
}

impl Value {
    /// The word for this kind of value in error messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::Float(_) => "float",
            Value::Text(_) => "text",
            Value::List(_) => "list",
            Value::Map(_) => "map",
        }
    }
}
