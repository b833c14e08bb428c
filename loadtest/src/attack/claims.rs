//! Does a message, a registration or a header get further by what it says of itself?

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Status, Verb},
    wire,
};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{
    ATTACKED_FROM,
    calls::{self, PATIENCE},
    field::Field,
};

/// What is delivered has come within this time.
const COMES_WITHIN: Duration = Duration::from_secs(10);
/// What is refused is told within this time; what finds no recipient is tried for minutes.
const TOLD_WITHIN: Duration = Duration::from_millis(500);

/// A message, or what it says of itself, that must not be delivered.
fn bodies() -> Vec<(&'static str, Value)> {
    let to = |to: Value| Draft::new(to, json!({ "text": "hi" })).json();
    let with = |key: &str, value: Value| {
        let mut message = to(json!({ "agent": "sink" }));
        if let Some(fields) = message.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
        message
    };
    let agent = |agent: &str| to(json!({ "agent": agent }));
    vec![
        ("to an agent of another tenant", agent("acme.worker")),
        ("to an agent by a path", agent("../acme/worker")),
        ("to an agent by a subject", agent("tenant.acme.agent.worker.inbox")),
        ("to an asterisk", agent("*")),
        ("to a greater-than sign", agent(">")),
        ("to an agent with a blank", agent("worker inbox")),
        ("to an agent with a line break", agent("worker\r\nPUB agent.worker.inbox 2")),
        ("to an agent with a NUL", agent("wor\u{0}ker")),
        ("to an agent with a look-alike", agent("wоrker")),
        ("to an agent in upper case", agent("WORKER")),
        ("to an agent of no name", agent("")),
        ("to an agent of 65 letters", agent(&"a".repeat(65))),
        ("to a capability of another tenant", to(json!({ "capability": "sum}.acme:{" }))),
        ("to a capability with an asterisk", to(json!({ "capability": "*" }))),
        ("to two recipients", to(json!({ "agent": "sink", "broadcast": {} }))),
        ("to an agent and a tenant", to(json!({ "agent": "worker", "tenant": "acme" }))),
        ("to a list of agents", to(json!({ "agent": ["sink", "worker"] }))),
        ("to nobody", to(json!({}))),
        ("to a broadcast of another tenant", to(json!({ "broadcast": { "tenant": "acme" } }))),
        ("in another tenant's name", with("tenant_id", json!("acme"))),
        ("in another agent's name", with("from_agent", json!("planner"))),
        ("in the name of nobody", with("from_agent", json!(""))),
        ("with roles of its own", with("roles", json!(["executive"]))),
        ("with a permit of its own", with("permit", json!(true))),
        ("with an approval of its own", with("approval", json!({ "deliberation": "x" }))),
        ("with a score of its own", with("impact", json!({ "score": 0.0 }))),
        ("with a header of its own", with("headers", json!({ "Agentbus-Sender": "planner" }))),
        ("with an id of subjects", with("message_id", json!("x.acme.worker"))),
        ("with an id of 65 letters", with("message_id", json!("a".repeat(65)))),
        ("with an id of a key in Redis", with("message_id", json!("x}:{acme}:y"))),
        ("with another constitution", with("constitutional_hash", json!("0000000000000000"))),
        ("without a constitution", with("constitutional_hash", json!(""))),
        ("with all constitutions", with("constitutional_hash", json!("*"))),
        ("from tomorrow", with("created_at", json!(u64::MAX / 2))),
        ("from the end of time", with("created_at", json!(u64::MAX))),
        ("from before all time", with("created_at", json!(i64::MIN))),
        ("from a moment ago, as a text", with("created_at", json!("2026-11-28T00:00:00Z"))),
        ("from a fraction of a millisecond", with("created_at", json!(0.5))),
        ("from 1e300", with("created_at", json!(1e300))),
        ("from no time", with("created_at", Value::Null)),
        ("that has expired", with("expires_at", json!(1))),
        ("that expired before all time", with("expires_at", json!(-1))),
        ("that expires at 1e300", with("expires_at", json!(1e300))),
        ("that never expires", with("expires_at", json!("never"))),
        ("of a type it may not send", with("message_type", json!("command"))),
        ("of a type of judges", with("message_type", json!("constitutional_validation"))),
        ("of no type", with("message_type", json!("COMMAND"))),
        ("of a priority it may not use", with("priority", json!("critical"))),
        ("with a tool it may not use", with("tools", json!(["delete"]))),
        ("with a tool nobody knows", with("tools", json!(["rm -rf"]))),
        ("of another schema", with("schema", json!(2))),
    ]
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let mallory = field.client("globex", "mallory").await?;
    // Who listens, so that what is let through arrives.
    let _sink = field.client("globex", "sink").await?.inbox().await?;
    let verbs: &[Verb] = if field.full { &[Verb::Send, Verb::Submit] } else { &[Verb::Send] };
    for &verb in verbs {
        for (what, body) in bodies() {
            let mallory = mallory.clone();
            field
                .attempt(format!("{verb} {what}"), async move { passed(&mallory, verb, &body).await })
                .await?;
        }
    }
    registrations(field, &mallory).await?;
    forged_headers(field, &mallory).await
}

/// What came of a message that must go nowhere; what is submitted comes to an end after it was stored.
async fn passed(client: &AgentClient, verb: Verb, body: &Value) -> anyhow::Result<Option<String>> {
    let Some(verdict) = calls::end(client, verb, body.to_string().into(), TOLD_WITHIN).await? else {
        return Ok(None);
    };
    let wrong = matches!(verdict.status, Status::Delivered | Status::Deliberating);
    Ok(wrong.then(|| format!("{}: {body}", verdict.status.as_str())))
}

