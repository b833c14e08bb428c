//! Who may make a [`Permit`], and what the policy is asked for it: Rego decides over message, sender,
//! recipient and tenant, and nothing is delivered without the evidence made here.
//!
//! [`Gate::decide`] is the only way to a permit. Knows nothing of NATS; regorus is in [`rego`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    domain::{AgentId, Approval, CapabilityId, Message, Reason, Tenant},
    rejection::Rejection,
    trouble::Trouble,
};

pub mod cache;
mod offload;
pub mod reads;
pub mod rego;
pub mod sources;

pub use offload::OffRuntime;
pub use rego::RegoEngine;
pub use sources::{LoadError, PolicySources};

use cache::DecisionCache;
use reads::Reads;

/// What the policy is asked: one message, to one recipient.
///
/// No message id and no time, so that equal questions share one cached answer.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub message: &'a Arc<Message>,
    /// Bytes of the message's canonical form.
    pub size: usize,
    pub sender: Party<'a>,
    pub recipient: Party<'a>,
    pub tenant: &'a Tenant,
    /// Reviewers have approved the message: it was parked and is asked about again.
    pub approval: Option<&'a Approval>,
}

/// An agent as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    pub id: &'a AgentId,
    /// Granted by the operator.
    pub roles: &'a BTreeSet<String>,
    /// Claimed by the agent when it registered.
    pub capabilities: &'a BTreeSet<CapabilityId>,
    pub registered: bool,
}

/// What an allowing decision demands besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Obligations {
    pub deliberate: bool,
    /// 1 to 100.
    pub min_approvals: Option<u32>,
    /// Paths below `content`, such as `payment.iban`, whose values the recipient must not see.
    pub redact: BTreeSet<String>,
    pub lane: Option<Lane>,
    /// The impact is scored by the model even where no score could change the verdict.
    pub score: bool,
}

/// A way through the bus that the policy can demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Durable,
}

/// What the policy answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allowed(Obligations),
    /// Sorted, each `<module>: <why>`, bounded in number and length.
    Denied {
        reasons: Vec<String>,
    },
}

/// Why there is no decision; never cached, never an allow. For the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The processor was busy with other things.
    #[error("no decision within {limit:?}")]
    TimedOut { limit: Duration },
    /// Too many questions wait for a thread.
    #[error("no thread for it: {cause}")]
    Busy { cause: String },
    /// By this question, or within bounds: another may be answered.
    #[error("{rule} could not be evaluated: {cause}")]
    Failed { rule: String, cause: String },
    /// Whatever the question is.
    #[error("nothing can be evaluated: {cause}")]
    Broken { cause: String },
}

impl PolicyError {
    /// What the sender hears. The cause is the operator's to know.
    fn rejection(&self) -> Rejection {
        match self {
            Self::Failed { .. } => Rejection::new(
                Reason::PolicyFailed,
                "a rule of the policy cannot be evaluated for this message",
            ),
            Self::TimedOut { .. } | Self::Broken { .. } => {
                Rejection::new(Reason::PolicyUnavailable, "the policy gave no clear answer")
            }
            Self::Busy { .. } => Rejection::new(
                Reason::PolicyUnavailable,
                "too many of the tenant's messages wait for the policy already",
            )
            .after(Duration::from_millis(200)),
        }
    }
}

/// Something that answers questions by one fixed revision of a policy.
///
/// An implementation bounds its own time; [`Gate`] waits for it without a limit.
#[async_trait]
pub trait PolicyEngine: Send + Sync {
    async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, PolicyError>;

    /// Names the modules and data in force: 16 hex digits of their SHA-256.
    fn revision(&self) -> &Arc<str>;

    /// What the policy can read, and whether equal questions have equal answers.
    fn reads(&self) -> Reads;
}

/// Evidence that the policy allowed this message to this recipient. There is no other way to make
/// one, and delivery asks for one.
#[derive(Debug, Clone)]
pub struct Permit {
    message: Arc<Message>,
    recipient: AgentId,
    obligations: Obligations,
    revision: Arc<str>,
}

