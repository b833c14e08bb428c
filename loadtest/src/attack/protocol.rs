//! What can be done to the server's own protocol: cut, mislabelled, endless, and without a key?

use std::time::Duration;

use nkeys::KeyPair;

use super::{field::Field, raw::Raw};

/// Between the bytes of a slow client.
const DRIP: Duration = Duration::from_millis(4);
/// The server says nothing while it waits for the rest of what was cut short.
const SILENCE: Duration = Duration::from_secs(1);

/// What a client that is logged in writes.
fn streams() -> Vec<(&'static str, Vec<u8>)> {
    let text = |text: &str| text.as_bytes().to_vec();
    let long = "x".repeat(1 << 20);
    vec![
        ("a payload cut short", text("PUB bus.mallory.send 100\r\nabc")),
        (
            "a header block cut short",
            text("HPUB bus.mallory.send _INBOX.mallory.r 50 100\r\nNATS/1.0\r\nA: b"),
        ),
        ("a line cut short", text("PUB bus.mallory.se")),
        ("a length below the payload", text("PUB bus.mallory.heartbeat 2\r\nabcdef\r\n")),
        ("a length of -1", text("PUB bus.mallory.send -1\r\n\r\n")),
        ("a length of 2^32", text("PUB bus.mallory.send 4294967296\r\nabc\r\n")),
        ("a length of 2^64", text("PUB bus.mallory.send 18446744073709551616\r\nabc\r\n")),
        ("a length of 100 digits", text(&format!("PUB bus.mallory.send {}\r\n", "9".repeat(100)))),
        ("a length that is a word", text("PUB bus.mallory.send ten\r\n0123456789\r\n")),
        ("a length in hex", text("PUB bus.mallory.send 0x5\r\nabcde\r\n")),
        ("one byte more than may be sent", text("PUB bus.mallory.send 262145\r\n")),
        ("headers longer than the whole", text("HPUB bus.mallory.send 10 5\r\nNATS/1.0\r\n\r\n")),
        (
            "headers as long as the whole",
            text("HPUB bus.mallory.heartbeat _INBOX.mallory.r 12 12\r\nNATS/1.0\r\n\r\n\r\n"),
        ),
        ("a negative header length", text("HPUB bus.mallory.send -12 12\r\nNATS/1.0\r\n\r\n\r\n")),
        ("a header length of 2^32", text("HPUB bus.mallory.send 4294967296 12\r\nNATS/1.0\r\n\r\n\r\n")),
        ("headers of no bytes", text("HPUB bus.mallory.heartbeat _INBOX.mallory.r 0 2\r\n{}\r\n")),
        (
            "headers that end within their own end",
            text("HPUB bus.mallory.heartbeat _INBOX.mallory.r 11 14\r\nNATS/1.0\r\n\r\n{}\r\n"),
        ),
        (
            "headers that reach into the payload",
            text("HPUB bus.mallory.heartbeat _INBOX.mallory.r 14 14\r\nNATS/1.0\r\n\r\n{}\r\n"),
        ),
        (
            "headers that were said to be off",
            text("CONNECT {\"headers\":false}\r\nHPUB bus.mallory.heartbeat 12 14\r\nNATS/1.0\r\n\r\n{}\r\n"),
        ),
        (
            "HPUB with three lengths",
            text("HPUB bus.mallory.heartbeat _INBOX.mallory.r 12 14 14\r\nNATS/1.0\r\n\r\n{}\r\n"),
        ),
        (
            "a publish of a gateway's answer",
            text("PUB _GR_.aaaa.bbbb.bus.mallory.send 2\r\n{}\r\nPUB $GNR.x 2\r\n{}\r\n"),
        ),
        ("PUB without anything", text("PUB\r\n")),
        ("PUB with five arguments", text("PUB a b c d 1\r\nx\r\n")),
        ("PUB with tabs", text("PUB\tbus.mallory.heartbeat\t2\r\n{}\r\n")),
        ("no line break after the payload", text("PUB bus.mallory.heartbeat 2\r\n{}PING\r\n")),
        (
            "two publishes in one",
            text("PUB bus.mallory.heartbeat 41\r\n{}\r\nPUB tenant.acme.agent.worker.inbox 2\r\n\r\n"),
        ),
        ("a subject with a line break", text("PUB bus.mallory.send\r\nPUB bus.worker.send 2\r\n{}\r\n")),
        ("MSG, which only a server says", text("MSG agent.worker.inbox 1 5\r\nhello\r\n")),
        (
            "HMSG, which only a server says",
            text("HMSG agent.worker.inbox 1 12 17\r\nNATS/1.0\r\n\r\nhello\r\n"),
        ),
        ("INFO from a client", text("INFO {\"server_id\":\"x\",\"connect_urls\":[\"127.0.0.1:1\"]}\r\n")),
        ("-ERR and +OK from a client", text("-ERR 'x'\r\n+OK\r\n")),
        ("a route's words", text("RS+ acme agent.worker.inbox\r\nRMSG acme agent.worker.inbox 2\r\n{}\r\n")),
        ("a leaf node's words", text("LS+ agent.worker.inbox\r\nLMSG agent.worker.inbox 2\r\n{}\r\n")),
        ("a gateway's words", text("A+ acme\r\nGMSG acme x 2\r\n{}\r\n")),
        ("an account's words", text("A- acme\r\n")),
        ("CONNECT again, as another user", text("CONNECT {\"user\":\"node\",\"pass\":\"node\"}\r\n")),
        ("CONNECT again, without a key", text("CONNECT {}\r\n")),
        (
            "CONNECT again, all at once",
            text(&"CONNECT {\"verbose\":true,\"pedantic\":true,\"echo\":false}\r\n".repeat(1_000)),
        ),
        ("CONNECT into another account", text("CONNECT {\"account\":\"acme\",\"new_account\":true}\r\n")),
        ("CONNECT that is no JSON", text("CONNECT {{{{\r\n")),
        ("CONNECT nested 100,000 deep", text(&format!("CONNECT {{\"a\":{}\r\n", "[".repeat(100_000)))),
        ("CONNECT of 1 MB", text(&format!("CONNECT {{\"name\":\"{long}\"}}\r\n"))),
        ("a line of 1 MB", text(&format!("PUB {long} 1\r\nx\r\n"))),
        ("1 MB without a line break", text(&long)),
        ("1 MB of line breaks", text(&"\r\n".repeat(1 << 19))),
        ("1 MB of NULs", vec![0; 1 << 20]),
        ("64 KB at random", (0..65_536).map(|_| rand::random()).collect()),
        ("10,000 PINGs", text(&"PING\r\n".repeat(10_000))),
        ("10,000 PONGs", text(&"PONG\r\n".repeat(10_000))),
        (
            "10,000 subscriptions",
            text(&(0..10_000).map(|n| format!("SUB agent.mallory.x{n} {n}\r\n")).collect::<String>()),
        ),
        (
            "a subscription's name of 3,000 digits",
            text(&format!("SUB agent.mallory.x {}\r\n", "9".repeat(3_000))),
        ),
        ("a subscription's name that is not UTF-8", [b"SUB agent.mallory.x ", &b"\xff\xfe\r\n"[..]].concat()),
        (
            "one name for two subscriptions",
            text("SUB agent.mallory.x 1\r\nSUB _INBOX.mallory.> 1\r\nUNSUB 1\r\n"),
        ),
        ("the end of a subscription after -1 messages", text("SUB agent.mallory.x 1\r\nUNSUB 1 -1\r\n")),
        ("SUB in the queue of nodes", text("SUB agent.mallory.inbox nodes 1\r\n")),
        ("SUB of everything", text("SUB > 1\r\n")),
        ("SUB among the nodes", text("SUB tenant.*.bus.*.send nodes 1\r\n")),
        ("SUB that is not UTF-8", text("SUB agent.mallory.").into_iter().chain(*b"\xff\xfe 1\r\n").collect()),
        ("UNSUB of what is not there", text("UNSUB 999 5\r\n")),
        ("a web request", text("GET / HTTP/1.1\r\nHost: a\r\n\r\n")),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("a Redis command", text("*1\r\n$4\r\nPING\r\n")),
    ]
}

