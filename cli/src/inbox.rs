//! `agentbus inbox`: be an agent, and see what the bus delivers, now and from the durable inbox.

use std::{process::ExitCode, time::Duration};

use agentbus::{
    client::{self, AgentClient, Draft, is_delivery, is_hint, is_question},
    domain::{AgentId, Encoding, Message, Recipient, Verb},
    phrase::causes,
    shutdown::Shutdown,
    wire,
};
use anyhow::bail;
use async_nats::{Message as Delivery, Subscriber};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt as _;
use rand::Rng as _;
use serde_json::Value;
use tokio::time::Instant;

use super::{
    context::{Identity, Paint, Tone, Who, at, safe},
    durable::DurableInbox,
    output::{Reader, offer},
    printable::{self, CONTENT_MAX, Page},
    verdict,
};

/// A third of the shortest sensible time to live; renewed twice before an entry could lapse.
const HEARTBEAT_MAX: Duration = Duration::from_secs(10);
const HEARTBEAT_MIN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
#[command(after_help = "\
Registers the agent while it runs, so that others can send to it: heartbeats keep it live, and it is \
unregistered at the end. What does not name it as its recipient is not meant for it and is dropped.\n\n\
From the durable inbox come messages that were kept for the agent, and the outcomes of its own; each is \
acknowledged once it is printed, and does not come again.\n\n\
Exit codes: 0 done (--count reached, or Ctrl-C), 1 failure or fewer than --count, 2 usage.\n\n\
Examples:\n  \
agentbus inbox --as acme/worker --capability translate\n  \
agentbus inbox --as acme/planner --durable-only --for 5s --json")]
pub(super) struct InboxArgs {
    #[command(flatten)]
    identity: Identity,
    /// A capability to register with; can be repeated
    #[arg(long = "capability", value_name = "CAPABILITY")]
    capabilities: Vec<String>,
    /// Only listen: somebody else registers this agent
    #[arg(long, conflicts_with = "capabilities")]
    listen_only: bool,
    /// Only what arrives now; the durable inbox stays as it is
    #[arg(long, conflicts_with = "durable_only")]
    live_only: bool,
    /// Only the durable inbox, without being registered
    #[arg(long, conflicts_with_all = ["capabilities", "listen_only"])]
    durable_only: bool,
    /// Answer each question of an `ask` with this text
    ///
    /// Sent as the content {"text": TEXT}, to whoever waits with `agentbus send --ask`. What is kept in the
    /// durable inbox, and what nobody waits for an answer to, is only printed.
    #[arg(long, value_name = "TEXT", conflicts_with = "durable_only")]
    answer: Option<String>,
    /// Stop after so many messages and outcomes
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Stop after this time, such as 30s
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Print each message as one line of JSON, and each outcome as {"outcome": …}
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: InboxArgs) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    shutdown.on_terminal_signals()?;
    let client = args.identity.connect().await?;
    let who = &args.identity.who;
    let paint = Paint::stdout();
    let mut live = if args.durable_only { None } else { Some(client.everything().await?) };
    // What is kept is told from there; live outcomes are the same ones.
    let mut outcomes = match args.live_only {
        true => Some(client.nats().subscribe(format!("agent.{}.outcome", who.agent)).await?),
        false => None,
    };
    let mut kept = match args.live_only {
        true => None,
        false => match DurableInbox::open(&client, who).await {
            Ok(kept) => Some(kept),
            Err(error) if args.durable_only => return Err(error),
            Err(error) => {
                note(&paint, &format!("only what arrives now: {}", causes(error.as_ref())));
                None
            }
        },
    };

    let mut renew = None;
    if args.durable_only {
        note(&paint, &format!("reading what is kept for {who}; Ctrl-C ends it"));
    } else if args.listen_only {
        note(&paint, &format!("listening as {who}; Ctrl-C ends it"));
    } else {
        let ttl = register(&client, &args.capabilities).await?;
        renew = Some(next_heartbeat(ttl));
        let with = if args.capabilities.is_empty() {
            String::new()
        } else {
            format!(" with {}", args.capabilities.join(", "))
        };
        note(&paint, &format!("{who} is registered{with}; Ctrl-C ends it"));
    }

    let end = args.duration.map(|duration| Instant::now() + duration);
    let (mut shown, mut dropped) = (0_u64, 0_u64);
    let mut reader = Ok(Reader::There);
    while args.count.is_none_or(|count| shown < count) {
        let arrived = tokio::select! {
            message = next(&mut live) => match message {
                Some(message) if is_delivery(&message, &who.agent) => Arrived::Message(message),
                Some(message) if is_hint(&message) => {
                    if args.live_only {
                        note(&paint, "a message has come into the durable inbox: without --live-only it is read");
                    }
                    continue;
                }
                Some(_) => Arrived::Stray,
                None => break,
            },
            message = next(&mut outcomes) => match message {
                Some(message) if client::outcome(&message, &who.agent).is_some() => Arrived::Outcome(message),
                Some(_) => Arrived::Stray,
                None => break,
            },
            message = next_kept(&mut kept) => match message {
                Some(message) => Arrived::Kept(message),
                None => break,
            },
            () = at(renew.map(|(when, _)| when)) => {
                let ttl = match heartbeat(&client).await {
                    Some(ttl) => ttl,
                    // The entry lapsed, or the bus was away: start over, and keep trying.
                    None => register(&client, &args.capabilities).await.unwrap_or(HEARTBEAT_MAX),
                };
                renew = Some(next_heartbeat(ttl));
                continue;
            }
            () = at(end) => break,
            () = shutdown.requested() => break,
        };
        let text = match &arrived {
            Arrived::Message(message) => told(message, who, paint, args.json),
            Arrived::Outcome(message) => told_outcome(message, who, paint, args.json),
            Arrived::Kept(message) if is_delivery(message, &who.agent) => {
                told(message, who, paint, args.json)
            }
            Arrived::Kept(message) => told_outcome(message, who, paint, args.json),
            Arrived::Stray => {
                dropped += 1;
                continue;
            }
        };
        // What could not be printed is not acknowledged. A closed pipe ends this as a person's Ctrl-C would.
        reader = offer(text.as_bytes());
        if !matches!(reader, Ok(Reader::There)) {
            break;
        }
        shown += 1;
        if let (Arrived::Message(message), Some(text)) = (&arrived, &args.answer)
            && let Some(answer) = answer(message, who, text)
            && let Err(error) = client.answer(message, answer.encode(Encoding::Json)).await
        {
            note(&paint, &format!("not answered: {error}"));
        }
        if let (Arrived::Kept(message), Some(kept)) = (&arrived, &kept)
            && let Err(error) = kept.ack(message).await
        {
            note(&paint, &format!("not acknowledged, so it comes again: {error}"));
        }
    }
    if let Some(kept) = kept {
        kept.close().await;
    }
    if renew.is_some() {
        // Without an answer the entry lapses by itself.
        let _ = client.json(Verb::Unregister, "{}".to_owned()).await;
    }
    // The server has read the acknowledgements before this ends.
    client.settled().await;
    if dropped > 0 {
        note(&paint, &format!("{dropped} dropped: not delivered by the bus"));
    }
    let enough =
        reader? == Reader::Gone || args.count.is_none_or(|count| shown >= count) || shutdown.is_requested();
    Ok(if enough { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

enum Arrived {
    Message(Delivery),
    Outcome(Delivery),
    /// From the durable inbox: either, and to be acknowledged.
    Kept(Delivery),
    Stray,
}

async fn next(messages: &mut Option<Subscriber>) -> Option<Delivery> {
    match messages {
        Some(messages) => messages.next().await,
        None => std::future::pending().await,
    }
}

async fn next_kept(kept: &mut Option<DurableInbox>) -> Option<Delivery> {
    match kept {
        Some(kept) => kept.next().await,
        None => std::future::pending().await,
    }
}

fn told(message: &Delivery, who: &Who, paint: Paint, json: bool) -> String {
    if json { json_line(message, who) } else { readable(message, who, paint) }
}

/// What became of a message, as the bus keeps it for its sender and its voters.
fn told_outcome(outcome: &Delivery, who: &Who, paint: Paint, json: bool) -> String {
    let Some(verdict) = client::outcome(outcome, &who.agent) else { return unreadable(outcome) };
    if json {
        let line = wire::encode_verdict(&verdict, Encoding::Json);
        return format!("{{\"outcome\":{}}}\n", printable::json(&String::from_utf8_lossy(&line)));
    }
    verdict::readable_as("outcome ", &verdict, paint)
}

/// For people; standard output is for the messages.
fn note(paint: &Paint, text: &str) {
    eprintln!("{}", paint.apply(Tone::Quiet, text));
}

/// A third of the time to live, up to a fifth earlier, so that agents do not beat together.
fn next_heartbeat(ttl: Duration) -> (Instant, Duration) {
    let third = (ttl / 3).clamp(HEARTBEAT_MIN, HEARTBEAT_MAX);
    (Instant::now() + third.mul_f64(rand::rng().random_range(0.8..1.0)), ttl)
}

/// The time to live that the bus gives.
async fn register(client: &AgentClient, capabilities: &[String]) -> anyhow::Result<Duration> {
    let names: Vec<&str> = capabilities.iter().map(String::as_str).collect();
    let answer = client.register(&names).await?;
    match ttl(&answer) {
        Some(ttl) => Ok(ttl),
        None => {
            let word = |name| safe(answer.get(name).and_then(Value::as_str).unwrap_or_default(), 256);
            bail!("cannot register: {}: {}", word("reason"), word("detail"))
        }
    }
}

async fn heartbeat(client: &AgentClient) -> Option<Duration> {
    ttl(&client.json(Verb::Heartbeat, "{}".to_owned()).await.ok()?)
}

fn ttl(answer: &Value) -> Option<Duration> {
    (answer.get("status")?.as_str()? == "ok")
        .then(|| Duration::from_millis(answer.get("ttl_ms").and_then(Value::as_u64).unwrap_or(30_000)))
}

/// The message as the bus stamped and governed it. The body is the canonical form, so it must read
/// as a message of the sender that the bus named in the headers.
fn decoded(delivery: &Delivery, who: &Who) -> Option<(Message, Bytes)> {
    let header = |name: &str| delivery.headers.as_ref()?.get(name).map(|value| value.as_str().to_owned());
    let sender: AgentId = header("Agentbus-Sender")?.parse().ok()?;
    if header("Agentbus-Tenant")? != who.tenant.as_str() {
        return None;
    }
    let stamp = wire::Stamp { tenant: &who.tenant, sender: &sender };
    let decoded = wire::decode(&delivery.payload, stamp, &wire::Limits::default()).ok()?;
    Some(((*decoded.message).clone(), decoded.canonical))
}

/// The answer to a question that somebody waits for, and to nothing else.
fn answer(delivery: &Delivery, who: &Who, text: &str) -> Option<Draft> {
    let (question, _) = is_question(delivery, &who.agent).then(|| decoded(delivery, who))??;
    Some(Draft {
        message_type: question.message_type.answered_by()?,
        constitutional_hash: question.constitution.to_string(),
        conversation_id: question.conversation_id.as_ref().map(ToString::to_string),
        in_reply_to: Some(question.id.to_string()),
        ..Draft::to_agent(question.sender.as_str(), text)
    })
}

fn json_line(delivery: &Delivery, who: &Who) -> String {
    match decoded(delivery, who) {
        Some((message, canonical)) => {
            let body = wire::encode_message(&message, &canonical, Encoding::Json);
            format!("{}\n", printable::json(&String::from_utf8_lossy(&body)))
        }
        None => unreadable(delivery),
    }
}

fn readable(delivery: &Delivery, who: &Who, paint: Paint) -> String {
    let Some((message, canonical)) = decoded(delivery, who) else { return unreadable(delivery) };
    let to = match &message.to {
        Recipient::Agent(_) => String::new(),
        Recipient::Capability(capability) => format!("  for {capability}"),
        Recipient::Broadcast(_) => "  to all that match".to_owned(),
    };
    let mut page = Page::new(paint);
    let from = format!("{} → {}", message.sender, who.agent);
    page.headed(&from, Tone::Strong, &format!("{}  {}{to}", message.message_type, message.priority));
    let body = wire::encode_message(&message, &canonical, Encoding::Json);
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    page.content(body.get("content").unwrap_or(&Value::Null), CONTENT_MAX);
    for name in ["tools", "metadata", "conversation_id", "in_reply_to"] {
        if let Some(value) = body.get(name) {
            page.text(&format!("{name} {}", printable::json(&value.to_string())));
        }
    }
    page.text(&format!("message {}", message.id));
    page.into_text()
}

fn unreadable(delivery: &Delivery) -> String {
    format!("a delivery of {} bytes that this version cannot read\n", delivery.payload.len())
}
