//! By which policy is a message judged? One revision is in force, another can take its place between two messages,
//! and only here is a permit made.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use arc_swap::ArcSwap;

use super::{
    Decision, DecisionLog, Event, Meter, Permit, PolicyEngine, PolicyError, Question, Shadow, SharedTier,
    cache::{self, DecisionCache},
    decided::Told,
    reads::Fields,
    recent::Recent,
};
use crate::{domain::Reason, phrase, rejection::Rejection, trouble::Trouble};

/// The policy stage: one engine in force, one cache, and the only maker of permits.
pub struct Gate {
    in_force: ArcSwap<InForce>,
    /// Of all revisions: each answer has its revision in its key.
    cache: DecisionCache,
    /// What other nodes were answered, once there is a store for it.
    shared: OnceLock<Arc<SharedTier>>,
    pub(super) recent: Recent,
    pub(super) meter: Arc<dyn Meter>,
    /// Where decisions are told, if they are.
    log: Option<Arc<DecisionLog>>,
    /// What is tried beside the one in force.
    shadow: Option<Arc<Shadow>>,
    trouble: Trouble,
}

/// One revision of the policy. Whoever judges a message holds it from the first question to the last, so that no
/// message is judged by two.
pub struct InForce(pub(super) Arc<dyn PolicyEngine>);

/// What the policy says about one recipient, and who has said so.
pub struct Ruling {
    pub permit: Result<Permit, Rejection>,
    pub source: Source,
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It was asked now.
    Policy,
    /// The node remembers it.
    Cache,
    /// Another node was given it.
    Shared,
}

impl InForce {
    pub fn revision(&self) -> &Arc<str> {
        self.0.revision()
    }

    /// Whether its answers depend on what a conversation is labelled with.
    pub fn reads_labels(&self) -> bool {
        self.0.reads().fields.contains(Fields::CONVERSATION_LABELS)
    }
}

impl Gate {
    pub fn new(engine: Arc<dyn PolicyEngine>) -> Self {
        Self {
            in_force: ArcSwap::from_pointee(InForce(engine)),
            cache: DecisionCache::default(),
            shared: OnceLock::new(),
            recent: Recent::default(),
            meter: Arc::new(()),
            log: None,
            shadow: None,
            trouble: Trouble::default(),
        }
    }

