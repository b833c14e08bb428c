//! What becomes of a message that a consumer has handed out: its acknowledgement, on the way back.

use std::time::Duration;

use async_nats::{Client, Subject, jetstream::AckKind};
use bytes::Bytes;

/// For a word to the server, when it takes nothing.
pub(in crate::nats) const SENT_WITHIN: Duration = Duration::from_secs(2);

/// Goes out plainly, without waiting for an answer. If it is lost, JetStream hands the message out again after the
/// consumer's `ack_wait`.
pub(in crate::nats) async fn acknowledge(client: &Client, reply: Subject, kind: AckKind) {
    let sent = client.publish(reply, Bytes::from(kind));
    match tokio::time::timeout(SENT_WITHIN, sent).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "not acknowledged"),
        Err(_) => tracing::debug!("not acknowledged: NATS takes nothing"),
    }
}
