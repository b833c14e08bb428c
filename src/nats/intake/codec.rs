//! What a NATS server sends, as operations, and what a node sends, as bytes.
//!
//! Total: whatever stands in a subject, a reply subject, a header block or a payload, it is handed on as
//! bytes. Only what the server itself gets wrong, the framing, ends a connection. Strangers choose those
//! four fields and nothing else: the server writes the lines around them
//! (NATS client protocol, `MSG` and `HMSG`; headers by ADR-4).
//!
//! Knows `bytes` alone, so that `fuzz/` builds it in seconds.

use std::ops::Range;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// Of a line of the protocol. The server bounds what a client writes in one to 4 KiB
/// (`max_control_line`); an `INFO` of a large cluster is longer.
pub(in crate::nats) const LINE_MAX: usize = 64 * 1024;
/// Of headers and payload together: the largest `max_payload` that a server can be told.
pub(in crate::nats) const MESSAGE_MAX: usize = 64 * 1024 * 1024;

/// One thing that the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::nats) enum Operation {
    /// JSON.
    Info(Bytes),
    Message(Incoming),
    Ping,
    Pong,
    Ok,
    /// In words, with quotes around them.
    Error(Bytes),
}

/// A message, as the server hands it on. Every field may hold any bytes of a stranger's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::nats) struct Incoming {
    pub(in crate::nats) sid: u64,
    pub(in crate::nats) subject: Bytes,
    pub(in crate::nats) reply: Option<Bytes>,
    /// The block as it came; empty: none.
    pub(in crate::nats) headers: Bytes,
    pub(in crate::nats) payload: Bytes,
}

impl Incoming {
    /// In text. What is no UTF-8 in it is U+FFFD, which no id has.
    pub(in crate::nats) fn subject(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.subject)
    }
}

/// The server does not keep to its protocol: the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    #[error("a line of more than {LINE_MAX} bytes")]
    LongLine,
    #[error("a line that is no operation of a NATS server")]
    Operation,
    #[error("a message whose line does not say subject, subscription and length")]
    Arguments,
    #[error("a message of more than {MESSAGE_MAX} bytes")]
    LongMessage,
    #[error("a message without its end")]
    End,
}

/// Takes one operation from the front of what was read. `None`: it is not all there yet.
pub(in crate::nats) fn decode(read: &mut BytesMut) -> Result<Option<Operation>, Broken> {
    let Some(end) = read.iter().take(LINE_MAX).position(|byte| *byte == b'\n') else {
        return if read.len() >= LINE_MAX { Err(Broken::LongLine) } else { Ok(None) };
    };
    let line = read.get(..end).unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let name = line.split(|byte| is_blank(*byte)).next().unwrap_or_default();
    let arguments = name.len()..line.len();
    let operation = match name {
        b"MSG" => return message(read, arguments, end + 1, false),
        b"HMSG" => return message(read, arguments, end + 1, true),
        b"PING" => Operation::Ping,
        b"PONG" => Operation::Pong,
        b"+OK" => Operation::Ok,
        b"INFO" => Operation::Info(text(line, name.len())),
        b"-ERR" => Operation::Error(text(line, name.len())),
        _ => return Err(Broken::Operation),
    };
    read.advance(end + 1);
    Ok(Some(operation))
}

fn text(line: &[u8], from: usize) -> Bytes {
    Bytes::copy_from_slice(line.get(from..).unwrap_or_default().trim_ascii())
}

/// `MSG <subject> <sid> [reply] <bytes>`, `HMSG <subject> <sid> [reply] <bytes of headers> <bytes of all>`.
fn message(
    read: &mut BytesMut,
    arguments: Range<usize>,
    line_end: usize,
    with_headers: bool,
) -> Result<Option<Operation>, Broken> {
    let mut fields: [Range<usize>; 5] = Default::default();
    let mut count = 0;
    let mut at = arguments.start;
    for field in read.get(arguments).unwrap_or_default().split(|byte| is_blank(*byte)) {
        if !field.is_empty() {
            *fields.get_mut(count).ok_or(Broken::Arguments)? = at..at + field.len();
            count += 1;
        }
        at += field.len() + 1;
    }
    let numbers = if with_headers { 2 } else { 1 };
    let reply = match count.checked_sub(numbers) {
        Some(2) => None,
        Some(3) => fields.get(2).cloned(),
        _ => return Err(Broken::Arguments),
    };
    let number = |index: usize| {
        let field = fields.get(index).and_then(|field| read.get(field.clone()));
        field.and_then(decimal).ok_or(Broken::Arguments)
    };
    let sid = number(1)?;
    let headers = if with_headers { number(count - 2)? } else { 0 };
    let all = number(count - 1)?;
    if all > MESSAGE_MAX as u64 {
        return Err(Broken::LongMessage);
    }
    if headers > all {
        return Err(Broken::Arguments);
    }
    let (headers, all) = (headers as usize, all as usize);
    if read.len() < line_end + all + 2 {
        read.reserve(line_end + all + 2 - read.len());
        return Ok(None);
    }
    if read.get(line_end + all..line_end + all + 2) != Some(b"\r\n") {
        return Err(Broken::End);
    }
    let frame = read.split_to(line_end + all + 2).freeze();
    let subject = fields.first().cloned().unwrap_or_default();
    Ok(Some(Operation::Message(Incoming {
        sid,
        subject: frame.slice(subject),
        reply: reply.map(|reply| frame.slice(reply)),
        headers: frame.slice(line_end..line_end + headers),
        payload: frame.slice(line_end + headers..line_end + all),
    })))
}

fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// A subject that would end its own line cannot be published on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a subject is empty, too long, or has white space in it")]
pub(in crate::nats) struct BadSubject;

/// What the server takes of one line (`max_control_line`, 4 KiB unless configured), less the numbers.
const SUBJECT_MAX: usize = 4_000;

/// A message to be published.
pub(in crate::nats) struct Publish<'a> {
    pub(in crate::nats) subject: &'a [u8],
    pub(in crate::nats) reply: Option<&'a [u8]>,
    pub(in crate::nats) headers: &'a [(&'a str, &'a str)],
    pub(in crate::nats) payload: &'a [u8],
}

/// Headers and payload as they are written for everybody who is told the same.
pub(in crate::nats) struct Words {
    written: Bytes,
    bytes: usize,
}

impl Words {
    /// Of at least one header.
    pub(in crate::nats) fn new(headers: &[(&str, &str)], payload: &[u8]) -> Self {
        let mut written = BytesMut::new();
        content(&mut written, headers, payload);
        Self { written: written.freeze(), bytes: header_bytes(headers) + payload.len() }
    }

    /// Of headers and payload.
    pub(in crate::nats) fn len(&self) -> usize {
        self.bytes
    }

    pub(in crate::nats) fn publish(&self, subject: &[u8], out: &mut BytesMut) -> Result<(), BadSubject> {
        let subject = writable(subject)?;
        out.reserve(subject.len() + self.written.len() + 8);
        out.put_slice(b"HPUB ");
        out.put_slice(subject);
        out.put_u8(b' ');
        out.put_slice(&self.written);
        Ok(())
    }
}

fn writable(subject: &[u8]) -> Result<&[u8], BadSubject> {
    let bad =
        subject.is_empty() || subject.len() > SUBJECT_MAX || subject.iter().any(u8::is_ascii_whitespace);
    if bad { Err(BadSubject) } else { Ok(subject) }
}

/// Writes a publish. Control characters in the value of a header become blanks, so that a value cannot
/// begin another header.
pub(in crate::nats) fn publish(out: &mut BytesMut, message: &Publish<'_>) -> Result<(), BadSubject> {
    let Publish { subject, reply, headers, payload } = message;
    let (subject, reply) = (writable(subject)?, reply.map(writable).transpose()?);
    out.put_slice(if headers.is_empty() { b"PUB " } else { b"HPUB " });
    out.put_slice(subject);
    out.put_u8(b' ');
    if let Some(reply) = reply {
        out.put_slice(reply);
        out.put_u8(b' ');
    }
    content(out, headers, payload);
    Ok(())
}

/// What follows the subjects.
fn content(out: &mut BytesMut, headers: &[(&str, &str)], payload: &[u8]) {
    if headers.is_empty() {
        number(out, payload.len());
        out.put_slice(b"\r\n");
    } else {
        let block = header_bytes(headers);
        number(out, block);
        out.put_u8(b' ');
        number(out, block + payload.len());
        out.put_slice(b"\r\nNATS/1.0\r\n");
        for (name, value) in headers {
            out.put_slice(name.as_bytes());
            out.put_slice(b": ");
            if value.bytes().any(|byte| byte.is_ascii_control()) {
                out.extend(value.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte }));
            } else {
                out.put_slice(value.as_bytes());
            }
            out.put_slice(b"\r\n");
        }
        out.put_slice(b"\r\n");
    }
    out.put_slice(payload);
    out.put_slice(b"\r\n");
}

fn number(out: &mut BytesMut, number: usize) {
    out.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

const VERSION: &str = "NATS/1.0";

/// What [`publish`] makes of headers.
pub(in crate::nats) fn header_bytes(headers: &[(&str, &str)]) -> usize {
    let lines: usize = headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    VERSION.len() + 2 + lines + 2
}

#[cfg(test)]
mod tests;
