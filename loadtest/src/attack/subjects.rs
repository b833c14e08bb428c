//! What can be said below the subjects that an agent may publish, and where can an answer be sent?
//!
//! The server checks the agent's prefix and a line's length; the tokens behind it are any bytes.

use std::{collections::BTreeSet, time::Duration};

use agentbus::{
    client::Draft,
    domain::{Encoding, Verb},
    tenants::BusUser,
};
use anyhow::{Context as _, ensure};
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::{field::Field, raw::publish};

const COPIES: usize = 4;
/// Questions after which every node has been met; which one takes a question is chance.
const QUESTIONS_MAX: usize = 16;

/// Each node's own token in the subjects of answers, as whoever is asked can read them.
pub(crate) async fn node_tokens(field: &mut Field) -> anyhow::Result<Vec<String>> {
    let (planner, mallory) =
        (field.client("globex", "planner").await?, field.client("globex", "mallory").await?);
    let mut inbox = Box::pin(mallory.inbox().await?);
    let mut tokens = BTreeSet::new();
    for _ in 0..QUESTIONS_MAX {
        let draft = Draft {
            message_type: agentbus::domain::MessageType::Query,
            expires_in: Some(Duration::from_millis(500)),
            ..Draft::to_agent("mallory", "how is the weather?")
        };
        planner
            .nats()
            .publish_with_reply("bus.planner.ask", "_INBOX.planner.asked", draft.encode(Encoding::Json))
            .await?;
        let Ok(Some(question)) = timeout(Duration::from_secs(2), inbox.next()).await else { continue };
        let reply = question.reply.as_deref().unwrap_or_default().to_owned();
        tokens.extend(reply.split('.').nth(3).map(str::to_owned));
        if tokens.len() == field.stack().nodes().len() {
            break;
        }
    }
    ensure!(!tokens.is_empty(), "no question came with the reply subject of its node");
    Ok(tokens.into_iter().collect())
}

fn tokens() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("not UTF-8", b"\xff\xfe".to_vec()),
        ("an overlong encoding", b"\xc0\x80".to_vec()),
        ("half a surrogate", b"\xed\xa0\x80".to_vec()),
        ("a cut character", b"a\xe2\x82".to_vec()),
        ("beyond Unicode", b"\xf4\x90\x80\x80".to_vec()),
        ("NUL", b"a\0b".to_vec()),
        ("control characters", b"a\x01\x02\x1b\x7f".to_vec()),
        ("3,500 bytes", vec![b'a'; 3_500]),
        ("3,500 bytes that are not UTF-8", vec![0xfe; 3_500]),
        ("5,000 bytes, more than a line may have", vec![b'a'; 5_000]),
        ("1,000 tokens", b"a.".repeat(1_000).into_iter().chain(*b"a").collect()),
        ("an empty token", b".".to_vec()),
        ("two dots", b"a..b".to_vec()),
        ("a dot at the end", b"a.".to_vec()),
        ("an asterisk", b"*".to_vec()),
        ("a greater-than sign", b">".to_vec()),
        ("an asterisk within", b"a*b".to_vec()),
        ("upper case", b"ABC".to_vec()),
        ("an emoji", "😀".as_bytes().to_vec()),
        ("right to left", "\u{202e}abc".as_bytes().to_vec()),
        ("a slash", b"../../x".to_vec()),
        ("a dollar", b"$JS".to_vec()),
        ("braces", b"{}:\"".to_vec()),
        ("percent", b"%00%0a".to_vec()),
        ("the first token again", b"bus".to_vec()),
    ]
}

