//! What is a conversation labelled with, as Redis has it?
//!
//! Labels bear no seal: whoever can write there could take them away as well, which no seal can tell.

use std::collections::BTreeSet;

use async_trait::async_trait;
use fred::{prelude::Value, types::Key};

use super::{RedisStore, unexpected};
use crate::{
    domain::{AgentId, ConversationLabel, MessageId, TenantId},
    state::{
        ConversationLabels, StoreError,
        clock::millis,
        labels::{CONVERSATIONS_MAX, LABELS_LIFE, LABELS_MAX, Labelled},
    },
};

fn labels_key(tenant: &TenantId, conversation: &MessageId) -> Key {
    format!("agentbus:{{{tenant}}}:labels:{conversation}").into()
}

fn labelled_key(tenant: &TenantId, sender: &AgentId) -> Key {
    format!("agentbus:{{{tenant}}}:labelled:{sender}").into()
}

fn number(n: impl TryInto<i64>) -> Value {
    n.try_into().unwrap_or(i64::MAX).into()
}

#[async_trait]
impl ConversationLabels for RedisStore {
    async fn labels(
        &self,
        tenant: &TenantId,
        conversation: &MessageId,
    ) -> Result<BTreeSet<ConversationLabel>, StoreError> {
        // One more than there can be: what has more, no node wrote.
        let args = vec![number(millis(LABELS_LIFE)), number(LABELS_MAX + 1)];
        let key = labels_key(tenant, conversation);
        let answer = self.run_for_message(&self.scripts.labels, key, args).await?;
        let unreadable = || unexpected("labels that no node wrote");
        let Value::Array(labels) = answer else { return Err(unreadable()) };
        if labels.len() > LABELS_MAX {
            return Err(unreadable());
        }
        let label = |value: Value| value.as_str()?.parse().ok();
        labels.into_iter().map(label).collect::<Option<_>>().ok_or_else(unreadable)
    }

    async fn label(
        &self,
        (tenant, sender): (&TenantId, &AgentId),
        conversation: &MessageId,
        labels: &BTreeSet<ConversationLabel>,
    ) -> Result<Labelled, StoreError> {
        let keys = vec![labels_key(tenant, conversation), labelled_key(tenant, sender)];
        let mut args = vec![number(millis(LABELS_LIFE)), number(LABELS_MAX), number(CONVERSATIONS_MAX)];
        args.push(conversation.as_str().into());
        args.extend(labels.iter().map(|label| Value::from(label.as_str())));
        match self.run(&self.scripts.label, keys, args).await?.as_u64() {
            Some(0) => Ok(Labelled::Done),
            Some(1) => Ok(Labelled::TooMany { most: LABELS_MAX }),
            Some(2) => Ok(Labelled::TooManyConversations { most: CONVERSATIONS_MAX }),
            _ => Err(unexpected("no word of what became of labels")),
        }
    }
}
