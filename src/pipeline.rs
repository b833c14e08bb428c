//! The way of a message, from a request's bytes to its verdict, on one screen.
//!
//! [`Pipeline::govern`] is that screen. The stages it calls stand in `pipeline/` and in the modules
//! they belong to; each is a leaf that knows nothing of the next. Knows nothing of NATS: what leaves
//! the node goes through [`Courier`].

use std::{sync::Arc, time::Duration, time::Instant};

use bytes::Bytes;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::{
    cpu::Cpu,
    deliberation::DeliberationLog,
    domain::{AgentId, Constitution, Encoding, Impact, Reason, Tenant, TenantId, Timestamp, Verb, Verdict},
    governance::{self, Checked, Decoded, Effect, Judging, Plan, Purpose, RetryMode, Rules},
    impact::{Assessor, Need, Unassessed},
    policy::Gate,
    rejection::Rejection,
    skew::Skew,
    state::{Idempotency, Registry},
    telemetry::{Metrics, Stage},
    wire,
};

mod admission;
mod ask;
mod attempts;
pub mod backoff;
mod courier;
mod deliver;
mod keep;
mod lane;
mod once;
mod park;
mod questions;
mod read;
mod recipients;
mod release;
mod stored;
mod tell;
mod trail;

pub use admission::{Admission, AdmissionLimits, Slot};
pub use ask::{Ask, Heard, Waiting};
pub use attempts::{ATTEMPTS_MAX, Because};
pub use courier::{AnswerTo, Courier, CourierError, Dispatch, Handover, Parcel, RecordPlace};
pub use keep::{Kept, Settled};
pub use lane::{
    Accepted, DeadLetter, DurableLane, Evidence, LaneError, Noted, Notice, OutcomeStage, Shipment, Stored,
    Unless,
};
pub use questions::{Asked, QuestionLimits, Questions};
pub use read::not_computed;
pub use recipients::Rotation;
pub use release::{Hindered, RELEASES_MAX};
use trail::{Outcome, Trail};

/// One request as it came from the wire, with what NATS stamped into its subject.
#[derive(Debug)]
pub struct Request {
    pub tenant: TenantId,
    pub sender: AgentId,
    pub payload: Bytes,
    /// W3C trace context of the request, if it had one.
    pub traceparent: Option<String>,
    /// When the node read it.
    pub received: Instant,
}

/// The answer to a request, in the request's encoding.
#[derive(Debug)]
pub struct Answer {
    pub verdict: Verdict,
    pub encoding: Encoding,
    /// The stored verdict of an earlier request with the same message id.
    pub repeat: bool,
}

/// The operator's directory of tenants, as a node holds it.
pub trait Tenants: Send + Sync {
    fn tenant(&self, id: &TenantId) -> Option<Arc<Tenant>>;
}

/// Bounds of one message's way.
#[derive(Debug, Clone)]
pub struct Limits {
    pub wire: wire::Limits,
    pub deadline: Duration,
    pub clock_skew: Duration,
    /// Between the first and the last attempt at a kept message.
    pub give_up_after: Duration,
}

/// All that governing takes. Made once, by `app`.
pub struct Pipeline {
    pub node: String,
    pub limits: Limits,
    pub admission: Arc<Admission>,
    pub constitutions: Vec<Constitution>,
    pub tenants: Arc<dyn Tenants>,
    pub registry: Arc<dyn Registry>,
    pub idempotency: Arc<dyn Idempotency>,
    pub gate: Gate,
    /// For what takes long to compute.
    pub cpu: Arc<Cpu>,
    pub assessor: Assessor,
    pub rotation: Rotation,
    pub questions: Arc<Questions>,
    pub courier: Arc<dyn Courier>,
    pub lane: Arc<dyn DurableLane>,
    pub deliberations: Arc<dyn DeliberationLog>,
    /// Whose approved messages were kept waiting by the bus itself.
    pub hindered: Hindered,
    pub clock: fn() -> Timestamp,
    /// Whether that clock can be gone by.
    pub skew: Skew,
    pub metrics: Arc<Metrics>,
    /// For what goes on after an answer.
    pub tasks: TaskTracker,
}

impl Pipeline {
    /// Governs one message: exactly one verdict, recorded, whatever happens on the way.
    pub async fn send(&self, request: Request) -> Answer {
        let mut trail = Trail::start(&self.node, &request, self.limits.deadline, (self.clock)());
        let span = trail.span(&request.tenant);
        let governing = self.govern(&request, &mut trail).instrument(span);
        let governed = tokio::time::timeout(self.limits.deadline, governing).await;
        let answer = trail.answer(governed.unwrap_or_else(|_| Err(trail::timed_out(self.limits.deadline))));

        // 8. record: what was not recorded with its delivery, then numbers; the sender hears after
        if !answer.repeat {
            trail.record(&request, &answer.verdict, &*self.courier, &self.metrics);
        }
        once::conclude(&self.idempotency, &self.tasks, &mut trail, &answer);
        trail.observe(&self.metrics, Verb::Send, &answer);
        answer
    }

