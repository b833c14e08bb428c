//! What does a recipient do? Pulls its durable inbox, writes down what it reads, and acknowledges it;
//! now and then it gives a message back, and once it forgets a whole batch, as one that crashed would.

use std::time::Duration;

use agentbus::client::{AgentClient, is_delivery};
use agentbus_testkit::books::{Key, Seen};
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use rand::{Rng as _, rngs::StdRng};
use serde_json::json;
use tokio::time::{Instant, timeout};

use super::cast::{Setting, header};

/// Messages of one pull.
const BATCH: usize = 64;
/// How long a pull waits at the server.
const EXPIRES: Duration = Duration::from_secs(1);
/// A pull that a dead server has forgotten is made anew.
const PULL_WAIT: Duration = Duration::from_secs(2);
/// Of a hundred messages so many are given back once.
const GIVEN_BACK_PERCENT: u32 = 2;

/// A durable inbox and who reads it.
pub(crate) struct Inbox {
    pub(crate) setting: Setting,
    pub(crate) tenant: &'static str,
    pub(crate) client: AgentClient,
    pub(crate) rng: StdRng,
    /// When it forgets a batch, if ever.
    pub(crate) crash_at: Option<Instant>,
}

impl Inbox {
    /// Reads until all is over.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let (nats, id) = (self.client.nats().clone(), self.client.id().clone());
        let replies = format!("_INBOX.{id}.pull");
        let mut messages = nats.subscribe(format!("{replies}.*")).await?;
        let next = format!("$JS.API.CONSUMER.MSG.NEXT.OUT_{}.{id}", self.tenant);
        let nanos = u64::try_from(EXPIRES.as_nanos()).context("a second in nanoseconds")?;
        let pull = Bytes::from(json!({ "batch": BATCH, "expires": nanos }).to_string());
        let over = self.setting.over.clone();
        while !over.is_cancelled() {
            // While servers are down it is not sent; then no answer comes, and it is made anew.
            let _ = nats.publish_with_reply(next.clone(), format!("{replies}.1"), pull.clone()).await;
            let crash = self.crash_at.take_if(|at| *at <= Instant::now()).is_some();
            let mut read = 0;
            while read < BATCH {
                let Ok(message) = timeout(PULL_WAIT, messages.next()).await else { break };
                let message = message.context("the connection has ended")?;
                // An end of the pull: nothing there, or its time is over.
                if message.status.is_some_and(|status| status.as_u16() != 100) {
                    break;
                }
                let Some(ack) = message.reply.clone() else { continue };
                read += 1;
                let answer = match crash {
                    true => None,
                    false if self.rng.random_range(0..100) < GIVEN_BACK_PERCENT => Some("-NAK"),
                    false => Some("+ACK"),
                };
                self.note(&message, answer == Some("+ACK"))?;
                if let Some(answer) = answer {
                    let _ = nats.publish(ack, answer.into()).await;
                }
            }
            if crash {
                let _ = nats.force_reconnect().await;
            }
        }
        Ok(())
    }

    fn note(&self, message: &async_nats::Message, acked: bool) -> anyhow::Result<()> {
        let reply = message.reply.as_deref().unwrap_or_default();
        let sequence = sequence(reply).with_context(|| format!("no sequence in {reply}"))?;
        let (tenant, reader) = (self.tenant.to_owned(), self.client.id().to_string());
        let id = header(message, "Agentbus-Message-Id").unwrap_or_default();
        let decision = header(message, "Agentbus-Decision").unwrap_or_default();
        let seen = if is_delivery(message, self.client.id()) {
            let sender = header(message, "Agentbus-Sender").unwrap_or_default();
            let key = Key { tenant, sender, message: id };
            Seen::Read { key, recipient: reader, sequence, decision, acked }
        } else {
            let verdict = agentbus::wire::decode_verdict(&message.payload)
                .map_err(|error| anyhow::anyhow!("an outcome that cannot be read: {error}"))?;
            Seen::Outcome {
                tenant,
                reader,
                message: id,
                sequence,
                status: verdict.status.as_str().to_owned(),
                reason: verdict.reason.as_str().to_owned(),
                decision: verdict.decision_id,
                delivered: verdict.reach.map(|reach| reach.delivered),
            }
        };
        self.setting.books.write(seen);
        Ok(())
    }
}

/// The stream's sequence in `$JS.ACK.<stream>.<consumer>.<attempts>.<sequence>.…`, or in its longer
/// form, which has domain and account ahead of the stream.
fn sequence(reply: &str) -> Option<u64> {
    let tokens: Vec<&str> = reply.split('.').collect();
    let at = match tokens.len() {
        9 => 5,
        11.. => 7,
        _ => return None,
    };
    tokens.get(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_read_from_both_forms_of_an_ack_subject() {
        assert_eq!(sequence("$JS.ACK.OUT_acme.worker.1.42.7.1700000000.0"), Some(42));
        assert_eq!(sequence("$JS.ACK.hub.HASH.OUT_acme.worker.1.42.7.1700000000.0.x"), Some(42));
        assert_eq!(sequence("_INBOX.worker.1"), None);
        assert_eq!(sequence(""), None);
    }
}
