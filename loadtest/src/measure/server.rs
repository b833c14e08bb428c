//! A Redis of one measurement, and connections to it as nodes have them.

use std::{sync::Arc, time::Duration};

use agentbus::{
    servers::{RedisData, RedisOptions, RedisServer},
    skew::Skew,
    state::{RedisSettings, RedisStore, SealKeys, Trust},
    supervisor::Supervisor,
};
use anyhow::ensure;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Longer than any measurement takes.
pub(super) const LIVES: Duration = Duration::from_secs(1800);

pub(super) struct Server {
    redis: RedisServer,
    shutdown: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Server {
    pub(super) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("agentbus-loadtest-").tempdir()?;
        let options = RedisOptions {
            name: "redis".to_owned(),
            folder: folder.path().to_owned(),
            port: 0,
            data: RedisData::InMemory,
        };
        let redis = RedisServer::start(options).await?;
        Ok(Self { redis, shutdown: CancellationToken::new(), _folder: folder })
    }

    /// As one node is connected.
    pub(super) async fn connect(&self) -> anyhow::Result<Arc<RedisStore>> {
        let password = self.redis.operator_password().to_owned();
        let mut settings = RedisSettings::new(self.redis.url()).login(None, password);
        let keys = SealKeys::parse(&"a".repeat(32)).map_err(anyhow::Error::msg)?;
        settings.trust = Trust { keys: Some(keys), unsealed_for: Duration::ZERO };
        settings.lifetimes.agent = LIVES;
        settings.command_timeout = Duration::from_secs(5);
        let (stop, tracker) = (self.shutdown.clone(), TaskTracker::new());
        let store = RedisStore::connect(settings, stop, &tracker, &Supervisor::default(), &Skew::default())?;
        ensure!(store.ready(Duration::from_secs(10)).await, "redis does not answer");
        Ok(Arc::new(store))
    }

    pub(super) async fn stop(mut self) {
        self.shutdown.cancel();
        self.redis.stop().await;
    }
}
