//! How does the pool run a model? One session for each thread, and never on another.

use std::sync::Arc;

use super::{ModelScorer, Prepared};
use crate::impact::{
    Meter, Semantic, Settings, Unscored,
    model::{Model, Session, Source, TooLong, Windows},
    pool::{self, Engine, MakeEngine, Pool, PoolSettings},
};

/// A model's session as the pool wants it.
pub struct ModelEngine {
    model: Arc<Model>,
    session: Session,
    windows_max: usize,
}

impl ModelEngine {
    pub fn new(model: &Arc<Model>, windows_max: usize) -> Self {
        Self { model: Arc::clone(model), session: model.session(), windows_max }
    }
}

impl Engine for ModelEngine {
    fn windows(&mut self, texts: &[String]) -> Result<Vec<Vec<u32>>, Unscored> {
        windows_of(&self.model, texts, self.windows_max)
            .map_err(|TooLong { windows, max }| Unscored::TooLong { windows, max })
    }

    fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, Unscored> {
        if !pool::is_pool_thread() {
            tracing::error!("a forward pass outside of the pool was refused");
            return Err(Unscored::Failed);
        }
        self.session.scores(windows).map_err(|cause| {
            tracing::error!(%cause, "the model failed");
            Unscored::Failed
        })
    }
}

/// The windows of all passages of one text: what a node gives the model, and whoever wants the same
/// score.
pub fn windows_of(model: &Model, passages: &[String], max: usize) -> Result<Vec<Vec<u32>>, TooLong> {
    let mut all: Vec<Vec<u32>> = Vec::with_capacity(passages.len());
    for passage in passages {
        // Each is a window at least.
        let left = max.saturating_sub(all.len());
        if left == 0 {
            return Err(TooLong { windows: all.len() + 1, max });
        }
        let limits = Windows { max: left, ..Windows::default() };
        let windows = model
            .windows(passage, &limits)
            .map_err(|TooLong { windows, .. }| TooLong { windows: windows + all.len(), max })?;
        all.extend(windows);
    }
    // A sentence that is the whole text but for its punctuation's spacing is not read twice.
    all.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    all.dedup();
    Ok(all)
}

pub(super) fn prepare(settings: &Settings, meter: &Arc<dyn Meter>) -> Result<Prepared, String> {
    let source = settings.model_dir.clone().map_or(Source::Embedded, Source::Dir);
    let model =
        Arc::new(Model::load(&source, settings.precision.asked()).map_err(|cause| cause.to_string())?);
    let threads = match settings.threads {
        // One core is left to the runtime.
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)),
        threads => threads,
    };
    let make: MakeEngine = {
        let (model, windows_max) = (Arc::clone(&model), settings.windows_max);
        Arc::new(move || Ok(Box::new(ModelEngine::new(&model, windows_max)) as Box<dyn Engine>))
    };
    let pool_settings =
        PoolSettings { threads, nice: settings.nice, queue: settings.queue, deadline: settings.deadline };
    let pool = Pool::start(pool_settings, make, Arc::clone(meter))
        .map_err(|cause| format!("its threads do not start: {cause}"))?;
    let (pool, name) = (Arc::new(pool), model.name().to_owned());
    let state = format!("{name} on {threads} {}", if threads == 1 { "thread" } else { "threads" });
    let scorer = ModelScorer::new(Arc::clone(&pool), name, model.digest(), settings, Arc::clone(meter));
    Ok(Prepared { scorer: Arc::new(scorer), pool: Some(pool), state: Ok(state) })
}
