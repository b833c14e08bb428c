//! How does the pool run a model or a guard? One session for each thread, and never on another.

use std::{fmt::Write as _, path::Path, sync::Arc, time::Duration};

use super::{ModelScorer, Prepared, SemanticScorer, together::Together};
use crate::impact::{
    Meter, OfGuard, Patience, Semantic, Settings, Unscored,
    classifier::{Classifier, ClassifierSession},
    guard::Guard,
    model::{Model, Source, TooLong, Windows},
    pool::{self, Engine, MakeEngine, Pool, PoolSettings},
};

/// A classifier's session as the pool wants it.
pub struct ModelEngine {
    classifier: Classifier,
    session: ClassifierSession,
}

impl ModelEngine {
    pub fn new(classifier: &Classifier) -> Self {
        Self { classifier: classifier.clone(), session: classifier.session() }
    }
}

impl Engine for ModelEngine {
    fn windows(&mut self, texts: &[String], max: usize) -> Result<Vec<Vec<u32>>, Unscored> {
        windows_by(&|text, limits| self.classifier.windows(text, limits), texts, max)
            .map_err(|TooLong { windows, max }| Unscored::TooLong { windows, max })
    }

    fn scores(&mut self, windows: &[&[u32]]) -> Result<Vec<Semantic>, Unscored> {
        if !pool::is_pool_thread() {
            tracing::error!("a forward pass outside of the pool was refused");
            return Err(Unscored::Failed);
        }
        self.session.scores(windows).map_err(|cause| {
            tracing::error!(%cause, model = self.classifier.name(), "the model failed");
            Unscored::Failed
        })
    }
}

/// The windows of all passages of one text: what a node gives the model, and whoever wants the same
/// score.
pub fn windows_of(model: &Model, passages: &[String], max: usize) -> Result<Vec<Vec<u32>>, TooLong> {
    windows_by(&|text, limits| model.windows(text, limits), passages, max)
}

/// What cuts one text into windows.
type Cut<'a> = dyn Fn(&str, &Windows) -> Result<Vec<Vec<u32>>, TooLong> + 'a;

/// As [`windows_of`], of whatever cuts texts: as many tokens as so many full windows have.
pub fn windows_by(cut: &Cut<'_>, passages: &[String], max: usize) -> Result<Vec<Vec<u32>>, TooLong> {
    let full = Windows::default().tokens;
    let mut all: Vec<Vec<u32>> = Vec::with_capacity(passages.len());
    // Short windows count as the tokens that they have.
    let mut tokens = 0;
    for passage in passages {
        let used = tokens / full;
        let limits = Windows { max: max.saturating_sub(used).max(1), ..Windows::default() };
        let windows = cut(passage, &limits)
            .map_err(|TooLong { windows, .. }| TooLong { windows: windows + used, max })?;
        tokens += windows.iter().map(Vec::len).sum::<usize>();
        if tokens > max.saturating_mul(full) {
            return Err(TooLong { windows: tokens.div_ceil(full), max });
        }
        all.extend(windows);
    }
    // A sentence that is the whole text but for its punctuation's spacing is not read twice.
    all.sort_unstable_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    all.dedup();
    Ok(all)
}