impl Permit {
    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }

    pub fn recipient(&self) -> &AgentId {
        &self.recipient
    }

    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// The revision of the policy that allowed it.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }
}

/// The policy stage: one engine in force, one cache, and the only maker of permits.
pub struct Gate {
    engine: Arc<dyn PolicyEngine>,
    cache: DecisionCache,
    meter: Arc<dyn Meter>,
    trouble: Trouble,
}

/// What a gate sees, one for each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An answer that was remembered.
    Hit,
    /// The policy is asked, and its answer will be remembered.
    Miss,
    /// The policy is asked, and its answer is never remembered: about an approval or a large content, and all answers of
    /// some policies.
    Uncached,
    Denied,
    /// It could not be asked, or came to nothing since the processor was busy.
    Unavailable,
    /// A rule failed on the question.
    Failed,
}

/// Whoever counts that. Never waits.
pub trait Meter: Send + Sync {
    fn see(&self, event: Event);
}

/// Nobody.
impl Meter for () {
    fn see(&self, _: Event) {}
}

impl Gate {
    pub fn new(engine: Arc<dyn PolicyEngine>) -> Self {
        Self { engine, cache: DecisionCache::default(), meter: Arc::new(()), trouble: Trouble::default() }
    }

    /// Tells what it sees.
    pub fn metered(self, meter: Arc<dyn Meter>) -> Self {
        Self { meter, ..self }
    }

    /// The revision in force.
    pub fn revision(&self) -> Arc<str> {
        Arc::clone(self.engine.revision())
    }

    /// Why the last question could not be asked, for people.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.problem()
    }

    /// Decisions held by the cache, about.
    pub fn cached(&self) -> u64 {
        self.cache.len()
    }

    pub async fn decide(&self, question: &Question<'_>) -> Result<Permit, Rejection> {
        let engine = &*self.engine;
        let decision = match self.answer(engine, question).await {
            Ok(decision) => {
                self.trouble.is_over();
                decision
            }
            Err(cause) => {
                match cause {
                    // Of this message alone.
                    PolicyError::Failed { .. } => self.meter.see(Event::Failed),
                    PolicyError::TimedOut { .. } | PolicyError::Busy { .. } | PolicyError::Broken { .. } => {
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

    async fn answer(
        &self,
        engine: &dyn PolicyEngine,
        question: &Question<'_>,
    ) -> Result<Arc<Decision>, PolicyError> {
        // An approval is of one message, so an answer about it serves no other and takes no other's place.
        let cacheable = engine.reads().cacheable().filter(|_| question.approval.is_none());
        let cacheable = cacheable.filter(|fields| cache::is_small(question, *fields));
        let Some(fields) = cacheable else {
            self.meter.see(Event::Uncached);
            return engine.evaluate(question).await.map(Arc::new);
        };
        let key = cache::key(question, engine.revision(), fields);
        if let Some(decision) = self.cache.get(&key) {
            self.meter.see(Event::Hit);
            return Ok(decision);
        }
        self.meter.see(Event::Miss);
        let decision = Arc::new(engine.evaluate(question).await?);
        self.cache.insert(key, Arc::clone(&decision));
        Ok(decision)
    }
}

/// The reasons as one bounded line of printable ASCII: a module may quote a stranger's text.
fn detail(reasons: &[String]) -> String {
    const DETAIL_MAX: usize = 400;
    let mut out = String::from("denied by policy");
    for (at, reason) in reasons.iter().enumerate() {
        out.push_str(if at == 0 { ": " } else { "; " });
        for c in reason.chars() {
            if out.len() >= DETAIL_MAX {
                out.push_str(" …");
                return out;
            }
            match c {
                ' '..='~' => out.push(c),
                _ => out.extend(c.escape_unicode()),
            }
        }
    }
    out
}
