//! Can an agent's own durable inbox, or what it submits, be turned against others?

use std::time::{Duration, Instant};

use agentbus::{
    client::{AgentClient, Draft, is_delivery},
    domain::{Encoding, Status},
};
use anyhow::{anyhow, ensure};
use futures_util::StreamExt as _;

use crate::chaos::cast::header;

use super::{
    ATTACKED_FROM,
    calls::PATIENCE,
    field::Field,
    raw::{publish, publish_with_headers},
};

/// What comes twice comes within this time.
const QUIET: Duration = Duration::from_millis(250);
/// As is what is pulled and is there.
const COMES_AT_ONCE: Duration = Duration::from_millis(30);
/// What is stored has come within this time.
const COMES_WITHIN: Duration = Duration::from_secs(30);
/// Messages of an inbox that the attacker says it has handled.
const SEQUENCES: u64 = 200;

/// How often this message comes out of the agent's durable inbox.
pub(super) async fn kept(agent: &AgentClient, message: &str) -> anyhow::Result<usize> {
    let inbox = agent.durable_inbox(&ATTACKED_FROM.parse()?)?;
    let began = Instant::now();
    let mut times = 0;
    loop {
        let before = times;
        let batch = inbox.fetch().max_messages(500).expires(QUIET).messages().await;
        let mut batch = batch.map_err(|error| anyhow!("the durable inbox: {error}"))?;
        while let Some(Ok(delivery)) = batch.next().await {
            let id = header(&delivery.message, "Agentbus-Message-Id");
            if is_delivery(&delivery.message, agent.id()) && id.as_deref() == Some(message) {
                times += 1;
            }
            delivery.ack().await.map_err(|error| anyhow!("{error}"))?;
        }
        // Once more after it has come: a second copy would be there a moment later.
        if (times > 0 && times == before) || began.elapsed() > COMES_WITHIN {
            return Ok(times);
        }
    }
}

