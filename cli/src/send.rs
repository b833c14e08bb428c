//! `agentbus send`: one message as an agent, and its verdict.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use agentbus::{
    client::{self, AgentClient, Asked, ClientError, Draft, Patience},
    domain::{Encoding, MessageType, Priority, Reason, Status, Verb, Verdict},
    text_file,
    trace::TraceContext,
    wire,
};
use anyhow::{Context as _, anyhow, bail};
use async_nats::Subscriber;
use clap::{ArgGroup, Args, builder::PossibleValuesParser};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    context::{Identity, Paint, Tone, Who, at, safe, say},
    deliberations::Desk,
    input,
    printable::{self, CONTENT_MAX, Page},
    verdict::{denied, readable_as},
};

/// Of --file; more than any bus takes, so that the refusal comes from the bus.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// For a node to say which constitution to name.
const TOLD_WITHIN: Duration = Duration::from_secs(1);
/// For the outcome of what the durable lane has stored.
const OUTCOME_WITHIN: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
#[command(
    override_usage = "agentbus send --as <TENANT/AGENT> [OPTIONS]\n         \
        <--to <AGENT>|--capability <CAPABILITY>|--broadcast>\n         \
        <TEXT|--content <JSON>|--file <FILE>>",
    group = ArgGroup::new("recipient").required(true).args(["to", "capability", "broadcast"]),
    group = ArgGroup::new("what").required(true).args(["text", "content", "file"]),
    after_help = "Exit codes:\n  \
        0  delivered; with --no-wait also stored\n  \
        1  failed: not connected, malformed, no recipient, shed, unavailable, too late\n  \
        2  usage\n  \
        3  denied: by policy, constitution or reviewers, or it is not yours to send\n  \
        4  waits: for reviewers, or for an outcome that has not come yet\n\n\
        Examples:\n  \
        agentbus send --as acme/planner --to worker 'index the new documents'\n  \
        agentbus send --as acme/planner --capability translate --tool read 'hello'\n  \
        agentbus send --as acme/planner --broadcast --content '{\"disk\": 0.93}'\n  \
        agentbus send --as acme/planner --to worker --message-id m1 'once'\n  \
        agentbus send --as acme/planner --to worker --durable 'kept while it is away'\n  \
        agentbus send --as acme/planner --to worker --ask 'how far are you?'\n  \
        agentbus send --as acme/planner --to worker --priority high --wait 5m 'hello'"
)]
pub(super) struct SendArgs {
    #[command(flatten)]
    identity: Identity,

    /// To this agent
    #[arg(long, value_name = "AGENT", help_heading = "Recipient")]
    to: Option<String>,
    /// To one live agent that holds this capability
    #[arg(long, value_name = "CAPABILITY", help_heading = "Recipient")]
    capability: Option<String>,
    /// To all live agents of your tenant
    #[arg(long, help_heading = "Recipient")]
    broadcast: bool,
    /// With --broadcast: only to holders of this capability
    #[arg(long, value_name = "CAPABILITY", conflicts_with_all = ["to", "capability"], help_heading = "Recipient")]
    with_capability: Option<String>,
    /// With --broadcast: only to agents with this role
    #[arg(long, value_name = "ROLE", conflicts_with_all = ["to", "capability"], help_heading = "Recipient")]
    with_role: Option<String>,

