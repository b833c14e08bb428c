//! Can health and metrics be asked while sockets are held that never say anything?

use std::time::Duration;

use anyhow::Context as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    field::Field,
    health::{ANSWER_MAX, health},
};

/// Held at one time: more than a node may open.
const SOCKETS: usize = 1_500;

/// What is said on each of many sockets, which are then held.
fn beginnings() -> Vec<(&'static str, Vec<u8>)> {
    let long = |count: usize| "x".repeat(count);
    vec![
        ("nothing", Vec::new()),
        ("half a request line", b"GET /liv".to_vec()),
        ("headers without an end", b"GET /livez HTTP/1.1\r\nHost: a\r\n".to_vec()),
        (
            "a body that never comes",
            b"POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n".to_vec(),
        ),
        (
            "a chunk that never ends",
            b"POST /metrics HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nfffffff\r\nx".to_vec(),
        ),
        ("one request and then silence", b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (
            "a header of 60 KB without its end",
            format!("GET /livez HTTP/1.1\r\nA: {}", long(60_000)).into_bytes(),
        ),
        ("a URL of 60 KB", format!("GET /{}", long(60_000)).into_bytes()),
    ]
}

/// What is said once.
fn oddities() -> Vec<(&'static str, Vec<u8>)> {
    let many = "A: b\r\n".repeat(20_000);
    vec![
        (
            "a header of 1 MB",
            format!("GET /livez HTTP/1.1\r\nA: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
        ),
        ("20,000 headers", format!("GET /livez HTTP/1.1\r\n{many}\r\n").into_bytes()),
        ("two lengths", b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab".to_vec()),
        (
            "a length and chunks",
            b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
        ),
        ("a negative length", b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n".to_vec()),
        ("a bare CR", b"GET /livez HTTP/1.1\r\nA: b\rc\r\n\r\n".to_vec()),
        ("NUL bytes", b"GET /\0 HTTP/1.1\r\nA: \0\r\n\r\n".to_vec()),
        ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec()),
        ("HTTP/9.9", b"GET / HTTP/9.9\r\n\r\n".to_vec()),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec()),
        ("..", b"GET /../../etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("%2e%2e", b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("random bytes", (0..4096).map(|_| rand::random()).collect()),
        ("1,000 requests in one breath", b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n".repeat(1_000)),
    ]
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let address = field.http().into_iter().next().context("a node's HTTP address")?;
    /// Of the files that this program may open, for all else that it does.
    const KEPT: u64 = 300;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let many = usize::try_from(limit.saturating_sub(KEPT)).unwrap_or(usize::MAX).min(SOCKETS);
    let chosen = if field.full { 8 } else { 3 };
    for (what, bytes) in beginnings().into_iter().take(chosen) {
        let held = hold(&address, many, &bytes).await;
        let (count, error) = match held {
            Ok(held) => {
                let (count, error) = (held.len(), http_in_time(&field.http()).await.err());
                drop(held);
                (count, error)
            }
            Err(error) => {
                field.judge(format!("{what}, on many sockets"), Err(error)).await?;
                continue;
            }
        };
        let gained = error.map(|error| format!("while the sockets were held: {error:#}"));
        field.judge(format!("{what}, on {count} sockets"), Ok(gained)).await?;
    }
    for (what, bytes) in oddities() {
        let address = address.clone();
        let attack = async move {
            let mut stream = TcpStream::connect(&address).await?;
            // The node may close before it has read all of it, and is right.
            let _ = timeout(ANSWER_MAX, stream.write_all(&bytes)).await;
            let mut answer = vec![0; 4096];
            let read = timeout(Duration::from_millis(200), stream.read(&mut answer)).await;
            let count = read.unwrap_or(Ok(0)).unwrap_or_default();
            let answer = String::from_utf8_lossy(answer.get(..count).unwrap_or_default()).into_owned();
            Ok(answer.contains("root:").then(|| "a file was read".to_owned()))
        };
        field.attempt(what, attack).await?;
    }
    Ok(())
}

/// Sockets on which only a beginning was said.
async fn hold(address: &str, count: usize, bytes: &[u8]) -> anyhow::Result<Vec<TcpStream>> {
    let mut held = Vec::with_capacity(count);
    for number in 0..count {
        let connecting = timeout(ANSWER_MAX, TcpStream::connect(address)).await;
        // That a node takes no more is its right, as long as it answers.
        let Ok(connected) = connecting else { break };
        let mut stream = connected.with_context(|| format!("socket {number}"))?;
        let _ = stream.write_all(bytes).await;
        held.push(stream);
    }
    Ok(held)
}

async fn http_in_time(addresses: &[String]) -> anyhow::Result<()> {
    for address in addresses {
        // Twice: what was just accepted may have been waiting since before.
        for _ in 0..2 {
            health(address).await.with_context(|| address.clone())?;
        }
    }
    Ok(())
}
