//! Is anything taken that claims, nests or holds more than it may? One body at a time, on each verb.

use std::{fmt::Write as _, time::Duration};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Verb},
};
use anyhow::Context as _;
use serde_json::json;

use super::{ATTACKED_FROM, field::Field};

/// A body that is slow to read may be answered late; that is the attacker's own time.
const ANSWER_WAIT: Duration = Duration::from_secs(10);

/// A message as JSON text, with this in the place of the content.
fn with_content(content: &str) -> Vec<u8> {
    let mut message = Draft::to_agent("sink", "@").json();
    if let Some(fields) = message.as_object_mut() {
        fields.insert("content".to_owned(), json!("@CONTENT@"));
    }
    message.to_string().replace("\"@CONTENT@\"", content).into_bytes()
}

/// A message as MessagePack whose content is these bytes.
fn packed(content: &[u8]) -> Vec<u8> {
    const HOLE: &str = "@CONTENT@";
    let message =
        Draft { to: json!({ "agent": "sink" }), content: json!(HOLE), ..Draft::to_agent("sink", "") };
    let bytes = message.encode(Encoding::MessagePack);
    // A fixstr: its length and then the text.
    let hole = [&[0xa0 | HOLE.len() as u8], HOLE.as_bytes()].concat();
    let at = bytes.windows(hole.len()).position(|window| window == hole).unwrap_or_default();
    let (before, after) = bytes.split_at(at);
    [before, content, after.get(hole.len()..).unwrap_or_default()].concat()
}

