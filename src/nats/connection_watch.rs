//! What one node does for all: it watches what agents take of NATS itself, where nats-server has no limit.

use std::sync::Arc;

use async_nats::Client;

use super::{
    connection_shares::ConnectionShares, kicker::Kicker, peers::Peers, turned_away::TurnedAway,
    write_rates::WriteRates,
};
use crate::{telemetry::Metrics, tenants::Directory};

/// Watches, until the future is dropped: connections of one user, how fast each writes, and who is turned away for it.
pub async fn watch_connections(
    kicker: Option<Kicker>,
    peers: Arc<Peers>,
    directory: Arc<Directory>,
    client: Client,
    metrics: Arc<Metrics>,
) {
    let Some(kicker) = kicker else { return std::future::pending().await };
    let away = Arc::new(TurnedAway::default());
    let shares = ConnectionShares {
        kicker: kicker.clone(),
        away: Arc::clone(&away),
        peers: Arc::clone(&peers),
        directory: Arc::clone(&directory),
        metrics: Arc::clone(&metrics),
    };
    let rates =
        WriteRates::new(kicker.clone(), Arc::clone(&away), peers, directory, client, Arc::clone(&metrics));
    tokio::join!(shares.keep(), rates.watch(), away.keep(&kicker, &metrics));
}
