//! How is a verb called by a client that keeps the rules? With patience, so that a slow machine is only slow.

use std::time::Duration;

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, Status, Verb},
    wire,
};
use serde_json::Value;

/// Attempts are far apart: a second one is told what came of the first.
pub(super) const PATIENCE: Patience =
    Patience { attempt: Duration::from_secs(30), deadline: Duration::from_secs(90) };

/// The answer to a verb that speaks JSON.
pub(super) async fn answer(client: &AgentClient, verb: Verb, body: String) -> anyhow::Result<Value> {
    let answer = client.call(verb, body.into(), PATIENCE).await?;
    Ok(serde_json::from_slice(&answer.payload)?)
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
