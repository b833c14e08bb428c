//! Does it all add up? Keeps what was sent, what the bus said, and what arrived, and compares.

use std::{
    collections::{BTreeMap, HashMap, btree_map::Entry},
    time::{Duration, Instant},
};

use agentbus::domain::{AgentId, Reason, TenantId, Verdict};
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::letter::{Letter, Routing};
use crate::context::Who;

/// Messages kept; the demo sends far fewer.
const MESSAGES_MAX: usize = 20_000;
/// Discrepancies told one by one.
const TOLD_MAX: usize = 20;
/// Three significant digits up to a minute.
const LATENCY_MAX_US: u64 = 60_000_000;

/// A message as tenant, sender and id, which is how the bus tells messages apart.
type Key = (TenantId, AgentId, String);

/// Everything that happened. Clones share it through `Arc`.
pub(super) struct Ledger {
    // A plain lock: held for a few moves in memory, never over an await.
    inner: Mutex<Inner>,
}

struct Inner {
    outcomes: HashMap<Key, Settled>,
    receipts: HashMap<Key, Vec<Who>>,
    reasons: BTreeMap<Reason, u64>,
    latencies: BTreeMap<Series, Histogram<u64>>,
    dropped: BTreeMap<String, u64>,
    wrong: Vec<String>,
    wrong_total: u64,
    deliveries: u64,
    messages: u64,
    repeats: u64,
}

/// What the bus said the first time.
struct Settled {
    decision: String,
    delivered: u32,
    /// Was sent while a node was killed, and its answer took a retry.
    retried: bool,
}

/// What a latency belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Series {
    /// One after another, at an even pace.
    Paced(Routing),
    /// Many at once.
    Burst,
    /// Many at once while a node is killed.
    Death,
    Repeat,
    /// Part of a trick, and not worth a row.
    Aside,
}

/// For the status line.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) messages: u64,
    pub(super) deliveries: u64,
    pub(super) wrong: u64,
}

