//! The labels of conversations in this process.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{AgentId, ConversationLabel, MessageId, TenantId},
    state::{
        StoreError,
        clock::millis,
        labels::{CONVERSATIONS_MAX, LABELS_LIFE, LABELS_MAX, Labelled},
    },
};

/// Of all tenants. More are refused: to forget one would wash it clean.
const ALL_MAX: usize = 100_000;

#[derive(Debug, Default)]
pub(super) struct AllLabels {
    known: BTreeMap<(TenantId, MessageId), OneConversation>,
}

#[derive(Debug, Default)]
struct OneConversation {
    labels: BTreeSet<ConversationLabel>,
    /// Whose messages have labelled it, each until when that counts, in ms.
    by: BTreeMap<AgentId, u64>,
    until: u64,
}

impl AllLabels {
    pub(super) fn labels(
        &mut self,
        tenant: &TenantId,
        conversation: &MessageId,
        now: u64,
    ) -> BTreeSet<ConversationLabel> {
        let known = self.known.get_mut(&(tenant.clone(), conversation.clone()));
        let Some(known) = known.filter(|known| known.until > now) else { return BTreeSet::new() };
        known.until = now.saturating_add(millis(LABELS_LIFE));
        known.labels.clone()
    }

    pub(super) fn label(
        &mut self,
        (tenant, sender): (&TenantId, &AgentId),
        conversation: &MessageId,
        labels: &BTreeSet<ConversationLabel>,
        now: u64,
    ) -> Result<Labelled, StoreError> {
        let key = (tenant.clone(), conversation.clone());
        let until = now.saturating_add(millis(LABELS_LIFE));
        let known = self.known.get(&key).filter(|known| known.until > now);
        let has = known.map(|known| &known.labels);
        let new = labels.iter().filter(|label| has.is_none_or(|has| !has.contains(*label))).count();
        if new > 0 {
            if has.map_or(0, BTreeSet::len) + new > LABELS_MAX {
                return Ok(Labelled::TooMany { most: LABELS_MAX });
            }
            let counts = |of: &OneConversation| of.by.get(sender).is_some_and(|until| *until > now);
            let by_sender =
                self.known.iter().filter(|((of, _), known)| of == tenant && counts(known)).count();
            if !known.is_some_and(counts) && by_sender >= CONVERSATIONS_MAX {
                return Ok(Labelled::TooManyConversations { most: CONVERSATIONS_MAX });
            }
            self.known.retain(|_, known| known.until > now);
            if self.known.len() >= ALL_MAX && !self.known.contains_key(&key) {
                return Err(StoreError::Full);
            }
        }
        let known = self.known.entry(key).or_default();
        known.until = until;
        if new > 0 {
            known.labels.extend(labels.iter().cloned());
            known.by.insert(sender.clone(), until);
        }
        Ok(Labelled::Done)
    }
}
