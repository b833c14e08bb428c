//! How much harm a message could do if it is wrong: seven parts, weighed into one score.
//!
//! Five parts are read off the message, its sender's recent past and the clock ([`signals`]); what
//! its words mean comes from a [`SemanticScorer`], and how unlike the sender's past that is follows
//! from it. Where no words could change the verdict the scorer is not asked. Decides nothing: what a
//! score leads to is `governance`'s business. The formula with its source is `docs/impact.md`.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;

use crate::{
    breakers::{Breakers, Kind},
    domain::{
        Impact, Level, Message, Parts, Tenant, TenantId, Timestamp, Weights, WeightsError,
        impact::NOT_NEEDED, scale,
    },
    fair_queue::Owner,
    trouble::Trouble,
};

#[cfg(feature = "model")]
pub mod classifier;
#[cfg(feature = "model")]
pub mod distilbert;
#[cfg(feature = "model")]
pub mod guard;
mod history;
mod keywords;
#[cfg(feature = "model")]
pub mod model;
pub mod pool;
mod readers;
pub mod reference;
pub mod semantic;
mod senders;
mod settings;
pub mod signals;
mod standalone;
pub mod text;
mod unscored;
mod weights;

pub use keywords::Keywords;
pub use standalone::{needs_no_words, rescored, score_standalone, words_alone};

pub use history::Past;
use readers::Readers;
use semantic::{Heads, NoModel};
pub use senders::{Observation, Senders};
pub use settings::{
    GUARDS_MAX, HEADS_MAX, LIFT_ALL, LONG_DEADLINE_MAX, Patience, Precision, Room, ScorerKind, Settings,
};
pub use text::for_each_text;
use text::is_light;
pub use unscored::{Event, Meter, OfGuard, Semantic, Unmetered, Unscored, highest};
use weights::{Bounds, Others, Sum};

/// How harmful the words of a message sound, from 0 to 1.
#[async_trait]
pub trait SemanticScorer: Send + Sync {
    /// What it needs of a message. Milliseconds for a large one, which no thread of the runtime has.
    fn read(&self, message: &Message, patience: Patience) -> Result<Words, Unscored>;

    /// Answers or gives up within a time of its own.
    async fn score(&self, words: Words) -> Result<Semantic, Unscored>;

    /// As [`SemanticScorer::score`], and what stands in the verdict as `impact.model`: where several are
    /// asked, it says which of them gave the score.
    async fn score_and_name(&self, words: Words) -> Result<(Semantic, String), Unscored> {
        Ok((self.score(words).await?, self.name().to_owned()))
    }

    /// Scores without anybody waiting, if there is nothing better to do, and hands the score over.
    /// Only asked where [`SemanticScorer::cost`] is high.
    fn score_in_background(&self, words: Words, then: Box<dyn FnOnce(f64) + Send>);

    fn cost(&self) -> Cost;

    /// Forgets the scores that it has kept.
    fn forget(&self) {}

    /// Stands in verdicts as `impact.model` where there is no score.
    fn name(&self) -> &str;
}

/// What a scorer has read of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Words {
    /// They need no model.
    Scored(Semantic),
    /// For a model; the highest score of all counts.
    Texts(Vec<Texts>),
}

/// Texts that are scored and remembered together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    /// SHA-256 of them and of what scores them.
    key: [u8; 32],
    passages: Vec<String>,
    owner: Owner,
    patience: Patience,
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

/// What scores a tenant's words.
#[derive(Clone)]
struct Scorer {
    it: Arc<dyn SemanticScorer>,
    scale: Arc<str>,
}

impl Scorer {
    fn new(it: Arc<dyn SemanticScorer>) -> Self {
        Self { scale: scale(it.name()).into(), it }
    }
}