    /// What to say; sent as the content {"text": TEXT}
    text: Option<String>,
    /// The content as a JSON object
    #[arg(long, value_name = "JSON", help_heading = "Message")]
    content: Option<String>,
    /// Read the text from a file; - is standard input
    #[arg(long, value_name = "FILE", help_heading = "Message")]
    file: Option<PathBuf>,
    /// What kind of act it is
    ///
    /// An event if nothing is said; a query with --ask.
    #[arg(long = "type", value_name = "TYPE",
        value_parser = PossibleValuesParser::new(MessageType::WORDS), help_heading = "Message")]
    message_type: Option<String>,
    /// How urgent it is
    #[arg(long, value_name = "PRIORITY", default_value = "normal",
        value_parser = PossibleValuesParser::new(Priority::WORDS), help_heading = "Message")]
    priority: String,
    /// What the recipient is asked to do or use, such as read or transfer; can be repeated
    #[arg(long = "tool", value_name = "TOOL", help_heading = "Message")]
    tools: Vec<String>,
    /// Metadata; can be repeated
    #[arg(long = "meta", value_name = "KEY=VALUE", value_parser = key_value, help_heading = "Message")]
    metadata: Vec<(String, String)>,
    /// The message's id; a repeat within 10 minutes is delivered once [default: a new one]
    #[arg(long, value_name = "ID", help_heading = "Message")]
    message_id: Option<String>,
    /// Names the conversation it belongs to
    #[arg(long, value_name = "ID", help_heading = "Message")]
    conversation: Option<String>,
    /// The message that this one answers
    #[arg(long, value_name = "ID", help_heading = "Message")]
    in_reply_to: Option<String>,
    /// Hash of the constitution it was written under [default: the one that the bus prefers]
    #[arg(long, value_name = "HASH", help_heading = "Message")]
    hash: Option<String>,
    /// W3C trace context that it continues [default: TRACEPARENT of the environment, if it is one]
    #[arg(long, value_name = "CONTEXT", value_parser = traceparent, help_heading = "Message")]
    traceparent: Option<String>,
    /// Pointless after this time, such as 30s
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Message")]
    expires_in: Option<Duration>,

    /// By the durable lane: the bus keeps it, governs it and keeps it for its recipient, who may be away
    #[arg(long, help_heading = "Way")]
    durable: bool,
    /// Wait for the recipient's answer and print it
    #[arg(long, conflicts_with_all = ["durable", "broadcast"], help_heading = "Way")]
    ask: bool,
    /// With --durable: do not wait for the outcome
    #[arg(long, requires = "durable", conflicts_with = "wait", help_heading = "Way")]
    no_wait: bool,
    /// How long to wait for the outcome of what is stored or parked, such as 10m
    ///
    /// If nothing is said: 30 s for what is stored, as with --durable or too long to be read at once, and not for
    /// reviewers.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, help_heading = "Way")]
    wait: Option<Duration>,

    /// Send MessagePack instead of JSON
    #[arg(long)]
    msgpack: bool,
    /// How long to ask for a verdict, over all retries [default: 5s, with --ask 35s]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// Print the verdict as one line of JSON, and its outcome as another
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(args: SendArgs) -> anyhow::Result<ExitCode> {
    let mut draft = draft(&args)?;
    // As other programs hand theirs to those that they start.
    let inherited = || std::env::var("TRACEPARENT").ok().filter(|context| traceparent(context).is_ok());
    let client = args.identity.connect().await?.continuing(args.traceparent.clone().or_else(inherited));
    if args.hash.is_none()
        && let Some(preferred) = client.preferred_constitution(TOLD_WITHIN).await
    {
        draft.constitutional_hash = preferred;
    }
    let who = &args.identity.who;
    // Before it is sent, so that no outcome comes too early to be heard.
    let mut outcomes = match args.no_wait {
        true => None,
        false => Some(client.nats().subscribe(format!("agent.{}.outcome", who.agent)).await?),
    };
    let asked = verdict(&args, &client, &draft).await.with_context(|| {
        format!("message {} has no verdict; ask again with --message-id {0}", draft.message_id)
    })?;
    let Asked { verdict, answer, repeat } = asked;
    show(&verdict, if repeat { "repeat: " } else { "" }, args.json)?;
    if repeat {
        eprintln!("message {} was used before: nothing new was done, this is what stands", draft.message_id);
    }
    if let Some(answer) = answer.filter(|_| !args.json) {
        say(&readable_answer(&answer, Paint::stdout()))?;
    }
    let wait = match (verdict.status, args.wait) {
        // That of a `send` that is repeated may have come already.
        (Status::Stored, None) if !args.no_wait && (args.durable || !repeat) => Some(OUTCOME_WITHIN),
        (Status::Stored | Status::Deliberating, wait) => wait,
        _ => None,
    };
    let last = match (wait, &mut outcomes) {
        (Some(wait), Some(outcomes)) => {
            if verdict.status == Status::Deliberating && !args.json {
                say(&waits(&client, who, &verdict).await)?;
            }
            let end = Instant::now() + wait;
            let patient = args.wait.is_some();
            let parked = verdict.status == Status::Deliberating;
            let about = About { who, message_id: &draft.message_id, parked };
            outcome(outcomes, about, end, patient, args.json).await?.unwrap_or(verdict)
        }
        _ => verdict,
    };
    if last.status == Status::Deliberating && !args.json {
        say(&waits(&client, who, &last).await)?;
    }
    if last.status == Status::Stored && wait.is_some() && !args.json {
        say(&format!(
            "no outcome yet; it is kept for you: agentbus inbox --as {who} --durable-only\n\
             or wait on: agentbus send … --message-id {}\n",
            draft.message_id
        ))?;
    }
    Ok(exit_code(&last, args.no_wait))
}