/// The model that is asked for, and the guards beside it. All or none: a guard that is missing would
/// be a gate that is open.
pub(super) fn prepare(settings: &Settings, meter: &Arc<dyn Meter>) -> Result<Prepared, String> {
    let source = settings.model_dir.clone().map_or(Source::Embedded, Source::Dir);
    let first = Classifier::load(&source, settings.precision.asked()).map_err(|cause| cause.to_string())?;
    let threads = match settings.threads {
        // One core is left to the runtime.
        0 => std::thread::available_parallelism().map_or(1, |cores| cores.get().saturating_sub(1).max(1)),
        threads => threads,
    };
    let mut all = vec![Started::new(&first, "impact", threads, settings, meter)?];
    for folder in &settings.guards {
        let guard = Classifier::Guard(Arc::new(guard_of(folder)?));
        if all.iter().any(|other| other.scorer.digest == guard.digest()) {
            return Err(format!("{}: {} is asked already; name it once", folder.display(), guard.name()));
        }
        let meter: Arc<dyn Meter> = Arc::new(OfGuard::new(guard.name(), meter));
        all.push(Started::new(&guard, "guard", settings.guard_threads, settings, &meter)?);
    }
    let heads = settings.heads.iter().map(|(name, path)| {
        let headed = first.with_head(name, path).map_err(|cause| format!("impact.heads.{name}: {cause}"))?;
        Ok((name.clone(), Started::new(&headed, "head", 1, settings, meter)?))
    });
    let heads: Vec<(String, Started)> = heads.collect::<Result<_, String>>()?;
    let state = all.iter().chain(heads.iter().map(|(_, started)| started));
    let state = state.map(|started| started.state.as_str()).collect::<Vec<_>>().join("; ");
    let mut pools: Vec<Arc<Pool>> = Vec::new();
    let mut scorers = |started: Started| {
        pools.push(started.pool);
        Arc::new(started.scorer)
    };
    let (heads, all): (Vec<_>, Vec<_>) = (
        heads.into_iter().map(|(name, started)| (name, scorers(started))).collect(),
        all.into_iter().map(&mut scorers).collect(),
    );
    // A tenant's own head stands in the model's place, the guards beside it stay.
    let guards = all.get(1..).unwrap_or_default();
    let heads = heads.into_iter().map(|(name, head)| (name, together(head, guards))).collect();
    let scorer = all.first().map(|model| together(Arc::clone(model), guards)).ok_or("no model")?;
    Ok(Prepared { scorer, heads, pools, state: Ok(state) })
}

fn together(model: Arc<ModelScorer>, guards: &[Arc<ModelScorer>]) -> Arc<dyn SemanticScorer> {
    if guards.is_empty() {
        return model;
    }
    Arc::new(Together::new(std::iter::once(model).chain(guards.iter().cloned()).collect()))
}

fn guard_of(folder: &Path) -> Result<Guard, String> {
    Guard::load(folder).map_err(|cause| format!("impact.guards: {cause}"))
}

/// A classifier on threads of its own.
struct Started {
    scorer: ModelScorer,
    pool: Arc<Pool>,
    /// For people.
    state: String,
}

impl Started {
    fn new(
        classifier: &Classifier,
        thread: &'static str,
        threads: usize,
        settings: &Settings,
        meter: &Arc<dyn Meter>,
    ) -> Result<Self, String> {
        let name = classifier.name().to_owned();
        let mut state = format!("{name} on {threads} {}", if threads == 1 { "thread" } else { "threads" });
        if let Classifier::Guard(guard) = classifier {
            let took = guard.measure().map_err(|cause| cause.to_string())?;
            let _ =
                write!(state, ", {:.1} ms for {} tokens", took.as_secs_f64() * 1e3, guard.window_tokens());
            warn_if_slow(&name, took, settings.deadline);
        }
        let make: MakeEngine = {
            let classifier = classifier.clone();
            Arc::new(move || Ok(Box::new(ModelEngine::new(&classifier)) as Box<dyn Engine>))
        };
        let pool_settings = PoolSettings {
            thread,
            threads,
            nice: settings.nice,
            idle: settings.idle,
            queue: settings.queue,
            brief: settings.room(Patience::RoundTrip),
            long: settings.room(Patience::Lane),
        };
        let pool = Pool::start(pool_settings, make, Arc::clone(meter))
            .map_err(|cause| format!("its threads do not start: {cause}"))?;
        let pool = Arc::new(pool);
        let digest = classifier.digest();
        let scorer = ModelScorer::new(Arc::clone(&pool), name, digest, settings, Arc::clone(meter));
        Ok(Self { scorer, pool, state })
    }
}

fn warn_if_slow(guard: &str, took: Duration, deadline: Duration) {
    if took > deadline / 2 {
        tracing::warn!(
            guard,
            ?took,
            ?deadline,
            "one window of this guard takes half of impact.deadline or more: long messages will have no \
             score; raise it, or take a smaller guard"
        );
    }
}
