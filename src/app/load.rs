//! What does a node load before it runs: its rules and its model.

use std::{sync::Arc, time::Instant};

use anyhow::Context as _;

use crate::{
    config,
    impact::{self, Meter, semantic},
    policy::{PolicySources, RegoEngine},
    telemetry::Metrics,
};

/// The shipped modules and the operator's own, compiled.
pub fn load_policy(policy: &config::Policy) -> anyhow::Result<RegoEngine> {
    let sources = PolicySources::read(policy.dir.as_deref(), policy.shipped).context("policy")?;
    RegoEngine::load(&sources).context("policy")
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