/// The bus's word on it, with the answer if it was a question.
async fn verdict(args: &SendArgs, client: &AgentClient, draft: &Draft) -> Result<Asked, ClientError> {
    let body = draft.encode(if args.msgpack { Encoding::MessagePack } else { Encoding::Json });
    if args.ask {
        let patience = Patience::FOR_AN_ANSWER;
        let deadline = args.timeout.unwrap_or(patience.deadline);
        return client.ask(body, Patience { deadline, ..patience }).await;
    }
    let patience = Patience::default();
    let patience = Patience { deadline: args.timeout.unwrap_or(patience.deadline), ..patience };
    match args.durable {
        true => client.submitted(body, patience).await,
        false => client.decided(Verb::Send, body, patience).await,
    }
}

/// Which message outcomes are waited for.
struct About<'a> {
    who: &'a Who,
    message_id: &'a str,
    /// The reply has said so: the outcome that says the same is no news.
    parked: bool,
}

/// The outcomes of a message as they come, until the last one, or until nobody waits any more.
async fn outcome(
    outcomes: &mut Subscriber,
    about: About<'_>,
    end: Instant,
    patient: bool,
    json: bool,
) -> anyhow::Result<Option<Verdict>> {
    let About { who, message_id, parked } = about;
    let mut last = None;
    loop {
        let heard = tokio::select! {
            heard = outcomes.next() => heard,
            () = at(Some(end)) => None,
        };
        let Some(heard) = heard else { return Ok(last) };
        let header = |name| heard.headers.as_ref()?.get(name).map(|value| value.as_str());
        // An agent that judges hears of others' messages, too.
        let mine = header("Agentbus-Sender") == Some(who.agent.as_str())
            && header("Agentbus-Message-Id") == Some(message_id);
        let (true, Some(verdict)) = (mine, client::outcome(&heard, &who.agent)) else { continue };
        if parked && verdict.status == Status::Deliberating {
            continue;
        }
        show(&verdict, "outcome ", json)?;
        let ended = verdict.status != Status::Deliberating;
        last = Some(verdict);
        if ended || !patient {
            return Ok(last);
        }
    }
}

fn show(verdict: &Verdict, what: &str, json: bool) -> anyhow::Result<()> {
    let shown = match json {
        true => {
            let line = wire::encode_verdict(verdict, Encoding::Json);
            format!("{}\n", printable::json(&String::from_utf8_lossy(&line)))
        }
        false => readable_as(what, verdict, Paint::stdout()),
    };
    Ok(say(&shown)?)
}

/// What somebody who may vote types. Who that is, the sender may know.
async fn waits(client: &AgentClient, who: &Who, verdict: &Verdict) -> String {
    let Some(id) = &verdict.deliberation_id else { return String::new() };
    let voters = Desk::new(client.clone(), who.clone()).voters(id.as_str()).await.unwrap_or_default();
    let names: Vec<String> = voters.iter().map(|voter| format!("{}/{voter}", who.tenant)).collect();
    let one = names.first().cloned().unwrap_or_else(|| format!("{}/REVIEWER", who.tenant));
    let by = if names.is_empty() { "reviewers".to_owned() } else { names.join(", ") };
    format!(
        "It waits for {by}, who can type:\n  \
         agentbus deliberations show --as {one} {id}\n  \
         agentbus deliberations vote --as {one} {id} --approve\n\
         How it stands: agentbus deliberations show --as {who} {id}\n"
    )
}

