//! What does a node load before it runs: its rules and its model.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, bail};

use super::basis::Basis;

use crate::{
    breakers::Breakers,
    config::{self, PolicyBundle},
    cpu::Cpu,
    impact::{self, Meter, semantic},
    policy::{
        self, Absent, BundleFile, BundleSource, DecisionLog, Folder, Gate, Moded, Modes, OffRuntime,
        OpaServers, OpaSettings, Origin, PolicyEngine, RegoEngine, Rollout, Shadow, Verifier, WebBundles,
        decision_log::WrittenEvents,
    },
    secret_file,
    telemetry::Metrics,
};

/// Of a bearer token.
const TOKEN_BYTES_MAX: u64 = 4 * 1024;

/// Where the policy is, if it is in a folder.
pub(super) fn folder(policy: &config::Policy) -> Folder {
    Folder { dir: policy.dir.clone(), shipped: policy.shipped }
}

/// Where the policy comes from, and what is there already: of a folder the modules, compiled and with their tests
/// passed. Blocks.
pub(super) fn load_policy(policy: &config::Policy) -> anyhow::Result<(Origin, Option<RegoEngine>)> {
    let Some(bundle) = &policy.bundle else {
        let folder = folder(policy);
        let (engine, _) = folder.load().context("policy")?;
        return Ok((Origin::Folder(folder), Some(engine)));
    };
    if let Some(dir) = &policy.dir {
        let found = dir.display();
        bail!("policy.dir: found {found} beside policy.bundle, expected one of both: a folder, or bundles");
    }
    let verifier = bundle.key_file.as_ref().map(|path| {
        let verifier = Verifier::read(path, bundle.algorithm, bundle.scope.clone());
        verifier.with_context(|| format!("policy.bundle.key_file {}", path.display()))
    });
    Ok((Origin::Bundles { shipped: policy.shipped, verifier: verifier.transpose()?, label: None }, None))
}

/// What tells of bundles, if the policy comes from them, and not by the bus. Blocks.
pub(super) fn bundles(policy: &config::Policy) -> anyhow::Result<Option<Arc<dyn BundleSource>>> {
    let Some(bundle) = policy.bundle.as_ref().filter(|bundle| bundle.from != PolicyBundle::BUS) else {
        return Ok(None);
    };
    if !bundle.is_url() {
        return Ok(Some(Arc::new(BundleFile::new((&bundle.from).into()))));
    }
    let token = bundle.token_file.as_ref().map(|path| secret_file::read(path, TOKEN_BYTES_MAX));
    let token = token.transpose().context("policy.bundle.token_file")?;
    let web = WebBundles::open(&bundle.from, token.as_deref()).context("policy.bundle.from")?;
    Ok(Some(Arc::new(web)))
}

/// The OPA servers that have the policy too, if there are some. Blocks.
pub(super) fn opa_servers(
    policy: &config::Policy,
    metrics: &Arc<Metrics>,
    breakers: &Breakers,
) -> anyhow::Result<Option<Arc<OpaServers>>> {
    let Some(opa) = &policy.opa else { return Ok(None) };
    let token = opa.token_file.as_ref().map(|path| secret_file::read(path, TOKEN_BYTES_MAX));
    let token = token.transpose().context("policy.opa.token_file")?;
    let settings = OpaSettings { servers: opa.urls(), token, within: opa.timeout, breakers };
    let meter = Arc::clone(metrics) as Arc<dyn policy::opa::Meter>;
    Ok(Some(Arc::new(OpaServers::open(&settings, &meter).context("policy.opa.servers")?)))
}

/// What the policy is asked by, and what changes it while the node runs; and what it decided, where that is logged.
pub(super) fn rollout(
    basis: &Basis,
    origin: Origin,
    (engine, opa): (Option<RegoEngine>, Option<Arc<OpaServers>>),
    cpu: &Arc<Cpu>,
) -> anyhow::Result<(Arc<Rollout>, Option<WrittenEvents>)> {
    let Basis { config, metrics, clock, .. } = basis;
    let meter = || Arc::clone(metrics) as Arc<dyn policy::Meter>;
    if let Some(servers) = &opa {
        let servers = Arc::clone(servers);
        basis.keep("opa", move || {
            let servers = Arc::clone(&servers);
            async move { servers.run().await }
        });
    }
    let config::Policy { mode, tenants, log: settings, .. } = &config.policy;
    let modes = Arc::new(Modes::new(*mode, tenants.clone(), opa, meter()));
    let engine: Arc<dyn PolicyEngine> = match engine {
        Some(engine) => {
            let rego = Arc::new(OffRuntime::new(engine, Arc::clone(cpu)));
            Arc::new(Moded::new(rego, Arc::clone(&modes)))
        }
        None => Arc::new(Absent::default()),
    };
    let shadow = Shadow::start(meter(), *clock).context("the thread of a candidate")?;
    let mut gate = Gate::new(engine).metered(meter()).shadowed(Arc::new(shadow));
    let mut events = None;
    if settings.is_on() {
        let (log, written) =
            DecisionLog::start(settings, &config.node.name, meter(), *clock).context("policy.log")?;
        gate = gate.logged(Arc::new(log));
        events = Some(written);
    }
    Ok((Arc::new(Rollout::new(Arc::new(gate), Arc::clone(cpu), origin, *clock).asked_by(modes)), events))
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
