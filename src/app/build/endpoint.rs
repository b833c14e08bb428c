//! Who answers what a node is asked?

use std::sync::Arc;

use super::{Basis, NodeHealth, Outgoing, Shared, lanes::wire_limits};
use crate::{
    deliberation::DeliberationLog,
    lanes::{Lanes, Tenants},
    nats::{Bus, Micro, PolicyRequests, Recoverable, StatusSource},
    policy::Rollout,
    review::{About, Agents, Registrations, Reviewers, SingleFlight},
    wire,
};

/// Of a request that bears no message: a registration with all that it may say has a third of it.
const SMALL_REQUEST_BYTES_MAX: usize = 16 * 1024;

pub(super) fn bus(
    basis: &Basis,
    shared: &Shared,
    outgoing: &Outgoing,
    lanes: &Arc<Lanes>,
    (registrations, rollout): (&Arc<Registrations>, &Arc<Rollout>),
    health: &Arc<NodeHealth>,
) -> Arc<Bus> {
    let Basis { config, metrics, clock, loops, durable, .. } = basis;
    let wire_limits = wire_limits(basis);
    let agents = Agents {
        registry: Arc::clone(&shared.stores.registry),
        registrations: Arc::clone(registrations),
        tenants: Arc::clone(&shared.directory) as Arc<dyn Tenants>,
        admission: Arc::clone(&lanes.admission),
        metrics: Arc::clone(metrics),
        // Read where it came in; what is not a message is never large.
        limits: wire::Limits {
            request_bytes: wire_limits.request_bytes.min(SMALL_REQUEST_BYTES_MAX),
            ..wire_limits
        },
        freezes: Arc::clone(&shared.freezes),
        about: About {
            node: config.node.name.clone(),
            clock: *clock,
            constitutions: Arc::clone(&shared.constitutions),
            deadline: config.limits.deadline,
            answer: config.limits.answer,
            clock_skew: config.limits.clock_skew,
            request_bytes: config.limits.request_bytes,
        },
        ttl: config.registry.ttl,
        deadline: config.limits.deadline,
    };
    let reviewers = Reviewers {
        log: Arc::clone(&outgoing.deliberations) as Arc<dyn DeliberationLog>,
        tenants: Arc::clone(&shared.directory) as Arc<dyn Tenants>,
        admission: Arc::clone(&lanes.admission),
        live: outgoing.live(),
        metrics: Arc::clone(metrics),
        limits: agents.limits.clone(),
        clock: *clock,
        deadline: config.limits.deadline,
        node: config.node.name.clone(),
        single_flight: SingleFlight::default(),
        cpu: Arc::clone(&lanes.cpu),
        tracer: lanes.tracer.clone(),
    };
    let policy = PolicyRequests::new(&config.node.name, Arc::clone(rollout));
    let (status, recoverable) =
        (Arc::clone(health) as Arc<dyn StatusSource>, Arc::clone(health) as Arc<dyn Recoverable>);
    Arc::new(Bus::new(
        shared.client.clone(),
        Arc::clone(lanes),
        agents,
        reviewers,
        // What operators ask.
        (Micro::new(&config.node.name), policy, status, recoverable),
        (loops, durable.handle(), config.limits.in_flight),
    ))
}
