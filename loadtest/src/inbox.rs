//! How does a recipient read its durable inbox?

use std::time::Duration;

use agentbus::client::AgentClient;
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;
use tokio::time::timeout;

pub(crate) const ID_HEADER: &str = "Agentbus-Message-Id";
/// Messages of one pull.
const BATCH: usize = 500;

/// Reads a durable inbox, acknowledges each message and tells its id. A pull waits at the server for `expires`. Ends with
/// its connection.
pub(crate) async fn read(
    recipient: AgentClient,
    tenant: String,
    expires: Duration,
    arrived: impl Fn(&str),
) -> anyhow::Result<()> {
    let (nats, id) = (recipient.nats().clone(), recipient.id().clone());
    let inbox = format!("_INBOX.{id}.pull");
    let mut messages = nats.subscribe(inbox.clone()).await?;
    let next = format!("$JS.API.CONSUMER.MSG.NEXT.OUT_{tenant}.{id}");
    let nanos = u64::try_from(expires.as_nanos())?;
    let pull = Bytes::from(json!({ "batch": BATCH, "expires": nanos }).to_string());
    loop {
        nats.publish_with_reply(next.clone(), inbox.clone(), pull.clone()).await?;
        let mut read = 0;
        while read < BATCH {
            let Ok(message) = timeout(2 * expires, messages.next()).await else { break };
            let message = message.context("the connection has ended")?;
            if message.status.is_some_and(|status| status.as_u16() != 100) {
                break;
            }
            let Some(ack) = message.reply else { continue };
            read += 1;
            nats.publish(ack, "+ACK".into()).await?;
            let headers = message.headers.unwrap_or_default();
            if let Some(id) = headers.get(ID_HEADER) {
                arrived(id.as_str());
            }
        }
    }
}
