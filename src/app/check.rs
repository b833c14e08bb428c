//! What would end a start? A node reads its files by this before it connects, and `agentbus config check` the same.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    load::{bundles, load_policy},
    load_model, redis_settings,
};
use crate::{
    admin,
    config::{Http, NodeConfig},
    impact::semantic::Prepared,
    nats,
    policy::{BundleSource, Origin, RegoEngine},
    state::RedisSettings,
    telemetry::Metrics,
    webhook::Webhook,
};

/// A node answers for itself within this.
const ITSELF_WITHIN: Duration = Duration::from_secs(1);
/// Bytes that are read of its answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// A configuration, with what its files hold.
pub struct Checked {
    pub(super) policy: (Origin, Option<RegoEngine>),
    pub(super) bundles: Option<Arc<dyn BundleSource>>,
    /// With how often it is called for one event.
    pub(super) webhook: Option<(Webhook, u32)>,
    pub(super) redis: Option<RedisSettings>,
}

impl Checked {
    /// Reads all files that the configuration names, on a thread that may block. Connects to nothing.
    pub async fn read(config: &NodeConfig) -> anyhow::Result<Self> {
        let config = config.clone();
        tokio::task::spawn_blocking(move || Self::read_here(&config)).await?
    }

    fn read_here(config: &NodeConfig) -> anyhow::Result<Self> {
        let policy = load_policy(&config.policy)?;
        let bundles = bundles(&config.policy)?;
        config.policy.log.check().context("policy.log.file")?;
        nats::check(&config.nats)?;
        let redis = config.redis.as_ref().map(redis_settings).transpose()?;
        if let Some(redis) = &redis {
            redis.check().context("redis.url")?;
        }
        let webhook = match &config.webhook {
            Some(webhook) => Some((Webhook::open(webhook)?, webhook.attempts)),
            None => None,
        };
        Ok(Self { policy, bundles, webhook, redis })
    }
}

/// Opens the socket for health and metrics.
pub(super) async fn listen(http: &Http) -> anyhow::Result<TcpListener> {
    admin::listen(http).await.with_context(|| format!("http.listen {}", http.listen))
}

/// All that can be said of a configuration without connecting, and what would score.
pub async fn check(config: &NodeConfig) -> anyhow::Result<(Checked, Prepared)> {
    let checked = Checked::read(config).await?;
    if let Err(error) = listen(&config.http).await
        && !listens_itself(config).await
    {
        return Err(error);
    }
    let model = load_model(&config.impact, &std::sync::Arc::new(Metrics::new(&config.node.name))).await?;
    if let Err(cause) = &model.state {
        return Err(anyhow!("no impact model: {cause}"));
    }
    Ok((checked, model))
}

/// Whether the socket is taken by this very node, which runs.
async fn listens_itself(config: &NodeConfig) -> bool {
    let asked = async {
        let mut stream = TcpStream::connect(config.http.listen).await.ok()?;
        stream.write_all(b"GET /readyz HTTP/1.0\r\n\r\n").await.ok()?;
        let mut answer = String::new();
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await.ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let report: serde_json::Value = serde_json::from_str(body).ok()?;
        Some(report.get("node")?.as_str()? == config.node.name)
    };
    tokio::time::timeout(ITSELF_WITHIN, asked).await.ok().flatten().unwrap_or(false)
}
