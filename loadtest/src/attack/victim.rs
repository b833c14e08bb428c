//! Does the neighbour notice anything? A sender and a recipient of one tenant that do honest work.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Reason, Status, Verdict},
    wire,
};
use anyhow::Context as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use crate::chaos::cast::header;

/// Every honest message is answered and has arrived within this time, which is more than the node gives itself.
const ANSWER_MAX: Duration = Duration::from_secs(30);
/// Where an answer may have been lost.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(50);
/// Latencies that are kept.
const TIMES_MAX: usize = 100_000;
/// Deliveries without a verdict that are told.
const STRAYS_MAX: usize = 20;

/// Honest agents `planner` and `worker` of one tenant.
#[derive(Clone)]
pub(crate) struct Victim {
    pub(crate) tenant: &'static str,
    /// Whether an answer that does not come may be asked for once more.
    pub(crate) asks_again: bool,
    planner: AgentClient,
    run: u32,
    next: Arc<AtomicU64>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    /// How often each probe has come to the worker.
    arrived: HashMap<String, u32>,
    /// What came to the worker though no verdict had promised it.
    strays: Vec<String>,
    times: Vec<Duration>,
    /// How often Redis was too slow for a node, which said so.
    slow: usize,
}

/// How long honest messages took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Latency {
    pub(super) count: usize,
    /// P50.
    pub(super) half: Duration,
    /// P99.
    pub(super) most: Duration,
}

/// How an honest message fared.
pub(crate) enum Answer {
    Delivered,
    /// Told in time to come again: right where the tenant itself makes the noise.
    NoRoom(String),
    Wrong(String),
}

impl Answer {
    pub(crate) fn wrong(self) -> Option<String> {
        match self {
            Answer::Delivered => None,
            Answer::NoRoom(what) | Answer::Wrong(what) => Some(what),
        }
    }
}

impl Victim {
    /// Listens as the worker from now on.
    pub(crate) async fn start(
        tenant: &'static str,
        planner: AgentClient,
        worker: &AgentClient,
    ) -> anyhow::Result<Self> {
        let victim = Self {
            tenant,
            asks_again: false,
            planner,
            run: rand::random(),
            next: Arc::default(),
            seen: Arc::default(),
        };
        let mut inbox = Box::pin(worker.inbox().await?);
        let (seen, prefix) = (Arc::clone(&victim.seen), format!("probe-{:08x}-", victim.run));
        tokio::spawn(async move {
            while let Some(message) = inbox.next().await {
                let id = header(&message, "Agentbus-Message-Id").unwrap_or_default();
                let sender = header(&message, "Agentbus-Sender").unwrap_or_default();
                let mut seen = seen.lock();
                if sender == "planner" && id.starts_with(&prefix) {
                    *seen.arrived.entry(id).or_default() += 1;
                } else if seen.strays.len() < STRAYS_MAX {
                    seen.strays.push(format!("{id} from {sender}"));
                }
            }
        });
        Ok(victim)
    }

    /// One honest message.
    pub(crate) async fn probe(&self) -> Answer {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let id = format!("probe-{:08x}-{number}", self.run);
        let draft =
            Draft { message_id: id.clone(), ..Draft::to_agent("worker", "the weekly summary is ready") };
        let begun = Instant::now();
        let body = draft.encode(Encoding::MessagePack);
        let wrong = |what: String| Answer::Wrong(format!("{}/planner: {what}", self.tenant));
        let verdict = match self.verdict(&body).await {
            Err(error) => return wrong(format!("{error:#} after {:.1?}", begun.elapsed())),
            Ok(verdict) => verdict,
        };
        let took = begun.elapsed();
        {
            let mut seen = self.seen.lock();
            if seen.times.len() < TIMES_MAX {
                seen.times.push(took);
            }
        }
        match &verdict.message_id {
            Some(told) if told.as_str() == id => {}
            // It was refused before anybody had read it.
            None if verdict.reason == Reason::Overloaded => {}
            told => return wrong(format!("the verdict of another message: {told:?}")),
        }
        match verdict.status {
            Status::Delivered => {}
            _ if verdict.retryable => {
                let (reason, detail) = (verdict.reason.as_str(), &verdict.detail);
                return Answer::NoRoom(format!("{}/planner: {reason}: {detail}", self.tenant));
            }
            _ => return wrong(format!("{}: {}", verdict.reason.as_str(), verdict.detail)),
        }
        let arrived = async {
            while !self.seen.lock().arrived.contains_key(&id) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        match timeout_at(Instant::now() + ANSWER_MAX, arrived).await {
            Ok(()) => Answer::Delivered,
            Err(_) => wrong("told delivered, and it did not arrive".to_owned()),
        }
    }

    /// Asks again where a node's Redis did not answer in time, as on a slow machine; who asks again with the same
    /// id is told what became of it.
    async fn verdict(&self, body: &Bytes) -> anyhow::Result<Verdict> {
        let ends = Instant::now() + ANSWER_MAX;
        if self.asks_again
            && let Ok(verdict) = self.ask(body, ASK_AGAIN_AFTER).await
        {
            return Ok(verdict);
        }
        loop {
            let verdict = self.ask(body, ends - Instant::now()).await?;
            let slow = matches!(
                verdict.reason,
                Reason::IdempotencyUnavailable | Reason::RegistryUnavailable | Reason::BreakerOpen
            );
            if !slow || Instant::now() + PAUSE >= ends {
                return Ok(verdict);
            }
            self.seen.lock().slow += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn ask(&self, body: &Bytes, wait: Duration) -> anyhow::Result<Verdict> {
        let request = async_nats::Request::new().payload(body.clone()).timeout(Some(wait));
        let answer =
            self.planner.nats().send_request("bus.planner.send", request).await.context("no answer")?;
        Ok(wire::decode_verdict(&answer.payload)?)
    }

    /// What came to the worker and should not have, since this was last asked.
    pub(crate) fn strays(&self) -> Vec<String> {
        let mut seen = self.seen.lock();
        let mut strays = std::mem::take(&mut seen.strays);
        for (id, times) in seen.arrived.iter_mut().filter(|(_, times)| **times > 1) {
            strays.push(format!("{id} came {times} times"));
            *times = 1;
        }
        strays.iter().map(|stray| format!("{}/worker got {stray}", self.tenant)).collect()
    }

    /// How often Redis was too slow for a node, and the message passed when it was sent again.
    pub(crate) fn slow(&self) -> usize {
        self.seen.lock().slow
    }

    /// Of the probes that were answered after the first so many.
    pub(super) fn latency_since(&self, before: usize) -> Latency {
        let mut times = self.seen.lock().times.get(before..).unwrap_or_default().to_vec();
        times.sort_unstable();
        let at = |share: usize| times.get((times.len() * share / 100).min(times.len().saturating_sub(1)));
        let at = |share| at(share).copied().unwrap_or_default();
        Latency { count: times.len(), half: at(50), most: at(99) }
    }
}
