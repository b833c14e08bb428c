//! What do the headers of a stranger say? Strictly read, and nothing where they cannot be.
//!
//! nats-server hands header blocks on as it got them, whatever is in them (ADR-4 says what should be).

/// Longer blocks are not read: nothing that the bus wants of a header is long.
pub(super) const BLOCK_MAX: usize = 8 * 1024;

/// A block of headers, well-formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nats) struct Headers<'a>(&'a str);

/// Not as ADR-4 says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nats) struct Unreadable;

impl<'a> Headers<'a> {
    /// An empty block has no headers.
    pub(in crate::nats) fn read(block: &'a [u8]) -> Result<Self, Unreadable> {
        if block.is_empty() {
            return Ok(Self(""));
        }
        if block.len() > BLOCK_MAX {
            return Err(Unreadable);
        }
        let text = std::str::from_utf8(block).map_err(|_| Unreadable)?;
        let (first, rest) = text.split_once("\r\n").ok_or(Unreadable)?;
        let lines = if rest == "\r\n" { "" } else { rest.strip_suffix("\r\n\r\n").ok_or(Unreadable)? };
        if !is_first(first) || !(lines.is_empty() || lines.split("\r\n").all(|line| field(line).is_some())) {
            return Err(Unreadable);
        }
        Ok(Self(lines))
    }

    /// The first of this name, whose case counts.
    pub(in crate::nats) fn get(&self, name: &str) -> Option<&'a str> {
        self.0
            .split_terminator("\r\n")
            .filter_map(field)
            .find(|(found, _)| *found == name)
            .map(|(_, value)| value)
    }
}

/// `NATS/1.0`, or with a status of three digits and words.
fn is_first(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("NATS/1.0") else { return false };
    let status = rest.trim_end();
    if status.is_empty() {
        return rest.bytes().all(|byte| byte == b' ');
    }
    let Some(status) = status.strip_prefix(' ') else { return false };
    let mut bytes = status.bytes();
    let digits = bytes.by_ref().take(3).filter(u8::is_ascii_digit).count();
    digits == 3 && bytes.next().is_none_or(|byte| byte == b' ') && !status.chars().any(char::is_control)
}

/// `name: value`. A name is visible ASCII without a colon, a value has no control characters.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once(':')?;
    let readable = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_graphic())
        && !value.chars().any(|c| c.is_control() && c != '\t');
    readable.then(|| (name, value.trim()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_clients_write_is_read() {
        for (block, name, value) in [
            (&b"NATS/1.0\r\ntraceparent: a-b\r\n\r\n"[..], "traceparent", Some("a-b")),
            (b"NATS/1.0\r\na:b\r\na: c\r\n\r\n", "a", Some("b")),
            (b"NATS/1.0\r\nA: \xc3\xa9 \r\n\r\n", "A", Some("\u{e9}")),
            (b"NATS/1.0\r\nA:\r\n\r\n", "A", Some("")),
            (b"NATS/1.0\r\nA: b:c\td\r\n\r\n", "A", Some("b:c\td")),
            (b"NATS/1.0\r\nA: b\r\n\r\n", "a", None),
            (b"NATS/1.0\r\n\r\n", "a", None),
            (b"NATS/1.0 503\r\n\r\n", "a", None),
            (b"NATS/1.0 408 Request Timeout\r\nA: b\r\n\r\n", "A", Some("b")),
            (b"", "a", None),
        ] {
            assert_eq!(Headers::read(block).unwrap().get(name), value, "{}", block.escape_ascii());
        }
    }

    #[test]
    fn what_is_malformed_is_no_header_at_all() {
        let long = [&b"NATS/1.0\r\na: "[..], &vec![b'x'; BLOCK_MAX], b"\r\n\r\n"].concat();
        for block in [
            &b"NATS/1.0\r\nX: a\rb\r\n\r\n"[..],
            b"NATS/1.0\r\nX: a\nb\r\n\r\n",
            b"NATS/1.0\r\nX: \xff\r\n\r\n",
            b"NATS/1.0\r\nabc\r\n\r\n",
            b"NATS/1.0\r\n: b\r\n\r\n",
            b"NATS/1.0\r\na b: c\r\n\r\n",
            b"NATS/1.0\r\na\x01b: c\r\n\r\n",
            b"NATS/1.0\r\na: \x01\r\n\r\n",
            b"NATS/1.0\r\na: \0\r\n\r\n",
            b"NATS/1.0\r\na: \xc2\x85\r\n\r\n",
            b"NATS/1.0\r\n\xc3\xa9: c\r\n\r\n",
            b"NATS/1.0\r\na: b\r\n c\r\n\r\n",
            b"NATS/1.0\r\na: b\r\n",
            b"NATS/1.0\r\na: b",
            b"NATS/1.0\nA: b\n\n",
            b"NATS/1.0",
            b"NATS/1.1\r\nA: b\r\n\r\n",
            b"nats/1.0\r\n\r\n",
            b"NATS/1.0x\r\n\r\n",
            b"NATS/1.0 abc\r\n\r\n",
            b"NATS/1.0 1\r\n\r\n",
            b"NATS/1.0 99999 x\r\n\r\n",
            b"NATS/1.0 50\xc3\xa9\r\n\r\n",
            b"FOO\r\n\r\n",
            b"\r\n\r\n",
            b"\r\n",
            &long,
        ] {
            let shown = block.get(..40.min(block.len())).unwrap();
            assert_eq!(Headers::read(block), Err(Unreadable), "{}", shown.escape_ascii());
        }
    }
}