    async fn govern(&self, request: &Request, trail: &mut Trail) -> Result<Outcome, Rejection> {
        // 1. admit: the tenant is known and within its limits
        let (tenant, slot) = self.admission.admit(&*self.tenants, &request.tenant, &request.sender)?;
        trail.hold(slot);
        trail.passed(Stage::Admit);

        // 2. decode: under hard limits, tied to the sender that NATS stamped
        let decoded = tenant.decoded(self.read(request, trail, &self.limits.wire).await?)?;
        trail.passed(Stage::Decode);

        // 3.–6. may it go, and to whom? A repeat gets its stored verdict instead, also when the
        // judgement would be another by now.
        let plan = self.judge(&decoded, trail, Purpose { mode: RetryMode::Sender, approval: None }).await;
        if let Some(earlier) = once::enter(self, decoded.letter(), &plan, trail).await? {
            return Ok(earlier);
        }
        trail.passed(Stage::Claim);

        // 7. deliver, each recipient by its own permit: now, durably, or once its reviewers approve
        match plan?.effect {
            Effect::Deliver(to) => {
                let reach = deliver::hand_over(self, to, decoded.letter(), request, trail, None).await?;
                trail.passed(Stage::Deliver);
                Ok(Outcome::Delivered(reach))
            }
            Effect::Store(to) => self.store_recorded(to, decoded.letter(), request, trail).await,
            Effect::Park(parking) => once::park(self, &parking, request, trail).await,
        }
    }

    /// What is to be done with the message: the core judges, and names what it needs; that is looked up here.
    async fn judge<'a>(
        &self,
        decoded: &'a Decoded,
        trail: &mut Trail,
        purpose: Purpose<'a>,
    ) -> Result<Plan<'a>, Rejection> {
        let mut judging = self.check(decoded, trail)?.judge(purpose);
        loop {
            judging = match judging {
                Judging::NeedsRegistry(asks) => {
                    let view = recipients::find(&*self.registry, &self.rotation, &asks).await?;
                    let next = asks.found(view)?;
                    trail.passed(Stage::Recipient);
                    next
                }
                // 5. policy: a permit for each recipient, or the reason why there is none
                Judging::NeedsPolicy(asks) => {
                    let answers = recipients::ask(&self.gate, &asks).await;
                    let next = asks.answered(answers)?;
                    trail.passed(Stage::Policy);
                    next
                }
                // 6. impact: a score from 0 to 1, which says whether reviewers see it first
                Judging::NeedsModel(permitted) => {
                    trail.permitted(&permitted);
                    let impact = match permitted.need() {
                        Some(need) => Some(self.score(decoded, need, trail).await),
                        None => None,
                    };
                    Judging::Routed(permitted.scored(impact).route()?)
                }
                Judging::Routed(routed) => {
                    let plan = routed.plan();
                    trail.planned(&plan);
                    return Ok(plan);
                }
            }
        }
    }

    /// How much harm it could do, after what its sender has sent; judged twice, it is observed once.
    async fn score(&self, decoded: &Decoded, need: Need, trail: &mut Trail) -> Result<Impact, Unassessed> {
        let (message, tenant) = (decoded.message(), decoded.tenant());
        let observation = match trail.take_observation() {
            Some(observation) => observation,
            None => self.assessor.observe(message, tenant, trail.now()).await,
        };
        let past = observation.past();
        trail.observed(observation);
        let impact = self.assessor.assess(message, tenant, past, need, trail.now()).await;
        trail.assessed(&impact);
        trail.passed(Stage::Impact);
        impact
    }

    fn check<'a>(&self, decoded: &'a Decoded, trail: &mut Trail) -> Result<Checked<'a>, Rejection> {
        let rules = Rules {
            constitutions: &self.constitutions,
            clock_skew: self.limits.clock_skew,
            clock_is_off: self.skew.is_off(),
            now: trail.now(),
        };
        // 3. constitution: the message names one that is in force
        let in_force = decoded.in_force(&rules)?;
        trail.passed(Stage::Constitution);

        // 4. structure: its times and its size
        let checked = in_force.checked(&rules)?;
        trail.passed(Stage::Structure);
        Ok(checked)
    }
}

impl Pipeline {
    /// The constitutions in force, by commas, and the milliseconds since 1970 by this node's clock.
    pub fn in_force(&self) -> (String, String) {
        let now = (self.clock)();
        (governance::in_force(&self.constitutions, now), now.0.to_string())
    }

    /// For a request that found no room: told so at once, undecoded.
    pub fn shed(&self, verb: Verb, request: &Request, reason: Reason, detail: &str) -> Answer {
        let mut trail = Trail::start(&self.node, request, self.limits.deadline, (self.clock)());
        let rejection = Rejection::new(reason, detail).after(Duration::from_millis(50));
        let answer = trail.answer(Err(rejection));
        trail.observe(&self.metrics, verb, &answer);
        answer
    }

    /// For a verb that is none: which there are, and nothing of what was asked for, which a stranger may read.
    pub fn unknown_verb(&self, request: &Request) -> Answer {
        let verbs: Vec<&str> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
        let detail = format!("expected bus.<you>.<verb> with one of these verbs: {}", verbs.join(", "));
        self.metrics.requests_malformed.inc();
        Trail::start(&self.node, request, self.limits.deadline, (self.clock)())
            .answer(Err(Rejection::new(Reason::UnknownVerb, detail)))
    }
}