/// Scores messages. One for a node.
pub struct Assessor {
    scorer: Scorer,
    /// By the name that tenants have for them.
    heads: BTreeMap<String, Scorer>,
    weights: Weights,
    report_lift_max: f64,
    senders: Arc<Senders>,
    meter: Arc<dyn Meter>,
    readers: Readers,
    /// Of the durable lane, so that what is read for longer holds up nobody who waits.
    slow_readers: Readers,
    /// For reading, as for a score: where its sender waits, and where nobody does.
    deadlines: [Duration; 2],
    audit_every: u64,
    /// Messages that needed no scorer so far.
    spared: AtomicU64,
    trouble: Trouble,
    /// A tenant's head is missing.
    headless: Trouble,
    breakers: Option<Arc<Breakers>>,
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
            scorer: Scorer::new(scorer),
            heads: BTreeMap::new(),
            weights: settings.weights,
            report_lift_max: settings.report_lift_max,
            senders,
            meter: Arc::new(Unmetered),
            readers: Readers::new("reader", readers::THREADS, settings.nice),
            slow_readers: Readers::new("slow-reader", 1, settings.nice),
            deadlines: [Patience::RoundTrip, Patience::Lane].map(|it| settings.room(it).deadline),
            audit_every: settings.audit_every,
            spared: AtomicU64::new(0),
            trouble: Trouble::default(),
            headless: Trouble::default(),
            breakers: None,
        })
    }

    /// Asks a model behind the breakers of the tenants.
    pub fn guarded(self, breakers: &Arc<Breakers>) -> Self {
        Self { breakers: Some(Arc::clone(breakers)), ..self }
    }

    /// Tells `meter` what it sees.
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Scores the messages of tenants that name one of these by it.
    pub fn with_heads(self, heads: Heads) -> Self {
        Self { heads: heads.into_iter().map(|(name, head)| (name, Scorer::new(head))).collect(), ..self }
    }

    /// The tenant's own. One that this node does not have is never stood in for by another.
    fn scorer_of(&self, tenant: &Tenant) -> Scorer {
        let Some(name) = &tenant.limits.head else { return self.scorer.clone() };
        match self.heads.get(name) {
            Some(head) => head.clone(),
            None => {
                self.headless.begins(format!(
                    "tenant {} asks for the head {name}, which this node does not have; name its file in impact.heads",
                    tenant.id
                ));
                Scorer::new(Arc::new(NoModel))
            }
        }
    }

    /// Begins with a message: what it comes after in its sender's past, by the scale of what scores it.
    pub async fn observe(&self, message: &Message, tenant: &Tenant, now: Timestamp) -> Observation {
        self.senders.observe(message, &self.scorer_of(tenant).scale, now).await
    }

    /// Scores one message by its tenant's weights and its sender's past, and changes neither.
    pub async fn assess(
        &self,
        message: &Arc<Message>,
        tenant: &Tenant,
        past: Past,
        (need, patience): (Need, Patience),
        now: Timestamp,
    ) -> Result<Impact, Unassessed> {
        // In no hurry only if it must: most are read at once.
        let first = match patience {
            Patience::Within(_) => Patience::RoundTrip,
            patience => patience,
        };
        let mut assessed = self.try_to(message, tenant, past, (need, first), now).await;
        let longer = |it: &Result<_, Unassessed>| matches!(it, Err(it) if it.why.is_for_its_length());
        if first != patience && longer(&assessed) {
            assessed = self.try_to(message, tenant, past, (need, patience), now).await;
        }
        assessed.inspect_err(|unassessed| self.meter.see(Event::Unscored { why: unassessed.why.word() }))
    }

    async fn try_to(
        &self,
        message: &Arc<Message>,
        tenant: &Tenant,
        past: Past,
        (need, patience): (Need, Patience),
        now: Timestamp,
    ) -> Result<Impact, Unassessed> {
        let weights = tenant.limits.weights.unwrap_or(self.weights);
        let lift_max = tenant.limits.report_lift_max.unwrap_or(self.report_lift_max);
        let threshold = tenant.limits.deliberation_threshold;
        let Scorer { it: own, scale: _ } = self.scorer_of(tenant);
        let always = need == Need::Demanded || own.cost() == Cost::Low;
        let (scorer, read) = (Arc::clone(&own), Arc::clone(message));
        let look = move || {
            let others = Others::of(&read, past.messages, now);
            let sum = Sum::new(&weights, &others, read.priority, past.mean, lift_max);
            let needed = always || !sum.bounds().decide(threshold);
            (others, sum, needed.then(|| scorer.read(&read, patience)))
        };
        let [brief, long] = self.deadlines;
        let (readers, limit) = match patience {
            Patience::RoundTrip => (&self.readers, brief),
            Patience::Within(limit) => (&self.slow_readers, limit.min(long)),
            Patience::Lane => (&self.slow_readers, long),
        };
        let looked = if is_light(message) { Ok(look()) } else { readers.read(message, limit, look).await };
        let (others, sum, words) = looked.map_err(|why| {
            // What its numbers are is not known either, so the bounds are those of all of them.
            let [low, high] = Others::unread(message, past.messages, now);
            let bounds = |others| Sum::new(&weights, others, message.priority, past.mean, lift_max).bounds();
            let bounds = Bounds { low: bounds(&low).low, high: bounds(&high).high };
            unassessed(&*own, bounds, &high, why)
        })?;
        let bounds = sum.bounds();
        let Some(words) = words else {
            self.spare(own, message, sum, bounds, threshold);
            return Ok(unread(bounds, &others, NOT_NEEDED.to_owned(), None));
        };
        let scored = match words {
            Ok(words) => self.ask(&*own, &message.tenant, words).await,
            Err(why) => Err(why),
        };
        let scored = scored.and_then(|(found, model)| Ok((highest([found])?, model)));
        self.note(&scored);
        let (semantic, model) = scored.map_err(|why| unassessed(&*own, bounds, &others, why))?;
        Ok(assessed(&sum, &others, semantic, &model))
    }

    /// Forgets the scores that are kept: they are asked anew.
    pub fn forget_scores(&self) {
        let heads = self.heads.values();
        heads.chain([&self.scorer]).for_each(|scorer| scorer.it.forget());
    }

    /// What is wrong with the scorer, by the last that it was asked, for people.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.problem().or_else(|| self.headless.problem())
    }

    /// Behind the breaker of the tenant: what its messages do to the model is for no other tenant to bear.
    async fn ask(
        &self,
        scorer: &dyn SemanticScorer,
        tenant: &TenantId,
        words: Words,
    ) -> Result<(Semantic, String), Unscored> {
        let Some(breakers) = self.breakers.as_ref().filter(|_| scorer.cost() == Cost::High) else {
            return scorer.score_and_name(words).await;
        };
        let breaker = breakers.of_target(Kind::Model, tenant.as_str());
        let call = breaker.admit().map_err(|_| Unscored::BreakerOpen)?;
        let scored = scorer.score_and_name(words).await;
        match &scored {
            Ok(_) => call.good(),
            Err(fault @ (Unscored::Failed | Unscored::OutOfRange { .. })) => call.bad(fault),
            // It has too much to do, or not enough time.
            Err(
                Unscored::TimedOut { .. }
                | Unscored::Busy { .. }
                | Unscored::TooLong { .. }
                | Unscored::TooSlow { .. }
                | Unscored::NoModel
                | Unscored::Stopping
                | Unscored::BreakerOpen,
            ) => call.neither(),
        }
        scored
    }

    fn note<T>(&self, scored: &Result<T, Unscored>) {
        match scored {
            Ok(_) => self.trouble.is_over(),
            Err(
                why @ (Unscored::TimedOut { .. }
                | Unscored::Busy { .. }
                | Unscored::OutOfRange { .. }
                | Unscored::Failed
                | Unscored::BreakerOpen),
            ) => self.trouble.begins(why.to_string()),
            // The message's own, or known by other means.
            Err(
                Unscored::TooLong { .. } | Unscored::TooSlow { .. } | Unscored::NoModel | Unscored::Stopping,
            ) => {}
        }
    }

    /// Counts a message whose verdict no words could change, and has a few of them scored in the
    /// background to see that they did not.
    fn spare(
        &self,
        scorer: Arc<dyn SemanticScorer>,
        message: &Arc<Message>,
        sum: Sum,
        bounds: Bounds,
        threshold: f64,
    ) {
        self.meter.see(Event::NotNeeded);
        let spared = self.spared.fetch_add(1, Ordering::Relaxed);
        if self.audit_every == 0 || !spared.is_multiple_of(self.audit_every) {
            return;
        }
        let meter = Arc::clone(&self.meter);
        let read = Arc::clone(message);
        let audit = move || {
            let Ok(words) = scorer.read(&read, Patience::RoundTrip) else { return };
            let then = move |semantic| {
                let differed = (sum.score(semantic) >= threshold) != (bounds.low >= threshold);
                if differed {
                    tracing::error!(semantic, ?bounds, threshold, "a spared score would have mattered");
                }
                meter.see(Event::Audited { differed });
            };
            scorer.score_in_background(words, Box::new(then));
        };
        if is_light(message) {
            audit();
        } else {
            // Refused: there is something better to do.
            let _ = self.readers.start(message, audit);
        }
    }
}

