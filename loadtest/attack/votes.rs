//! Can a judgement be had for what was not shown, twice, or by who may not judge?

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, MessageType, Verb},
};
use anyhow::Context as _;
use serde_json::{Value, json};

use super::field::Field;

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let mallory = field.client("globex", "mallory").await?;
    let judge = field.client("globex", "judge-1").await?;
    let second = field.client("globex", "judge-2").await?;
    let neighbour = field.client("acme", "judge").await?;
    let id = park(&mallory, "assemble the first").await?;
    let other = park(&mallory, "assemble the second").await?;
    let digest = digest(&judge, &id).await?;
    let others = self::digest(&judge, &other).await?;
    let vote = |id: &str, digest: &str| json!({ "id": id, "choice": "approve", "digest": digest });

    let mut tries: Vec<(String, &AgentClient, Value)> = Vec::new();
    for length in [0, 1, 8, 12, 16, 32, 63] {
        let short = digest.get(..length).unwrap_or_default();
        tries.push((format!("{length} digits of the digest"), &judge, vote(&id, short)));
    }
    for length in [0, 4, 8, 23] {
        let short = id.get(..length).unwrap_or_default();
        tries.push((format!("{length} digits of the id"), &judge, vote(short, &digest)));
    }
    tries.push(("a digit more".to_owned(), &judge, vote(&id, &format!("{digest}0"))));
    tries.push(("capitals".to_owned(), &judge, vote(&id, &digest.to_uppercase())));
    tries.push(("another's digest".to_owned(), &judge, vote(&id, &others)));
    tries.push(("another's id".to_owned(), &judge, vote(&other, &digest)));
    tries.push(("no digest".to_owned(), &judge, json!({ "id": id, "choice": "approve" })));
    tries.push(("its sender".to_owned(), &mallory, vote(&id, &digest)));
    tries.push(("a judge of another tenant".to_owned(), &neighbour, vote(&id, &digest)));
    for (what, voter, body) in tries {
        let gained = counted(voter, &body).await;
        field.judge(format!("a vote: {what}"), gained).await?;
    }
    // One that counts, and then what must not.
    let first = counted(&judge, &json!({ "id": id, "choice": "reject", "digest": digest })).await?;
    field.judge("an honest vote counts", Ok(first.is_none().then(|| "it was refused".to_owned()))).await?;
    let again = counted(&judge, &vote(&id, &digest)).await;
    field.judge("a vote: a second one", again).await?;
    let late = counted(&second, &vote(&id, &digest)).await;
    field.judge("a vote: after the decision", late).await
}

async fn park(sender: &AgentClient, text: &str) -> anyhow::Result<String> {
    let draft = Draft { message_type: MessageType::TaskRequest, ..Draft::to_agent("sink", text) };
    let verdict = sender.send(draft.encode(Encoding::Json), Patience::default()).await?;
    let id = verdict.deliberation_id.as_ref().with_context(|| format!("not parked: {}", verdict.detail))?;
    Ok(id.to_string())
}

async fn digest(judge: &AgentClient, id: &str) -> anyhow::Result<String> {
    let answer = judge.json(Verb::Deliberations, json!({ "id": id }).to_string()).await?;
    let digest = answer.pointer("/deliberation/digest").and_then(Value::as_str);
    Ok(digest.with_context(|| format!("no digest in {answer}"))?.to_owned())
}

/// What the bus says if it has counted the vote.
async fn counted(voter: &AgentClient, body: &Value) -> anyhow::Result<Option<String>> {
    let answer = voter.json(Verb::Vote, body.to_string()).await?;
    let refused = answer.get("status").is_some_and(|status| status == "rejected");
    Ok((!refused).then(|| answer.to_string()))
}
