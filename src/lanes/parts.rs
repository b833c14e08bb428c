//! All that governing takes.

use std::sync::Arc;

use tokio_util::task::TaskTracker;

use super::{
    admission::Admission,
    durable::DurableLane,
    hours::Hours,
    last_heard::LastHeard,
    live::LiveTransport,
    questions::Questions,
    rates::Rates,
    request::{Limits, Tenants},
    retry::RetryGrace,
    rotation::Rotation,
    turns::Turns,
};
use crate::{
    constitutions::Constitutions,
    cpu::Cpu,
    deliberation::DeliberationLog,
    domain::{AgentId, Encoding, TenantId, Timestamp},
    freezes::Freezes,
    impact::Assessor,
    policy::Gate,
    skew::Skew,
    state::{Causes, ConversationLabels, Idempotency, Registry},
    telemetry::Metrics,
    trace::Tracer,
    usage::Usage,
};

/// Made once, by `app`.
pub struct Lanes {
    pub node: String,
    pub limits: Limits,
    pub admission: Arc<Admission>,
    pub hours: Hours,
    pub constitutions: Arc<Constitutions>,
    pub tenants: Arc<dyn Tenants>,
    pub freezes: Arc<Freezes>,
    pub registry: Arc<dyn Registry>,
    pub idempotency: Arc<dyn Idempotency>,
    pub labels: Arc<dyn ConversationLabels>,
    pub causes: Arc<dyn Causes>,
    pub heard: LastHeard,
    /// Of the policy's rules.
    pub rates: Rates,
    pub gate: Arc<Gate>,
    /// For what takes long to compute.
    pub cpu: Arc<Cpu>,
    pub assessor: Assessor,
    pub rotation: Rotation,
    pub questions: Arc<Questions>,
    pub turns: Turns,
    /// Of what was queued.
    pub queue_turns: Turns,
    pub live: Arc<dyn LiveTransport>,
    pub lane: Arc<dyn DurableLane>,
    pub deliberations: Arc<dyn DeliberationLog>,
    /// Whose approved messages were kept waiting by the bus itself.
    pub grace: RetryGrace,
    pub clock: fn() -> Timestamp,
    /// Whether that clock can be gone by.
    pub skew: Skew,
    pub metrics: Arc<Metrics>,
    /// Where traces are exported.
    pub tracer: Option<Arc<Tracer>>,
    pub usage: Arc<Usage>,
    /// For what goes on after an answer.
    pub tasks: TaskTracker,
}

impl Lanes {
    /// The constitutions in force, by commas, and the milliseconds since 1970 by this node's clock.
    pub fn in_force(&self) -> (String, String) {
        let now = (self.clock)();
        let hashes: Vec<_> = self.constitutions.in_force().at(now).map(|hash| hash.to_string()).collect();
        (hashes.join(","), now.0.to_string())
    }

    /// What is in an agent's durable inbox is written in one encoding.
    pub(super) fn inbox_encoding(&self, tenant: &TenantId, agent: &AgentId) -> Encoding {
        self.tenants.tenant(tenant).map_or(Encoding::DURABLE, |tenant| tenant.durable_encoding(agent))
    }
}
