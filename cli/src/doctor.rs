//! `agentbus doctor`: does the way there and back work with an agent's key? It sends no message, and
//! registers and renews nothing: the agent may run elsewhere.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, ClientError},
    config::without_secrets,
    domain::ConstitutionHash,
    phrase::causes,
    tenants::{Seed, names},
};
use async_nats::{ConnectErrorKind, Message, Request, RequestError, RequestErrorKind};
use clap::Args;
use serde_json::{Value, json};

use super::{
    context::{Identity, Paint, Tone, Who, safe, say},
    printable::Page,
};

mod agreement;
mod policy;

use agreement::Told;

/// For each answer; a node needs some milliseconds.
const ANSWERED_WITHIN: Duration = Duration::from_secs(3);
/// For all the servers that a URL leads to.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "\
Looks at the key, the server, the way back, a node, the clocks, the constitution, the registration, both \
inboxes, and where the operator's key is in the folder too, each node's policy and its OPA servers; and says \
what to do about what is wrong. Sends no message and registers nothing: the agent may run elsewhere meanwhile.\n\n\
Exit codes: 0 all is well, 1 something is not, 2 usage.\n\n\
Examples:\n  \
agentbus doctor --as acme/worker\n  \
agentbus doctor --as acme/worker --server nats://127.0.0.1:4222")]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    identity: Identity,
    /// Hash of the constitution that the agent names in its messages, if it does not ask for it (`about`)
    #[arg(long, value_name = "HASH")]
    hash: Option<ConstitutionHash>,
}

