//! How does a node come to NATS when it starts?

use std::sync::Arc;

use anyhow::bail;
use async_nats::{Client, ConnectErrorKind};

use crate::{
    config::NodeConfig,
    nats::{self, BusError},
    shutdown::Shutdown,
    telemetry::Metrics,
};

/// Waits for NATS as long as it takes, unless it says that this node is not welcome.
pub(super) async fn connect(
    config: &NodeConfig,
    metrics: &Arc<Metrics>,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<Client>> {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let error = match nats::connect(&config.node.name, &config.nats, Arc::clone(metrics)).await {
            Ok(client) => return Ok(Some(client)),
            Err(error) => error,
        };
        match &error {
            BusError::Connect { cause, .. } if !refused(cause.kind()) => {
                tracing::warn!(%error, attempts, "NATS does not answer; trying again");
            }
            _ => bail!(error),
        }
        tokio::select! {
            () = tokio::time::sleep(nats::reconnect_delay(attempts)) => {}
            () = shutdown.requested() => return Ok(None),
        }
    }
}

fn refused(kind: ConnectErrorKind) -> bool {
    matches!(kind, ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation)
}
