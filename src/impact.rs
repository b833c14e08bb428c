//! How much harm a message could do if it is wrong: seven parts, weighed into one score.
//!
//! Six parts are read off the message, its sender's recent past and the clock ([`signals`]); the
//! seventh, what its words mean, comes from a [`SemanticScorer`]. Decides nothing: what a score
//! leads to is the pipeline's business. The formula with its source is `docs/impact.md`.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use moka::{policy::EvictionPolicy, sync::Cache};
use parking_lot::Mutex;

use crate::domain::{AgentId, Impact, Level, Message, Parts, TenantId, Timestamp};

mod history;
mod keywords;
pub mod signals;
mod text;
mod weights;

use history::History;
pub use keywords::Keywords;
pub use text::for_each_text;
pub use weights::{Weights, WeightsError};

/// How harmful the words of a message sound, from 0 to 1.
#[async_trait]
pub trait SemanticScorer: Send + Sync {
    /// Answers or gives up within a time of its own.
    async fn score(&self, message: &Message) -> Result<f64, Unscored>;

    /// Stands in verdicts as `impact.model`.
    fn name(&self) -> &str;
}

/// Why there is no score. Not a low score: an unscored message may be severe.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Unscored {
    #[error("no score within {limit:?}")]
    TimedOut { limit: Duration },
    #[error("{waiting} messages wait for a score already")]
    Busy { waiting: usize },
    #[error("the scorer answered {found}, expected 0 to 1")]
    OutOfRange { found: f64 },
}

/// How the assessor weighs, and how many senders it remembers.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    pub weights: Weights,
    /// Senders whose past is kept, the least recently heard are forgotten first. About 600 bytes each.
    pub senders_max: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { weights: Weights::default(), senders_max: 65_536 }
    }
}

/// Scores messages. One for a node; what it remembers of senders is this node's own view.
pub struct Assessor {
    scorer: Arc<dyn SemanticScorer>,
    weights: Weights,
    // A lock for each sender: messages of different senders never wait for each other, and none is
    // held for longer than a few additions.
    senders: Cache<(TenantId, AgentId), Arc<Mutex<History>>>,
}

impl Assessor {
    pub fn new(scorer: Arc<dyn SemanticScorer>, settings: Settings) -> Result<Self, WeightsError> {
        settings.weights.check()?;
        let senders = Cache::builder()
            .max_capacity(settings.senders_max)
            // Not the default policy, which may refuse to remember a new sender at all.
            .eviction_policy(EvictionPolicy::lru())
            .build();
        Ok(Self { scorer, weights: settings.weights, senders })
    }

    /// Scores one message and remembers it as part of its sender's past. A message without a score
    /// still counts for the sender's volume.
    pub async fn assess(&self, message: &Message, now: Timestamp) -> Result<Impact, Unscored> {
        let key = (message.tenant.clone(), message.sender.clone());
        let history = self.senders.get_with(key, Arc::default);
        let messages = history.lock().record_message(now);
        let semantic = match self.scorer.score(message).await? {
            score if (0.0..=1.0).contains(&score) => score,
            found => return Err(Unscored::OutOfRange { found }),
        };
        let mean = history.lock().record_semantic(semantic);
        let parts = Parts {
            semantic,
            permission: signals::permission(&message.tools),
            volume: signals::volume(messages),
            context: signals::context(signals::unusual_hour(now), signals::large_amount(&message.content)),
            drift: signals::drift(semantic, mean),
            priority: signals::priority(message.priority),
            message_type: signals::message_type(message.message_type),
        };
        let score = self.weights.score(&parts, message.priority);
        Ok(Impact { score, level: Level::of(score), parts, model: self.scorer.name().to_owned() })
    }
}

#[cfg(test)]
mod tests;
