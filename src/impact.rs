//! How much harm a message could do if it is wrong: seven parts, weighed into one score.
//!
//! Five parts are read off the message, its sender's recent past and the clock ([`signals`]); what
//! its words mean comes from a [`SemanticScorer`], and how unlike the sender's past that is follows
//! from it. Where no words could change the verdict the scorer is not asked. Decides nothing: what a
//! score leads to is the pipeline's business. The formula with its source is `docs/impact.md`.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use async_trait::async_trait;

use crate::domain::{
    Impact, Level, Message, Parts, Tenant, Timestamp, Weights, WeightsError, impact::NOT_NEEDED,
};

mod alone;
#[cfg(feature = "model")]
pub mod distilbert;
pub mod evaluate;
mod history;
mod keywords;
#[cfg(feature = "model")]
pub mod model;
pub mod pool;
pub mod semantic;
mod senders;
mod settings;
pub mod signals;
pub mod text;
pub mod train;
mod unscored;
mod weights;

pub use alone::alone;
pub use keywords::Keywords;
pub use senders::{Past, Senders};
pub use settings::{Precision, ScorerKind, Settings};
pub use text::for_each_text;
pub use unscored::{Event, Meter, Unmetered, Unscored, highest};
use weights::{Bounds, Others, Sum};

/// How harmful the words of a message sound, from 0 to 1.
#[async_trait]
pub trait SemanticScorer: Send + Sync {
    /// Answers or gives up within a time of its own.
    async fn score(&self, message: &Message) -> Result<f64, Unscored>;

    /// Scores without anybody waiting, if there is nothing better to do, and hands the score over.
    /// Only asked where [`SemanticScorer::cost`] is high.
    fn glance(&self, message: &Message, then: Box<dyn FnOnce(f64) + Send>);

    fn cost(&self) -> Cost;

    /// Stands in verdicts as `impact.model`.
    fn name(&self) -> &str;
}

/// What asking a scorer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// So little that it is always asked.
    Low,
    /// Asked only where the answer can change a verdict, or is demanded.
    High,
}

/// Who wants the semantic part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nobody but the verdict.
    IfItMatters,
    /// The policy, whatever the verdict.
    Demanded,
}

/// A message that should have been scored and was not, with what is known of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{why}")]
pub struct Unassessed {
    pub why: Unscored,
    pub impact: Box<Impact>,
}

/// Scores messages. One for a node.
pub struct Assessor {
    scorer: Arc<dyn SemanticScorer>,
    weights: Weights,
    senders: Arc<Senders>,
    meter: Arc<dyn Meter>,
    audit_every: u64,
    /// Messages that needed no scorer so far.
    spared: AtomicU64,
}

impl Assessor {
    /// Weighs as `settings` say where a tenant has no weights of its own.
    pub fn new(
        scorer: Arc<dyn SemanticScorer>,
        settings: Settings,
        senders: Arc<Senders>,
    ) -> Result<Self, WeightsError> {
        settings.weights.check()?;
        Ok(Self {
            scorer,
            weights: settings.weights,
            senders,
            meter: Arc::new(Unmetered),
            audit_every: settings.audit_every,
            spared: AtomicU64::new(0),
        })
    }

    /// Tells `meter` what it sees.
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Scores one message by its tenant's weights and remembers it as part of its sender's past. A
    /// message without a score still counts for the sender's volume.
    pub async fn assess(
        &self,
        message: &Message,
        tenant: &Tenant,
        need: Need,
        now: Timestamp,
    ) -> Result<Impact, Unassessed> {
        let weights = tenant.limits.weights.as_ref().unwrap_or(&self.weights);
        let threshold = tenant.limits.deliberation_threshold;
        let Past { messages, mean } = self.senders.record_message(message, now).await;
        let others = Others::of(message, messages, now);
        let sum = Sum::new(weights, &others, message.priority, mean);
        let bounds = sum.bounds();
        if need == Need::IfItMatters && self.scorer.cost() == Cost::High && bounds.decide(threshold) {
            self.spare(message, sum, bounds, threshold);
            return Ok(unread(bounds, &others, NOT_NEEDED.to_owned(), None));
        }
        let scored = self.scorer.score(message).await.and_then(|found| highest([found]));
        let semantic = scored.map_err(|why| {
            self.meter.see(Event::Unscored { why: why.word() });
            let impact = unread(bounds, &others, self.scorer.name().to_owned(), Some(&why));
            Unassessed { why, impact: Box::new(impact) }
        })?;
        self.senders.record_semantic(message, semantic);
        let score = sum.score(semantic);
        Ok(Impact {
            score,
            score_max: None,
            level: Level::of(score),
            parts: parts(&others, Some(semantic), Some(sum.drift(semantic))),
            model: self.scorer.name().to_owned(),
            unscored: None,
        })
    }

    /// Counts a message whose verdict no words could change, and has a few of them scored in the
    /// background to see that they did not.
    fn spare(&self, message: &Message, sum: Sum, bounds: Bounds, threshold: f64) {
        self.meter.see(Event::NotNeeded);
        let spared = self.spared.fetch_add(1, Ordering::Relaxed);
        if self.audit_every == 0 || !spared.is_multiple_of(self.audit_every) {
            return;
        }
        let meter = Arc::clone(&self.meter);
        self.scorer.glance(
            message,
            Box::new(move |semantic| {
                let differed = (sum.score(semantic) >= threshold) != (bounds.low >= threshold);
                if differed {
                    tracing::error!(semantic, ?bounds, threshold, "a spared score would have mattered");
                }
                meter.see(Event::Audited { differed });
            }),
        );
    }
}

/// What is known of a message whose words were not read.
fn unread(bounds: Bounds, others: &Others, model: String, why: Option<&Unscored>) -> Impact {
    Impact {
        score: bounds.low,
        score_max: Some(bounds.high),
        level: Level::of(bounds.high),
        parts: parts(others, None, None),
        model,
        unscored: why.map(|why| why.word().to_owned()),
    }
}

fn parts(others: &Others, semantic: Option<f64>, drift: Option<f64>) -> Parts {
    let Others { permission, volume, context, priority, message_type } = *others;
    Parts { semantic, permission, volume, context, drift, priority, message_type }
}

#[cfg(test)]
mod tests;