/// Where the attacker has the answer sent.
fn replies() -> Vec<&'static [u8]> {
    vec![
        b"$JS.API.STREAM.PURGE.RECORDS",
        b"$JS.API.STREAM.DELETE.RECORDS",
        b"$JS.API.STREAM.DELETE.OUT_globex",
        b"$JS.API.STREAM.PURGE.OUT_acme",
        b"$JS.API.STREAM.CREATE.MINE",
        b"$JS.API.STREAM.DELETE.KV_agentbus_tenants",
        b"$JS.API.CONSUMER.DELETE.IN_acme.NODES",
        b"$JS.API.CONSUMER.CREATE.RECORDS.mine",
        b"$JS.API.DIRECT.GET.RECORDS",
        b"$JS.BUS.API.STREAM.DELETE.RECORDS",
        b"$JS.ACK.IN_acme.NODES.1.1.1.1.1",
        b"$JS.ACK.OUT_globex.mallory.1.1.1.1.1",
        b"$JS.FC.KV_agentbus_tenants.c.x",
        b"$KV.agentbus_tenants.acme",
        b"$KV.agentbus_thresholds.acme",
        b"$SYS.REQ.SERVER.PING",
        b"$SYS.REQ.USER.INFO",
        b"$SRV.PING",
        b"$SYS.ACCOUNT.BUS.CONNECT",
        b"$SYS._INBOX.x",
        b"$JS.EVENT.ADVISORY.API",
        b"_GR_.aaaaaa.bbbbbb.x",
        b"_R_.aaaaaa.bbbbbb",
        b"_R_.x",
        b"_INBOX.node.fence",
        b"_INBOX.node.x.y",
        b"_INBOX.operator.x",
        b"_INBOX.worker.x",
        b"_INBOX.planner.x",
        b"agent.worker.inbox",
        b"agent.worker.outcome",
        b"agent.planner.outcome",
        b"tenant.acme.agent.worker.inbox",
        b"tenant.globex.agent.worker.inbox",
        b"tenant.acme.bus.planner.send",
        b"tenant.globex.bus.worker.unregister",
        b"bus.mallory.send",
        b"bus.mallory.heartbeat",
        b"bus.worker.unregister",
        b"bus.planner.send",
        b"record.acme.planner.forged",
        b"directory.acme",
        b"deliberation.acme.aaaa.vote",
        b"dead.acme.planner.m1",
        b"\xff\xfe",
        b"_INBOX.mallory.\xff",
        b"a..b",
        b".",
        b"*",
        b">",
        b"a.*.b",
        b"_INBOX.>",
        b"_INBOX.planner.>",
        b"_INBOX.*.*",
        b"\0",
    ]
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let nodes = node_tokens(field).await?;
    let node = nodes.first().context("a node's token")?.clone();
    let prefixes: Vec<String> = match field.full {
        true => vec![
            "bus.mallory.".to_owned(),
            "bus.mallory.send.".to_owned(),
            "bus.mallory.heartbeat.".to_owned(),
            "bus.mallory.answer.".to_owned(),
        ],
        false => vec!["bus.mallory.".to_owned()],
    };
    let answers = nodes.iter().map(|node| format!("bus.mallory.answer.{node}."));
    for prefix in answers.chain(prefixes) {
        let shown = if prefix.starts_with("bus.mallory.answer.") && prefix.len() > 20 {
            "bus.mallory.answer.<node>.".to_owned()
        } else {
            prefix.clone()
        };
        for (what, token) in tokens() {
            let subject = [prefix.as_bytes(), &token].concat();
            strike(field, format!("{shown} and {what}"), subject, None).await?;
        }
    }
    // An answer's subject with more tokens, or fewer, or those of nobody.
    for (what, subject) in [
        ("an answer to no node", "bus.mallory.answer".to_owned()),
        ("an answer without a question", format!("bus.mallory.answer.{node}")),
        ("an answer to another node", "bus.mallory.answer.ffffffffffffffff.1".to_owned()),
        ("an answer with a token more", format!("bus.mallory.answer.{node}.a.b")),
        ("an answer with ten tokens more", format!("bus.mallory.answer.{node}.{}", ["a"; 10].join("."))),
        ("a verb that is none", "bus.mallory.shutdown".to_owned()),
        ("a verb in upper case", "bus.mallory.SEND".to_owned()),
        ("a verb of a node", "bus.mallory.unheard".to_owned()),
        ("no verb", "bus.mallory.".to_owned()),
    ] {
        strike(field, what.to_owned(), subject.into_bytes(), Some(b"_INBOX.mallory.r")).await?;
    }
    misdirect(field).await
}

