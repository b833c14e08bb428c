//! Each node as a NATS micro service (ADR-32), so that `nats micro list/info/stats` shows it.
//!
//! async-nats has such a service, but it cannot drain an endpoint: its `stop` drops the requests that
//! are on their way. So the endpoints are subscriptions of the intake, and this answers for them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::{domain::Verb, tenants::names};

const SERVICE: &str = "agentbus";

/// What this node says of itself, and its counts.
pub struct Micro {
    id: String,
    node: String,
    started: SystemTime,
    counts: [Counts; Verb::ALL.len()],
}

#[derive(Default)]
struct Counts {
    requests: AtomicU64,
    errors: AtomicU64,
    nanoseconds: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    Ping,
    Info,
    Stats,
}

impl Micro {
    pub fn new(node: &str) -> Self {
        Self {
            id: nuid::next().to_string(),
            node: node.to_owned(),
            started: SystemTime::now(),
            counts: Default::default(),
        }
    }

    /// One request was answered.
    pub(super) fn count(&self, verb: Verb, error: bool, elapsed: Duration) {
        if let Some(counts) = self.counts.get(verb as usize) {
            counts.requests.fetch_add(1, Ordering::Relaxed);
            counts.errors.fetch_add(u64::from(error), Ordering::Relaxed);
            let nanoseconds = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
            counts.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Of all verbs: answered, and of those errors.
    pub(super) fn answered(&self) -> (u64, u64) {
        let of = |number: fn(&Counts) -> &AtomicU64| {
            self.counts.iter().map(|counts| number(counts).load(Ordering::Relaxed)).sum()
        };
        (of(|counts| &counts.requests), of(|counts| &counts.errors))
    }

    /// What operators ask on: all services, those of this name, this node.
    pub(super) fn subjects(&self) -> impl Iterator<Item = (String, Question)> {
        let questions = [("PING", Question::Ping), ("INFO", Question::Info), ("STATS", Question::Stats)];
        questions.into_iter().flat_map(|(word, question)| {
            let all = format!("$SRV.{word}");
            let (named, one) = (format!("{all}.{SERVICE}"), format!("{all}.{SERVICE}.{}", self.id));
            [all, named, one].map(|subject| (subject, question))
        })
    }

    pub(super) fn answer(&self, question: Question) -> Value {
        let mut answer = json!({
            "name": SERVICE,
            "id": self.id,
            "version": env!("CARGO_PKG_VERSION"),
            "metadata": { "node": self.node },
        });
        let Some(fields) = answer.as_object_mut() else { return answer };
        match question {
            Question::Ping => {
                fields.insert("type".into(), json!("io.nats.micro.v1.ping_response"));
            }
            Question::Info => {
                fields.insert("type".into(), json!("io.nats.micro.v1.info_response"));
                fields.insert("description".into(), json!("governed message bus for AI agents"));
                fields.insert("endpoints".into(), Verb::ALL.iter().map(|&verb| endpoint(verb)).collect());
            }
            Question::Stats => {
                fields.insert("type".into(), json!("io.nats.micro.v1.stats_response"));
                fields.insert(
                    "started".into(),
                    json!(humantime::format_rfc3339_millis(self.started).to_string()),
                );
                let endpoints = Verb::ALL.iter().zip(&self.counts).map(|(&verb, counts)| counts.stats(verb));
                fields.insert("endpoints".into(), endpoints.collect());
            }
        }
        answer
    }
}

impl Counts {
    fn stats(&self, verb: Verb) -> Value {
        let requests = self.requests.load(Ordering::Relaxed);
        let nanoseconds = self.nanoseconds.load(Ordering::Relaxed);
        let mut stats = endpoint(verb);
        if let Some(fields) = stats.as_object_mut() {
            fields.insert("num_requests".into(), json!(requests));
            fields.insert("num_errors".into(), json!(self.errors.load(Ordering::Relaxed)));
            fields.insert("processing_time".into(), json!(nanoseconds));
            fields.insert("average_processing_time".into(), json!(nanoseconds / requests.max(1)));
            fields.insert("last_error".into(), json!(""));
        }
        stats
    }
}

fn endpoint(verb: Verb) -> Value {
    json!({
        "name": verb.as_str(),
        "subject": names::requests_of_all_tenants(verb),
        "queue_group": names::NODES_QUEUE,
        "metadata": {},
    })
}