/// What is known of a message whose words were read by `model`.
fn assessed(sum: &Sum, others: &Others, semantic: Semantic, model: &str) -> Impact {
    let score = sum.score(semantic.score);
    Impact {
        score,
        score_max: None,
        level: Level::of(score),
        parts: parts(others, Some(semantic.score), Some(sum.drift(semantic.score))),
        levels: semantic.levels_shown(),
        model: model.to_owned(),
        unscored: None,
        tokens: semantic.tokens,
    }
}

fn unassessed(scorer: &dyn SemanticScorer, bounds: Bounds, others: &Others, why: Unscored) -> Unassessed {
    let impact = unread(bounds, others, scorer.name().to_owned(), Some(&why));
    Unassessed { why, impact: Box::new(impact) }
}

/// What is known of a message whose words were not read.
fn unread(bounds: Bounds, others: &Others, model: String, why: Option<&Unscored>) -> Impact {
    Impact {
        score: bounds.low,
        score_max: Some(bounds.high),
        level: Level::of(bounds.high),
        parts: parts(others, None, None),
        levels: None,
        model,
        unscored: why.map(|why| why.word().to_owned()),
        tokens: 0,
    }
}

fn parts(others: &Others, semantic: Option<f64>, drift: Option<f64>) -> Parts {
    let Others { permission, volume, context, priority, message_type, asks: _ } = *others;
    Parts { semantic, permission, volume, context, drift, priority, message_type }
}

#[cfg(test)]
mod tests;