fn readable_answer(answer: &Value, paint: Paint) -> String {
    let from = safe(answer.get("from_agent").and_then(Value::as_str).unwrap_or("?"), 64);
    let mut page = Page::new(paint);
    page.own(&format!("{} from {from}", paint.apply(Tone::Strong, "answer")));
    page.content(answer.get("content").unwrap_or(&Value::Null), CONTENT_MAX);
    page.into_text()
}

fn draft(args: &SendArgs) -> anyhow::Result<Draft> {
    let to = match (&args.to, &args.capability) {
        (Some(agent), _) => json!({ "agent": agent }),
        (None, Some(capability)) => json!({ "capability": capability }),
        (None, None) => {
            let given = [("capability", &args.with_capability), ("role", &args.with_role)];
            let filter: serde_json::Map<String, Value> = given
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
                .collect();
            json!({ "broadcast": filter })
        }
    };
    let content = match (&args.text, &args.content, &args.file) {
        (Some(text), ..) => json!({ "text": text }),
        (None, Some(content), _) => {
            let content: Value = serde_json::from_str(content).context("--content")?;
            if !content.is_object() {
                bail!("--content must be a JSON object, such as '{{\"text\": \"hello\"}}'");
            }
            content
        }
        (None, None, Some(file)) => json!({ "text": read_text(file)? }),
        (None, None, None) => bail!("nothing to say: give a text, --content or --file"),
    };
    let mut draft = Draft::new(to, content);
    if let Some(id) = &args.message_id {
        draft.message_id.clone_from(id);
    }
    let default = if args.ask { MessageType::Query } else { MessageType::Event };
    draft.message_type = match &args.message_type {
        Some(word) => MessageType::parse(word).ok_or_else(|| anyhow!("--type"))?,
        None => default,
    };
    draft.priority = Priority::parse(&args.priority).ok_or_else(|| anyhow!("--priority"))?;
    if let Some(hash) = &args.hash {
        draft.constitutional_hash.clone_from(hash);
    }
    draft.tools.clone_from(&args.tools);
    draft.metadata = args.metadata.iter().cloned().collect();
    draft.conversation_id.clone_from(&args.conversation);
    draft.in_reply_to.clone_from(&args.in_reply_to);
    draft.expires_in = args.expires_in;
    Ok(draft)
}

fn read_text(file: &Path) -> anyhow::Result<String> {
    let read = if file.as_os_str() == "-" {
        text_file::read_from(input::stdin("the text").lock(), FILE_BYTES_MAX)
    } else {
        text_file::read(file, FILE_BYTES_MAX)
    };
    read.with_context(|| format!("--file {}", file.display()))
}

