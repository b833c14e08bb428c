//! How a node connects: who it is, for how long it waits, and what its connections have in common.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions, Event};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::server_list::Servers;
use crate::{
    config,
    lanes::backoff::{doubling, jittered},
    telemetry::Metrics,
    tenants::{self, BusUser, Seed, User},
    tls::{self, TlsError},
};

/// Why the bus did not start.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    #[error("nats.nkey_file: {0}")]
    Key(#[from] tenants::keys::KeysError),
    #[error("nats.tls: {0}")]
    Tls(#[from] TlsError),
    #[error("nats.url: found {found}, expected nats://host:port, several separated by commas ({cause})")]
    Url { found: String, cause: std::io::Error },
    #[error("cannot connect to NATS at {url}: {cause}")]
    Connect { url: String, cause: async_nats::ConnectError },
    #[error("cannot subscribe: {0}")]
    Subscribe(#[from] async_nats::SubscribeError),
    #[error("the intake's subscriptions are not confirmed: NATS is gone again")]
    Intake,
}

/// Connects as a node, for JetStream and the directory: nothing on it is written by strangers.
pub async fn connect(name: &str, settings: &config::Nats, metrics: Arc<Metrics>) -> Result<Client, BusError> {
    let options = options(name, settings)?.event_callback(move |event| {
        let metrics = Arc::clone(&metrics);
        async move { observe(&metrics, &event) }
    });
    open(options, settings).await
}

/// Whether the settings can be used, without connecting. Reads the key.
pub fn check(settings: &config::Nats) -> Result<(), BusError> {
    options("", settings)?;
    settings.kicker_nkey_file.as_deref().map(Seed::read).transpose()?;
    servers(settings).map(drop)
}

pub(super) fn servers(settings: &config::Nats) -> Result<Servers, BusError> {
    Servers::parse(&settings.url)
        .map_err(|cause| BusError::Url { found: config::without_secrets(&settings.url), cause })
}

/// How a node connects: bounded waits and jittered, endless reconnects.
pub(super) fn options(name: &str, settings: &config::Nats) -> Result<ConnectOptions, BusError> {
    let user = User::Bus(BusUser::Node);
    let options = match &settings.nkey_file {
        Some(path) => tenants::connect::options(&user, &Seed::read(path)?),
        None => ConnectOptions::new().custom_inbox_prefix(user.inbox_prefix()),
    };
    Ok(secured(options, settings)?
        .name(format!("agentbus node {name}"))
        .ping_interval(settings.ping_interval)
        .connection_timeout(settings.timeout)
        .request_timeout(Some(settings.timeout))
        .max_reconnects(None)
        .reconnect_delay_callback(reconnect_delay))
}

/// With TLS, if the settings name files for it. Reads them.
pub(super) fn secured(options: ConnectOptions, settings: &config::Nats) -> Result<ConnectOptions, BusError> {
    Ok(tenants::connect::secured(options, &files(settings))?)
}

pub(super) fn files(settings: &config::Nats) -> tls::Files {
    settings.tls.as_ref().map(config::ClientTls::files).unwrap_or_default()
}

pub(super) async fn open(options: ConnectOptions, settings: &config::Nats) -> Result<Client, BusError> {
    options
        .connect(servers(settings)?.all())
        .await
        .map_err(|cause| BusError::Connect { url: config::without_secrets(&settings.url), cause })
}

/// 50 ms doubling to 2 s, and up to half as long again.
pub fn reconnect_delay(attempts: usize) -> Duration {
    jittered(doubling(Duration::from_millis(50), Duration::from_secs(2), attempts as u64))
}

fn observe(metrics: &Metrics, event: &Event) {
    match event {
        Event::SlowConsumer(_) => {
            metrics.nats.slow_consumer();
            tracing::warn!(%event, "messages dropped: this node does not keep up");
        }
        Event::Disconnected | Event::ServerError(_) | Event::ClientError(_) => {
            tracing::warn!(%event, "NATS, for JetStream");
        }
        Event::Connected | Event::Closed | Event::LameDuckMode | Event::Draining => {
            tracing::info!(%event, "NATS, for JetStream");
        }
    }
}

/// A round trip to the server: it has read everything that was written on this connection. `None`: its task
/// is gone, and nothing will ever be written again.
pub(super) async fn fence(client: &Client) -> Option<bool> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.ok()?;
    client.publish(inbox, Bytes::new()).await.ok()?;
    let echoed = tokio::time::timeout(Duration::from_secs(2), echo.next()).await;
    Some(echoed.is_ok_and(|echo| echo.is_some()))
}
