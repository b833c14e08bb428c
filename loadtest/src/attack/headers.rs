//! Can a header block that no client library writes reach a node, and what does it do there?
//!
//! The NATS server looks at nothing but the block's length, so what a node's client reads of it comes from
//! the attacker byte by byte.

use agentbus::{
    client::Draft,
    domain::{Encoding, Verb},
};

use super::{field::Field, raw::publish_with_headers, subjects::node_tokens};

/// Copies of each message, so that every node gets one.
const COPIES: usize = 4;
/// Below the server's `max_payload` with the body.
const BLOCK_BYTES: usize = 64 * 1024;

fn lines(lines: &[&[u8]]) -> Vec<u8> {
    let mut block = b"NATS/1.0\r\n".to_vec();
    for line in lines {
        block.extend_from_slice(line);
        block.extend_from_slice(b"\r\n");
    }
    block.extend_from_slice(b"\r\n");
    block
}

/// Name and bytes of each block; those first that are known to have done harm somewhere.
fn blocks() -> Vec<(&'static str, Vec<u8>)> {
    let many = "A: b\r\n".repeat(10_000);
    let distinct: String = (0..5_000).map(|number| format!("A{number}: b\r\n")).collect();
    let long = "x".repeat(BLOCK_BYTES);
    let whole = |text: String| [b"NATS/1.0\r\n", text.as_bytes(), b"\r\n"].concat();
    let mut blocks: Vec<(&'static str, Vec<u8>)> = vec![
        ("a bare CR in a value", lines(&[b"X: a\rb"])),
        ("a value that is not UTF-8", lines(&[b"X: \xff"])),
        ("no version at all", b"FOO\r\n\r\n".to_vec()),
        ("a line without a colon", lines(&[b"abc"])),
        ("status abc", b"NATS/1.0 abc\r\n\r\n".to_vec()),
        ("a value beginning with a bare CR", lines(&[b"X: \rb"])),
        ("a value that is a bare CR", lines(&[b"X:\r"])),
        ("two bare CRs before the end", lines(&[b"X: a\r\r"])),
        ("a bare CR in a name", lines(&[b"X\rY: a"])),
        ("a bare CR instead of the space", b"NATS/1.0\rX: a\r\n\r\n".to_vec()),
        ("a lone LF in a value", lines(&[b"X: a\nb"])),
        ("a lone LF in a name", lines(&[b"X\nY: a"])),
        ("lone LFs only", b"NATS/1.0\nA: b\n\n".to_vec()),
        ("LF CR", b"NATS/1.0\n\rA: b\n\r\n\r".to_vec()),
        ("a name that is not UTF-8", lines(&[b"\xff: a"])),
        ("an overlong encoding", lines(&[b"X: \xc0\x80"])),
        ("half a surrogate", lines(&[b"X: \xed\xa0\x80"])),
        ("a cut character", lines(&[b"X: \xe2\x82"])),
        ("Latin-1", lines(&[b"X: caf\xe9"])),
        ("version 1.1", b"NATS/1.1\r\nA: b\r\n\r\n".to_vec()),
        ("version 2.0", b"NATS/2.0\r\nA: b\r\n\r\n".to_vec()),
        ("version 10 digits long", b"NATS/1.0000000000\r\nA: b\r\n\r\n".to_vec()),
        ("a lower-case version", b"nats/1.0\r\n\r\n".to_vec()),
        ("a version in UTF-16", b"N\0A\0T\0S\0/\x001\0.\x000\0\r\0\n\0\r\0\n\0".to_vec()),
        ("a version that is not UTF-8", b"NATS/1.0\xff\r\n\r\n".to_vec()),
        ("status 1", b"NATS/1.0 1\r\n\r\n".to_vec()),
        ("status 99999", b"NATS/1.0 99999 x\r\n\r\n".to_vec()),
        ("status 65536", b"NATS/1.0 65536\r\n\r\n".to_vec()),
        ("status -1", b"NATS/1.0 -1\r\n\r\n".to_vec()),
        ("status 000", b"NATS/1.0 000\r\n\r\n".to_vec()),
        ("status 100, idle heartbeat", b"NATS/1.0 100 Idle Heartbeat\r\n\r\n".to_vec()),
        ("status 404", b"NATS/1.0 404 No Messages\r\n\r\n".to_vec()),
        ("status 408", b"NATS/1.0 408 Request Timeout\r\n\r\n".to_vec()),
        ("status 409", b"NATS/1.0 409 Consumer Deleted\r\n\r\n".to_vec()),
        ("status 503, no responders", b"NATS/1.0 503\r\n\r\n".to_vec()),
        ("a status of one character beyond ASCII", "NATS/1.0 é\r\n\r\n".as_bytes().to_vec()),
        ("a status of digits beyond ASCII", "NATS/1.0 ２００\r\n\r\n".as_bytes().to_vec()),
        ("a status cut within a character", b"NATS/1.0 50\xe2\x82\r\n\r\n".to_vec()),
        ("a description that is not UTF-8", b"NATS/1.0 503 \xff\xfe\r\n\r\n".to_vec()),
        ("a description of 60 KB", format!("NATS/1.0 503 {}\r\n\r\n", "x".repeat(60_000)).into_bytes()),
        ("a blank in a name", lines(&[b"a b: c"])),
        ("a tab in a name", lines(&[b"a\tb: c"])),
        ("a blank before the colon", lines(&[b"a : c"])),
        ("a control character in a name", lines(&[b"a\x01b: c"])),
        ("DEL in a name", lines(&[b"a\x7fb: c"])),
        ("a name beyond ASCII", lines(&["é: c".as_bytes()])),
        ("an empty name", lines(&[b": c"])),
        ("only a colon", lines(&[b":"])),
        ("a name without a value", lines(&[b"a:"])),
        ("a NUL in a value", lines(&[b"a: \0"])),
        ("a NUL in a name", lines(&[b"a\0: b"])),
        ("a control character in a value", lines(&[b"a: \x01\x1b[2J"])),
        ("a continuation line", lines(&[b"a: b", b" c"])),
        ("a continuation line first", lines(&[b" c"])),
        ("a continuation by a tab", lines(&[b"a: b", b"\tc"])),
        ("no end", b"NATS/1.0\r\nA: b\r\n".to_vec()),
        ("no line break at all", b"NATS/1.0".to_vec()),
        ("a version and half a break", b"NATS/1.0\r".to_vec()),
        ("a header and half a break", b"NATS/1.0\r\nA: b\r".to_vec()),
        ("an end, and more behind it", b"NATS/1.0\r\nA: b\r\n\r\nB: c\r\n\r\n".to_vec()),
        ("an empty block", b"NATS/1.0\r\n\r\n".to_vec()),
        ("no bytes", Vec::new()),
        ("one byte", b"N".to_vec()),
        ("only CRLF", b"\r\n".to_vec()),
        ("only two CRLFs", b"\r\n\r\n".to_vec()),
        ("only CRs", b"\r\r\r\r".to_vec()),
        ("only blanks", b"        ".to_vec()),
        ("only NULs", vec![0; 64]),
        ("only 0xff", vec![0xff; 64]),
        ("a byte order mark", b"\xef\xbb\xbfNATS/1.0\r\nA: b\r\n\r\n".to_vec()),
        ("a value of 64 KB", whole(format!("X: {long}\r\n"))),
        ("a name of 64 KB", whole(format!("{long}: x\r\n"))),
        ("64 KB without a colon", whole(format!("{long}\r\n"))),
        ("64 KB of colons", whole(format!("{}\r\n", ":".repeat(BLOCK_BYTES)))),
        ("64 KB of bare CRs", whole(format!("X: {}\r\n", "\r".repeat(BLOCK_BYTES)))),
        ("64 KB of line breaks", whole("\r\n".repeat(BLOCK_BYTES / 2))),
        ("10,000 headers of one name", whole(many)),
        ("5,000 headers of as many names", whole(distinct)),
        ("a header twice", lines(&[b"A: b", b"A: c"])),
        ("a header twice, in two cases", lines(&[b"traceparent: b", b"TRACEPARENT: c"])),
        (
            "traceparent with letters for digits",
            lines(&[b"traceparent: 00-zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-zzzzzzzzzzzzzzzz-zz"]),
        ),
        (
            "traceparent beyond ASCII, of the right length",
            lines(&["traceparent: 00-éééééééééééééééé-éééééééé-01".as_bytes()]),
        ),
        ("traceparent cut within a character", lines(&["traceparent: 0é-".as_bytes()])),
        (
            "traceparent of dashes",
            lines(&[b"traceparent: -----------------------------------------------------"]),
        ),
        ("an empty traceparent", lines(&[b"traceparent:"])),
        ("traceparent of 60 KB", lines(&[format!("traceparent: 00-{}", "0".repeat(60_000)).as_bytes()])),
        ("a tracestate that is not UTF-8", lines(&[b"tracestate: \xff=\xfe"])),
        ("Nats-Msg-Id", lines(&[b"Nats-Msg-Id: probe"])),
        ("Nats-Expected-Stream", lines(&[b"Nats-Expected-Stream: RECORDS"])),
        ("Nats-Expected-Last-Sequence", lines(&[b"Nats-Expected-Last-Sequence: 0"])),
        ("Nats-Rollup", lines(&[b"Nats-Rollup: all"])),
        ("Nats-TTL", lines(&[b"Nats-TTL: 1s"])),
        ("KV-Operation", lines(&[b"KV-Operation: PURGE"])),
        ("Nats-Trace-Dest", lines(&[b"Nats-Trace-Dest: agent.worker.inbox"])),
        ("Nats-Request-Info", lines(&[b"Nats-Request-Info: {\"acc\":\"acme\",\"user\":\"planner\"}"])),
        ("Nats-Service-Error", lines(&[b"Nats-Service-Error: no", b"Nats-Service-Error-Code: 500"])),
        (
            "Agentbus-Delivery for somebody else",
            lines(&[b"Agentbus-Delivery: 1", b"Agentbus-Recipient: worker", b"Agentbus-Sender: planner"]),
        ),
        ("Agentbus-Verdict", lines(&[b"Agentbus-Verdict: delivered", b"Agentbus-Recipient: worker"])),
        ("Agentbus-Tenant", lines(&[b"Agentbus-Tenant: acme"])),
    ];
    // Every control character that is not a line break, as a value's only one.
    blocks.extend(
        (0u8..32)
            .filter(|byte| !matches!(byte, b'\r' | b'\n' | 0 | 1))
            .map(|byte| ("another control character in a value", lines(&[&[b'X', b':', b' ', byte]]))),
    );
    blocks
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let blocks = blocks();
    for (what, block) in &blocks {
        let subject = "bus.mallory.heartbeat";
        strike(field, format!("heartbeat, {what}"), subject, Some("_INBOX.mallory.r"), block, b"").await?;
    }
    // The worst of them, and some that only look odd, on every other verb, with a reply and without.
    let worst = blocks.iter().take(if field.full { 8 } else { 2 });
    let worst: Vec<_> = worst.chain(blocks.iter().filter(|(what, _)| *what == "a value of 64 KB")).collect();
    let nodes = node_tokens(field).await?;
    for verb in Verb::ALL {
        let subjects = match verb {
            Verb::Answer => nodes.iter().map(|node| format!("bus.mallory.answer.{node}.xyz")).collect(),
            Verb::Heartbeat => Vec::new(),
            verb => vec![format!("bus.mallory.{verb}")],
        };
        for subject in subjects {
            for (what, block) in &worst {
                let body = match verb {
                    Verb::Send | Verb::Submit | Verb::Ask => {
                        Draft::to_agent("sink", "the weekly summary is ready").encode(Encoding::Json)
                    }
                    _ => "{}".into(),
                };
                for reply in [Some("_INBOX.mallory.r"), None] {
                    let with = if reply.is_some() { "with a reply subject" } else { "without" };
                    let name = format!("{verb} {with}, {what}");
                    strike(field, name, &subject, reply, block, &body).await?;
                    if !field.full {
                        break;
                    }
                }
            }
        }
    }
    Ok(())
}

async fn strike(
    field: &mut Field,
    name: String,
    subject: &str,
    reply: Option<&str>,
    block: &[u8],
    body: &[u8],
) -> anyhow::Result<()> {
    let login = field.attacker().await;
    let message = publish_with_headers(subject.as_bytes(), reply.map(str::as_bytes), block, body);
    field
        .attempt(name, async move {
            let mut raw = login?;
            raw.send(&message.repeat(COPIES)).await?;
            raw.settle().await;
            Ok(None)
        })
        .await
}