impl Ledger {
    pub(super) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                outcomes: HashMap::new(),
                receipts: HashMap::new(),
                reasons: BTreeMap::new(),
                latencies: BTreeMap::new(),
                dropped: BTreeMap::new(),
                wrong: Vec::new(),
                wrong_total: 0,
                deliveries: 0,
                messages: 0,
                repeats: 0,
            }),
        }
    }

    /// An inbox got a message that bears the bus's delivery header.
    pub(super) fn received(&self, by: &Who, tenant: &str, sender: &str, message_id: &str) {
        let mut inner = self.inner.lock();
        inner.deliveries += 1;
        if tenant != by.tenant.as_str() {
            inner.wrong(format!("{by} got message {message_id} of tenant {tenant}"));
        }
        let (Ok(tenant), Ok(sender)) = (tenant.parse(), sender.parse()) else {
            return inner.wrong(format!("{by} got a delivery without readable headers"));
        };
        let full = inner.receipts.len() >= MESSAGES_MAX;
        match full {
            true => inner.wrong("more messages than the demo keeps".to_owned()),
            false => {
                inner.receipts.entry((tenant, sender, message_id.to_owned())).or_default().push(by.clone())
            }
        }
    }

    /// An inbox got something that is not from the bus.
    pub(super) fn dropped(&self, by: &Who) {
        *self.inner.lock().dropped.entry(by.to_string()).or_default() += 1;
    }

    pub(super) fn dropped_by(&self, who: &Who) -> u64 {
        self.inner.lock().dropped.get(&who.to_string()).copied().unwrap_or(0)
    }

    pub(super) fn dropped_total(&self) -> u64 {
        self.inner.lock().dropped.values().sum()
    }

    /// The first verdict on a message.
    pub(super) fn answered(
        &self,
        letter: &Letter,
        verdict: &Verdict,
        latency: Duration,
        series: Series,
        retried: bool,
    ) {
        let mut inner = self.inner.lock();
        inner.messages += 1;
        *inner.reasons.entry(verdict.reason).or_default() += 1;
        inner.time(series, latency);
        if !letter.expected.met_by(verdict) {
            let found = format!("{}: {}", verdict.reason.as_str(), verdict.detail);
            inner.wrong(format!(
                "{} → {} {}: expected {}, found {found}",
                letter.from,
                letter.target,
                letter.act,
                letter.expected.words()
            ));
        }
        if verdict.message_id.is_none() || inner.outcomes.len() >= MESSAGES_MAX {
            return;
        }
        let delivered = verdict.reach.as_ref().map_or(0, |reach| reach.delivered);
        // A second letter under a used id is refused, and does not change what became of the first.
        inner.outcomes.entry(key(letter)).or_insert(Settled {
            decision: verdict.decision_id.clone(),
            delivered,
            retried,
        });
    }

    /// The durable lane has taken a message; what becomes of it is told by its outcome.
    pub(super) fn submitted(&self, letter: &Letter, verdict: &Verdict) {
        self.answered(letter, verdict, Duration::ZERO, Series::Aside, false);
    }

    /// The outcome of a message that was stored or parked: it says how many deliveries there are.
    pub(super) fn concluded(&self, letter: &Letter, outcome: &Verdict) {
        let mut inner = self.inner.lock();
        *inner.reasons.entry(outcome.reason).or_default() += 1;
        let delivered = outcome.reach.as_ref().map_or(0, |reach| reach.delivered);
        match inner.outcomes.get_mut(&key(letter)) {
            Some(settled) => settled.delivered = delivered,
            None => inner.wrong(format!("an outcome of {}, which was never sent", letter.message_id)),
        }
    }

    /// The verdict on a message that was sent before; must be the same one.
    pub(super) fn repeated(&self, letter: &Letter, verdict: &Verdict, latency: Duration) {
        let mut inner = self.inner.lock();
        inner.repeats += 1;
        inner.time(Series::Repeat, latency);
        let first = inner.outcomes.get(&key(letter)).map(|settled| settled.decision.clone());
        if first.as_deref() != Some(verdict.decision_id.as_str()) {
            inner.wrong(format!(
                "a repeat of {} got decision {}, the first was {}",
                letter.message_id,
                verdict.decision_id,
                first.as_deref().unwrap_or("none")
            ));
        }
    }

    /// An answer to a registry verb.
    pub(super) fn registry(&self, reason: Reason) {
        *self.inner.lock().reasons.entry(reason).or_default() += 1;
    }

    /// Something that must not be.
    pub(super) fn wrong(&self, what: String) {
        self.inner.lock().wrong(what);
    }

    pub(super) fn counts(&self) -> Counts {
        let inner = self.inner.lock();
        Counts { messages: inner.messages, deliveries: inner.deliveries, wrong: inner.wrong_total }
    }

    /// Waits until every delivery that a verdict promised has arrived, at most so long.
    pub(super) async fn settle(&self, limit: Duration) {
        let end = Instant::now() + limit;
        while Instant::now() < end && !self.inner.lock().complete() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // One that should not come would come about now.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Compares, and closes the books.
    pub(super) fn close(&self) -> Books {
        let mut inner = self.inner.lock();
        let found = inner.compare();
        let unconfirmed = found.unconfirmed;
        found.wrong.into_iter().for_each(|what| inner.wrong(what));
        Books {
            reasons: inner.reasons.clone(),
            latencies: std::mem::take(&mut inner.latencies),
            messages: inner.messages,
            repeats: inner.repeats,
            promised: inner.outcomes.values().map(|settled| u64::from(settled.delivered)).sum(),
            deliveries: inner.deliveries,
            dropped: inner.dropped.values().sum(),
            unconfirmed,
            wrong: inner.wrong.clone(),
            wrong_total: inner.wrong_total,
        }
    }
}

/// The end of it.
pub(super) struct Books {
    pub(super) reasons: BTreeMap<Reason, u64>,
    pub(super) latencies: BTreeMap<Series, Histogram<u64>>,
    pub(super) messages: u64,
    pub(super) repeats: u64,
    /// Deliveries that verdicts told of.
    pub(super) promised: u64,
    /// Deliveries that arrived.
    pub(super) deliveries: u64,
    pub(super) dropped: u64,
    /// Recorded by the node that was killed, and perhaps not handed over: at most once, not lost twice.
    pub(super) unconfirmed: u64,
    pub(super) wrong: Vec<String>,
    pub(super) wrong_total: u64,
}

struct Found {
    wrong: Vec<String>,
    unconfirmed: u64,
}

impl Inner {
    fn wrong(&mut self, what: String) {
        self.wrong_total += 1;
        if self.wrong.len() < TOLD_MAX {
            self.wrong.push(what);
        }
    }

