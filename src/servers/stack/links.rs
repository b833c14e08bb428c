//! The ways from a node to the servers: through proxies, where experiments may be made.

use std::net::{Ipv4Addr, SocketAddr};

use super::{NatsServer, RedisServer, ServerError};
use crate::servers::proxy::Proxy;

/// Of one node.
#[derive(Debug)]
pub(super) struct Links {
    pub(super) nats: Proxy,
    /// Absent: it keeps its state in memory.
    pub(super) redis: Option<Proxy>,
}

impl Links {
    pub(super) async fn start(nats: &NatsServer, redis: Option<&RedisServer>) -> Result<Self, ServerError> {
        let to = |port| Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let redis = match redis {
            Some(redis) => Some(to(redis.port()).await?),
            None => None,
        };
        Ok(Self { nats: to(nats.port()).await?, redis })
    }

    /// What its node is told instead of where the servers are.
    pub(super) fn config(&self) -> toml::Table {
        let url = |scheme: &str, proxy: &Proxy| {
            toml::Table::from_iter([(
                "url".to_owned(),
                format!("{scheme}://127.0.0.1:{}", proxy.port()).into(),
            )])
        };
        let nats = Some(("nats".to_owned(), url("nats", &self.nats).into()));
        let redis = self.redis.as_ref().map(|proxy| ("redis".to_owned(), url("redis", proxy).into()));
        nats.into_iter().chain(redis).collect()
    }
}
