//! What all three have in common: who tells, and values in OTLP's form.

use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    resource::v1::Resource,
};

use crate::trace::Value;

/// What is told by whom.
pub(super) struct Source {
    resource: Resource,
    /// Since when the node counts.
    pub(super) started: SystemTime,
}

impl Source {
    pub(super) fn new(node: &str) -> Self {
        let attributes = [
            ("service.name", "agentbus".into()),
            ("service.version", env!("CARGO_PKG_VERSION").into()),
            ("service.instance.id", node.into()),
        ];
        let attributes = attributes.into_iter().map(|(key, value)| pair(key, value)).collect();
        Self { resource: Resource { attributes, ..Resource::default() }, started: SystemTime::now() }
    }

    pub(super) fn resource(&self) -> Option<Resource> {
        Some(self.resource.clone())
    }

    pub(super) fn scope(&self) -> Option<InstrumentationScope> {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Some(InstrumentationScope { name: "agentbus".to_owned(), version, ..InstrumentationScope::default() })
    }
}

pub(super) fn pair(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(any(value)), ..KeyValue::default() }
}

pub(super) fn any(value: Value) -> AnyValue {
    AnyValue {
        value: Some(match value {
            Value::Text(text) => any_value::Value::StringValue(text),
            Value::Integer(number) => any_value::Value::IntValue(number),
            Value::Number(number) => any_value::Value::DoubleValue(number),
        }),
    }
}

/// Since 1970.
pub(super) fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A number that a collector has told.
pub(super) fn counted(told: i64) -> usize {
    usize::try_from(told).unwrap_or(0)
}