/// Words in which an agent may ask for what is kept for it.
fn pulls() -> Vec<(&'static str, String)> {
    let text = str::to_owned;
    vec![
        ("nothing", String::new()),
        ("2^31 messages", text(r#"{"batch":2147483648}"#)),
        ("less than no messages", text(r#"{"batch":-1}"#)),
        ("a fraction of a message", text(r#"{"batch":0.5}"#)),
        ("no bytes at all", text(r#"{"batch":1,"max_bytes":1}"#)),
        ("for 292 years", text(r#"{"batch":1,"expires":9223372036854775807}"#)),
        ("for less than no time", text(r#"{"batch":1,"expires":-1}"#)),
        ("a heartbeat a nanosecond", text(r#"{"batch":1,"expires":1000000000,"idle_heartbeat":1}"#)),
        ("a priority of others", text(r#"{"batch":1,"group":"nodes","priority":9,"id":"x"}"#)),
        ("no JSON", text("{{{{")),
        ("lists nested 10,000 deep", format!("{{\"batch\":{}", "[".repeat(10_000))),
        ("200 KB", "1".repeat(200_000)),
    ]
}

/// The attacker's own inbox.
const OWN: &str = "_INBOX.mallory.r";
/// Where else what is kept is to be sent.
const REPLIES: &[&str] = &[
    "_INBOX.worker.x",
    "agent.worker.inbox",
    "agent.worker.outcome",
    "tenant.acme.agent.worker.inbox",
    "$JS.API.STREAM.DELETE.OUT_globex",
    "bus.worker.unregister",
    "bus.mallory.send",
];

/// Headers by which JetStream would store a message in another way, or another one.
const HEADERS: &[&str] = &[
    "Nats-Rollup: all",
    "Nats-TTL: 1s",
    "Nats-TTL: never",
    "Nats-Expected-Stream: RECORDS",
    "Nats-Expected-Last-Sequence: 0",
    "Nats-Marker-Reason: Purge",
    "Nats-Schedule: @at 2099-01-01T00:00:00Z",
    "Nats-Schedule-Target: tenant.globex.stored.worker.message.x.y",
    "Nats-Incr: +1",
    "Nats-Batch-Id: x",
    "KV-Operation: PURGE",
    "Nats-Required-Api-Level: 99",
    "Status: 404",
];

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    pull(field).await?;
    acknowledge(field).await?;
    let (mallory, sink) =
        (field.client(ATTACKED_FROM, "mallory").await?, field.client(ATTACKED_FROM, "sink").await?);
    for line in HEADERS {
        let (mallory, sink, login) = (mallory.clone(), sink.clone(), field.attacker().await);
        field
            .attempt(format!("submit with {line}"), async move {
                let draft = Draft::to_agent("sink", "the weekly summary is ready");
                let body = draft.encode(Encoding::Json);
                let block = format!("NATS/1.0\r\n{line}\r\n\r\n");
                let mut raw = login?;
                raw.send(&publish_with_headers(b"bus.mallory.submit", None, block.as_bytes(), &body)).await?;
                raw.settle().await;
                // The same bytes again: whatever came of the first, it is stored once and told.
                let status = submit(&mallory, &draft).await?;
                let times = if status == Status::Stored { kept(&sink, &draft.message_id).await? } else { 0 };
                Ok((times != 1).then(|| format!("told {}, and it came {times} times", status.as_str())))
            })
            .await?;
    }
    Ok(())
}

async fn submit(sender: &AgentClient, draft: &Draft) -> anyhow::Result<Status> {
    let verdict = sender.submit(draft.encode(Encoding::Json), PATIENCE).await?;
    ensure!(verdict.status != Status::Rejected, "not taken: {} {}", verdict.reason.as_str(), verdict.detail);
    // A repeat is told what came of the first.
    Ok(match verdict.status {
        Status::Delivered => Status::Stored,
        status => status,
    })
}

/// Whoever asks strangely for its own messages gets nothing of others', and sends nobody what looks delivered.
async fn pull(field: &mut Field) -> anyhow::Result<()> {
    let (planner, sink) =
        (field.client(ATTACKED_FROM, "planner").await?, field.client(ATTACKED_FROM, "sink").await?);
    let draft = Draft::to_agent("sink", "the weekly summary is ready");
    ensure!(submit(&planner, &draft).await? == Status::Stored, "not stored");
    for prefix in ["$JS.API", "$JS.BUS.API"] {
        let subject = format!("{prefix}.CONSUMER.MSG.NEXT.OUT_{ATTACKED_FROM}.mallory");
        for (what, body) in pulls() {
            asks(field, format!("{prefix}, pull {what}"), &subject, OWN, &body, 4).await?;
        }
        let once = r#"{"batch":10,"no_wait":true}"#;
        for reply in REPLIES {
            asks(field, format!("{prefix}, a pull to {reply}"), &subject, reply, once, 4).await?;
        }
        let waits = r#"{"batch":1,"expires":1000000000}"#;
        asks(field, format!("{prefix}, 2,000 pulls at once"), &subject, OWN, waits, 2_000).await?;
    }
    let comes = async {
        let times = kept(&sink, &draft.message_id).await?;
        Ok((times != 1).then(|| format!("it came {times} times")))
    };
    field.attempt("what waits for a colleague meanwhile", comes).await
}

async fn asks(
    field: &mut Field,
    name: String,
    subject: &str,
    reply: &str,
    body: &str,
    copies: usize,
) -> anyhow::Result<()> {
    let message = publish(subject.as_bytes(), Some(reply.as_bytes()), body.as_bytes()).repeat(copies);
    let login = field.attacker().await;
    field
        .attempt(name, async move {
            let mut raw = login?;
            raw.send(b"SUB _INBOX.mallory.> 1\r\n").await?;
            raw.send(&message).await?;
            // What is pulled comes after this.
            raw.settle().await;
            let heard = raw.heard_within(COMES_AT_ONCE).await;
            let mut recipients = heard.lines().filter_map(|line| line.strip_prefix("Agentbus-Recipient: "));
            let other = recipients.find(|recipient| *recipient != "mallory");
            Ok(other.map(|other| format!("it was sent a message to {other}")))
        })
        .await
}

/// What waits for a colleague comes whatever the attacker says it has handled.
async fn acknowledge(field: &mut Field) -> anyhow::Result<()> {
    let (planner, sink) =
        (field.client(ATTACKED_FROM, "planner").await?, field.client(ATTACKED_FROM, "sink").await?);
    for word in
        ["+ACK", "+TERM", "-NAK {\"delay\":9223372036854775807}", "+NXT {\"batch\":1000000}", "+WPI", "x"]
    {
        let (planner, sink, login) = (planner.clone(), sink.clone(), field.attacker().await);
        field
            .attempt(format!("all that waits for others answered with {word}"), async move {
                let draft = Draft::to_agent("sink", "the weekly summary is ready");
                ensure!(submit(&planner, &draft).await? == Status::Stored, "not stored");
                let mut raw = login?;
                for number in 1..=SEQUENCES {
                    let token = format!("mallory.1.{number}.{number}.1700000000000000000.0");
                    let subject = format!("$JS.ACK.OUT_{ATTACKED_FROM}.{token}");
                    raw.send(&publish(subject.as_bytes(), Some(b"_INBOX.mallory.r"), word.as_bytes()))
                        .await?;
                }
                raw.settle().await;
                let times = kept(&sink, &draft.message_id).await?;
                Ok((times != 1).then(|| format!("it came {times} times")))
            })
            .await?;
    }
    Ok(())
}