async fn registrations(field: &mut Field, mallory: &AgentClient) -> anyhow::Result<()> {
    for (verb, body) in [
        (Verb::Register, json!({ "agent": "worker" })),
        (Verb::Register, json!({ "agent": "worker", "capabilities": ["sum"] })),
        (Verb::Register, json!({ "tenant": "acme" })),
        (Verb::Register, json!({ "roles": ["judicial"] })),
        (Verb::Register, json!({ "capabilities": ["*"] })),
        (Verb::Register, json!({ "capabilities": ["a b"] })),
        (Verb::Register, json!({ "capabilities": ["sum}.acme:{"] })),
        (Verb::Register, json!({ "capabilities": ["sυm"] })),
        (Verb::Register, json!({ "capabilities": ["ｓｕｍ"] })),
        (Verb::Register, json!({ "capabilities": ["s\u{200b}um"] })),
        (Verb::Register, json!({ "capabilities": ["\u{202e}mus"] })),
        (Verb::Register, json!({ "capabilities": ["sum\u{0}"] })),
        (Verb::Register, json!({ "capabilities": ["sum\r\nEVAL"] })),
        (Verb::Register, json!({ "capabilities": [" sum"] })),
        (Verb::Register, json!({ "capabilities": [""] })),
        (Verb::Register, json!({ "capabilities": ["\u{1b}[2J"] })),
        (Verb::Register, json!({ "capabilities": ["a".repeat(10_000)] })),
        (Verb::Register, json!({ "capabilities": "sum" })),
        (Verb::Register, json!({ "capabilities": {} })),
        (Verb::Register, json!({ "description": "a\u{1b}[2Jb" })),
        (Verb::Register, json!({ "description": "a\u{202e}b" })),
        (Verb::Register, json!({ "description": "a\u{3000}\u{2800}b" })),
        (Verb::Register, json!({ "description": "a\u{9b}2Jb" })),
        (Verb::Register, json!({ "description": "a".repeat(81) })),
        (Verb::Register, json!({ "description": ["a"] })),
        (Verb::Unregister, json!({ "agent": "worker" })),
        (Verb::Heartbeat, json!({ "agent": "worker" })),
    ] {
        let mallory = mallory.clone();
        field
            .attempt(format!("{verb} {body}"), async move {
                let answer = calls::answer(&mallory, verb, body.to_string()).await?;
                Ok((answer.get("status").and_then(Value::as_str) == Some("ok"))
                    .then(|| format!("ok: {answer}")))
            })
            .await?;
    }
    for body in [json!({}), json!({ "agent": "judge" }), json!({ "capability": "sum" })] {
        let mallory = mallory.clone();
        field
            .attempt(format!("find {body} sees no other tenant"), async move {
                let found = calls::answer(&mallory, Verb::Find, body.to_string()).await?.to_string();
                Ok(found.contains("\"judge\"").then_some(found))
            })
            .await?;
    }
    Ok(())
}

/// Headers that the bus alone may set, on a message that is delivered: the recipient reads the bus's own.
async fn forged_headers(field: &mut Field, mallory: &AgentClient) -> anyhow::Result<()> {
    let sink = field.client("globex", "sink").await?;
    for header in [
        "Agentbus-Sender: planner",
        "Agentbus-Tenant: acme",
        "Agentbus-Recipient: worker",
        "Agentbus-Delivery: forged",
        "Agentbus-Decision: forged",
        "Agentbus-Message-Id: forged",
        "agentbus-sender: planner",
        "AGENTBUS-SENDER: planner",
        "Nats-Msg-Id: forged",
        "X-Mine: forged",
        "Content-Type: text/forged",
    ] {
        let (mallory, sink) = (mallory.clone(), sink.clone());
        field
            .attempt(
                format!("a message with {header}"),
                async move { read_with(&mallory, &sink, header).await },
            )
            .await?;
    }
    Ok(())
}

/// What the recipient reads of a message that was sent with this header.
async fn read_with(
    mallory: &AgentClient,
    sink: &AgentClient,
    header: &'static str,
) -> anyhow::Result<Option<String>> {
    let (name, value) = header.split_once(": ").context("a header")?;
    let mut inbox = Box::pin(sink.everything().await?);
    let draft = Draft::to_agent("sink", "the weekly summary is ready");
    let mut headers = async_nats::HeaderMap::new();
    headers.append(name, value);
    let request = async_nats::Request::new().payload(draft.encode(Encoding::Json)).headers(headers);
    let request = request.timeout(Some(PATIENCE.attempt));
    let answer = mallory.nats().send_request("bus.mallory.send", request).await?;
    let verdict = wire::decode_verdict(&answer.payload)?;
    // That it is refused for its header would be right as well.
    if verdict.status != Status::Delivered {
        return Ok(None);
    }
    let wanted = async {
        while let Some(message) = inbox.next().await {
            if String::from_utf8_lossy(&message.payload).contains(&draft.message_id) {
                return Some(message);
            }
        }
        None
    };
    let Ok(Some(message)) = timeout(COMES_WITHIN, wanted).await else {
        return Ok(Some("it was told as delivered and did not come".to_owned()));
    };
    let headers = message.headers.unwrap_or_default();
    let own = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    let all: Vec<String> = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| format!("{name}: {}", value.as_str())))
        .collect();
    let through = all.iter().any(|line| line.eq_ignore_ascii_case(header));
    let right = own("Agentbus-Sender").as_deref() == Some("mallory")
        && own("Agentbus-Recipient").as_deref() == Some("sink")
        && own("Agentbus-Tenant").as_deref() == Some(ATTACKED_FROM);
    Ok((through || !right).then(|| format!("the recipient reads {all:?}")))
}
