//! What do the words of a message mean to the model? Read in pieces, remembered, and run on the
//! pool's threads; and what a node does without a model.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::{
    Cost, Event, Keywords, Meter, Patience, ScorerKind, Semantic, SemanticScorer, Settings, Texts, Unscored,
    Words, highest,
    pool::Pool,
    text::{Passages, TooMuch, long_passages, passages},
};
use crate::{
    domain::{Message, Scales, scale},
    fair_queue::{Owner, Owners},
};

#[cfg(feature = "model")]
mod engine;
#[cfg(feature = "model")]
mod together;

#[cfg(feature = "model")]
pub use engine::{ModelEngine, windows_by, windows_of};

/// A model behind a pool and a cache.
pub struct ModelScorer {
    pool: Arc<Pool>,
    /// By SHA-256 of what was read and of what read it.
    known: Cache<[u8; 32], Semantic>,
    name: String,
    /// Of encoder, tokenizer and head.
    digest: [u8; 32],
    windows_max: usize,
    /// The same where nobody waits.
    long_windows_max: usize,
    owners: Owners,
    meter: Arc<dyn Meter>,
}

impl ModelScorer {
    pub fn new(
        pool: Arc<Pool>,
        name: String,
        digest: [u8; 32],
        settings: &Settings,
        meter: Arc<dyn Meter>,
    ) -> Self {
        let known = Cache::new(settings.cache_entries);
        let [windows_max, long_windows_max] =
            [Patience::RoundTrip, Patience::Lane].map(|patience| settings.room(patience).windows);
        let owners = Owners::default();
        Self { pool, known, name, digest, windows_max, long_windows_max, owners, meter }
    }

    fn texts(&self, passages: Vec<String>, owner: Owner, patience: Patience) -> Texts {
        let mut hash = Sha256::new_with_prefix(self.digest);
        for passage in &passages {
            hash.update((passage.len() as u64).to_le_bytes());
            hash.update(passage);
        }
        Texts { key: hash.finalize().into(), passages, owner, patience }
    }

    async fn score_of(&self, Texts { key, passages, owner, patience }: Texts) -> Result<Semantic, Unscored> {
        if let Some(score) = self.known.get(&key) {
            self.meter.see(Event::CacheHit);
            return Ok(Semantic { tokens: 0, ..score });
        }
        self.meter.see(Event::CacheMiss);
        let score = self.pool.score(passages, owner, patience).await?;
        self.known.insert(key, score);
        Ok(score)
    }
}

#[async_trait]
impl SemanticScorer for ModelScorer {
    /// Every word is a token at least, so that many need not be split to be too many.
    fn read(&self, message: &Message, patience: Patience) -> Result<Words, Unscored> {
        let (max, read) = match patience {
            Patience::RoundTrip => (self.windows_max, passages(message, self.windows_max)),
            Patience::Within(_) | Patience::Lane => {
                (self.long_windows_max, long_passages(message, self.long_windows_max))
            }
        };
        let Passages { content, around } =
            read.map_err(|TooMuch| Unscored::TooLong { windows: max.saturating_add(1), max })?;
        // Apart, so that ids that differ do not make equal contents unknown.
        let around = (!around.is_empty()).then_some(around);
        let owner = self.owners.of(&message.tenant, &message.sender);
        let all = std::iter::once(content).chain(around);
        Ok(Words::Texts(all.map(|it| self.texts(it, owner, patience)).collect()))
    }

    async fn score(&self, words: Words) -> Result<Semantic, Unscored> {
        match words {
            Words::Scored(score) => Ok(score),
            Words::Texts(all) => {
                // At once, so that they are in one pass.
                highest(try_join_all(all.into_iter().map(|texts| self.score_of(texts))).await?)
            }
        }
    }

    fn score_in_background(&self, words: Words, then: Box<dyn FnOnce(f64) + Send>) {
        if let Words::Texts(all) = words {
            self.pool.score_in_background(all.into_iter().flat_map(|texts| texts.passages).collect(), then);
        }
    }

    fn cost(&self) -> Cost {
        Cost::High
    }

    fn forget(&self) {
        self.known.invalidate_all();
        // Else what is forgotten goes with the next messages, and there may be none.
        self.known.run_pending_tasks();
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// The name of [`NoModel`].
pub const NO_MODEL: &str = "none";

/// In a model's place when there is none that works: never a score.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoModel;

#[async_trait]
impl SemanticScorer for NoModel {
    fn read(&self, _: &Message, _: Patience) -> Result<Words, Unscored> {
        Err(Unscored::NoModel)
    }

    async fn score(&self, _: Words) -> Result<Semantic, Unscored> {
        Err(Unscored::NoModel)
    }

    fn score_in_background(&self, _: Words, _: Box<dyn FnOnce(f64) + Send>) {}

    fn cost(&self) -> Cost {
        Cost::High
    }

    fn name(&self) -> &str {
        NO_MODEL
    }
}

/// Scorers in the place of the usual one, for tenants that have a head of their own.
pub type Heads = BTreeMap<String, Arc<dyn SemanticScorer>>;

/// Which scores compare with which.
pub fn scales(scorer: &dyn SemanticScorer, heads: &Heads) -> Scales {
    let of = |it: &dyn SemanticScorer| (it.name() != NO_MODEL).then(|| scale(it.name()));
    Scales::new(of(scorer), heads.iter().map(|(name, head)| (name.clone(), of(&**head))).collect())
}

/// What a node scores words with.
pub struct Prepared {
    pub scorer: Arc<dyn SemanticScorer>,
    /// By the name that tenants have for them.
    pub heads: Heads,
    /// To be closed when the node ends.
    pub pools: Vec<Arc<Pool>>,
    /// For people: what it is, or why it does not work and what to do.
    pub state: Result<String, String>,
}

/// The scorer that the settings ask for. Never fails: without its model a node still passes what no
/// words could stop, and says everywhere that it has none.
pub fn prepare(settings: &Settings, meter: &Arc<dyn Meter>) -> Prepared {
    match settings.scorer {
        ScorerKind::Keywords => Prepared {
            scorer: Arc::new(Keywords),
            heads: Heads::new(),
            pools: Vec::new(),
            state: Ok("keywords, a poor judge; impact.scorer = \"model\" is better".to_owned()),
        },
        ScorerKind::Model => prepare_model(settings, meter).unwrap_or_else(|why| Prepared {
            scorer: Arc::new(NoModel),
            heads: Heads::new(),
            pools: Vec::new(),
            state: Err(why),
        }),
    }
}

#[cfg(feature = "model")]
fn prepare_model(settings: &Settings, meter: &Arc<dyn Meter>) -> Result<Prepared, String> {
    engine::prepare(settings, meter)
}

#[cfg(not(feature = "model"))]
fn prepare_model(_: &Settings, _: &Arc<dyn Meter>) -> Result<Prepared, String> {
    Err("this program was built without the model; set impact.scorer = \"keywords\", or build it with \
         the feature `model`"
        .to_owned())
}

#[cfg(test)]
mod tests;
