//! What if several are asked? The model and the guards beside it each read the same passages at the
//! same time, and the highest score counts; without one of them there is none.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::try_join_all;
use parking_lot::Mutex;

use super::{Cost, ModelScorer, Patience, Semantic, SemanticScorer, Texts, Unscored, Words, highest};
use crate::domain::Message;

pub struct Together {
    /// The model first.
    scorers: Vec<Arc<ModelScorer>>,
    name: String,
}

impl Together {
    pub fn new(scorers: Vec<Arc<ModelScorer>>) -> Self {
        let names: Vec<&str> = scorers.iter().map(|scorer| scorer.name()).collect();
        Self { name: names.join(" + "), scorers }
    }

    /// The highest, and the first that gave it.
    async fn ask(&self, words: Words) -> Result<(Semantic, &str), Unscored> {
        let Words::Texts(all) = words else { return Err(Unscored::Failed) };
        let asked = self.scorers.iter().map(|scorer| {
            let own = all.iter().map(|it| scorer.texts(it.passages.clone(), it.owner, it.patience));
            let own = Words::Texts(own.collect());
            async move { Ok((highest([scorer.score(own).await?])?, scorer.name())) }
        });
        let scored = try_join_all(asked).await?;
        let tokens = scored.iter().map(|(found, _)| found.tokens).sum();
        let highest = scored.into_iter().reduce(|a, b| if a.0.score >= b.0.score { a } else { b });
        let (found, by) = highest.ok_or(Unscored::Failed)?;
        Ok((Semantic { tokens, ..found }, by))
    }
}

#[async_trait]
impl SemanticScorer for Together {
    fn read(&self, message: &Message, patience: Patience) -> Result<Words, Unscored> {
        self.scorers.first().ok_or(Unscored::NoModel)?.read(message, patience)
    }

    async fn score(&self, words: Words) -> Result<Semantic, Unscored> {
        Ok(self.ask(words).await?.0)
    }

    async fn score_and_name(&self, words: Words) -> Result<(Semantic, String), Unscored> {
        let (score, by) = self.ask(words).await?;
        Ok((score, format!("{}: highest by {by}", self.name)))
    }

    fn score_in_background(&self, words: Words, then: Box<dyn FnOnce(f64) + Send>) {
        let Words::Texts(all) = words else { return };
        let passages: Vec<String> = all.into_iter().flat_map(|Texts { passages, .. }| passages).collect();
        let gathered =
            Arc::new(Mutex::new(Gathered { missing: self.scorers.len(), highest: 0.0, then: Some(then) }));
        for scorer in &self.scorers {
            let gathered = Arc::clone(&gathered);
            // One that is busy never answers, and nothing is told.
            scorer.pool.score_in_background(
                passages.clone(),
                Box::new(move |score| Gathered::add(&gathered, score)),
            );
        }
    }

    fn cost(&self) -> Cost {
        Cost::High
    }

    fn forget(&self) {
        self.scorers.iter().for_each(|scorer| scorer.forget());
    }

    fn name(&self) -> &str {
        &self.name
    }
}

/// What was said of a text for which nobody waits.
struct Gathered {
    missing: usize,
    highest: f64,
    then: Option<Box<dyn FnOnce(f64) + Send>>,
}

impl Gathered {
    fn add(this: &Mutex<Self>, score: f64) {
        let mut gathered = this.lock();
        gathered.missing = gathered.missing.saturating_sub(1);
        gathered.highest = gathered.highest.max(score);
        let (missing, highest) = (gathered.missing, gathered.highest);
        let then = if missing == 0 { gathered.then.take() } else { None };
        drop(gathered);
        if let Some(then) = then {
            then(highest);
        }
    }
}
