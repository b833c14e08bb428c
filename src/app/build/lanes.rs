//! What does judging a message stand on?

use std::{sync::Arc, time::Duration};

use super::{Basis, Outgoing, Shared};
use crate::{
    cpu::Cpu,
    impact::{Assessor, Meter, semantic},
    lanes::{
        Admission, AdmissionLimits, Fleet, Hours, Lanes, LastHeard, Limits, Rates, RetryGrace, Rotation,
        Tenants, Turns,
    },
    memory::{Pressure, Reading},
    policy::Gate,
    state::SharedLimits,
    tenants::plan::CONTENT_BYTES_MAX,
    trace::Tracer,
    wire,
};

/// How soon a node sees that its memory is tight.
const MEMORY_LOOK: Duration = Duration::from_millis(500);
/// Up to so many messages in flight, a core may be spent on seeing each answer at once (`lane.busy_poll`).
const FEW: usize = 4;

pub(super) fn lanes(
    basis: &Basis,
    shared: &Shared,
    outgoing: &Outgoing,
    gate: &Arc<Gate>,
    cpu: &Arc<Cpu>,
    (model, tracer): (&semantic::Prepared, Option<Arc<Tracer>>),
) -> anyhow::Result<Arc<Lanes>> {
    let Basis { config, metrics, shutdown, clock, .. } = basis;
    let fleet = fleet(basis, shared);
    let assessor =
        Assessor::new(Arc::clone(&model.scorer), config.impact.clone(), Arc::clone(&outgoing.senders))?
            .with_heads(model.heads.clone())
            .guarded(&basis.breakers)
            .metered(Arc::clone(metrics) as Arc<dyn Meter>);
    Ok(Arc::new(Lanes {
        node: config.node.name.clone(),
        limits: Limits {
            wire: wire_limits(basis),
            deadline: config.limits.deadline,
            clock_skew: config.limits.clock_skew,
            give_up_after: config.durable.give_up_after,
        },
        admission: Arc::new(admission(basis, fleet.clone())),
        hours: Hours::new(fleet.clone()),
        constitutions: Arc::clone(&shared.constitutions),
        tenants: Arc::clone(&shared.thresholds) as Arc<dyn Tenants>,
        freezes: Arc::clone(&shared.freezes),
        registry: Arc::clone(&shared.stores.registry),
        idempotency: Arc::clone(&shared.stores.idempotency),
        labels: Arc::clone(&shared.stores.labels),
        causes: Arc::clone(&shared.stores.causes),
        heard: LastHeard::default(),
        rates: Rates::new(fleet),
        gate: Arc::clone(gate),
        cpu: Arc::clone(cpu),
        assessor,
        rotation: Rotation::new(),
        questions: Arc::clone(&outgoing.questions),
        turns: Turns::of(rand::random()),
        queue_turns: Turns::of_queue(rand::random()),
        live: outgoing.live(),
        lane: outgoing.durable(),
        deliberations: Arc::clone(&outgoing.deliberations),
        grace: RetryGrace::default(),
        clock: *clock,
        skew: shared.skew.clone(),
        metrics: Arc::clone(metrics),
        tracer,
        usage: Arc::default(),
        tasks: shutdown.tracker().clone(),
    }))
}

/// Where nodes share a Redis, a tenant's rate counts for all of them.
fn admission(basis: &Basis, fleet: Option<Fleet>) -> Admission {
    let config = &basis.config;
    let admission = Admission::new(AdmissionLimits {
        in_flight: config.limits.in_flight,
        in_flight_per_tenant: config.limits.in_flight_per_tenant,
    })
    .within(basis.memory.clone());
    match fleet {
        Some(fleet) => admission.shared(fleet),
        None => admission,
    }
}

fn fleet(basis: &Basis, shared: &Shared) -> Option<Fleet> {
    let redis = Arc::clone(shared.stores.redis.as_ref()?) as Arc<dyn SharedLimits>;
    Some(Fleet::new(redis, basis.shutdown.tracker().clone()))
}

/// Looks at the node's memory, and gives back what can be had again while it is tight.
pub(super) fn watch_memory(basis: &Basis, lanes: &Arc<Lanes>) {
    let (memory, lanes) = (basis.memory.clone(), Arc::clone(lanes));
    basis.keep("memory", move || {
        let (memory, lanes) = (memory.clone(), Arc::clone(&lanes));
        async move {
            loop {
                let before = memory.pressure();
                let pressure = memory.look();
                if pressure != before {
                    let Reading { used, limit, .. } = memory.reading();
                    tracing::warn!(used, limit, ?pressure, "the node's memory");
                }
                if pressure > Pressure::None {
                    lanes.gate.forget_answers();
                    lanes.assessor.forget_scores();
                }
                tokio::time::sleep(MEMORY_LOOK).await;
            }
        }
    });
}

/// While few messages are in flight, the loops look for answers instead of sleeping, if they are told to.
pub(super) fn poll_while_few_wait(basis: &Basis, lanes: &Lanes) {
    let Basis { config, background, supervisor, loops, .. } = basis;
    let within = config.lane.busy_poll;
    if within.is_zero() {
        return;
    }
    for event_loop in loops.iter() {
        let (idle, admission) = (event_loop.idle(), Arc::clone(&lanes.admission));
        let _on = event_loop.handle().enter();
        supervisor.keep("busy poll", background.tracker(), background.token().clone(), move || {
            let admission = Arc::clone(&admission);
            idle.clone().poll(within, move || (1..=FEW).contains(&admission.in_flight()))
        });
    }
}

pub(super) fn wire_limits(basis: &Basis) -> wire::Limits {
    wire::Limits {
        request_bytes: basis.config.limits.request_bytes,
        // What any tenant can be given; its own limit comes after decoding.
        content_bytes: CONTENT_BYTES_MAX,
        ..wire::Limits::default()
    }
}
