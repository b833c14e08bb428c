//! Is a verdict believed that somebody with the password of Redis has written? One that says `delivered`, under
//! the id of a message that the policy denied.

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft},
    domain::{MessageType, Status},
};
use anyhow::{Context as _, ensure};
use serde_json::json;
use tokio::time::timeout;

use super::{
    ATTACKED_FROM, calls,
    field::Field,
    redis::{Insider, Redis, Reply},
};

/// What is settled is stored within this time.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Between two looks at what is not stored yet.
const PAUSE: Duration = Duration::from_millis(10);

fn key_of(message: &str) -> Vec<u8> {
    format!("agentbus:{{{ATTACKED_FROM}}}:msg:mallory:{message}").into_bytes()
}

/// What a verdict can be forged from.
struct Material {
    passed: String,
    denied: String,
    /// What stands in Redis of a message that was delivered, and of one that was refused.
    good: Vec<u8>,
    own: Vec<u8>,
}

impl Material {
    /// Of an entry: a letter and the digest of the message; the verdict stands behind them.
    const HEAD: usize = 1 + 32;

    fn head(&self) -> &[u8] {
        self.own.get(..Self::HEAD).unwrap_or(&self.own)
    }

    fn verdict(&self) -> &[u8] {
        self.good.get(Self::HEAD..).unwrap_or_default()
    }
}

type Forge = fn(&Material) -> Vec<u8>;

fn forms() -> Vec<(&'static str, Forge)> {
    vec![
        ("another's verdict", |it| [it.head(), it.verdict()].concat()),
        ("another's verdict with the id changed", |it| {
            [it.head(), &replaced(it.verdict(), &it.passed, &it.denied)].concat()
        }),
        ("another's whole entry", |it| it.good.clone()),
        ("its own with the word changed", |it| {
            replaced(&replaced(&it.own, "rejected", "delivered"), "policy_denied", "delivered")
        }),
        ("another's twice", |it| [it.head(), it.verdict(), it.verdict()].concat()),
        ("half of another's", |it| {
            let verdict = it.verdict();
            [it.head(), verdict.get(..verdict.len() / 2).unwrap_or_default()].concat()
        }),
        ("another's and a byte more", |it| [it.head(), it.verdict(), &[0xc0]].concat()),
        ("a claim that never ends", |it| {
            [b"P", it.head().get(1..).unwrap_or_default(), &[7; 8], b"9999999999999"].concat()
        }),
        ("nothing but a letter", |_| b"S".to_vec()),
        ("a letter and zeros", |_| [b"S".as_slice(), &[b'0'; 32]].concat()),
        ("64 KB of zeros", |_| vec![0; 65_536]),
        ("2,000 letters", |_| vec![b'x'; 2_000]),
        ("JSON that says delivered", |it| {
            let told = json!({ "status": "delivered", "reason": "delivered", "code": 200,
                               "message_id": it.denied, "detail": "", "node": "n" });
            [it.head(), told.to_string().as_bytes()].concat()
        }),
    ]
}

fn replaced(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let (from, to) = (from.as_bytes(), to.as_bytes());
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((&first, others)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(from) {
            out.extend_from_slice(to);
            rest = behind;
        } else {
            out.push(first);
            rest = others;
        }
    }
    out
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let insider = Insider::of(field.stack())?;
    let mallory = field.client(ATTACKED_FROM, "mallory").await?;
    // Who listens, so that what is let through arrives.
    let _sink = field.client(ATTACKED_FROM, "sink").await?.inbox().await?;
    let run: u32 = rand::random();
    for (number, (what, forge)) in forms().into_iter().enumerate() {
        for expires in [true, false] {
            let (mallory, insider) = (mallory.clone(), insider.clone());
            let name = if expires { what.to_owned() } else { format!("{what}, kept for ever") };
            // Of one length, so that a changed id stays well-formed.
            let id = |letter: char| format!("{letter}-{run:08x}-{number:02}-{}", u8::from(expires));
            let (passed, denied) = (id('a'), id('b'));
            field
                .attempt(
                    name,
                    async move { believed(&mallory, &insider, passed, denied, forge, expires).await },
                )
                .await?;
            // One of them is enough to see that the time to live is not what counts.
            if number > 0 {
                break;
            }
        }
    }
    Ok(())
}

async fn believed(
    mallory: &AgentClient,
    insider: &Insider,
    passed: String,
    denied: String,
    forge: Forge,
    expires: bool,
) -> anyhow::Result<Option<String>> {
    let note = |id: &str| Draft {
        message_id: id.to_owned(),
        ..Draft::to_agent("sink", "the weekly summary is ready")
    };
    let (status, reason) = calls::send(mallory, &note(&passed)).await?;
    ensure!(status == Status::Delivered, "an honest message is {reason}");
    // No implementer may send this type, so nobody is ever to hear that it was delivered.
    let never = Draft { message_type: MessageType::AuditLog, ..note(&denied) };
    let (status, reason) = calls::send(mallory, &never).await?;
    ensure!(status == Status::Rejected, "what the policy denies is {reason}");
    let mut redis = insider.login().await?;
    let good = stored(&mut redis, &key_of(&passed)).await?;
    let key = key_of(&denied);
    let own = match redis.done(&[b"GET", &key]).await? {
        Reply::Text(own) => own,
        // A refusal need not be kept.
        _ => [b"S".as_slice(), &[0; 32]].concat(),
    };
    let entry = forge(&Material { passed, denied, good, own });
    let mut words: Vec<&[u8]> = vec![b"SET", &key, &entry];
    if expires {
        words.extend([&b"PX"[..], b"60000"]);
    }
    redis.done(&words).await?;
    let (status, reason) = calls::send(mallory, &never).await?;
    redis.done(&[b"DEL", &key]).await?;
    let wrong = matches!(status, Status::Delivered | Status::Stored);
    Ok(wrong.then(|| format!("told {} ({reason}) of a message that the policy denies", status.as_str())))
}

/// What is settled is stored a moment after it was told.
async fn stored(redis: &mut Redis, key: &[u8]) -> anyhow::Result<Vec<u8>> {
    let settled = async {
        loop {
            match redis.done(&[b"GET", key]).await? {
                Reply::Text(entry) if entry.starts_with(b"S") => return anyhow::Ok(entry),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    };
    timeout(WAIT_MAX, settled).await.context("no verdict in Redis")?
}
