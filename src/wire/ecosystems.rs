//! Messages as other languages' libraries write them, and what is told of those that are not understood.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::rejection::Rejection;

const GOOD: &str = r#""message_id":"m-1","message_type":"command","to":{"agent":"worker"},
    "constitutional_hash":"cdd01ef066bc6cf2""#;

fn read(body: &[u8]) -> Result<Decoded, DecodeFailure> {
    let (tenant, sender) = ("acme".parse().unwrap(), "planner".parse().unwrap());
    decode(body, Stamp { tenant: &tenant, sender: &sender }, &Limits::default())
}

fn message(fields: &str) -> Result<Decoded, DecodeFailure> {
    read(format!("{{{GOOD},{fields}}}").as_bytes())
}

fn msgpack(fields: &str) -> Vec<u8> {
    let json: serde_json::Value = serde_json::from_str(&format!("{{{GOOD},{fields}}}")).unwrap();
    rmp_serde::to_vec_named(&json).unwrap()
}

#[test]
fn a_whole_number_has_one_canonical_form_and_one_digest_however_it_is_spelled() {
    let content = r#""content":{"n":1.0}"#;
    let plain =
        message(&format!(r#"{content},"created_at":1767225600000,"expires_at":1767225700000"#)).unwrap();
    for times in [
        r#""created_at":1767225600000.0,"expires_at":1767225700000.0"#,
        r#""created_at":1.7672256e12,"expires_at":17672257E5,"schema":1.0"#,
    ] {
        let fields = format!("{content},{times}");
        for spelled in [message(&fields).unwrap(), read(&msgpack(&fields)).unwrap()] {
            assert_eq!((&spelled.canonical, spelled.digest), (&plain.canonical, plain.digest), "{times}");
        }
    }
}

#[test]
fn numbers_in_the_content_stay_as_they_are_written() {
    let of = |n: &str| message(&format!(r#""content":{{"n":{n}}},"created_at":1767225600000"#)).unwrap();
    assert_ne!(of("1.0").digest, of("1").digest);
    assert_ne!(of("null").digest, of("0").digest);
}

#[test]
fn a_byte_order_mark_before_json_says_nothing() {
    let plain = message(r#""content":{"n":1},"created_at":1767225600000"#).unwrap();
    let marked =
        format!("\u{feff}\r\n{{{GOOD},\r\n\"content\":{{\"n\":1}},\"created_at\":1767225600000}}\r\n");
    let marked = read(marked.as_bytes()).unwrap();
    assert_eq!((marked.encoding, marked.digest), (Encoding::Json, plain.digest));
}

#[test]
fn null_is_absent_in_every_request_but_has_occurred() {
    let limits = Limits::default();
    for body in [
        r#"{"capabilities":["sum"],"encoding":null,"description":null,"agent":null}"#,
        r#"{"capabilities":null}"#,
    ] {
        assert!(decode_register(body.as_bytes(), &limits).is_ok(), "{body}");
    }
    let find = decode_find(br#"{"capability":"sum","agent":null}"#, &limits).unwrap().request;
    assert_eq!((find.agent, find.capability), (None, Some("sum".parse().unwrap())));
    assert!(decode_heartbeat(br#"{"agent":null}"#, &limits).is_ok());
    assert!(decode_unregister(br#"{"agent":null}"#, &limits).is_ok());
    assert!(decode_deliberations(br#"{"id":null}"#, &limits).is_ok());
    let vote = format!(
        r#"{{"id":"bc6b19fb495331a705b280fd","choice":"approve","digest":"{}","comment":null}}"#,
        "0".repeat(64)
    );
    assert_eq!(decode_vote(vote.as_bytes(), &limits).unwrap().request.comment, "");
    let twice = decode_find(br#"{"agent":null,"agent":null}"#, &limits).unwrap_err();
    assert_eq!(twice.reason().as_str(), "duplicate_key");
}

#[test]
fn an_error_shows_the_value_and_the_way_to_it() {
    let told = |body: &[u8]| Rejection::from(read(body).unwrap_err().error).detail;
    let of = |fields: &str| told(format!("{{{GOOD},{fields}}}").as_bytes());
    for (fields, said) in [
        (r#""metadata":{"note":{}}"#, "metadata.note is a map, expected text"),
        (r#""metadata":{"note":7}"#, "metadata.note is the integer 7, expected text"),
        (r#""created_at":"2026-01-01T00:00:00Z""#, r#"the text "2026-01-01T00:00:00Z", expected integer"#),
        (
            r#""created_at":1767225600000.5"#,
            "created_at is the float 1767225600000.5, expected a whole number",
        ),
        (r#""created_at":-3"#, "created_at is the integer -3, expected integer of 0 or more"),
        (
            r#""priority":"urgent""#,
            r#"priority must be one of low, normal, high, critical, found the text "urgent""#,
        ),
        (r#""priority":"\u202e!""#, r#"found the text "\u{202e}!""#),
        (r#""tools":["read","Delete File"]"#, r#"tools[1] must be 1 to 64"#),
        (r#""tools":["read","Delete File"]"#, r#"found the text "Delete File""#),
        (r#""tools":[true]"#, "tools[0] is true, expected text"),
        (r#""content":{"rows":[1,{"n":1e999}]}"#, "content.rows[1].n: the number at byte"),
        (r#""content":{"a":{"b":1,"b":2}}"#, "content.a: the key \"b\" occurs twice in one map"),
        (r#""content":7"#, "content is the integer 7, expected map"),
    ] {
        assert!(of(fields).contains(said), "{fields}: {}", of(fields));
    }
    // A date of MessagePack under a key of the content, and as a time.
    let date = b"\xd7\xff\0\0\0\0\0\0\0\x01";
    let with = |key: &str| [&[0x81, 0xa0 | key.len() as u8][..], key.as_bytes(), date].concat();
    assert!(told(&with("created_at")).starts_with("created_at: byte 12 begins a value of kind extension"));
    let content = [b"\x81\xa7content".to_vec(), with("when")].concat();
    assert!(told(&content).starts_with("content.when: byte 15 begins a value of kind extension"));
}

#[test]
fn what_was_taken_for_messagepack_is_told_with_its_first_byte() {
    for (body, said) in [
        (&b"hello"[..], "begins with `h`, not `{`, so it was read as MessagePack"),
        (b"'{}'", "begins with `'`, not `{`"),
        (b"\xff\xfe{\0}\0", "begins with 0xff, as UTF-16 does, not `{`"),
    ] {
        let detail = read(body).unwrap_err().error.detail();
        assert!(detail.contains("expected a map") && detail.contains(said), "{detail}");
        assert!(decode_find(body, &Limits::default()).unwrap_err().detail().contains(said));
    }
    let list = read(b"[1]").unwrap_err().error.detail();
    assert!(!list.contains("MessagePack"), "{list}");
}

#[test]
fn a_path_of_long_keys_is_cut() {
    let deep = format!("{}1e999{}", format!("{{\"{}\":", "k".repeat(60)).repeat(10), "}".repeat(10));
    let detail = message(&format!("\"content\":{deep}")).unwrap_err().error.detail();
    assert!(detail.starts_with("...") && detail.len() < 300, "{detail}");
}
