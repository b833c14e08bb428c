//! What must hold for any input.

use bytes::{Bytes, BytesMut};

use super::{
    codec::{self, Operation},
    headers::Headers,
};

pub(crate) fn run(data: &[u8]) {
    as_a_server(data);
    if let Some((cut, data)) = data.split_first() {
        let pieces = data.splitn(4, |byte| *byte == 0).collect::<Vec<_>>();
        let piece = |index: usize| pieces.get(index).copied().unwrap_or_default();
        as_a_stranger(usize::from(*cut) + 1, piece(0), piece(1), piece(2), piece(3));
        as_the_bus(piece(0), piece(1), piece(2));
    }
}

/// Any bytes instead of a server's: read or refused, in bounded memory.
fn as_a_server(data: &[u8]) {
    let mut read = BytesMut::from(data);
    while let Ok(Some(operation)) = codec::decode(&mut read) {
        if let Operation::Message(message) = operation {
            let _ = Headers::read(&message.headers).map(|headers| headers.get("traceparent").map(str::len));
            let _ = message.subject();
        }
    }
    assert!(read.capacity() <= 2 * (codec::MESSAGE_MAX + codec::LINE_MAX));
}

/// What nats-server makes of a stranger's publish, in pieces, and a word of its own behind it.
fn as_a_stranger(cut: usize, subject: &[u8], reply: &[u8], headers: &[u8], payload: &[u8]) {
    let token = |bytes: &[u8]| bytes.iter().copied().filter(|b| !b" \t\r\n".contains(b)).collect::<Vec<u8>>();
    let (subject, reply) = (token(subject), token(reply));
    if subject.is_empty() || subject.len() + reply.len() > codec::LINE_MAX / 2 {
        return;
    }
    let mut bytes = if headers.is_empty() { b"MSG ".to_vec() } else { b"HMSG ".to_vec() };
    bytes.extend_from_slice(&subject);
    bytes.extend_from_slice(b" 7 ");
    if !reply.is_empty() {
        bytes.extend_from_slice(&reply);
        bytes.push(b' ');
    }
    if !headers.is_empty() {
        bytes.extend_from_slice(format!("{} ", headers.len()).as_bytes());
    }
    bytes.extend_from_slice(format!("{}\r\n", headers.len() + payload.len()).as_bytes());
    bytes.extend_from_slice(&[headers, payload, b"\r\nPONG\r\n"].concat());

    let (mut read, mut found) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(cut) {
        read.extend_from_slice(piece);
        while let Some(operation) = codec::decode(&mut read).expect("a server's bytes are read") {
            found.push(operation);
        }
    }
    let [Operation::Message(message), Operation::Pong] = &found[..] else { panic!("{found:?}") };
    assert_eq!(message.subject, subject);
    assert_eq!(message.reply.as_ref().map_or(&b""[..], |reply| &reply[..]), reply);
    assert_eq!((&message.headers[..], &message.payload[..]), (headers, payload));
}

/// What a node publishes has the headers that it was given, and no others.
fn as_the_bus(subject: &[u8], value: &[u8], payload: &[u8]) {
    let (mut out, value) = (BytesMut::new(), String::from_utf8_lossy(value));
    let headers = [("A", &*value), ("B", "b")];
    if codec::publish(&mut out, &codec::Publish { subject, reply: None, headers: &headers, payload }).is_err() {
        assert!(out.is_empty());
        return;
    }
    // As the server would hand it on: with a number for the subscription.
    let line = out.iter().position(|byte| *byte == b'\n').expect("there is a line");
    let words: Vec<Bytes> = out[..line - 1].split(|b| *b == b' ').map(Bytes::copy_from_slice).collect();
    let [_, subject, headers, all] = &words[..] else { panic!("{words:?}") };
    let mut read = BytesMut::from(&[&b"HMSG "[..], subject, b" 7 ", headers, b" ", all, &out[line - 1..]].concat()[..]);
    let Ok(Some(Operation::Message(message))) = codec::decode(&mut read) else { panic!("{read:?}") };
    assert_eq!(message.payload, payload);
    if let Ok(read) = Headers::read(&message.headers) {
        assert_eq!(read.get("B"), Some("b"));
        assert_eq!(read.get("C"), None);
    }
}
