//! What led to the messages that agents got, in this process?

use std::time::Duration;

use moka::sync::Cache;

use crate::{
    domain::{AgentId, Cause, Conversation, MessageId, TenantId},
    recent::recent,
    state::{Counted, Followed, HandedBack, Known, Name, causes::CONVERSATION_LIFE},
};

/// Of each kind; the one that nobody asked for longest is forgotten first.
const ENTRIES_MAX: u64 = 100_000;

type Delivered = (TenantId, AgentId, Name);

#[derive(Debug)]
pub(super) struct AllCauses {
    causes: Cache<Delivered, Cause>,
    followers: Cache<(TenantId, AgentId, MessageId), u32>,
    conversations: Cache<(TenantId, Conversation), u32>,
}

impl AllCauses {
    /// `life`: of a cause.
    pub(super) fn new(life: Duration) -> Self {
        fn kept<K: std::hash::Hash + Eq + Send + Sync + 'static, V: Clone + Send + Sync + 'static>(
            life: Duration,
        ) -> Cache<K, V> {
            recent(ENTRIES_MAX).time_to_live(life).build()
        }
        Self { causes: kept(life), followers: kept(life), conversations: kept(CONVERSATION_LIFE) }
    }

    /// `has_sent`: whether an agent has sent a message of this name.
    pub(super) fn cause(
        &self,
        tenant: &TenantId,
        handed: &HandedBack,
        has_sent: impl Fn(&AgentId, &MessageId) -> bool,
    ) -> Known {
        let HandedBack { by, answered, span, to, conversation } = handed;
        let known = |name: Name| self.causes.get(&(tenant.clone(), by.clone(), name));
        let is_anothers = |cause: &Cause, message: &MessageId| {
            let sender = cause.chain.last().map(|link| &link.sender);
            to.as_ref().is_some_and(|to| sender != Some(to) && has_sent(to, message))
        };
        let by_answer = answered.as_ref().and_then(|answered| {
            let by_message =
                || known(Name::Message(answered.clone())).filter(|it| !is_anothers(it, answered));
            known(Name::Decision(answered.clone())).or_else(by_message)
        });
        let cause = by_answer.or_else(|| known(Name::Span(span.clone()?)));
        let conversation = cause.as_ref().map_or(conversation, |cause| &cause.conversation).clone();
        Known {
            followers: answered
                .as_ref()
                .and_then(|answered| self.followers.get(&(tenant.clone(), by.clone(), answered.clone())))
                .unwrap_or(0),
            messages: self.conversations.get(&(tenant.clone(), conversation)).unwrap_or(0),
            cause,
        }
    }

    pub(super) fn follow(&self, tenant: &TenantId, followed: &Followed) {
        let Followed { recipients, names, cause } = followed;
        for (agent, name) in recipients.iter().flat_map(|agent| names.iter().map(move |name| (agent, name))) {
            let key = (tenant.clone(), agent.clone(), name.clone());
            // A repeat comes under the same message id: what led to the first one stands.
            if matches!(name, Name::Message(_)) {
                self.causes.entry(key).or_insert_with(|| cause.clone());
            } else {
                self.causes.insert(key, cause.clone());
            }
        }
    }

    pub(super) fn count(&self, tenant: &TenantId, counted: &Counted) {
        let Counted { conversation, answered } = counted;
        add(&self.conversations, (tenant.clone(), conversation.clone()));
        if let Some((by, answered)) = answered {
            add(&self.followers, (tenant.clone(), by.clone(), answered.clone()));
        }
    }

    pub(super) fn renew(&self, tenant: &TenantId, conversation: &Conversation) {
        self.conversations.invalidate(&(tenant.clone(), conversation.clone()));
    }
}

fn add<K: std::hash::Hash + Eq + Send + Sync + 'static>(counts: &Cache<K, u32>, key: K) {
    counts.entry(key).and_upsert_with(|count| count.map_or(1, |count| count.into_value().saturating_add(1)));
}
