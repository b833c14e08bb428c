//! Can one tenant reach another, or one agent pose as another? Tried with plain NATS, past all
//! good manners; the server and the nodes must both hold.

use std::time::{Duration, Instant};

use agentbus::{
    client::{AgentClient, Draft},
    domain::Encoding,
    tenants::{BusUser, Seed, User},
};
use anyhow::Context as _;
use async_nats::Client;
use serde_json::{Value, json};

use super::{cast::Cast, screen::Screen};

/// How long a refusal by the server may take to arrive.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// How long what strays may take to arrive.
const STRAY_WITHIN: Duration = Duration::from_millis(80);

/// What the attacker, acme's planner, publishes or subscribes.
enum Attempt {
    Publish(&'static str),
    Subscribe(&'static str),
}

use Attempt::{Publish, Subscribe};

const AT_THE_SERVER: &[(&str, Attempt)] = &[
    ("publish as another agent", Publish("bus.steward.send")),
    ("publish as an agent of globex", Publish("tenant.globex.bus.planner.send")),
    ("write into a colleague's inbox", Publish("agent.worker.inbox")),
    ("write into an inbox of globex", Publish("tenant.globex.agent.planner.inbox")),
    ("read a colleague's inbox", Subscribe("agent.judge.inbox")),
    ("read all inboxes", Subscribe("agent.*.inbox")),
    ("read all there is", Subscribe(">")),
    ("read a colleague's answers", Subscribe("_INBOX.steward.>")),
    ("sit among the nodes", Subscribe("tenant.*.bus.*.send")),
    ("purge the records", Publish("$JS.API.STREAM.PURGE.RECORDS")),
    ("ask the system account", Publish("$SYS.REQ.SERVER.PING")),
];

/// Reply subjects of the attacker's choice: the server sends the verdict there, unchecked.
const REPLIES: &[(&str, &str)] = &[
    ("a verdict into a colleague's inbox", "agent.worker.inbox"),
    ("a verdict into an inbox of globex", "tenant.globex.agent.planner.inbox"),
    ("a verdict to the purge of the records", "$JS.API.STREAM.PURGE.RECORDS"),
    ("a verdict to the next node", "tenant.globex.bus.planner.send"),
];

pub(super) async fn play(
    cast: &Cast,
    screen: &Screen,
    url: &str,
    dir: &std::path::Path,
) -> anyhow::Result<()> {
    let attacker = &cast.named("acme/planner")?.client;
    let operator = operator(url, dir).await?;
    let deliveries = cast.ledger.counts().deliveries;

    screen.section("Attacks at the server: acme's planner leaves its lane");
    for (what, attempt) in AT_THE_SERVER {
        let refused = at_the_server(attacker, attempt).await?;
        screen.check(what, if refused { "permissions violation" } else { "NOT refused" }, refused);
        if !refused {
            cast.ledger.wrong(format!("the server let acme/planner {what}"));
        }
    }

    screen.section("Attacks by reply subject: the verdict goes where the sender says");
    let worker = &cast.named("acme/worker")?.who;
    let records_before = records(&operator).await?;
    for (what, reply) in REPLIES {
        let (records_then, dropped, by_worker) =
            (records(&operator).await?, cast.ledger.dropped_total(), cast.ledger.dropped_by(worker));
        // It names nobody who exists, so all that can travel is the verdict.
        let bait = Draft::to_agent("nobody", "an innocent text").encode(Encoding::Json);
        attacker.nats().publish_with_reply("bus.planner.send", *reply, bait).await?;
        attacker.settled().await;
        let own_account = *reply == "agent.worker.inbox";
        if own_account {
            wait_until(|| cast.ledger.dropped_by(worker) > by_worker).await;
        } else {
            // What could still arrive somewhere has its time.
            tokio::time::sleep(STRAY_WITHIN).await;
        }
        let strays = cast.ledger.dropped_total() - dropped;
        let kept = records(&operator).await? >= records_then;
        let right = kept && strays == u64::from(own_account);
        let found = match (own_account, right) {
            (true, true) => "arrives without Agentbus-Delivery; the agent drops it",
            (false, true) => "goes nowhere",
            (_, false) => "NOT as it should be",
        };
        screen.check(what, found, right);
        if !right {
            cast.ledger.wrong(format!("{what}: {strays} strays, records kept: {kept}"));
        }
    }
    let records_after = records(&operator).await?;
    let smuggled = cast.ledger.counts().deliveries - deliveries;
    if smuggled > 0 {
        cast.ledger.wrong(format!("{smuggled} messages were delivered by attacks"));
    }
    screen.check(
        "afterwards",
        &format!("{records_after} records (before: {records_before}), {smuggled} messages smuggled"),
        smuggled == 0,
    );
    Ok(())
}

/// Whether the server refused.
async fn at_the_server(attacker: &AgentClient, attempt: &Attempt) -> anyhow::Result<bool> {
    let before = attacker.violations();
    match attempt {
        Publish(subject) => {
            let body = Draft::to_agent("worker", "smuggled").encode(Encoding::Json);
            attacker.nats().publish(*subject, body).await?;
        }
        Subscribe(subject) => {
            let subscription = attacker.nats().subscribe(*subject).await?;
            attacker.nats().flush().await?;
            wait_until(|| attacker.violations() > before).await;
            drop(subscription);
        }
    }
    attacker.nats().flush().await?;
    Ok(wait_until(|| attacker.violations() > before).await)
}

async fn wait_until(mut met: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + TOLD_WITHIN;
    while !met() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    true
}

async fn operator(url: &str, dir: &std::path::Path) -> anyhow::Result<Client> {
    let seed = Seed::read(&User::from(BusUser::Operator).seed_path(dir))?;
    let operator = AgentClient::connect(url, &"operator".parse()?, seed.reveal()).await?;
    Ok(operator.nats().clone())
}

/// Entries of the stream of records.
async fn records(operator: &Client) -> anyhow::Result<u64> {
    let answer = operator.request("$JS.API.STREAM.INFO.RECORDS", json!({}).to_string().into()).await?;
    let info: Value = serde_json::from_slice(&answer.payload)?;
    info.pointer("/state/messages").and_then(Value::as_u64).with_context(|| format!("stream RECORDS: {info}"))
}
