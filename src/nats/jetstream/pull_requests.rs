//! What has a loop asked a consumer for that has not come yet, and what does the server say of that?

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use async_nats::{Client, Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde_json::json;

use super::acknowledge::SENT_WITHIN;

/// After the time at which the server ends a pull, an end that was not heard is assumed.
const GRACE: Duration = Duration::from_secs(2);
/// A pull that the server refused is not repeated before this.
const REFUSED_FOR: Duration = Duration::from_millis(250);
/// Nothing for so long: what had been pulled has come.
const QUIET: Duration = Duration::from_millis(50);
/// A loop that ends reads what had been pulled for so long.
const LAST_WITHIN: Duration = Duration::from_secs(1);

/// What a word of the server about a pull means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PullStatus {
    /// The consumer is there.
    Served,
    Absent,
    /// Of this pull alone.
    Other,
}

/// Pulls under way, oldest first: the server fills them in this order.
#[derive(Debug)]
pub(super) struct PullRequests {
    /// The server ends a pull after this.
    expires: Duration,
    sent: VecDeque<Pull>,
    last: u64,
    refused_until: Option<Instant>,
    served: bool,
}

#[derive(Debug)]
struct Pull {
    number: u64,
    left: usize,
    until: Instant,
}

impl PullRequests {
    pub(super) fn new(expires: Duration) -> Self {
        Self { expires, sent: VecDeque::new(), last: 0, refused_until: None, served: false }
    }

    /// Asks for so many messages, which come to `inbox` and a number.
    pub(super) async fn ask(
        &mut self,
        client: &Client,
        subject: &str,
        inbox: &str,
        batch: usize,
        now: Instant,
    ) -> Result<(), String> {
        let number = self.send(batch, now);
        let expires = u64::try_from(self.expires.as_nanos()).unwrap_or(u64::MAX);
        let body = json!({ "batch": batch, "expires": expires }).to_string();
        ask_server(client, subject.to_owned(), format!("{inbox}.{number}"), body.into()).await
    }

    /// Notes a pull and returns its number.
    fn send(&mut self, batch: usize, now: Instant) -> u64 {
        self.last += 1;
        let until = now + self.expires + GRACE;
        self.sent.push_back(Pull { number: self.last, left: batch, until });
        self.last
    }

    pub(super) fn outstanding(&self) -> usize {
        self.sent.iter().map(|pull| pull.left).sum()
    }

    /// The server has refused one a moment ago.
    pub(super) fn refused(&self, now: Instant) -> bool {
        self.refused_until.is_some_and(|until| now < until)
    }

    /// Whether JetStream has answered as it does when there is a consumer.
    pub(super) fn was_served(&self) -> bool {
        self.served
    }

    /// A message has come.
    pub(super) fn arrived(&mut self) {
        self.served = true;
        if let Some(pull) = self.sent.front_mut() {
            pull.left = pull.left.saturating_sub(1);
            if pull.left == 0 {
                self.sent.pop_front();
            }
        }
    }

    /// What the server says of a pull ends it.
    pub(super) fn status(&mut self, status: StatusCode, message: &Message) -> PullStatus {
        let number = message.subject.rsplit('.').next().and_then(|number| number.parse().ok());
        self.ended(number.unwrap_or_default());
        match status {
            StatusCode::NO_RESPONDERS => PullStatus::Absent,
            StatusCode::NOT_FOUND | StatusCode::TIMEOUT => {
                self.served = true;
                PullStatus::Served
            }
            _ => {
                let why = message.description.as_deref().unwrap_or_default();
                tracing::debug!(%status, why, "a pull has ended");
                self.refused_until = Some(Instant::now() + REFUSED_FOR);
                if why.eq_ignore_ascii_case("consumer deleted") {
                    PullStatus::Absent
                } else {
                    PullStatus::Other
                }
            }
        }
    }

    /// The server has ended it: expired, or refused.
    fn ended(&mut self, number: u64) {
        self.sent.retain(|pull| pull.number != number);
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.sent.retain(|pull| pull.until > now);
    }

    /// They were lost with their connection.
    pub(super) fn forget(&mut self) {
        self.sent.clear();
    }

    /// What was pulled and not begun is for other nodes, now and not when JetStream misses it. `back` gives a
    /// message back.
    pub(super) async fn give_back<F: Future<Output = ()>>(
        &mut self,
        mut messages: Subscriber,
        back: impl Fn(Message) -> F,
    ) {
        let deadline = Instant::now() + LAST_WITHIN;
        while self.outstanding() > 0 && Instant::now() < deadline {
            let Ok(Some(message)) = tokio::time::timeout(QUIET, messages.next()).await else { break };
            if message.status.is_none() && message.reply.is_some() {
                self.arrived();
                back(message).await;
            }
        }
        // Without interest the server forgets what is left of the pulls.
        if let Err(error) = messages.unsubscribe().await {
            tracing::debug!(%error, "not unsubscribed");
        }
    }
}

/// Asks JetStream something; the answer comes to `reply`.
pub(super) async fn ask_server(
    client: &Client,
    subject: String,
    reply: String,
    body: Bytes,
) -> Result<(), String> {
    match tokio::time::timeout(SENT_WITHIN, client.publish_with_reply(subject, reply, body)).await {
        Ok(sent) => sent.map_err(|error| error.to_string()),
        Err(_) => Err("NATS takes nothing".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRES: Duration = Duration::from_secs(10);

    #[test]
    fn what_came_and_what_ended_is_no_longer_asked_for() {
        let (mut pulls, now) = (PullRequests::new(EXPIRES), Instant::now());
        let (first, second) = (pulls.send(2, now), pulls.send(8, now));
        assert_eq!(pulls.outstanding(), 10);
        pulls.arrived();
        pulls.arrived();
        assert_eq!(pulls.outstanding(), 8, "the first pull is filled first");
        pulls.ended(first);
        assert_eq!(pulls.outstanding(), 8);
        pulls.ended(second);
        assert_eq!(pulls.outstanding(), 0);
        pulls.arrived();
        assert_eq!(pulls.outstanding(), 0, "one that nobody asked for any more");
        pulls.send(4, now);
        pulls.expire(now + EXPIRES + GRACE + Duration::from_millis(1));
        assert_eq!(pulls.outstanding(), 0);
    }
}
