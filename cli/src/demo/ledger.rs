//! Does it all add up? Counts what the demo shows, and keeps the books that the checker compares in the end.

use std::{
    collections::{BTreeMap, HashMap, HashSet, btree_map::Entry},
    time::{Duration, Instant},
};

use agentbus::domain::{Reason, Verdict};
use agentbus_testkit::{
    books::{Books as Seens, Fate, Key, Seen, To},
    checker::{self, Fault, Records, What},
};
use hdrhistogram::Histogram;
use parking_lot::Mutex;

use super::letter::{Letter, Routing};
use crate::context::Who;

/// Messages and deliveries kept; the demo has far fewer.
const MESSAGES_MAX: usize = 20_000;
/// Discrepancies told one by one.
const TOLD_MAX: usize = 20;
/// Three significant digits up to a minute.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Everything that happened. Clones share it through `Arc`.
pub(super) struct Ledger {
    seen: Seens,
    // A plain lock: held for a few moves in memory, never over an await.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Of each message the first.
    decisions: HashMap<Key, String>,
    /// Sent while a node was killed, and the answer took a retry.
    retried: HashSet<Key>,
    reasons: BTreeMap<Reason, u64>,
    latencies: BTreeMap<Series, Histogram<u64>>,
    dropped: BTreeMap<String, u64>,
    wrong: Vec<String>,
    wrong_total: u64,
    deliveries: u64,
    promised: u64,
    outcomes: u64,
    messages: u64,
    repeats: u64,
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
        Self { seen: Seens::in_memory(), inner: Mutex::default() }
    }

    /// An inbox got a message that bears the bus's delivery header; `header` reads the others.
    pub(super) fn received<'a>(&self, by: &Who, header: impl Fn(&str) -> &'a str) {
        let mut inner = self.inner.lock();
        inner.deliveries += 1;
        if inner.deliveries > MESSAGES_MAX as u64 {
            return inner.wrong("more messages than the demo keeps".to_owned());
        }
        let [tenant, sender, message] =
            ["Tenant", "Sender", "Message-Id"].map(|name| header(&format!("Agentbus-{name}")).to_owned());
        self.seen.write(Seen::Received {
            key: Key { tenant, sender, message },
            tenant: by.tenant.to_string(),
            recipient: by.agent.to_string(),
            decision: header("Agentbus-Decision").to_owned(),
        });
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
        inner.time(series, latency);
        if !inner.begins(letter, verdict) {
            return;
        }
        if retried {
            inner.retried.insert(key(letter));
        }
        self.seen.write(Seen::Sending { key: key(letter), to: to(letter), fate: Fate::Delivered });
        self.seen.write(Seen::Answered {
            key: key(letter),
            status: verdict.status.as_str().to_owned(),
            reason: verdict.reason.as_str().to_owned(),
            decision: verdict.decision_id.clone(),
            delivered: verdict.reach.as_ref().map(|reach| reach.delivered),
        });
    }

    /// The durable lane has taken a message; what becomes of it is told by its outcome.
    pub(super) fn submitted(&self, letter: &Letter, verdict: &Verdict) {
        if !self.inner.lock().begins(letter, verdict) {
            return;
        }
        let reason = verdict.reason.as_str().to_owned();
        self.seen.write(Seen::Submitting { key: key(letter), to: to(letter), fate: Fate::Delivered });
        let status = Some(verdict.status.as_str().to_owned());
        self.seen.write(Seen::Submitted { key: key(letter), status, reason });
    }

    /// The outcome of a message that was stored or parked: it says how many deliveries there are.
    pub(super) fn concluded(&self, letter: &Letter, outcome: &Verdict) {
        let mut inner = self.inner.lock();
        *inner.reasons.entry(outcome.reason).or_default() += 1;
        if !inner.decisions.contains_key(&key(letter)) {
            return inner.wrong(format!("an outcome of {}, which was never sent", letter.message_id));
        }
        inner.outcomes += 1;
        inner.promised += reach(outcome);
        self.seen.write(Seen::Outcome {
            tenant: letter.from.tenant.to_string(),
            reader: letter.from.agent.to_string(),
            message: letter.message_id.clone(),
            sequence: inner.outcomes,
            status: outcome.status.as_str().to_owned(),
            reason: outcome.reason.as_str().to_owned(),
            decision: outcome.decision_id.clone(),
            delivered: outcome.reach.as_ref().map(|reach| reach.delivered),
        });
    }

    /// The verdict on a message that was sent before; must be the same one.
    pub(super) fn repeated(&self, letter: &Letter, verdict: &Verdict, latency: Duration) {
        let mut inner = self.inner.lock();
        inner.repeats += 1;
        inner.time(Series::Repeat, latency);
        let first = inner.decisions.get(&key(letter)).cloned();
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
        while Instant::now() < end && self.seen.with(checker::due) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // One that should not come would come about now.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    /// Compares, and closes the books.
    pub(super) fn close(&self) -> Books {
        let mut inner = self.inner.lock();
        let mut unconfirmed = 0;
        for fault in self.seen.with(|seen| checker::check(seen, Records::Unread)).faults {
            match inner.unconfirmed(&fault) {
                Some(deliveries) => unconfirmed += deliveries,
                None => inner.wrong(fault.to_string()),
            }
        }
        Books {
            reasons: inner.reasons.clone(),
            latencies: std::mem::take(&mut inner.latencies),
            messages: inner.messages,
            repeats: inner.repeats,
            promised: inner.promised,
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

impl Inner {
    /// Counts a message with its first verdict. Whether the books take it.
    fn begins(&mut self, letter: &Letter, verdict: &Verdict) -> bool {
        self.messages += 1;
        *self.reasons.entry(verdict.reason).or_default() += 1;
        if !letter.expected.met_by(verdict) {
            let found = format!("{}: {}", verdict.reason.as_str(), verdict.detail);
            self.wrong(format!(
                "{} → {} {}: expected {}, found {found}",
                letter.from,
                letter.target,
                letter.act,
                letter.expected.words()
            ));
        }
        // A second letter under a used id is refused, and does not change what became of the first.
        let known = self.decisions.contains_key(&key(letter));
        if verdict.message_id.is_none() || known || self.decisions.len() >= MESSAGES_MAX {
            return false;
        }
        self.decisions.insert(key(letter), verdict.decision_id.clone());
        self.promised += reach(verdict);
        true
    }

    /// Deliveries that a killed node had put on record and perhaps not handed over.
    fn unconfirmed(&self, fault: &Fault) -> Option<u64> {
        match fault.what {
            What::NotDelivered { told, read } | What::Partly { told, read }
                if self.retried.contains(&fault.key) =>
            {
                u64::from(told).checked_sub(read as u64)
            }
            _ => None,
        }
    }

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
}

fn key(letter: &Letter) -> Key {
    let Who { tenant, agent } = &letter.from;
    Key { tenant: tenant.to_string(), sender: agent.to_string(), message: letter.message_id.clone() }
}

fn to(letter: &Letter) -> To {
    match letter.routing {
        Routing::Agent | Routing::Capability => To::One,
        Routing::Broadcast => To::Many,
    }
}

fn reach(verdict: &Verdict) -> u64 {
    verdict.reach.as_ref().map_or(0, |reach| reach.delivered.into())
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

    /// Of a delivery of acme/planner's.
    fn headers<'a>(message_id: &'a str) -> impl Fn(&str) -> &'a str {
        move |name| match name {
            "Agentbus-Tenant" => "acme",
            "Agentbus-Sender" => "planner",
            "Agentbus-Message-Id" => message_id,
            _ => "d1",
        }
    }

    /// What the books say about one message that was answered, and then received so often.
    fn books(receipts: usize, promised: u32, receiver: &str) -> Books {
        let ledger = Ledger::new();
        let (letter, verdict) = (letter("m1"), delivered("m1", promised, "d1"));
        ledger.answered(&letter, &verdict, Duration::from_micros(5), Series::Burst, false);
        for _ in 0..receipts {
            ledger.received(&receiver.parse().unwrap(), headers("m1"));
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
        ledger.received(&"acme/worker".parse().unwrap(), headers("ghost"));
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
