#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn all(bytes: &[u8]) -> Result<Vec<Operation>, Broken> {
    let mut read = BytesMut::from(bytes);
    let mut found = Vec::new();
    while let Some(operation) = decode(&mut read)? {
        found.push(operation);
    }
    Ok(found)
}

fn incoming(subject: &[u8], reply: Option<&[u8]>, headers: &[u8], payload: &[u8]) -> Incoming {
    Incoming {
        sid: 7,
        subject: Bytes::copy_from_slice(subject),
        reply: reply.map(Bytes::copy_from_slice),
        headers: Bytes::copy_from_slice(headers),
        payload: Bytes::copy_from_slice(payload),
    }
}

/// As nats-server writes it.
fn as_the_server(message: &Incoming) -> Vec<u8> {
    let Incoming { sid, subject, reply, headers, payload } = message;
    let reply = reply.as_ref().map(|reply| [&reply[..], b" "].concat()).unwrap_or_default();
    let all = headers.len() + payload.len();
    let (name, numbers) = match headers.len() {
        0 => ("MSG", format!("{all}")),
        some => ("HMSG", format!("{some} {all}")),
    };
    let line =
        [name.as_bytes(), b" ", subject, format!(" {sid} ").as_bytes(), &reply, numbers.as_bytes()].concat();
    [&line[..], b"\r\n", headers, payload, b"\r\n"].concat()
}

#[test]
fn what_a_server_says_is_read() {
    let found =
        all(b"INFO {\"a\":1} \r\n+OK\r\nPING\r\nPONG\r\n-ERR 'Stale Connection'\r\nMSG a.b 7 2\r\nhi\r\n");
    let expected = vec![
        Operation::Info(Bytes::from_static(b"{\"a\":1}")),
        Operation::Ok,
        Operation::Ping,
        Operation::Pong,
        Operation::Error(Bytes::from_static(b"'Stale Connection'")),
        Operation::Message(incoming(b"a.b", None, b"", b"hi")),
    ];
    assert_eq!(found.unwrap(), expected);
    for message in [
        incoming(b"a.\xff\xfe", Some(b"_R_.x.y"), b"NATS/1.0\r\nX: a\rb\r\n\r\n", b"\0\r\n"),
        incoming(b"a", None, b"\r\n\r\n", b""),
        incoming(b"a", Some(b"\x80"), b"", b""),
    ] {
        assert_eq!(all(&as_the_server(&message)).unwrap(), vec![Operation::Message(message)]);
    }
}

#[test]
fn what_no_server_says_is_named() {
    for (bytes, broken) in [
        (&b"HTTP/1.1 200 OK\r\n"[..], Broken::Operation),
        (b"\r\n", Broken::Operation),
        (b"MSG a 7\r\n", Broken::Arguments),
        (b"MSG a 7 r x 2\r\nhi\r\n", Broken::Arguments),
        (b"MSG a b 2\r\nhi\r\n", Broken::Arguments),
        (b"MSG a 7 -2\r\nhi\r\n", Broken::Arguments),
        (b"MSG a 7 99999999999999999999\r\n", Broken::Arguments),
        (b"MSG a 7 99999999999\r\n", Broken::LongMessage),
        (b"HMSG a 7 5 2\r\n", Broken::Arguments),
        (b"MSG a 7 2\r\nhi!\r\n", Broken::End),
        (&vec![b'x'; LINE_MAX], Broken::LongLine),
    ] {
        let shown = bytes.get(..40.min(bytes.len())).unwrap();
        assert_eq!(all(bytes), Err(broken), "{}", shown.escape_ascii());
    }
}

#[test]
fn a_value_cannot_begin_another_header_and_a_subject_cannot_end_its_line() {
    let mut out = BytesMut::new();
    let headers = [("X", "a\r\nY: b\0")];
    let message = |subject, reply| Publish { subject, reply, headers: &headers, payload: b"hi" };
    publish(&mut out, &message(b"a.b", None)).unwrap();
    assert_eq!(&out[..], b"HPUB a.b 25 27\r\nNATS/1.0\r\nX: a  Y: b \r\n\r\nhi\r\n");
    let (written, words) = (out.split(), Words::new(&headers, b"hi"));
    words.publish(b"a.b", &mut out).unwrap();
    assert_eq!((&out, words.len()), (&written, 27), "said again, it is the same");
    publish(&mut out, &Publish { headers: &[], ..message(b"a.b", Some(b"c")) }).unwrap();
    assert!(out.ends_with(b"\r\nPUB a.b c 2\r\nhi\r\n"));
    let before = out.clone();
    for bad in [&b""[..], b"a b", b"a\r\nPUB", b"a\tb", &[b'a'; SUBJECT_MAX + 1]] {
        assert_eq!(publish(&mut out, &message(bad, None)), Err(BadSubject));
        assert_eq!(publish(&mut out, &message(b"a.b", Some(bad))), Err(BadSubject));
        assert_eq!(Words::new(&[("a", "b")], b"c").publish(bad, &mut out), Err(BadSubject));
    }
    assert_eq!(out, before, "nothing is written of it");
}

prop_compose! {
    fn any_message()(
        subject in prop::collection::vec(any::<u8>().prop_filter("no blanks", |b| !b" \t\r\n".contains(b)), 1..40),
        reply in prop::option::of(prop::collection::vec(0x21_u8.., 1..40)),
        headers in prop::collection::vec(any::<u8>(), 0..60),
        payload in prop::collection::vec(any::<u8>(), 0..60),
    ) -> Incoming {
        incoming(&subject, reply.as_deref(), &headers, &payload)
    }
}

proptest! {
    /// Whatever strangers write, it is one message, and what comes after it is read.
    #[test]
    fn every_message_is_read_however_it_is_cut(
        messages in prop::collection::vec(any_message(), 1..5),
        cut in 1_usize..50,
    ) {
        let mut bytes: Vec<u8> = messages.iter().flat_map(as_the_server).collect();
        bytes.extend_from_slice(b"PONG\r\n");
        let (mut read, mut found) = (BytesMut::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            read.extend_from_slice(piece);
            while let Some(operation) = decode(&mut read).unwrap() {
                found.push(operation);
            }
        }
        let expected = messages.into_iter().map(Operation::Message).chain([Operation::Pong]);
        prop_assert_eq!(found, expected.collect::<Vec<_>>());
    }

    #[test]
    fn no_bytes_panic_or_ask_for_more_than_a_message(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut read = BytesMut::from(&bytes[..]);
        while let Ok(Some(_)) = decode(&mut read) {}
        prop_assert!(read.capacity() <= 2 * (MESSAGE_MAX + LINE_MAX));
    }
}
