//! What is told of a piece of work.

use std::{borrow::Cow, time::SystemTime};

use super::TraceContext;

/// Bytes of a text that goes along.
const TEXT_MAX: usize = 256;

/// A span that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub context: TraceContext,
    /// The span above it; `None`: it is the first of its trace.
    pub parent: Option<u64>,
    pub name: Cow<'static, str>,
    pub kind: Kind,
    pub started: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<Attribute>,
    /// What led to it and is in another trace.
    pub link: Option<TraceContext>,
    /// A word for why it failed.
    pub error: Option<&'static str>,
}

impl Span {
    /// A part of the work of another span.
    pub fn below(
        above: TraceContext,
        name: impl Into<Cow<'static, str>>,
        (started, ended): (SystemTime, SystemTime),
    ) -> Self {
        Self {
            context: above.child(),
            parent: Some(above.span_id),
            name: name.into(),
            kind: Kind::Internal,
            started,
            ended,
            attributes: Vec::new(),
            link: None,
            error: None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Internal,
    /// Sends a message on.
    Producer,
    /// Processes one.
    Consumer,
}

/// By OpenTelemetry's names where it has one.
pub type Attribute = (&'static str, Value);

#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Text(String),
    Integer(i64),
    Number(f64),
}

impl From<&str> for Value {
    /// Cut where it is too long.
    fn from(text: &str) -> Self {
        Self::Text(text.get(..text.floor_char_boundary(TEXT_MAX)).unwrap_or_default().to_owned())
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}