fn traceparent(text: &str) -> Result<String, String> {
    let context = TraceContext::parse(text);
    let expected = "such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    context
        .map(|context| context.to_string())
        .ok_or_else(|| format!("expected a W3C trace context, {expected}"))
}

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn exit_code(verdict: &Verdict, stored_is_enough: bool) -> ExitCode {
    match verdict.reason {
        Reason::Delivered => ExitCode::SUCCESS,
        Reason::Stored if stored_is_enough => ExitCode::SUCCESS,
        Reason::Stored | Reason::Deliberating => ExitCode::from(4),
        reason if denied(reason) => ExitCode::from(3),
        _ => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use clap::Parser;

    use super::*;
    use agentbus::{
        config::DEFAULT_CONSTITUTION,
        domain::{Missed, Reach},
    };

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        send: SendArgs,
    }

    fn parse(words: &[&str]) -> Result<SendArgs, clap::Error> {
        let all = ["send", "--as", "acme/planner"].iter().chain(words);
        Line::try_parse_from(all).map(|line| line.send)
    }

    #[test]
    fn flags_become_the_message_they_describe() {
        for (words, pointer, expected) in [
            (&["--to", "worker", "hi"][..], "/to", json!({"agent": "worker"})),
            (&["--capability", "sum", "hi"], "/to", json!({"capability": "sum"})),
            (&["--broadcast", "hi"], "/to", json!({"broadcast": {}})),
            (
                &["--broadcast", "--with-role", "monitor", "hi"],
                "/to",
                json!({"broadcast": {"role": "monitor"}}),
            ),
            (&["--to", "worker", "hi"], "/content", json!({"text": "hi"})),
            (&["--to", "worker", "--content", "{\"a\": [1]}"], "/content", json!({"a": [1]})),
            (&["--to", "w", "--type", "query", "hi"], "/message_type", json!("query")),
            (&["--to", "w", "--tool", "read", "--tool", "list", "hi"], "/tools", json!(["read", "list"])),
            (&["--to", "w", "--message-id", "m1", "hi"], "/message_id", json!("m1")),
            (&["--to", "w", "--meta", "a=b=c", "hi"], "/metadata", json!({"a": "b=c"})),
            (&["--to", "w", "--in-reply-to", "m0", "hi"], "/in_reply_to", json!("m0")),
            (&["--to", "w", "hi"], "/constitutional_hash", json!(DEFAULT_CONSTITUTION)),
        ] {
            let message = draft(&parse(words).unwrap()).unwrap().json();
            assert_eq!(message.pointer(pointer), Some(&expected), "{words:?}");
        }
    }

    #[test]
    fn what_cannot_be_meant_is_a_usage_error() {
        for words in [
            &["hi"][..],
            &["--to", "worker"],
            &["--to", "worker", "--broadcast", "hi"],
            &["--to", "worker", "hi", "--file", "-"],
            &["--to", "worker", "--with-role", "monitor", "hi"],
            &["--to", "worker", "--type", "shout", "hi"],
            &["--to", "worker", "--expires-in", "soon", "hi"],
        ] {
            assert!(parse(words).is_err(), "{words:?} was accepted");
        }
        let not_an_object = parse(&["--to", "worker", "--content", "[1]"]).unwrap();
        assert!(draft(&not_an_object).is_err());
    }

    #[test]
    fn a_verdict_is_told_with_all_that_matters_to_its_sender() {
        let verdict = Verdict {
            message_id: Some("m1".parse().unwrap()),
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: "handed to 2 agents, 1 missed".to_owned(),
            retryable: false,
            retry_after: None,
            decision_id: "d1".to_owned(),
            policy_revision: Some("abc".to_owned()),
            impact: None,
            reach: Some(Reach {
                delivered: 2,
                agent: None,
                missed: vec![Missed { agent: "ghost".parse().unwrap(), reason: Reason::RecipientOffline }],
                missed_total: 1,
                durable: false,
            }),
            deliberation_id: None,
            node: "node-1".to_owned(),
            elapsed: Duration::from_micros(420),
        };
        let text = readable_as("", &verdict, Paint::never());
        for part in
            ["delivered  handed to 2 agents", "m1", "ghost (recipient_offline)", "abc", "0.42 ms", "node-1"]
        {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        let shed = Verdict {
            status: Status::Shed,
            reason: Reason::RateLimited,
            retryable: true,
            retry_after: Some(Duration::from_millis(70)),
            reach: None,
            deliberation_id: None,
            ..verdict
        };
        let text = readable_as("", &shed, Paint::never());
        assert!(text.contains("rate_limited (429)") && text.contains("after 70 ms"), "{text}");
    }

    #[test]
    fn denied_is_what_governance_refuses() {
        let forbidden = Reason::ALL.iter().filter(|reason| reason.code() == 403);
        assert!(forbidden.copied().all(denied), "403 is a denial");
        assert!(denied(Reason::DeliberationDenied) && !denied(Reason::RecipientOffline));
    }
}
