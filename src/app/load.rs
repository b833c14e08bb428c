//! What does a node load before it runs: its rules and its model.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;

use super::basis::Basis;
use crate::{
    config,
    cpu::Cpu,
    impact::{self, Meter, semantic},
    policy::{self, Folder, Gate, OffRuntime, RegoEngine, Rollout},
    telemetry::Metrics,
};

/// Where the policy is.
pub(super) fn folder(policy: &config::Policy) -> Folder {
    Folder { dir: policy.dir.clone(), shipped: policy.shipped }
}

/// The shipped modules and the operator's own, compiled, with their tests passed. Blocks.
pub fn load_policy(policy: &config::Policy) -> anyhow::Result<RegoEngine> {
    let (engine, _) = folder(policy).load().context("policy")?;
    Ok(engine)
}

/// What the policy is asked by, and what changes it while the node runs.
pub(super) fn rollout(basis: &Basis, engine: RegoEngine, cpu: &Arc<Cpu>) -> Arc<Rollout> {
    let Basis { config, metrics, clock, .. } = basis;
    let engine = Arc::new(OffRuntime::new(engine, Arc::clone(cpu)));
    let gate = Gate::new(engine).metered(Arc::clone(metrics) as Arc<dyn policy::Meter>);
    Arc::new(Rollout::new(Arc::new(gate), Arc::clone(cpu), folder(&config.policy), *clock))
}

/// Loads the model on a thread that may block. A node whose model does not work runs without, loudly.
pub(super) async fn load_model(
    settings: &impact::Settings,
    metrics: &Arc<Metrics>,
) -> anyhow::Result<semantic::Prepared> {
    let (settings, meter) = (settings.clone(), Arc::clone(metrics) as Arc<dyn Meter>);
    let started = Instant::now();
    let prepared = tokio::task::spawn_blocking(move || semantic::prepare(&settings, &meter)).await?;
    match &prepared.state {
        Ok(model) => tracing::info!(model, took = ?started.elapsed(), "impact scorer ready"),
        Err(cause) => tracing::error!(
            cause,
            "no impact model: messages whose words could matter are not delivered; mend impact.model_dir \
             or impact.guards and restart, or set impact.scorer = \"keywords\""
        ),
    }
    Ok(prepared)
}
