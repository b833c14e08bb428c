//! W3C trace context, level 1: <https://www.w3.org/TR/trace-context-1/>.

use std::fmt;

use rand::Rng as _;

/// Of the flags: whoever wrote it records the trace.
const SAMPLED: u8 = 0x01;

/// Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub u128);

/// A span of a trace, as a `traceparent` names it. Neither id is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceContext {
    pub trace_id: TraceId,
    pub span_id: u64,
    flags: u8,
}

/// A `traceparent` for whoever comes next: same trace, new span; or a trace of its own where there is none to continue.
pub fn continued(incoming: Option<&str>) -> String {
    let incoming = incoming.and_then(TraceContext::parse);
    incoming.map_or_else(TraceContext::start, TraceContext::child).to_string()
}

impl TraceContext {
    /// A trace of its own, not sampled.
    pub fn start() -> Self {
        let mut random = rand::rng();
        let trace_id = TraceId(random.random_range(1..=u128::MAX));
        Self { trace_id, span_id: random.random_range(1..=u64::MAX), flags: 0 }
    }

    /// Another span of the same trace.
    pub fn child(self) -> Self {
        Self { span_id: rand::rng().random_range(1..=u64::MAX), ..self }
    }

    /// A well-formed header of version 00; `None` for any other text.
    pub fn parse(header: &str) -> Option<Self> {
        let mut parts = header.split('-');
        let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        if version != "00" || parts.next().is_some() {
            return None;
        }
        let span_id = u64::from_str_radix(lower_hex(span, 16)?, 16).ok()?;
        let flags = u8::from_str_radix(lower_hex(flags, 2)?, 16).ok()?;
        (span_id != 0).then_some(Self { trace_id: TraceId::parse(trace)?, span_id, flags })
    }

    pub fn flags(self) -> u8 {
        self.flags
    }

    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }

    pub fn with_sampled(self, sampled: bool) -> Self {
        let flags = if sampled { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        Self { flags, ..self }
    }
}

impl TraceId {
    /// 32 digits of lower-case hex.
    pub fn parse(text: &str) -> Option<Self> {
        let id = u128::from_str_radix(lower_hex(text, 32)?, 16).ok()?;
        (id != 0).then_some(Self(id))
    }
}

/// Without the signs and capitals that the standard library reads too.
fn lower_hex(text: &str, length: usize) -> Option<&str> {
    let good = text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    good.then_some(text)
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}
