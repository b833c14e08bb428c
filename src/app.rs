//! The composition root: makes a node out of its parts, runs it and takes it down in order.
//!
//! The only place that names concrete backends. `build.rs` makes the parts, each from those before it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};

use crate::{
    admin::{self, Health},
    breakers::Breakers,
    chaos::{self, Experiment},
    config::NodeConfig,
    cpu::{self, Cpu},
    domain::Timestamp,
    event_loop::EventLoop,
    memory::Memory,
    shutdown::Shutdown,
    skew::wall_clock,
    supervisor::Supervisor,
    telemetry::Metrics,
    tls::Acceptor,
};

mod basis;
mod build;
mod check;
mod connect;
mod health;
mod load;
mod otlp;
mod reach;
mod reload;
mod service;
mod start;
mod stop;
mod stores;

use basis::Basis;
use build::{Found, Node};
pub use check::{Checked, check};
use health::NodeHealth;
use load::load_model;
pub use reach::{Tried, reach};
pub use reload::Reload;
use stores::Stores;
pub use stores::redis_settings;

/// A node of which a part is gone stops within this.
const FAILED_WITHIN: Duration = Duration::from_secs(3);

/// Runs a node until `shutdown` is requested and everything in flight has ended, or until a part of it cannot
/// be mended.
pub async fn run(config: NodeConfig, reload: Reload, shutdown: Shutdown) -> anyhow::Result<()> {
    let clock = if config.chaos.allowed { chaos::clock } else { wall_clock };
    run_with(config, Some(reload), shutdown, Supervisor::default(), clock).await
}

/// The same, with a hand on its parts and its clock; without a `reload` no signal is listened to.
pub async fn run_with(
    config: NodeConfig,
    reload: Option<Reload>,
    shutdown: Shutdown,
    supervisor: Supervisor,
    clock: fn() -> Timestamp,
) -> anyhow::Result<()> {
    let ends = shutdown.clone();
    let given_up = async {
        supervisor.failed().await;
        // What is in flight is finished all the same, as far as it can be.
        ends.request();
        tokio::time::sleep(FAILED_WITHIN).await;
    };
    let ended = tokio::select! {
        ended = serve(config, reload, shutdown, supervisor.clone(), clock) => ended,
        () = given_up => Ok(()),
    };
    match supervisor.failure() {
        Some(why) => bail!("a part of the node has ended: {why}"),
        None => ended,
    }
}

async fn serve(
    config: NodeConfig,
    mut reload: Option<Reload>,
    shutdown: Shutdown,
    supervisor: Supervisor,
    clock: fn() -> Timestamp,
) -> anyhow::Result<()> {
    let metrics = Arc::new(Metrics::new(&config.node.name));
    metrics.polls.time_by(config.node.poll_clock);
    let timing = Arc::clone(&metrics);
    supervisor.timed_by(Box::new(move |part, poll| timing.polls.time(part, poll)));
    let loops = EventLoop::start_all(config.lane.threads).context("lane.threads")?;
    let durable = EventLoop::start_beside("durable").context("a thread of the durable lane")?;
    let background = Shutdown::default();
    let breakers = Arc::new(Breakers::new(config.breakers));
    let memory = Memory::new(config.limits.memory_bytes);
    let basis =
        Basis { config, metrics, shutdown, background, supervisor, loops, durable, clock, breakers, memory };
    let checked = Checked::read(&basis.config, &basis.metrics, &basis.breakers).await?;
    let Checked { policy: (origin, engine), bundles, opa, webhook, redis, otlp, acceptor } = checked;
    let health = listen(&basis, acceptor).await?;
    let lines = reload.as_mut().and_then(Reload::take_lines);
    let tracer = otlp.and_then(|target| otlp::export(&basis, target, lines, &health));
    service::keep(&basis, &health);
    let cpu = Cpu::start((&basis.config.cpu).into(), Arc::clone(&basis.metrics) as Arc<dyn cpu::Meter>);
    let cpu = Arc::new(cpu.context("cpu.threads")?);
    let (rollout, decisions) = load::rollout(&basis, origin, (engine, opa), &cpu)?;
    if let Some(reload) = reload {
        let webhook = webhook.as_ref().map(|(webhook, _)| webhook.clone());
        reload.keep(&basis, webhook, &rollout, experiment(&basis));
    }
    let found = Found { cpu, rollout, decisions, bundles, webhook, redis, tracer };
    let Some(node) = Node::build(basis, found, health).await? else { return Ok(()) };
    node.start().await?;
    node.basis.shutdown.requested().await;
    node.stop().await;
    Ok(())
}

/// Where experiments may be made, whatever is configured begins now.
fn experiment(basis: &Basis) -> Option<Experiment> {
    let settings = &basis.config.chaos;
    if !settings.allowed {
        return None;
    }
    tracing::warn!("experiments may be made with this node (chaos.allowed): it is not one that serves");
    let experiment = Experiment::new(Arc::clone(&basis.breakers));
    experiment.begin(settings);
    let held = experiment.clone();
    basis.keep("chaos", move || held.clone().hold());
    Some(experiment)
}

/// From now on everybody can ask how the node is, and read its numbers.
async fn listen(basis: &Basis, acceptor: Option<Acceptor>) -> anyhow::Result<Arc<NodeHealth>> {
    let Basis { config, metrics, background, supervisor, breakers, .. } = basis;
    let listener = check::listen(&config.http).await?;
    let name = &config.node.name;
    let health =
        Arc::new(NodeHealth::new(name, Arc::clone(metrics), Arc::clone(breakers), supervisor.clone()));
    let reported = Arc::clone(&health) as Arc<dyn Health>;
    let http = admin::start(
        (listener, acceptor),
        &config.http,
        reported,
        Arc::clone(metrics),
        background.clone(),
        supervisor,
    )?;
    tracing::info!(node = name, %http, "starting");
    Ok(health)
}
