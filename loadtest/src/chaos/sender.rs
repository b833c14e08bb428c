//! What do senders do? Submit at a steady rate, ask again with the same bytes, and write down both.

use std::{sync::Arc, time::Duration};

use agentbus::{
    client::{AgentClient, Draft, Patience},
    domain::{Encoding, MessageType, Status, Verb},
    wire,
};
use agentbus_testkit::books::{Fate, Key, Seen, To};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::{Rng as _, rngs::StdRng};
use serde_json::json;
use tokio::time::Instant;

use super::cast::{AWAY, CAPABILITY, DENIED_TYPE, PARKED_TYPE, ROLE, Setting, WORKERS};

/// One attempt, and all of them: longer than any server needs to come back.
const ATTEMPT: Duration = Duration::from_millis(1500);
const DEADLINE: Duration = Duration::from_secs(30);
/// The bus may say when to ask again; no longer than this.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// Of a hundred acknowledged messages so many are submitted a second time.
const REPEATED_PERCENT: u32 = 5;
/// What a message to be refused by its reviewers is called, so that they know.
pub(crate) const REFUSED: &str = "refuse-";

/// When the next message may leave: all senders share one rate.
pub(crate) struct Pace {
    next: Mutex<Instant>,
    step: Duration,
}

impl Pace {
    pub(crate) fn new(rate: u32) -> Self {
        Self { next: Mutex::new(Instant::now()), step: Duration::from_secs(1) / rate.max(1) }
    }

    async fn turn(&self) {
        let at = {
            let mut next = self.next.lock();
            // What an outage kept from leaving does not leave at once after it.
            let at = (*next).max(Instant::now());
            *next = at + self.step;
            at
        };
        tokio::time::sleep_until(at).await;
    }
}

/// One of a sender's places in flight.
pub(crate) struct Submitter {
    pub(crate) setting: Setting,
    pub(crate) tenant: &'static str,
    pub(crate) client: AgentClient,
    pub(crate) pace: Arc<Pace>,
    pub(crate) rng: StdRng,
    /// Of a hundred messages so many are parked.
    pub(crate) parked_percent: u32,
}

impl Submitter {
    /// Until there are enough.
    pub(crate) async fn run(mut self) {
        loop {
            self.pace.turn().await;
            if self.setting.enough.is_cancelled() {
                return;
            }
            let (draft, to, fate) = self.next();
            let message = draft.message_id.clone();
            let key = Key { tenant: self.tenant.to_owned(), sender: self.client.id().to_string(), message };
            self.setting.books.write(Seen::Submitting { key: key.clone(), to, fate });
            let bytes = draft.encode(Encoding::MessagePack);
            let (status, reason) = submit(&self.client, &bytes).await;
            let acked = status.is_some_and(|status| !matches!(status, Status::Rejected | Status::Shed));
            let status = status.map(|status| status.as_str().to_owned());
            self.setting.books.write(Seen::Submitted { key, status, reason });
            if acked && self.rng.random_range(0..100) < REPEATED_PERCENT {
                // A sender that has forgotten its answer: nothing more may come of it.
                let _ = submit(&self.client, &bytes).await;
            }
        }
    }

    fn next(&mut self) -> (Draft, To, Fate) {
        let rng = &mut self.rng;
        let worker = WORKERS.get(rng.random_range(0..WORKERS.len())).copied().unwrap_or(AWAY);
        let text = "the weekly summary is ready";
        let of_type = |message_type: MessageType, prefix: &str, to: &str| {
            let draft = Draft::to_agent(to, text);
            Draft { message_type, message_id: format!("{prefix}{}", draft.message_id), ..draft }
        };
        let dice = rng.random_range(0..100);
        let parked = self.parked_percent;
        if dice < parked {
            return match rng.random_range(0..4) {
                0 => (of_type(PARKED_TYPE, REFUSED, worker), To::One, Fate::Refused),
                _ => (of_type(PARKED_TYPE, "approve-", worker), To::One, Fate::Approved),
            };
        }
        match (dice - parked) * 100 / (100 - parked).max(1) {
            0..8 => (of_type(DENIED_TYPE, "deny-", worker), To::One, Fate::Denied),
            8..22 => {
                let to = json!({ "capability": CAPABILITY });
                (Draft::new(to, json!({ "text": text })), To::One, Fate::Delivered)
            }
            22..34 => {
                let to = json!({ "broadcast": { "role": ROLE } });
                (Draft::new(to, json!({ "text": text })), To::Many, Fate::Delivered)
            }
            34..44 => (Draft::to_agent(AWAY, text), To::One, Fate::Delivered),
            _ => (Draft::to_agent(worker, text), To::One, Fate::Delivered),
        }
    }
}

/// Until it is kept, or refused for good, or nobody has answered in time.
async fn submit(client: &AgentClient, bytes: &Bytes) -> (Option<Status>, String) {
    let started = Instant::now();
    loop {
        let left = DEADLINE.saturating_sub(started.elapsed());
        let patience = Patience { attempt: ATTEMPT, deadline: left };
        let (pause, last) = match client.call(Verb::Submit, bytes.clone(), patience).await {
            Err(error) => return (None, error.to_string()),
            Ok(answer) => match wire::decode_verdict(&answer.payload) {
                Err(error) => return (None, format!("not a verdict: {error}")),
                Ok(verdict) if !verdict.retryable => {
                    return (Some(verdict.status), verdict.reason.as_str().to_owned());
                }
                Ok(verdict) => (
                    verdict.retry_after.unwrap_or_default().min(PAUSE_MAX),
                    verdict.reason.as_str().to_owned(),
                ),
            },
        };
        if started.elapsed() + pause >= DEADLINE {
            return (None, last);
        }
        let jitter = Duration::from_millis(rand::rng().random_range(10..60));
        tokio::time::sleep(pause + jitter).await;
    }
}
