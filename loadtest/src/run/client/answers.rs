//! What do agents do that receive? They count, answer questions, acknowledge what was kept, and vote.

use std::{sync::Arc, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, is_hint, is_question},
    domain::{AgentId, Encoding, MessageType, TenantId, Verb},
};
use async_nats::{Client, HeaderMap, Message};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use tokio::task::JoinHandle;

use super::arrivals::Arrivals;
use crate::{echo, inbox};

/// Votes of one judge on their way.
const VOTING_MAX: usize = 16;
/// A pull that its agent has left behind takes messages for so long, and nobody gets them.
pub(super) const PULL_EXPIRES: Duration = Duration::from_secs(1);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The direct side: the recipient itself says ok. Ends with the connection.
pub(super) async fn echo(nats: Client, subject: String, arrivals: Arc<Arrivals>) -> anyhow::Result<()> {
    let mut inbox = nats.subscribe(subject).await?;
    nats.flush().await?;
    tokio::spawn(async move {
        while let Some(message) = inbox.next().await {
            arrivals.arrived();
            if let Some(reply) = message.reply {
                let _ = nats.publish(reply, echo::ANSWER.into()).await;
            }
        }
    });
    Ok(())
}

/// Counts what comes live, and answers what is a question. Ends with the connection.
pub(super) async fn inbox(client: &AgentClient, arrivals: Arc<Arrivals>) -> anyhow::Result<()> {
    // Not `AgentClient::inbox`: the echo's deliveries have no header of the bus.
    let mut inbox = client.nats().subscribe(format!("agent.{}.inbox", client.id())).await?;
    client.nats().flush().await?;
    let client = client.clone();
    tokio::spawn(async move {
        while let Some(message) = inbox.next().await {
            if is_hint(&message) {
                continue;
            }
            arrivals.arrived();
            if let Some(answer) = answer(&message, client.id()) {
                let _ = client.answer(&message, answer.encode(Encoding::MessagePack)).await;
            }
        }
    });
    Ok(())
}

/// To a question, if it is one.
fn answer(message: &Message, agent: &AgentId) -> Option<Draft> {
    let headers = message.headers.as_ref().filter(|_| is_question(message, agent))?;
    let (id, sender) = (header(headers, "Agentbus-Message-Id")?, header(headers, "Agentbus-Sender")?);
    Some(Draft {
        message_type: MessageType::Response,
        in_reply_to: Some(id.to_owned()),
        ..Draft::to_agent(sender, "done")
    })
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).map(|value| value.as_str())
}

/// Acknowledges what was kept. Who waits for a message of theirs is told by `arrivals`.
pub(super) fn durable_inbox(
    client: &AgentClient,
    tenant: &TenantId,
    arrivals: Option<Arc<Arrivals>>,
) -> JoinHandle<()> {
    let (client, tenant) = (client.clone(), tenant.to_string());
    tokio::spawn(async move {
        let id = client.id().clone();
        let told = |id: &str| {
            if let Some(arrivals) = &arrivals {
                arrivals.arrived_id(id);
            }
        };
        if let Err(error) = inbox::read(client, tenant, PULL_EXPIRES, told).await {
            eprintln!("loadtest: the durable inbox of {id}: {error:#}");
        }
    })
}

/// Looks at what waits, again and again, and approves all of it. Ends with the connection.
pub(super) fn judge(client: AgentClient) {
    tokio::spawn(async move {
        loop {
            if let Ok(list) = client.json(Verb::Deliberations, "{}".to_owned()).await {
                let open = list.get("deliberations").and_then(Value::as_array).cloned().unwrap_or_default();
                let votes = open.iter().filter_map(vote);
                stream::iter(votes)
                    .for_each_concurrent(VOTING_MAX, async |vote| {
                        // One that was too late is decided without it.
                        let _ = client.json(Verb::Vote, vote).await;
                    })
                    .await;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    });
}

fn vote(open: &Value) -> Option<String> {
    let may = open.get("may_vote").and_then(Value::as_bool).unwrap_or_default();
    let voted = open.get("voted").is_some_and(|voted| !voted.is_null());
    let (id, digest) = (open.get("id")?, open.get("digest")?);
    (may && !voted).then(|| json!({ "id": id, "choice": "approve", "digest": digest }).to_string())
}
