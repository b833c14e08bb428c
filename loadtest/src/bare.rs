//! What is the least a durable lane could do? Pulls each message from the stream of what waits, stores
//! it in the recipient's with an acknowledgement, acknowledges it; nothing read, checked or recorded.

use std::{sync::Arc, time::Duration};

use agentbus::tenants::{Seed, names};
use anyhow::Context as _;
use async_nats::{
    ConnectOptions, HeaderMap,
    jetstream::{self, Context, consumer::pull},
};
use futures_util::StreamExt as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Semaphore,
};

use crate::{inbox::ID_HEADER, options::BareOptions};

/// Messages that are being stored at one time.
const STORING_MAX: usize = 512;
/// Messages of one pull.
const BATCH: usize = 256;

/// Serves until SIGTERM. The same user, streams and consumer as a node's.
pub(crate) async fn run(options: &BareOptions) -> anyhow::Result<()> {
    let context = connect(&options.of.nats, Seed::read(&options.of.nkey_file)?.reveal()).await?;
    let tenant = options.tenant.parse()?;
    let stream = context.get_stream(names::inbound_stream(&tenant)).await?;
    let consumer: jetstream::consumer::Consumer<pull::Config> =
        stream.get_consumer(names::NODES_CONSUMER).await.map_err(|error| anyhow::anyhow!("{error}"))?;
    let mut messages = consumer.stream().max_messages_per_batch(BATCH).messages().await?;
    let storing = Arc::new(Semaphore::new(STORING_MAX));
    let mut stop = signal(SignalKind::terminate())?;
    loop {
        let message = tokio::select! {
            message = messages.next() => message.context("the pull has ended")??,
            _ = stop.recv() => return Ok(()),
        };
        let place = Arc::clone(&storing).acquire_owned().await?;
        let (context, recipient) = (context.clone(), options.of.recipient.clone());
        tokio::spawn(async move {
            if let Err(error) = store(&context, &recipient, &message).await {
                eprintln!("loadtest: bare: {error:#}");
            }
            drop(place);
        });
    }
}

async fn store(context: &Context, recipient: &str, message: &jetstream::Message) -> anyhow::Result<()> {
    // tenant.<tenant>.submitted.<sender>.<message>
    let mut tokens = message.subject.split('.').skip(1);
    let (tenant, sender, id) = match (tokens.next(), tokens.nth(1), tokens.next()) {
        (Some(tenant), Some(sender), Some(id)) => (tenant, sender, id),
        _ => anyhow::bail!("an unknown subject, {}", message.subject),
    };
    let mut headers = HeaderMap::new();
    headers.insert(ID_HEADER, id);
    let subject = format!("tenant.{tenant}.stored.{recipient}.message.{sender}.{id}");
    context.publish_with_headers(subject, headers, message.payload.clone()).await?.await?;
    message.ack().await.map_err(|error| anyhow::anyhow!("{error}"))
}

/// Logged in as a node, whom the streams belong to.
pub(crate) async fn connect(url: &str, seed: &str) -> anyhow::Result<Context> {
    let client = ConnectOptions::with_nkey(seed.trim().to_owned())
        .custom_inbox_prefix("_INBOX.node")
        .name("loadtest bare")
        .connection_timeout(Duration::from_secs(3))
        .connect(url)
        .await?;
    Ok(jetstream::new(client))
}