async fn strike(
    field: &mut Field,
    name: String,
    subject: Vec<u8>,
    reply: Option<&[u8]>,
) -> anyhow::Result<()> {
    let login = field.attacker().await;
    let message = publish(&subject, reply, b"{}").repeat(COPIES);
    field
        .attempt(name, async move {
            let mut raw = login?;
            raw.send(&message).await?;
            raw.settle().await;
            Ok(None)
        })
        .await
}

/// Reply subjects of the attacker's choice. No stream may lose anything, no directory change, and what comes
/// to others may not look like a delivery; the honest recipients see to that.
async fn misdirect(field: &mut Field) -> anyhow::Result<()> {
    let verbs: &[Verb] = match field.full {
        true => &[Verb::Send, Verb::Find, Verb::Ask],
        false => &[Verb::Send],
    };
    let operator = field.stack().connect(BusUser::Operator).await?;
    let before = streams(&operator).await?;
    for &verb in verbs {
        for reply in replies() {
            let login = field.attacker().await;
            let body = match verb {
                Verb::Find => "{}".into(),
                _ => Draft::to_agent("nobody", "an innocent text").encode(Encoding::Json),
            };
            let message = publish(format!("bus.mallory.{verb}").as_bytes(), Some(reply), &body);
            let (operator, before) = (operator.clone(), before.clone());
            let name = format!("{verb}, its answer to {}", String::from_utf8_lossy(reply).escape_debug());
            // The server forgets all answers of the account that such a subject matches (docs/reliability.md).
            let wildcard = reply.split(|&byte| byte == b'.').any(|token| matches!(token, b"*" | b">"));
            field.forgive_colleagues(wildcard);
            field
                .attempt(name, async move {
                    let mut raw = login?;
                    raw.send(&message.repeat(COPIES)).await?;
                    raw.settle().await;
                    let after = streams(&operator).await?;
                    Ok(lost(&before, &after))
                })
                .await?;
        }
    }
    field.forgive_colleagues(false);
    Ok(())
}

/// A stream, how many messages it has, and how many it has ever had.
type Stream = (String, u64, u64);

async fn streams(operator: &async_nats::Client) -> anyhow::Result<Vec<Stream>> {
    let mut found = Vec::new();
    let mut names = vec!["RECORDS".to_owned(), "DECISIONS".to_owned(), "KV_agentbus_tenants".to_owned()];
    for tenant in ["acme", "globex"] {
        names.extend(["OUT", "IN", "DELIBERATIONS"].map(|kind| format!("{kind}_{tenant}")));
    }
    for name in names {
        let request = async_nats::Request::new().timeout(Some(Duration::from_secs(5)));
        let answer = operator.send_request(format!("$JS.API.STREAM.INFO.{name}"), request).await;
        let answer = answer.with_context(|| format!("stream {name}"))?;
        let info: Value = serde_json::from_slice(&answer.payload)?;
        let count = |field: &str| info.pointer(&format!("/state/{field}")).and_then(Value::as_u64);
        // Not every stream is the operator's to see.
        if let (Some(messages), Some(last)) = (count("messages"), count("last_seq")) {
            found.push((name, messages, last));
        }
    }
    ensure!(!found.is_empty(), "the operator sees no stream");
    Ok(found)
}

fn lost(before: &[Stream], after: &[Stream]) -> Option<String> {
    for (name, messages, last) in before {
        let Some((_, messages_now, last_now)) = after.iter().find(|(other, ..)| other == name) else {
            return Some(format!("stream {name} is gone"));
        };
        // A work queue empties; the others only grow.
        let queue = name.starts_with("IN_");
        if last_now < last || (!queue && messages_now < messages) {
            return Some(format!("stream {name} lost messages"));
        }
    }
    None
}