    /// Tells what it sees.
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter, ..self }
    }

    /// Tells what it decides.
    pub fn logged(self, log: Arc<DecisionLog>) -> Self {
        Self { log: Some(log), ..self }
    }

    /// Has a place for a candidate beside the policy in force.
    pub fn shadowed(self, shadow: Arc<Shadow>) -> Self {
        Self { shadow: Some(shadow), ..self }
    }

    /// From now on answers are shared with other nodes, where that pays.
    pub fn share(&self, tier: Arc<SharedTier>) {
        // There is one for as long as a node lives.
        let _ = self.shared.set(tier);
    }

    pub fn log(&self) -> Option<&Arc<DecisionLog>> {
        self.log.as_ref()
    }

    pub fn shadow(&self) -> Option<&Arc<Shadow>> {
        self.shadow.as_ref()
    }

    /// What messages are judged by that begin now.
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Messages that begin from now on are judged by another. Those that have begun end by theirs.
    pub(super) fn replace(&self, engine: Arc<dyn PolicyEngine>) {
        if let Some(shadow) = &self.shadow {
            shadow.comes_into_force(engine.revision());
        }
        self.in_force.store(Arc::new(InForce(engine)));
        self.trouble.is_over();
    }

    /// The revision in force.
    pub fn revision(&self) -> Arc<str> {
        Arc::clone(self.in_force.load().revision())
    }

    /// Why the last question could not be asked, for people.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.problem()
    }

    /// Forgets what was answered before: it is asked anew.
    pub fn forget_answers(&self) {
        self.cache.clear();
    }

    /// Decisions held by the cache, about.
    pub fn cached(&self) -> u64 {
        self.cache.len()
    }

    /// The one question of a message that has no more, and no decision id either.
    pub async fn decide(&self, question: &Question<'_>) -> Result<Permit, Rejection> {
        self.decide_by(&self.in_force(), question, "").await.permit
    }

    /// A question of a message that is judged by this policy, under this decision id.
    pub async fn decide_by(&self, policy: &InForce, question: &Question<'_>, id: &str) -> Ruling {
        let engine = &*policy.0;
        let log = self.log.as_ref().filter(|log| log.takes(id));
        let shadow = self.shadow.as_ref().filter(|shadow| shadow.takes(id, engine.revision()));
        let (answer, source) = if log.is_none() && shadow.is_none() {
            self.answer(engine, question).await
        } else {
            let asked = Instant::now();
            let (answer, source) = self.answer(engine, question).await;
            let cached = source != Source::Policy;
            let told = Told { id, question, engine, answer: &answer, took: asked.elapsed(), cached };
            if let Some(log) = log {
                log.tell(&told);
            }
            if let Some(shadow) = shadow {
                shadow.tell(&told);
            }
            (answer, source)
        };
        Ruling { permit: self.permit(engine, question, answer), source }
    }

    /// Here alone is one made.
    fn permit(
        &self,
        engine: &dyn PolicyEngine,
        question: &Question<'_>,
        answer: Result<Arc<Decision>, PolicyError>,
    ) -> Result<Permit, Rejection> {
        let decision = match answer {
            Ok(decision) => {
                self.trouble.is_over();
                decision
            }
            Err(cause) => {
                match cause {
                    // Of this message alone.
                    PolicyError::Failed { .. } => self.meter.see(Event::Failed),
                    PolicyError::TimedOut { .. }
                    | PolicyError::Busy { .. }
                    | PolicyError::Broken { .. }
                    | PolicyError::Unanswered { .. }
                    | PolicyError::BreakerOpen { .. } => {
                        self.meter.see(Event::Unavailable);
                        self.trouble.begins(cause.to_string());
                    }
                }
                tracing::warn!(tenant = %question.tenant.id, revision = %engine.revision(), %cause, "no policy decision");
                return Err(cause.rejection());
            }
        };
        match &*decision {
            Decision::Allowed(obligations) => Ok(Permit {
                message: Arc::clone(question.message),
                recipient: question.recipient.id.clone(),
                obligations: obligations.clone(),
                revision: Arc::clone(engine.revision()),
            }),
            Decision::Denied { reasons } => {
                self.meter.see(Event::Denied);
                Err(Rejection::new(Reason::PolicyDenied, detail(reasons)))
            }
        }
    }

    /// And where it came from.
    async fn answer(
        &self,
        engine: &dyn PolicyEngine,
        question: &Question<'_>,
    ) -> (Result<Arc<Decision>, PolicyError>, Source) {
        // An approval is of one message, so an answer about it serves no other and takes no other's place.
        let cacheable = engine.reads().cacheable().filter(|_| question.approval.is_none());
        let cacheable = cacheable.filter(|fields| cache::is_small(question, *fields));
        let Some(fields) = cacheable else {
            self.meter.see(Event::Uncached);
            self.recent.see(question);
            return (engine.evaluate(question).await.map(Arc::new), Source::Policy);
        };
        let key = cache::key(question, engine.revision(), fields);
        if let Some(decision) = self.cache.get(&key) {
            self.meter.see(Event::Hit);
            return (Ok(decision), Source::Cache);
        }
        let tenant = &question.tenant.id;
        let shared = self.shared.get().filter(|_| engine.is_far(tenant));
        if let Some(shared) = shared
            && let Some(decision) = Box::pin(shared.get(tenant, &key)).await
        {
            self.cache.insert(key, Arc::clone(&decision));
            return (Ok(decision), Source::Shared);
        }
        self.meter.see(Event::Miss);
        self.recent.see(question);
        let answer = engine.evaluate(question).await.map(Arc::new);
        if let Ok(decision) = &answer {
            self.cache.insert(key, Arc::clone(decision));
            if let Some(shared) = shared {
                shared.keep(tenant, key, decision);
            }
        }
        (answer, Source::Policy)
    }
}

/// The reasons as one bounded line of printable ASCII: a module may quote a stranger's text.
fn detail(reasons: &[String]) -> String {
    const DETAIL_MAX: usize = 400;
    match phrase::plain_line(reasons, DETAIL_MAX) {
        line if line.is_empty() => "denied by policy".to_owned(),
        line => format!("denied by policy: {line}"),
    }
}
