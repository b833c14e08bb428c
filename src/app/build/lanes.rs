//! What does judging a message stand on?

use std::sync::Arc;

use super::{Basis, Outgoing, Shared};
use crate::{
    cpu::Cpu,
    deliberation::DeliberationLog,
    impact::{Assessor, Meter, semantic},
    lanes::{Admission, AdmissionLimits, Lanes, Limits, Rates, RetryGrace, Rotation, Tenants},
    policy::Gate,
    tenants::plan::CONTENT_BYTES_MAX,
    wire,
};

pub(super) fn lanes(
    basis: &Basis,
    shared: &Shared,
    outgoing: &Outgoing,
    gate: &Arc<Gate>,
    cpu: &Arc<Cpu>,
    model: &semantic::Prepared,
) -> anyhow::Result<Arc<Lanes>> {
    let Basis { config, metrics, shutdown, clock, .. } = basis;
    let assessor =
        Assessor::new(Arc::clone(&model.scorer), config.impact.clone(), Arc::clone(&outgoing.senders))?
            .with_heads(model.heads.clone())
            .metered(Arc::clone(metrics) as Arc<dyn Meter>);
    Ok(Arc::new(Lanes {
        node: config.node.name.clone(),
        limits: Limits {
            wire: wire_limits(basis),
            deadline: config.limits.deadline,
            clock_skew: config.limits.clock_skew,
            give_up_after: config.durable.give_up_after,
        },
        admission: Arc::new(Admission::new(AdmissionLimits {
            in_flight: config.limits.in_flight,
            in_flight_per_tenant: config.limits.in_flight_per_tenant,
        })),
        constitutions: Arc::clone(&shared.constitutions),
        tenants: Arc::clone(&shared.thresholds) as Arc<dyn Tenants>,
        freezes: Arc::clone(&shared.freezes),
        registry: Arc::clone(&shared.stores.registry),
        idempotency: Arc::clone(&shared.stores.idempotency),
        labels: Arc::clone(&shared.stores.labels),
        rates: Rates::default(),
        gate: Arc::clone(gate),
        cpu: Arc::clone(cpu),
        assessor,
        rotation: Rotation::new(),
        questions: Arc::clone(&outgoing.questions),
        live: outgoing.live(),
        lane: outgoing.durable(),
        deliberations: Arc::clone(&outgoing.deliberations) as Arc<dyn DeliberationLog>,
        grace: RetryGrace::default(),
        clock: *clock,
        skew: shared.skew.clone(),
        metrics: Arc::clone(metrics),
        usage: Arc::default(),
        tasks: shutdown.tracker().clone(),
    }))
}

pub(super) fn wire_limits(basis: &Basis) -> wire::Limits {
    wire::Limits {
        request_bytes: basis.config.limits.request_bytes,
        // What any tenant can be given; its own limit comes after decoding.
        content_bytes: CONTENT_BYTES_MAX,
        ..wire::Limits::default()
    }
}
