//! What would end a start? A node reads its files by this before it connects, and `agentbus config check` the same.

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;

use super::{
    load::{bundles, load_policy, opa_servers},
    load_model, otlp, redis_settings,
};
use crate::{
    admin,
    breakers::Breakers,
    config::{Http, NodeConfig},
    impact::semantic::Prepared,
    nats,
    otlp::Target,
    policy::{BundleSource, OpaServers, Origin, RegoEngine},
    state::RedisSettings,
    telemetry::Metrics,
    tls::Acceptor,
    webhook::Webhook,
};

/// A configuration, with what its files hold.
pub struct Checked {
    pub(super) policy: (Origin, Option<RegoEngine>),
    pub(super) bundles: Option<Arc<dyn BundleSource>>,
    pub(super) opa: Option<Arc<OpaServers>>,
    /// With how often it is called for one event.
    pub(super) webhook: Option<(Webhook, u32)>,
    pub(super) redis: Option<RedisSettings>,
    /// The collector of traces, metrics and logs.
    pub(super) otlp: Option<Target>,
    /// What HTTP speaks TLS by.
    pub(super) acceptor: Option<Acceptor>,
}

impl Checked {
    /// Reads all files that the configuration names, on a thread that may block. Connects to nothing.
    pub async fn read(
        config: &NodeConfig,
        metrics: &Arc<Metrics>,
        breakers: &Arc<Breakers>,
    ) -> anyhow::Result<Self> {
        let (config, metrics, breakers) = (config.clone(), Arc::clone(metrics), Arc::clone(breakers));
        tokio::task::spawn_blocking(move || Self::read_here(&config, &metrics, &breakers)).await?
    }

    fn read_here(config: &NodeConfig, metrics: &Arc<Metrics>, breakers: &Breakers) -> anyhow::Result<Self> {
        let policy = load_policy(&config.policy)?;
        let bundles = bundles(&config.policy)?;
        let opa = opa_servers(&config.policy, metrics, breakers)?;
        config.policy.log.check().context("policy.log.file")?;
        nats::check(&config.nats)?;
        let acceptor = admin::acceptor(&config.http).context("http.tls")?;
        let redis = config.redis.as_ref().map(redis_settings).transpose()?;
        if let Some(redis) = &redis {
            redis.check().context("redis.url")?;
        }
        let webhook = match &config.webhook {
            Some(webhook) => Some((Webhook::open(webhook)?, webhook.attempts)),
            None => None,
        };
        let otlp = config.otlp.as_ref().map(|otlp| Target::open(&otlp::target(otlp))).transpose()?;
        Ok(Self { policy, bundles, opa, webhook, redis, otlp, acceptor })
    }
}

/// Opens the socket for health and metrics.
pub(super) async fn listen(http: &Http) -> anyhow::Result<TcpListener> {
    admin::listen(http).await.with_context(|| format!("http.listen {}", http.listen))
}

/// All that can be said of a configuration without connecting, and what would score.
pub async fn check(config: &NodeConfig) -> anyhow::Result<(Checked, Prepared)> {
    let metrics = Arc::new(Metrics::new(&config.node.name));
    let checked = Checked::read(config, &metrics, &Arc::default()).await?;
    if let Err(error) = listen(&config.http).await
        && !listens_itself(config).await
    {
        return Err(error);
    }
    let model = load_model(&config.impact, &metrics).await?;
    if let Err(cause) = &model.state {
        return Err(anyhow!("no impact model: {cause}"));
    }
    Ok((checked, model))
}

/// Whether the socket is taken by this very node, which runs.
async fn listens_itself(config: &NodeConfig) -> bool {
    let Ok(answer) = admin::ask(&config.http, "/readyz").await else { return false };
    let report: Option<serde_json::Value> = serde_json::from_str(&answer.body).ok();
    report.is_some_and(|report| report.get("node").is_some_and(|node| *node == *config.node.name))
}
