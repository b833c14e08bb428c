//! How is the durable lane loaded? So many messages are on their way at one time; one has arrived when
//! its recipient has read it from its durable inbox, and then the next one leaves.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    client::{AgentClient, Patience},
    domain::Verb,
    wire,
};
use anyhow::Context as _;
use async_nats::jetstream::Context;
use bytes::Bytes;
use futures_util::StreamExt as _;
use hdrhistogram::Histogram;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{sync::oneshot, task::JoinSet, time::timeout};

use crate::{
    cpu::{Cpu, Processes},
    message::Template,
    rig::Side,
};

pub(super) const ID_HEADER: &str = "Agentbus-Message-Id";
/// From the submission to the inbox; longer is a failure.
const ARRIVAL_WAIT: Duration = Duration::from_secs(10);
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// Messages of one pull, and how long it waits at the server.
const BATCH: usize = 500;
const EXPIRES: Duration = Duration::from_secs(5);
/// Latencies are recorded from 1 µs to one minute, to three digits.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Who submits, what, and who waits for which message to arrive.
pub(super) struct Parties {
    pub(super) tenant: String,
    pub(super) sender: AgentClient,
    /// What the bare side publishes through.
    pub(super) node: Context,
    pub(super) template: Template,
    pub(super) arrivals: Arc<Arrivals>,
}

/// Those who wait, by message id. As many as there are messages on their way.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<HashMap<String, oneshot::Sender<()>>>);

/// What one measurement saw.
pub(super) struct Measured {
    pub(super) arrived: u64,
    pub(super) elapsed: Duration,
    /// To the answer that says it is kept, in microseconds.
    pub(super) stored: Histogram<u64>,
    /// To the recipient's inbox.
    pub(super) inbox: Histogram<u64>,
    pub(super) cpu: Cpu,
    pub(super) failures: BTreeMap<String, u64>,
}

struct Seen {
    arrived: u64,
    stored: Histogram<u64>,
    inbox: Histogram<u64>,
    failures: BTreeMap<String, u64>,
}

impl Parties {
    /// `in_flight` messages on their way at one time, for `warm_up` and then for `duration`.
    pub(super) async fn closed(
        self: &Arc<Self>,
        side: Side,
        in_flight: usize,
        warm_up: Duration,
        duration: Duration,
        processes: Processes,
    ) -> anyhow::Result<Measured> {
        let from = Instant::now() + warm_up;
        let until = from + duration;
        let histogram = Histogram::new_with_bounds(1, LATENCY_MAX_US, 3)?;
        let seen =
            Seen { arrived: 0, stored: histogram.clone(), inbox: histogram, failures: BTreeMap::new() };
        let seen = Arc::new(Mutex::new(seen));
        let mut workers = JoinSet::new();
        for _ in 0..in_flight {
            let (parties, seen) = (Arc::clone(self), Arc::clone(&seen));
            workers.spawn(async move {
                while Instant::now() < until {
                    let sent = Instant::now();
                    let went = parties.one(side).await;
                    let now = Instant::now();
                    let mut seen = seen.lock();
                    match went {
                        Ok(kept) if now >= from && now < until => {
                            seen.arrived += 1;
                            seen.stored.saturating_record(micros(kept.duration_since(sent)));
                            seen.inbox.saturating_record(micros(now.duration_since(sent)));
                        }
                        Ok(_) => {}
                        Err(error) => *seen.failures.entry(format!("{error:#}")).or_default() += 1,
                    }
                }
            });
        }
        tokio::time::sleep_until(from.into()).await;
        let (started, before) = (Instant::now(), processes.cpu());
        tokio::time::sleep_until(until.into()).await;
        let (elapsed, cpu) = (started.elapsed(), processes.cpu().since(before));
        while workers.join_next().await.is_some() {}
        let seen = seen.lock();
        Ok(Measured {
            arrived: seen.arrived,
            elapsed,
            stored: seen.stored.clone(),
            inbox: seen.inbox.clone(),
            cpu,
            failures: seen.failures.clone(),
        })
    }

    /// One message until it is in its recipient's inbox; when it was kept.
    pub(super) async fn one(&self, side: Side) -> anyhow::Result<Instant> {
        let (id, bytes) = self.template.next_with_id();
        let (sender, arrived) = oneshot::channel();
        self.arrivals.0.lock().insert(id.clone(), sender);
        let kept = match side {
            Side::Baseline => self.publish(&id, bytes).await,
            Side::Bus => self.submit(bytes).await,
        };
        let arrived = match kept {
            Ok(_) => timeout(ARRIVAL_WAIT, arrived).await.context("not in the inbox in time").map(drop),
            Err(_) => Ok(()),
        };
        self.arrivals.0.lock().remove(&id);
        arrived.and(kept)
    }

    async fn publish(&self, id: &str, bytes: Bytes) -> anyhow::Result<Instant> {
        let subject = format!("tenant.{}.submitted.{}.{id}", self.tenant, self.sender.id());
        self.node.publish(subject, bytes).await?.await?;
        Ok(Instant::now())
    }

    async fn submit(&self, bytes: Bytes) -> anyhow::Result<Instant> {
        let patience = Patience { attempt: ANSWER_WAIT, deadline: ANSWER_WAIT };
        let answer = self.sender.call(Verb::Submit, bytes, patience).await?;
        let kept = Instant::now();
        let status = answer.headers.as_ref().and_then(|headers| headers.get("Agentbus-Verdict"));
        if status.is_some_and(|status| status.as_str() == "stored") {
            return Ok(kept);
        }
        match wire::decode_verdict(&answer.payload) {
            Ok(verdict) => anyhow::bail!("{}: {}", verdict.reason.as_str(), verdict.detail),
            Err(_) => anyhow::bail!("not a verdict"),
        }
    }
}

impl Arrivals {
    fn arrived(&self, id: &str) {
        if let Some(waiting) = self.0.lock().remove(id) {
            // Who has stopped waiting has counted it as a failure.
            let _ = waiting.send(());
        }
    }
}

/// Reads the recipient's durable inbox, acknowledges each message and tells who waits for it. The same
/// for both sides. Ends with its connection.
pub(super) async fn read(
    recipient: AgentClient,
    tenant: String,
    arrivals: Arc<Arrivals>,
) -> anyhow::Result<()> {
    read_inbox(recipient, tenant, EXPIRES, |id| arrivals.arrived(id)).await
}

/// The same, telling the id of each message. A pull waits at the server for `expires`.
pub(crate) async fn read_inbox(
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

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(LATENCY_MAX_US)
}