/// Bodies that must not be taken, whatever the verb.
fn bodies() -> Vec<(String, Vec<u8>)> {
    let mut bodies: Vec<(String, Vec<u8>)> = Vec::new();
    let mut add = |name: &str, bytes: Vec<u8>| bodies.push((name.to_owned(), bytes));
    for depth in [17, 100, 10_000, 60_000] {
        let lists = format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        add(&format!("JSON lists nested {depth} deep"), with_content(&lists));
        let maps = format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        // Five bytes a level, within what a message may have.
        if depth <= 10_000 {
            add(&format!("JSON maps nested {depth} deep"), with_content(&maps));
        }
        let list = [&[0x81, 0xa1, b'a'][..], &vec![0x91; depth], &[1]].concat();
        add(&format!("MessagePack lists nested {depth} deep"), packed(&list));
        let map = [[0x81, 0xa1, b'a'].repeat(depth).as_slice(), &[1]].concat();
        if depth <= 10_000 {
            add(&format!("MessagePack maps nested {depth} deep"), packed(&map));
        }
    }
    add("JSON lists that never end", with_content(&format!("{{\"a\":{}", "[".repeat(60_000))));
    add("only opening braces", b"{".repeat(60_000));
    add("only quotes", [&b"{"[..], &b"\"".repeat(60_000)].concat());
    for count in [4_097, 30_000] {
        let list = vec!["1"; count].join(",");
        add(&format!("{count} values in JSON"), with_content(&format!("{{\"a\":[{list}]}}")));
        let mut list = vec![0x81, 0xa1, b'a', 0xdc];
        list.extend_from_slice(&u16::try_from(count).unwrap_or(u16::MAX).to_be_bytes());
        list.extend(vec![1; count]);
        add(&format!("{count} values in MessagePack"), packed(&list));
    }
    for (what, marker) in [
        ("a list", vec![0xdd]),
        ("a map", vec![0xdf]),
        ("a text", vec![0xdb]),
        ("bytes", vec![0xc6]),
        ("an extension", vec![0xc9]),
    ] {
        for (length, bytes) in
            [("2^32 - 1", [0xff; 4]), ("2^31", [0x80, 0, 0, 0]), ("16 million", [1, 0, 0, 0])]
        {
            let content = [&[0x81, 0xa1, b'a'][..], &marker, &bytes, &[1]].concat();
            add(&format!("{what} that claims {length}"), packed(&content));
            add(&format!("nothing but {what} that claims {length}"), [&marker[..], &bytes].concat());
        }
    }
    for (what, text) in [
        ("one key twice", r#"{"a":1,"a":2}"#),
        ("one key twice, once escaped", r#"{"a":1,"\u0061":2}"#),
        ("one key twice, deep down", r#"{"a":[{"b":1,"b":2}]}"#),
        ("NaN", r#"{"a":NaN}"#),
        ("Infinity", r#"{"a":-Infinity}"#),
        ("1e999", r#"{"a":1e999}"#),
        ("-1e999", r#"{"a":-1e999}"#),
        ("a lone surrogate", r#"{"a":"\ud800"}"#),
        ("a raw line break in a text", "{\"a\":\"b\nc\"}"),
        ("a comment", r#"{"a":1/*x*/}"#),
        ("a comma at the end", r#"{"a":1,}"#),
        ("a leading zero", r#"{"a":01}"#),
        ("a plus sign", r#"{"a":+1}"#),
        ("hex", r#"{"a":0x10}"#),
        ("a key that is a number", r#"{1:2}"#),
        ("a list for the content", "[1]"),
        ("a text for the content", "\"hello\""),
        ("no content", "{}"),
        ("null for the content", "null"),
    ] {
        add(&format!("{what}, in JSON"), with_content(text));
    }
    let digits = "9".repeat(60_000);
    add("a number of 60,000 digits", with_content(&format!("{{\"a\":{digits}}}")));
    add("a fraction of 60,000 digits", with_content(&format!("{{\"a\":1e{digits}}}")));
    add("a key of 60,000 bytes twice", {
        let key = "k".repeat(30_000);
        with_content(&format!("{{\"{key}\":1,\"{key}\":2}}"))
    });
    for (what, content) in [
        ("one key twice", vec![0x82, 0xa1, b'a', 1, 0xa1, b'a', 2]),
        ("one key twice, in two encodings", vec![0x82, 0xa1, b'a', 1, 0xd9, 1, b'a', 2]),
        ("NaN", vec![0x81, 0xa1, b'a', 0xcb, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0]),
        ("a short NaN", vec![0x81, 0xa1, b'a', 0xca, 0x7f, 0xc0, 0, 0]),
        ("an infinity", vec![0x81, 0xa1, b'a', 0xcb, 0x7f, 0xf0, 0, 0, 0, 0, 0, 0]),
        ("a text that is not UTF-8", vec![0x81, 0xa1, b'a', 0xa2, 0xff, 0xfe]),
        ("a key that is not UTF-8", vec![0x81, 0xa1, 0xff, 1]),
        ("a key that is a number", vec![0x81, 1, 1]),
        ("a key that is a list", vec![0x81, 0x91, 1, 1]),
        ("the byte that is never used", vec![0x81, 0xa1, b'a', 0xc1]),
        ("a timestamp", vec![0x81, 0xa1, b'a', 0xd6, 0xff, 0, 0, 0, 0]),
        ("bytes", vec![0x81, 0xa1, b'a', 0xc4, 1, 0]),
        ("a list for the content", vec![0x91, 1]),
        ("no content", vec![0x80]),
    ] {
        add(&format!("{what}, in MessagePack"), packed(&content));
    }
    let whole = Draft::to_agent("sink", "the weekly summary is ready");
    let behind = |encoding, more: &[u8]| [&whole.encode(encoding)[..], more].concat();
    add("bytes behind the end, in JSON", behind(Encoding::Json, b"{}"));
    add("bytes behind the end, in MessagePack", behind(Encoding::MessagePack, &[0xc0]));
    add("half a message, in JSON", whole.encode(Encoding::Json).iter().take(100).copied().collect());
    add(
        "half a message, in MessagePack",
        whole.encode(Encoding::MessagePack).iter().take(100).copied().collect(),
    );
    add("UTF-16", whole.encode(Encoding::Json).iter().flat_map(|byte| [*byte, 0]).collect());
    add("no bytes", Vec::new());
    add("one NUL", vec![0]);
    add("64 KB of NULs", vec![0; 65_536]);
    add("64 KB of 0xff", vec![0xff; 65_536]);
    add("64 KB of 0xc1", vec![0xc1; 65_536]);
    add(
        "more content than a tenant may send",
        with_content(&format!("{{\"a\":\"{}\"}}", "b".repeat(70_000))),
    );
    add("200 KB", with_content(&format!("{{\"a\":\"{}\"}}", "b".repeat(200_000))));
    add("100,000 unknown fields", {
        let mut fields = String::new();
        for number in 0..20_000 {
            let _ = write!(fields, "\"x{number}\":1,");
        }
        format!("{{{fields}\"a\":1}}").into_bytes()
    });
    bodies
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let mallory = field.client(ATTACKED_FROM, "mallory").await?;
    // Who listens, so that what is let through arrives.
    let _sink = field.client(ATTACKED_FROM, "sink").await?.inbox().await?;
    let verbs: &[Verb] = match field.full {
        true => &[Verb::Send, Verb::Submit, Verb::Ask],
        false => &[Verb::Send],
    };
    let bodies = bodies();
    for &verb in verbs {
        for (what, body) in &bodies {
            let (mallory, body) = (mallory.clone(), body.clone());
            let name = format!("{verb}: {what}");
            field.attempt(name, async move { taken(&mallory, verb, body).await }).await?;
        }
    }
    // The other verbs read as well.
    for verb in
        [Verb::Register, Verb::Find, Verb::Vote, Verb::Deliberations, Verb::Heartbeat, Verb::Unregister]
    {
        for (what, body) in bodies.iter().filter(|(what, _)| {
            ["nested 60000 deep", "claims 2^32 - 1", "64 KB of", "unknown fields"]
                .iter()
                .any(|kind| what.contains(kind))
        }) {
            let (mallory, body) = (mallory.clone(), body.clone());
            field
                .attempt(format!("{verb}: {what}"), async move {
                    let subject = format!("bus.mallory.{verb}");
                    let request = async_nats::Request::new().payload(body.into()).timeout(Some(ANSWER_WAIT));
                    mallory.nats().send_request(subject, request).await.context("no answer")?;
                    Ok(None)
                })
                .await?;
        }
    }
    Ok(())
}

/// Whether a message that must not be was taken.
async fn taken(mallory: &AgentClient, verb: Verb, body: Vec<u8>) -> anyhow::Result<Option<String>> {
    let size = body.len();
    let request = async_nats::Request::new().payload(body.into()).timeout(Some(ANSWER_WAIT));
    let answer = mallory.nats().send_request(format!("bus.mallory.{verb}"), request).await;
    let answer = answer.with_context(|| format!("no answer to {size} bytes"))?;
    let status = answer.headers.as_ref().and_then(|headers| headers.get("Agentbus-Verdict"));
    let status = status.map(|status| status.as_str().to_owned()).unwrap_or_default();
    let wrong = matches!(status.as_str(), "delivered" | "stored" | "deliberating" | "");
    Ok(wrong.then(|| format!("was answered {status:?}: {}", String::from_utf8_lossy(&answer.payload))))
}
