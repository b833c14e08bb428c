//! How does a client behave that keeps no rules? A socket to NATS on which anything can be written.

use std::time::Duration;

use agentbus::tenants::Seed;
use anyhow::{Context as _, ensure};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use nkeys::KeyPair;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

/// An answer of the server to what it can answer at once.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// More often than the server asks.
const PONG_EVERY: Duration = Duration::from_millis(500);
/// What is kept of what the server says.
const HEARD_MAX: usize = 256 * 1024;

/// A connection, logged in or not.
pub(crate) struct Raw {
    stream: TcpStream,
    nonce: String,
    heard: Vec<u8>,
}

impl Raw {
    /// Reads the greeting and says nothing yet.
    pub(crate) async fn open(port: u16) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.set_nodelay(true)?;
        let mut raw = Self { stream, nonce: String::new(), heard: Vec::new() };
        raw.hear(ANSWER_WAIT, |heard| heard.ends_with(b"\r\n")).await;
        let line = String::from_utf8_lossy(&raw.heard).into_owned();
        let info = line.strip_prefix("INFO ").with_context(|| format!("no greeting: {line}"))?;
        let info: Value = serde_json::from_str(info.trim())?;
        raw.nonce = info.get("nonce").and_then(Value::as_str).unwrap_or_default().to_owned();
        raw.heard.clear();
        Ok(raw)
    }

    /// Logged in with this key.
    pub(crate) async fn login(port: u16, seed: &Seed) -> anyhow::Result<Self> {
        let mut raw = Self::open(port).await?;
        let connect = raw.connect_with(&KeyPair::from_seed(seed.reveal())?, &raw.nonce)?;
        raw.send(connect.as_bytes()).await?;
        let heard = raw.settle().await;
        ensure!(!heard.contains("-ERR") && heard.contains("PONG"), "cannot log in: {heard:?}");
        Ok(raw)
    }

    /// With all read that the server has said so far.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// The `CONNECT` of this key for this nonce.
    pub(crate) fn connect_with(&self, key: &KeyPair, nonce: &str) -> anyhow::Result<String> {
        let options = json!({
            "verbose": false, "pedantic": false, "headers": true, "no_responders": true, "lang": "raw",
            "version": "1", "protocol": 1, "nkey": key.public_key(),
            "sig": URL_SAFE_NO_PAD.encode(key.sign(nonce.as_bytes())?),
        });
        Ok(format!("CONNECT {options}\r\n"))
    }

    pub(crate) fn nonce(&self) -> &str {
        &self.nonce
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        timeout(ANSWER_WAIT, self.stream.write_all(bytes)).await.context("the server does not read")??;
        Ok(())
    }

    /// Waits until the server has read all that was written, or has closed, and tells what it has said.
    pub(crate) async fn settle(&mut self) -> String {
        self.settle_within(ANSWER_WAIT).await
    }

    /// As [`Self::settle`], where the server may be waiting for the rest of something.
    pub(crate) async fn settle_within(&mut self, wait: Duration) -> String {
        self.heard.clear();
        if self.stream.write_all(b"PING\r\n").await.is_ok() {
            self.hear(wait, |heard| heard.windows(6).any(|line| line == b"PONG\r\n")).await;
        } else {
            self.hear(wait, |_| false).await;
        }
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    /// What the server says in this time, and has said before.
    pub(crate) async fn heard_within(&mut self, wait: Duration) -> String {
        self.hear(wait, |_| false).await;
        String::from_utf8_lossy(&self.heard).into_owned()
    }

    /// Waits until so many messages have come; the server hears meanwhile that somebody is there.
    pub(crate) async fn hear_answers(&mut self, count: usize, wait: Duration) -> anyhow::Result<()> {
        let ends = Instant::now() + wait;
        let answers = |heard: &[u8]| heard.windows(4).filter(|word| *word == b"MSG ").count();
        self.heard.clear();
        while answers(&self.heard) < count {
            ensure!(Instant::now() < ends, "{} of {count} were answered", answers(&self.heard));
            self.hear(PONG_EVERY, |heard| answers(heard) >= count).await;
            self.send(b"PONG\r\n").await?;
        }
        Ok(())
    }

    /// Reads until there is enough, the end, or too long a silence.
    async fn hear(&mut self, wait: Duration, enough: impl Fn(&[u8]) -> bool) {
        let mut buffer = vec![0; 16 * 1024];
        let reading = async {
            while !enough(&self.heard) && self.heard.len() < HEARD_MAX {
                match self.stream.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(count) => self.heard.extend_from_slice(buffer.get(..count).unwrap_or_default()),
                }
            }
        };
        let _ = timeout(wait, reading).await;
    }
}

/// `PUB`; the subjects may be any bytes.
pub(crate) fn publish(subject: &[u8], reply: Option<&[u8]>, payload: &[u8]) -> Vec<u8> {
    let mut line = [b"PUB ", subject].concat();
    if let Some(reply) = reply {
        line.extend([b" ", reply].concat());
    }
    line.extend(format!(" {}\r\n", payload.len()).bytes());
    [&line, payload, b"\r\n"].concat()
}

/// `HPUB`; the header block may be any bytes.
pub(crate) fn publish_with_headers(
    subject: &[u8],
    reply: Option<&[u8]>,
    headers: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut line = [b"HPUB ", subject].concat();
    if let Some(reply) = reply {
        line.extend([b" ", reply].concat());
    }
    line.extend(format!(" {} {}\r\n", headers.len(), headers.len() + payload.len()).bytes());
    [&line, headers, payload, b"\r\n"].concat()
}