pub(super) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut sheet = Sheet { paint: Paint::stdout(), ill: false };
    if let Some(client) = connected(&args.identity, &mut sheet).await? {
        examine(&client, &args, &mut sheet).await?;
        let Identity { server, dir, .. } = &args.identity;
        policy::nodes(&server.url(dir)?, dir, &mut sheet).await?;
    }
    Ok(if sheet.ill { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What was found, printed as it is found.
struct Sheet {
    paint: Paint,
    ill: bool,
}

impl Sheet {
    fn well(&self, found: &str) -> anyhow::Result<()> {
        self.line("✓", Tone::Good, found, None)
    }

    /// What is wrong, and what to do about it where that does not say so itself.
    fn ill(&mut self, found: &str, next: Option<&str>) -> anyhow::Result<()> {
        self.ill = true;
        self.line("✗", Tone::Bad, found, next)
    }

    fn line(&self, mark: &str, tone: Tone, found: &str, next: Option<&str>) -> anyhow::Result<()> {
        let mut page = Page::new(self.paint);
        page.headed(mark, tone, found);
        if let Some(next) = next {
            page.field("next", next);
        }
        Ok(say(&page.into_text())?)
    }
}

/// The key, the server, and whether it lets the key in. Nothing else can be looked at without them.
async fn connected(identity: &Identity, sheet: &mut Sheet) -> anyhow::Result<Option<AgentClient>> {
    let path = identity.seed_path();
    // The first says which agents there are, the second whether it is a key.
    let read = identity.seed().and_then(|_| Ok(Seed::read(&path)?));
    let seed = match read.and_then(|seed| Ok((seed.public_key()?, seed))) {
        Ok((public, seed)) => {
            sheet.well(&format!("key: {}, for us alone, of {public}", path.display()))?;
            seed
        }
        Err(error) => {
            sheet.ill(&format!("key: {}", causes(error.as_ref())), None)?;
            return Ok(None);
        }
    };
    let server = match identity.server.of(&identity.dir) {
        Ok(server) => server,
        Err(error) => {
            sheet.ill(&format!("server: {error}"), None)?;
            return Ok(None);
        }
    };
    let shown = without_secrets(&server.url);
    let connecting = AgentClient::connect(&server, &identity.who.agent, seed.reveal());
    let error = match tokio::time::timeout(CONNECTED_WITHIN, connecting).await {
        Ok(Ok(client)) => {
            sheet.well(&format!("server: NATS answers at {shown}"))?;
            sheet.well(&format!("key: let in as {}", identity.who))?;
            return Ok(Some(client));
        }
        Ok(Err(ClientError::Connect { cause, .. })) if refused(cause.kind()) => {
            sheet.well(&format!("server: NATS answers at {shown}"))?;
            let next =
                "`agentbus tenants apply` tells the server; or take the key that the operator gave you";
            sheet.ill("key: the server does not know it", Some(next))?;
            return Ok(None);
        }
        Ok(Err(error)) => causes(&error),
        Err(_) => format!("no connection to {shown} within {CONNECTED_WITHIN:?}"),
    };
    sheet.ill(&format!("server: {error}"), Some("start one with `agentbus up`, or correct --server"))?;
    Ok(None)
}

fn refused(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation)
}

async fn examine(client: &AgentClient, args: &DoctorArgs, sheet: &mut Sheet) -> anyhow::Result<()> {
    let (who, asked) = (&args.identity.who, Instant::now());
    let body = json!({ "agent": who.agent.as_str() });
    let answer = ask(client, format!("bus.{}.find", who.agent), &body).await;
    // That nobody listens comes back on the same way.
    let back = match &answer {
        Ok(_) => true,
        Err(error) => error.kind() == RequestErrorKind::NoResponders,
    };
    if back {
        sheet.well(&format!("way back: what comes to _INBOX.{}.> is heard", who.agent))?;
    } else if client.violations() > 0 {
        let found = format!("way back: the server refuses bus.{0}.> and _INBOX.{0}.> to this key", who.agent);
        let next = format!("it is another agent's key: name that one with --as, or take the key of {who}");
        return sheet.ill(&found, Some(&next));
    }
    match answer {
        Ok(answer) => {
            sheet.well("node: a node answers")?;
            if let Some(told) = Told::by_node(&answer, asked) {
                told.check(sheet)?;
            }
            agreement::constitution(&answer, args.hash.map(|hash| hash.to_string()).as_deref(), sheet)?;
            registered(&answer, who, sheet)?;
        }
        Err(error) if error.kind() == RequestErrorKind::NoResponders => {
            let next = "`agentbus up` starts nodes with the server, `agentbus node` one beside it";
            sheet.ill("node: none listens", Some(next))?;
        }
        Err(error) => {
            let next = "ask again; if it stays so, look at the nodes' logs and /readyz";
            sheet.ill(&format!("node: no answer within {ANSWERED_WITHIN:?}: {error}"), Some(next))?;
        }
    }
    inboxes(client, who, sheet).await
}

fn registered(answer: &Message, who: &Who, sheet: &mut Sheet) -> anyhow::Result<()> {
    let answer: Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    if answer.get("status").and_then(Value::as_str) != Some("ok") {
        let told = |name| safe(answer.get(name).and_then(Value::as_str).unwrap_or_default(), 256);
        let found = format!("registered: the node says {}: {}", told("reason"), told("detail"));
        return sheet.ill(&found, Some("ask again; if it stays so, ask the operator"));
    }
    match answer.pointer("/agents/0") {
        Some(agent) => {
            let capabilities = agent.get("capabilities").and_then(Value::as_array);
            let capabilities: Vec<String> =
                capabilities.into_iter().flatten().filter_map(Value::as_str).map(|c| safe(c, 64)).collect();
            let with = match capabilities.is_empty() {
                true => "without capabilities".to_owned(),
                false => format!("with {}", capabilities.join(", ")),
            };
            sheet.well(&format!("registered: as {}, {with}", who.agent))
        }
        None => {
            let next = format!(
                "register and send heartbeats, as `agentbus inbox --as {who}` does; one that only sends need not"
            );
            sheet.ill(
                "registered: no, or its heartbeats have ended, so nothing is delivered to it",
                Some(&next),
            )
        }
    }
}

async fn inboxes(client: &AgentClient, who: &Who, sheet: &mut Sheet) -> anyhow::Result<()> {
    let before = client.violations();
    let live = format!("agent.{}.inbox", who.agent);
    // Beside it, by the same right: who listens to the inbox itself counts as there, and we deal with nothing.
    client.nats().subscribe(format!("agent.{}.doctor", who.agent)).await?;
    let (domain, stream) = (names::INBOX_DOMAIN, names::outbound_stream(&who.tenant));
    let asked = Instant::now();
    let info =
        ask(client, format!("$JS.{domain}.API.CONSUMER.INFO.{stream}.{}", who.agent), &json!({})).await;

    // The answer came after the server had read the subscription.
    if client.violations() > before {
        sheet.ill(&format!("live inbox: the server refuses {live}"), Some("take this agent's own key"))?;
    } else {
        sheet.well(&format!("live inbox: {live} may be heard"))?;
    }
    let found = match info {
        Ok(info) => serde_json::from_slice::<Value>(&info.payload).unwrap_or_default(),
        Err(error) => json!({ "error": { "description": error.to_string() } }),
    };
    if let Some(told) = Told::by_nats(&found, asked) {
        told.check(sheet)?;
    }
    let count = |name| found.get(name).and_then(Value::as_u64);
    if let (Some(pending), Some(unacknowledged)) = (count("num_pending"), count("num_ack_pending")) {
        return sheet.well(&format!(
            "durable inbox: {pending} to be fetched, {unacknowledged} fetched and not acknowledged"
        ));
    }
    let told = found.pointer("/error/description").and_then(Value::as_str).unwrap_or("an unknown answer");
    let next = "`agentbus tenants apply` makes it";
    sheet.ill(&format!("durable inbox: not found: {}", safe(told, 256)), Some(next))
}

async fn ask(client: &AgentClient, subject: String, body: &Value) -> Result<Message, RequestError> {
    let request = Request::new().payload(body.to_string().into()).timeout(Some(ANSWERED_WITHIN));
    client.nats().send_request(subject, request).await
}
