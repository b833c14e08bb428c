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
    domain::{AgentId, Constitution, Encoding, Message, Reason, Tenant, TenantId, Timestamp, Verb, Verdict},
    impact::{Assessor, Past},
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
mod constitution;
mod courier;
mod deliver;
mod keep;
mod lane;
mod once;
mod park;
mod questions;
mod read;
mod recipients;
mod redact;
mod release;
mod route;
mod stored;
mod structure;
mod tell;
mod trail;
mod units;

pub use admission::{Admission, AdmissionLimits, Slot};
pub use ask::{Ask, Heard, Waiting};
pub use attempts::{ATTEMPTS_MAX, Because};
pub use courier::{AnswerTo, Courier, CourierError, Dispatch, Handover, Parcel, RecordPlace};
pub use keep::{Kept, Settled};
pub use lane::{
    Accepted, DeadLetter, DurableLane, Evidence, LaneError, Noted, Notice, OutcomeStage, Shipment, Stored,
    Unless,
};
use park::Parking;
pub use questions::{Asked, QuestionLimits, Questions};
pub use read::not_computed;
pub use recipients::Rotation;
pub use release::{Hindered, RELEASES_MAX};
use route::{Patience, Way};
use trail::{Judged, Outcome, Trail};

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
        let letter = self.read(request, trail, &self.limits.wire).await?;
        trail.passed(Stage::Decode);

        // 3.–6. may it go, and to whom? A repeat gets its stored verdict instead, also when the
        // judgement would be another by now.
        let judged = self.judge(&letter, &tenant, trail, Patience::Sender).await;
        if let Some(earlier) = once::enter(self, &letter, &judged, trail).await? {
            return Ok(earlier);
        }
        trail.passed(Stage::Claim);

        // 7. deliver, each recipient by its own permit: now, durably, or once its reviewers approve
        let judged = judged?;
        match &judged.way {
            Way::Live => {
                let reach = deliver::hand_over(self, judged, &letter, request, trail, None).await?;
                trail.passed(Stage::Deliver);
                Ok(Outcome::Delivered(reach))
            }
            Way::Durable => self.store_recorded(judged, &letter, request, trail).await,
            Way::Parked(why) => {
                let (judged, letter, tenant) = (&judged, &letter, &*tenant);
                let parking = Parking { judged, why, letter, tenant, request };
                once::park(self, parking, trail).await
            }
        }
    }

    async fn judge(
        &self,
        letter: &wire::Decoded,
        tenant: &Tenant,
        trail: &mut Trail,
        patience: Patience,
    ) -> Result<Judged, Rejection> {
        let message = &letter.message;
        self.check(letter, tenant, trail)?;

        // The policy judges a message *to somebody*, so whom it would reach comes first.
        let durable = patience != Patience::Sender;
        let candidates = recipients::find(&*self.registry, &self.rotation, tenant, message, durable).await?;
        trail.passed(Stage::Recipient);

        // 5. policy: a permit for each recipient, or the reason why there is none
        let judged = recipients::permit(&self.gate, letter, tenant, candidates, None).await?;
        trail.permitted(&judged);
        trail.passed(Stage::Policy);

        // 6. impact: a score from 0 to 1, which says whether reviewers see it first
        let past = self.past(message, tenant, trail).await;
        let impact = self.assessor.assess(message, tenant, past, route::need(&judged), trail.now()).await;
        trail.assessed(&impact);
        trail.passed(Stage::Impact);
        let way = route::way(&judged, &impact, tenant, patience)?;
        Ok(Judged { way, ..judged })
    }

    /// What the message comes after in its sender's past, however often it is judged.
    async fn past(&self, message: &Message, tenant: &Tenant, trail: &mut Trail) -> Past {
        let observation = match trail.take_observation() {
            Some(observation) => observation,
            None => self.assessor.observe(message, tenant, trail.now()).await,
        };
        let past = observation.past();
        trail.observed(observation);
        past
    }

    fn check(&self, letter: &wire::Decoded, tenant: &Tenant, trail: &mut Trail) -> Result<(), Rejection> {
        // By a wrong clock nothing can be told of its times, neither that they are good nor that they are not.
        if self.skew.is_off() {
            return Err(Rejection::new(Reason::ClockUncertain, "the clock of this node is off; ask again"));
        }

        // 3. constitution: the message names one that is in force
        constitution::check(&letter.message, &self.constitutions, trail.now())?;
        trail.passed(Stage::Constitution);

        // 4. structure: its times and its size
        structure::check(letter, tenant, trail.now(), self.limits.clock_skew)?;
        trail.passed(Stage::Structure);
        Ok(())
    }
}

impl Pipeline {
    /// The constitutions in force, by commas, and the milliseconds since 1970 by this node's clock.
    pub fn in_force(&self) -> (String, String) {
        let now = (self.clock)();
        (constitution::in_force(&self.constitutions, now), now.0.to_string())
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
