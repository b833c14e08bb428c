//! What is the least a node could do? The baseline: each payload to the recipient's inbox, "ok" to
//! the sender, nothing read, nothing checked, nothing kept.

use std::time::Duration;

use agentbus::tenants::Seed;
use anyhow::Context as _;
use async_nats::ConnectOptions;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::signal::unix::{SignalKind, signal};

use crate::options::EchoOptions;

pub(crate) const ANSWER: &[u8] = b"ok";

/// Serves until SIGTERM. The same user, subject and queue group as a node's.
pub(crate) async fn run(options: &EchoOptions) -> anyhow::Result<()> {
    let seed = Seed::read(&options.nkey_file).context("the node's key")?;
    let client = ConnectOptions::with_nkey(seed.reveal().to_owned())
        .custom_inbox_prefix("_INBOX.node")
        .name("loadtest echo")
        .connection_timeout(Duration::from_secs(3))
        .connect(&options.nats)
        .await?;
    let mut requests = client.queue_subscribe("tenant.*.bus.*.send", "nodes".to_owned()).await?;
    let mut stop = signal(SignalKind::terminate())?;
    loop {
        let request = tokio::select! {
            request = requests.next() => request,
            _ = stop.recv() => return Ok(()),
        };
        let Some(request) = request else { return Ok(()) };
        let tenant = request.subject.split('.').nth(1).unwrap_or_default();
        let inbox = format!("tenant.{tenant}.agent.{}.inbox", options.recipient);
        let Some(reply) = request.reply else { continue };
        client.publish(inbox, request.payload).await?;
        client.publish(reply, Bytes::from_static(ANSWER)).await?;
    }
}
