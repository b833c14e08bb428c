//! What the policy demands beside the way of a message: senders are stopped, rates counted, conversations labelled, and
//! labels looked up for it.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::attempt::Attempt;
use crate::{
    domain::{AgentId, ConversationLabel, Freeze, FrozenBy, Reason, TenantId},
    governance::{Decoded, Duties},
    rejection::Rejection,
    state::{Labelled, StoreError},
};

const AGAIN_AFTER: Duration = Duration::from_millis(500);

impl Attempt<'_> {
    /// Of the message's conversation, if the policy reads them. Unknown is not none.
    pub(super) async fn labels(
        &self,
        decoded: &Decoded,
    ) -> Result<Option<BTreeSet<ConversationLabel>>, Rejection> {
        if !self.policy.reads_labels() {
            return Ok(None);
        }
        let (tenant, conversation) = (&decoded.key().tenant, &decoded.message().conversation_id);
        let Some(conversation) = conversation else { return Ok(Some(BTreeSet::new())) };
        let labels = Box::pin(self.lanes.labels.labels(tenant, conversation)).await;
        labels.map(Some).map_err(|error| unavailable(&error))
    }

    /// Does it, once the message is this attempt's. What is refused here has had no effect.
    pub(super) async fn oblige(&self, decoded: &Decoded, duties: &Duties) -> Result<(), Rejection> {
        let (key, Duties { rates, labels, freeze }) = (decoded.key(), duties);
        if let Some((module, why)) = freeze {
            return Err(self.stop_sender((&key.tenant, &key.sender), module, why));
        }
        self.lanes.rates.count((&key.tenant, &key.sender), rates, Instant::now())?;
        let Some(conversation) = decoded.message().conversation_id.as_ref().filter(|_| !labels.is_empty())
        else {
            return Ok(());
        };
        let by = (&key.tenant, &key.sender);
        match Box::pin(self.lanes.labels.label(by, conversation, labels)).await {
            Ok(Labelled::Done) => Ok(()),
            Ok(Labelled::TooMany { most }) => Err(Rejection::new(
                Reason::PolicyDenied,
                format!(
                    "the policy labels the conversation of this message, which has {most} labels, the most"
                ),
            )),
            Ok(Labelled::TooManyConversations { most }) => Err(Rejection::new(
                Reason::RateLimited,
                format!("messages of this sender have labelled {most} conversations within a day, the most"),
            )
            .after(Duration::from_secs(60))),
            Err(error) => Err(unavailable(&error)),
        }
    }

    /// On all nodes, until an operator lets it go on. Where there is no place for it, the message is denied all the same.
    fn stop_sender(&self, sender: (&TenantId, &AgentId), module: &str, why: &str) -> Rejection {
        let by = FrozenBy::Policy { module: module.to_owned() };
        let wanted = self.lanes.freezes.want(Freeze::automatic(sender, by, why, (self.lanes.clock)()));
        if let Err(no_place) = &wanted {
            let (tenant, agent) = sender;
            tracing::warn!(%tenant, %agent, module, %no_place, "the policy would stop an agent");
        }
        let then =
            if wanted.is_ok() { "; its sender is stopped until an operator lets it go on" } else { "" };
        Rejection::new(Reason::PolicyDenied, format!("{module}: {why}{then}"))
    }
}

fn unavailable(error: &StoreError) -> Rejection {
    tracing::warn!(%error, "the labels of a conversation are not known");
    if let StoreError::BreakerOpen { retry_after } = error {
        return Rejection::breaker_open("the store of the labels that the policy goes by", *retry_after);
    }
    let detail = "the policy goes by the labels of the conversation, which cannot be had at the moment";
    Rejection::new(Reason::PolicyUnavailable, detail).after(AGAIN_AFTER)
}
