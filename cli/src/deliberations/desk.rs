//! A reviewer's way to the bus.

use agentbus::{client::AgentClient, domain::Verb};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::{
    ID_DIGITS, meant, refusal,
    reply::{Details, Listing, Shown},
    shown,
    wanted::Wanted,
};
use crate::context::{Identity, Paint, Who, safe};

pub(crate) struct Desk {
    pub(super) client: AgentClient,
    pub(super) who: Who,
}

impl Desk {
    pub(crate) fn new(client: AgentClient, who: Who) -> Self {
        Self { client, who }
    }

    pub(super) async fn connect(identity: &Identity) -> anyhow::Result<Self> {
        Ok(Self::new(identity.connect().await?, identity.who.clone()))
    }

    /// What waits, as the bus answers.
    pub(super) async fn listing(&self, wanted: &Wanted) -> anyhow::Result<Result<Listing, Value>> {
        answered(self.client.json(Verb::Deliberations, wanted.body()).await?)
    }

    pub(super) async fn details(&self, id: &str) -> anyhow::Result<Result<(Details, Value), Value>> {
        let answer = self.client.json(Verb::Deliberations, json!({ "id": id }).to_string()).await?;
        let shown: Result<Shown, Value> = answered(answer.clone())?;
        if let Ok(shown) = &shown
            && shown.deliberation.entry.id != id
        {
            bail!(
                "the bus shows deliberation {}, and {id} was asked for",
                safe(&shown.deliberation.entry.id, ID_DIGITS)
            );
        }
        Ok(shown.map(|shown| (shown.deliberation, answer)))
    }

    /// The id that these first digits stand for among all that wait for this reviewer. Nothing else that
    /// waits may begin so, listed or not.
    pub(super) async fn resolve(&self, prefix: &str) -> anyhow::Result<Result<String, Value>> {
        if prefix.len() == ID_DIGITS {
            return Ok(Ok(prefix.to_owned()));
        }
        Ok(match self.listing(&Wanted::default()).await? {
            Ok(listing) => Ok(meant(&listing, prefix, &self.who)?),
            Err(refused) => Err(refused),
        })
    }

    /// The list as `agentbus deliberations list` prints it.
    pub(crate) async fn told(&self, paint: Paint) -> anyhow::Result<String> {
        match self.listing(&Wanted::default()).await? {
            Ok(listing) => Ok(shown::listing(&listing, &self.who, paint)),
            Err(refused) => bail!("{}", refusal(&refused)),
        }
    }

    /// One deliberation as `agentbus deliberations show` prints it, and its digest.
    pub(crate) async fn told_of(&self, id: &str, paint: Paint) -> anyhow::Result<(String, String)> {
        match self.details(id).await? {
            Ok((details, _)) => {
                Ok((shown::details(&details, &self.who, paint), details.entry.digest.clone()))
            }
            Err(refused) => bail!("{}", refusal(&refused)),
        }
    }

    /// The bus's answer to a vote as `agentbus deliberations vote` prints it.
    pub(crate) fn told_vote(choice: &str, answer: Value, paint: Paint) -> anyhow::Result<String> {
        Ok(answered(answer)?.map_or_else(
            |refused| format!("{}\n", refusal(&refused)),
            |counted| shown::counted(choice, &counted, paint),
        ))
    }

    /// Who may vote on one from the beginning.
    pub(crate) async fn voters(&self, id: &str) -> anyhow::Result<Vec<String>> {
        let details = self.details(id).await?;
        Ok(details.map_or_else(
            |_| Vec::new(),
            |(details, _)| details.voters.iter().map(|voter| safe(&voter.id, 64)).collect(),
        ))
    }

    /// The bus's answer to a vote.
    pub(crate) async fn vote(
        &self,
        id: &str,
        choice: &str,
        digest: &str,
        comment: Option<&str>,
    ) -> anyhow::Result<Value> {
        let mut body = json!({ "id": id, "choice": choice, "digest": digest });
        if let (Some(comment), Some(fields)) = (comment, body.as_object_mut()) {
            fields.insert("comment".to_owned(), json!(comment));
        }
        Ok(self.client.json(Verb::Vote, body.to_string()).await?)
    }
}

/// The answer as what was asked for, or the refusal as it came.
pub(super) fn answered<T: serde::de::DeserializeOwned>(answer: Value) -> anyhow::Result<Result<T, Value>> {
    if answer.get("status").and_then(Value::as_str) != Some("ok") {
        return Ok(Err(answer));
    }
    let read =
        serde_json::from_value(answer).context("the bus answered in a way this version cannot read")?;
    Ok(Ok(read))
}
