//! What has the policy said of a conversation? Labels that only grow, for as long as the conversation goes on.

use std::{collections::BTreeSet, time::Duration};

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{AgentId, ConversationLabel, MessageId, TenantId};

/// A conversation that nobody looks at for so long has no labels any more.
pub const LABELS_LIFE: Duration = Duration::from_secs(24 * 3_600);
/// Of one conversation.
pub const LABELS_MAX: usize = 32;
/// Conversations that one sender's messages have labelled within [`LABELS_LIFE`]: what a sender can make the store keep.
pub const CONVERSATIONS_MAX: usize = 4_096;

/// The labels of conversations, over all nodes. No call takes one away, so that no message washes off what another left.
#[async_trait]
pub trait ConversationLabels: Send + Sync {
    /// All that it has; to look renews their life.
    async fn labels(
        &self,
        tenant: &TenantId,
        conversation: &MessageId,
    ) -> Result<BTreeSet<ConversationLabel>, StoreError>;

    /// Adds labels on behalf of a sender: all of them, or none.
    async fn label(
        &self,
        by: (&TenantId, &AgentId),
        conversation: &MessageId,
        labels: &BTreeSet<ConversationLabel>,
    ) -> Result<Labelled, StoreError>;
}

/// What became of labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labelled {
    Done,
    /// The conversation would have more than it may.
    TooMany {
        most: usize,
    },
    /// The sender's messages have labelled as many conversations as they may.
    TooManyConversations {
        most: usize,
    },
}
