//! Which trace does a message belong to?

use rand::Rng as _;

/// Continues a W3C trace context (level 1), or starts one: same trace, new span.
pub(super) fn traceparent(incoming: Option<&str>) -> String {
    let mut random = rand::rng();
    let span: u64 = random.random_range(1..=u64::MAX);
    let trace = incoming.and_then(trace_and_flags);
    match trace {
        Some((trace, flags)) => format!("00-{trace}-{span:016x}-{flags}"),
        None => format!("00-{:032x}-{span:016x}-00", random.random_range(1..=u128::MAX)),
    }
}

/// Trace id and flags of a well-formed version-00 header.
fn trace_and_flags(header: &str) -> Option<(&str, &str)> {
    let lower_hex = |text: &str, length: usize| {
        text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = header.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    (parts.next().is_none()
        && version == "00"
        && lower_hex(trace, 32)
        && !zero(trace)
        && lower_hex(span, 16)
        && !zero(span)
        && lower_hex(flags, 2))
    .then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_continued_and_a_malformed_one_is_not() {
        let incoming = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let outgoing = traceparent(Some(incoming));
        assert!(outgoing.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && outgoing.ends_with("-01"));
        assert_ne!(outgoing, incoming, "the span is new");
        for bad in [
            "",
            "x",
            "00-0-0-0",
            &incoming.to_uppercase(),
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            let outgoing = traceparent(Some(bad));
            assert!(trace_and_flags(&outgoing).is_some(), "{outgoing}");
            assert!(!outgoing.contains("0af7651916cd43dd8448eb211c80319c"), "{bad} was continued");
        }
    }
}
