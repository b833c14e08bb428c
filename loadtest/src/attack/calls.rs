//! How is a verb called by a client that keeps the rules? With patience, so that a slow machine is only slow.

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Status, Verb, Verdict},
    wire,
};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

/// Attempts are far apart: a second one is told what came of the first.
pub(super) const PATIENCE: Patience =
    Patience { attempt: Duration::from_secs(30), deadline: Duration::from_secs(90) };

/// The answer to a verb that speaks JSON.
pub(super) async fn answer(client: &AgentClient, verb: Verb, body: String) -> anyhow::Result<Value> {
    let answer = client.call(verb, body.into(), PATIENCE).await?;
    Ok(serde_json::from_slice(&answer.payload)?)
}

/// What comes of a message in the end: what is stored is told of by an outcome. `None`: not within that time.
pub(super) async fn end(
    client: &AgentClient,
    verb: Verb,
    body: Bytes,
    within: Duration,
) -> anyhow::Result<Option<Verdict>> {
    let mut outcomes = Box::pin(client.outcomes().await?);
    let answer = client.call(verb, body, PATIENCE).await?;
    let verdict = wire::decode_verdict(&answer.payload)?;
    if verdict.status != Status::Stored {
        return Ok(Some(verdict));
    }
    let own = async {
        while let Some(message) = outcomes.next().await {
            if let Some(outcome) = agentbus::client::outcome(&message, client.id())
                && outcome.message_id == verdict.message_id
            {
                return Some(outcome);
            }
        }
        None
    };
    Ok(timeout(within, own).await.ok().flatten())
}

/// What becomes of a message.
pub(super) async fn status(
    client: &AgentClient,
    verb: Verb,
    draft: &Draft,
    encoding: Encoding,
) -> anyhow::Result<Status> {
    let answer = client.call(verb, draft.encode(encoding), PATIENCE).await?;
    Ok(wire::decode_verdict(&answer.payload)?.status)
}

/// What a message is told, and why.
pub(super) async fn send(sender: &AgentClient, draft: &Draft) -> anyhow::Result<(Status, String)> {
    let answer = sender.call(Verb::Send, draft.encode(Encoding::Json), PATIENCE).await?;
    let verdict = wire::decode_verdict(&answer.payload)?;
    Ok((verdict.status, verdict.reason.as_str().to_owned()))
}