/// What somebody without a key says, after which the server must not serve.
fn strangers() -> Vec<(&'static str, String)> {
    let connect =
        |options: &str| format!("CONNECT {options}\r\nPUB bus.planner.send 2\r\n{{}}\r\nSUB > 1\r\n");
    vec![
        ("nothing but a subscription", "SUB > 1\r\n".to_owned()),
        ("nothing but a publish", "PUB tenant.acme.bus.planner.send 2\r\n{}\r\n".to_owned()),
        ("no key", connect("{}")),
        ("a name and a password", connect(r#"{"user":"node","pass":"node"}"#)),
        ("no name and no password", connect(r#"{"user":"","pass":""}"#)),
        ("the system account's usual name", connect(r#"{"user":"admin","pass":"s3cr3t!"}"#)),
        ("a token", connect(r#"{"auth_token":"token"}"#)),
        ("a JWT that is none", connect(r#"{"jwt":"eyJ0eXAiOiJKV1QiLCJhbGciOiJub25lIn0.e30.","sig":"AAAA"}"#)),
        ("an account's name", connect(r#"{"account":"acme","new_account":false}"#)),
        ("a key that is no key", connect(r#"{"nkey":"UAAAA","sig":"AAAA"}"#)),
        ("a key and no signature", connect(r#"{"nkey":"@KEY@"}"#)),
        ("a key and an empty signature", connect(r#"{"nkey":"@KEY@","sig":""}"#)),
        (
            "a key and a signature of zeros",
            connect(&format!(r#"{{"nkey":"@KEY@","sig":"{}"}}"#, "A".repeat(86))),
        ),
        (
            "no verification at all",
            connect(r#"{"tls_required":false,"verbose":false,"nkey":"@KEY@","sig":null}"#),
        ),
    ]
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    for (what, bytes) in streams() {
        let login = field.attacker().await;
        field
            .attempt(format!("logged in: {what}"), async move {
                let mut raw = login?;
                // The server may close while it is being written to.
                let _ = raw.send(&bytes).await;
                let heard = raw.settle_within(SILENCE).await;
                Ok(heard.contains("\r\nMSG ").then(|| format!("the attacker was sent {heard:?}")))
            })
            .await?;
    }
    slow(field).await?;
    let port = field.nats_port();
    let victim = field.seed("acme", "planner")?;
    let key = KeyPair::from_seed(victim.reveal())?;
    for (what, said) in strangers() {
        let said = said.replace("@KEY@", &key.public_key());
        field
            .attempt(format!("a stranger with {what}"), async move {
                let mut raw = Raw::open(port).await?;
                let _ = raw.send(said.as_bytes()).await;
                Ok(let_in(&raw.settle().await))
            })
            .await?;
    }
    for what in
        ["an unknown key", "another nonce signed", "another's signature", "yesterday's greeting replayed"]
    {
        let seed = field.seed("acme", "planner")?;
        field
            .attempt(format!("a stranger with {what}"), async move {
                let planner = KeyPair::from_seed(seed.reveal())?;
                let mut raw = Raw::open(port).await?;
                let nonce = raw.nonce().to_owned();
                let said = match what {
                    "an unknown key" => raw.connect_with(&KeyPair::new_user(), &nonce)?,
                    "another nonce signed" => raw.connect_with(&planner, "abcdefghijk")?,
                    "another's signature" => raw
                        .connect_with(&KeyPair::new_user(), &nonce)?
                        .split("\"nkey\":\"")
                        .enumerate()
                        .map(|(index, part)| match (index, part.split_once('"')) {
                            (1, Some((_, rest))) => format!("{}\"{rest}", planner.public_key()),
                            _ => part.to_owned(),
                        })
                        .collect::<Vec<_>>()
                        .join("\"nkey\":\""),
                    _ => {
                        let earlier = Raw::open(port).await?;
                        earlier.connect_with(&planner, earlier.nonce())?
                    }
                };
                raw.send(said.as_bytes()).await?;
                Ok(let_in(&raw.settle().await))
            })
            .await?;
    }
    // Sockets that say nothing: the server ends each after its own time; honest agents must not wait.
    let many = if field.full { 500 } else { 200 };
    let mut held = Vec::new();
    for _ in 0..many {
        held.push(Raw::open(port).await);
    }
    let opened = held.iter().filter(|raw| raw.is_ok()).count();
    let ((), hurt) = field.meanwhile(tokio::time::sleep(Duration::from_millis(500))).await;
    drop(held);
    field.judge(format!("{opened} strangers who say nothing"), Ok(hurt)).await
}

/// Whether a stranger was served.
fn let_in(heard: &str) -> Option<String> {
    let refused = heard.contains("-ERR") || heard.is_empty();
    (!refused || heard.contains("PONG")).then(|| format!("the server answered {heard:?}"))
}

/// One byte at a time, and none of the last ones.
async fn slow(field: &mut Field) -> anyhow::Result<()> {
    for (what, bytes) in [
        ("a publish byte by byte", &b"PUB bus.mallory.heartbeat _INBOX.mallory.r 2\r\n{}\r\n"[..]),
        (
            "headers byte by byte",
            b"HPUB bus.mallory.heartbeat _INBOX.mallory.r 20 22\r\nNATS/1.0\r\nX: a\rb\r\n\r\n{}\r\n",
        ),
        (
            "a payload that never ends",
            b"PUB bus.mallory.heartbeat _INBOX.mallory.r 200000\r\n{{{{{{{{{{{{{{{{",
        ),
    ] {
        let mut raw = field.attacker().await?;
        let dripping = async {
            for byte in bytes {
                raw.send(&[*byte]).await?;
                tokio::time::sleep(DRIP).await;
            }
            Ok(None)
        };
        let (gained, hurt): (anyhow::Result<Option<String>>, _) = field.meanwhile(dripping).await;
        drop(raw);
        field.judge(format!("slowly: {what}"), gained.map(|gained| gained.or(hurt))).await?;
    }
    Ok(())
}