    fn time(&mut self, series: Series, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_MAX_US);
        let histogram = match self.latencies.entry(series) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => match Histogram::new_with_bounds(1, LATENCY_MAX_US, 3) {
                Ok(empty) => new.insert(empty),
                // The bounds are constants that it accepts.
                Err(_) => return,
            },
        };
        histogram.saturating_record(micros.max(1));
    }

    fn arrived(&self, key: &Key) -> usize {
        self.receipts.get(key).map_or(0, Vec::len)
    }

    fn complete(&self) -> bool {
        self.outcomes.iter().all(|(key, settled)| self.arrived(key) >= settled.delivered as usize)
    }

    fn compare(&self) -> Found {
        let mut found = Found { wrong: Vec::new(), unconfirmed: 0 };
        for (key, settled) in &self.outcomes {
            let (arrived, promised) = (self.arrived(key), settled.delivered as usize);
            if arrived < promised && settled.retried {
                found.unconfirmed += (promised - arrived) as u64;
            } else if arrived != promised {
                found.wrong.push(format!(
                    "message {} of {}/{}: the verdict says {promised} delivered, {arrived} arrived",
                    key.2, key.0, key.1
                ));
            }
        }
        for (key, by) in &self.receipts {
            let mut agents: Vec<String> = by.iter().map(Who::to_string).collect();
            agents.sort();
            if agents.windows(2).any(|pair| pair.first() == pair.last()) {
                found.wrong.push(format!(
                    "message {} arrived twice at one agent: {}",
                    key.2,
                    agents.join(", ")
                ));
            }
            if !self.outcomes.contains_key(key) {
                found
                    .wrong
                    .push(format!("message {} of {}/{} arrived without a verdict", key.2, key.0, key.1));
            }
        }
        found
    }
}

fn key(letter: &Letter) -> Key {
    (letter.from.tenant.clone(), letter.from.agent.clone(), letter.message_id.clone())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::demo::letter::Expected;
    use agentbus::domain::{Reach, Status};

    fn letter(id: &str) -> Letter {
        Letter {
            from: "acme/planner".parse().unwrap(),
            target: "worker".to_owned(),
            act: "event".to_owned(),
            text: String::new(),
            routing: Routing::Agent,
            message_id: id.to_owned(),
            body: bytes::Bytes::new(),
            expected: Expected::One(Reason::Delivered),
        }
    }

    fn delivered(id: &str, count: u32, decision: &str) -> Verdict {
        Verdict {
            message_id: id.parse().ok(),
            status: Status::Delivered,
            reason: Reason::Delivered,
            detail: String::new(),
            retryable: false,
            retry_after: None,
            decision_id: decision.to_owned(),
            policy_revision: None,
            impact: None,
            reach: Some(Reach { delivered: count, ..Reach::default() }),
            deliberation_id: None,
            node: "n".to_owned(),
            elapsed: Duration::ZERO,
        }
    }

    /// What the books say about one message that was answered, and then received so often.
    fn books(receipts: usize, promised: u32, receiver: &str) -> Books {
        let ledger = Ledger::new();
        let (letter, verdict) = (letter("m1"), delivered("m1", promised, "d1"));
        ledger.answered(&letter, &verdict, Duration::from_micros(5), Series::Burst, false);
        for _ in 0..receipts {
            ledger.received(&receiver.parse().unwrap(), "acme", "planner", "m1");
        }
        ledger.close()
    }

    #[test]
    fn the_books_show_every_planted_fault() {
        assert_eq!(books(1, 1, "acme/worker").wrong_total, 0);
        for (what, books) in [
            ("lost", books(0, 1, "acme/worker")),
            ("delivered twice", books(2, 1, "acme/worker")),
            ("twice to one agent", books(2, 2, "acme/worker")),
            ("to another tenant", books(1, 1, "globex/builder")),
        ] {
            assert!(books.wrong_total > 0, "{what} was not noticed");
        }

        let ledger = Ledger::new();
        ledger.received(&"acme/worker".parse().unwrap(), "acme", "planner", "ghost");
        assert_eq!(ledger.close().wrong_total, 1, "a delivery without a verdict");

        let ledger = Ledger::new();
        let unexpected = Verdict {
            reason: Reason::PolicyDenied,
            reach: None,
            deliberation_id: None,
            status: Status::Rejected,
            ..delivered("m", 0, "d")
        };
        ledger.answered(&letter("m"), &unexpected, Duration::ZERO, Series::Burst, false);
        assert_eq!(ledger.close().wrong_total, 1, "another verdict than expected");

        let ledger = Ledger::new();
        ledger.answered(&letter("m"), &delivered("m", 0, "d1"), Duration::ZERO, Series::Burst, false);
        ledger.repeated(&letter("m"), &delivered("m", 0, "d2"), Duration::ZERO);
        assert_eq!(ledger.close().wrong_total, 1, "a repeat that was judged anew");
    }
}
