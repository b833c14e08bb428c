//! Threads that read events and ask the other policy, each for itself; what they have counted is put together at the
//! end.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use agentbus::{
    phrase::counted,
    policy::{
        PolicyEngine as _, RegoEngine,
        comparison::{Answer, Compared, Comparison, answer_of},
        decision_log::{Recorded, Unreadable},
    },
};
use anyhow::{Context as _, anyhow};
use bytes::Bytes;
use serde_json::Value;

use super::parked::Parked;

/// Events that a thread takes in one go, and how many such heaps wait.
const BATCH: usize = 256;
const BATCHES_WAITING: usize = 16;
/// Questions that a thread remembers the answers to. When there are more it begins anew.
const KNOWN_MAX: usize = 16_384;
/// Lines that are told one by one.
const TOLD_MAX: usize = 5;

/// Events, and the number of the first.
type Batch = (u64, Vec<Bytes>);

pub(super) struct Judges {
    batches: SyncSender<Batch>,
    threads: Vec<JoinHandle<Counted>>,
    filling: Vec<Bytes>,
    taken: u64,
}

struct Counted {
    comparison: Comparison,
    left_out: LeftOut,
    /// What it answered to equal questions, as a node remembers it.
    known: HashMap<[u8; 32], Answer>,
}

/// Events that say nothing about the other policy.
#[derive(Default)]
pub(super) struct LeftOut {
    why: BTreeMap<&'static str, u64>,
    /// The first lines that cannot be read.
    unreadable: Vec<(u64, String)>,
}

const NOT_IN_LOG: &str = "it_reads_what_is_not_in_the_log";
const NO_DECISION: &str = "no_decision_then";
const NOT_DECIDED: &str = "no_decision_now";
const NO_SCORE: &str = "no_score";
const UNREADABLE: &str = "unreadable";

impl Judges {
    pub(super) fn start(
        candidate: (RegoEngine, Option<Parked>),
        threads: usize,
        examples: usize,
    ) -> anyhow::Result<Self> {
        let (batches, waiting) = sync_channel::<Batch>(BATCHES_WAITING);
        let (candidate, waiting) = (Arc::new(candidate), Arc::new(Mutex::new(waiting)));
        let start = |number| {
            let (candidate, waiting) = (Arc::clone(&candidate), Arc::clone(&waiting));
            let judge = move || judge(&candidate, &waiting, examples);
            thread::Builder::new().name(format!("judge-{number}")).spawn(judge).context("a thread")
        };
        let threads = (0..threads).map(start).collect::<anyhow::Result<_>>()?;
        Ok(Self { batches, threads, filling: Vec::with_capacity(BATCH), taken: 0 })
    }

    /// Waits where the threads have enough to do.
    pub(super) fn take(&mut self, event: Bytes) -> anyhow::Result<()> {
        self.filling.push(event);
        if self.filling.len() < BATCH { Ok(()) } else { self.send() }
    }

    fn send(&mut self) -> anyhow::Result<()> {
        let batch = mem::replace(&mut self.filling, Vec::with_capacity(BATCH));
        let first = self.taken + 1;
        self.taken += batch.len() as u64;
        self.batches.send((first, batch)).map_err(|_| anyhow!("the threads that decide have ended"))
    }

    /// All that they have counted.
    pub(super) fn end(mut self) -> anyhow::Result<(Comparison, LeftOut)> {
        self.send()?;
        drop(self.batches);
        let mut all: Option<Counted> = None;
        for thread in self.threads {
            let counted = thread.join().map_err(|_| anyhow!("a thread that decides has panicked"))?;
            match &mut all {
                None => all = Some(counted),
                Some(all) => {
                    all.comparison.merge(counted.comparison);
                    all.left_out.merge(counted.left_out);
                }
            }
        }
        let Counted { comparison, left_out, known: _ } = all.context("no thread decides")?;
        Ok((comparison, left_out))
    }
}

fn judge(
    (candidate, parked): &(RegoEngine, Option<Parked>),
    waiting: &Mutex<Receiver<Batch>>,
    examples: usize,
) -> Counted {
    let mut counted = Counted {
        comparison: Comparison::new(examples),
        left_out: LeftOut::default(),
        known: HashMap::new(),
    };
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
    while let Ok((first, batch)) = next() {
        for (number, event) in (first..).zip(batch) {
            match Recorded::read(&event) {
                Ok(recorded) => counted.add(number, &recorded, candidate, parked.as_ref()),
                Err(why) => counted.left_out.unread(number, &why),
            }
        }
    }
    counted
}

impl Counted {
    fn add(&mut self, number: u64, recorded: &Recorded, candidate: &RegoEngine, parked: Option<&Parked>) {
        let Recorded { decision_id, input, question: _, answer, unknown } = recorded;
        if candidate.reads().fields.overlaps(*unknown) {
            return self.left_out.count(NOT_IN_LOG);
        }
        let Some(after) = self.ask(candidate, recorded) else {
            return self.left_out.count(NOT_DECIDED);
        };
        let (before, after) = match parked.map(|parked| parked.with(decision_id, answer, after.clone())) {
            None => (answer.clone(), after),
            Some(Some(both)) => both,
            Some(None) => return self.left_out.count(NO_SCORE),
        };
        self.comparison.add(&Compared {
            number,
            decision_id,
            tenant: input.text("tenant", "id"),
            sender: input.text("sender", "id"),
            recipient: input.text("recipient", "id"),
            message_type: input.text("message", "type"),
            before: &before,
            after: &after,
        });
    }
}

impl Counted {
    fn ask(&mut self, candidate: &RegoEngine, recorded: &Recorded) -> Option<Answer> {
        let ask = || answer_of(|| candidate.decide_recorded(&recorded.input));
        if !candidate.reads().repeatable {
            return ask();
        }
        if let Some(answer) = self.known.get(&recorded.question) {
            return Some(answer.clone());
        }
        let answer = ask()?;
        if self.known.len() >= KNOWN_MAX {
            self.known.clear();
        }
        self.known.insert(recorded.question, answer.clone());
        Some(answer)
    }
}

impl LeftOut {
    fn count(&mut self, why: &'static str) {
        *self.why.entry(why).or_default() += 1;
    }

    fn unread(&mut self, number: u64, why: &Unreadable) {
        match why {
            Unreadable::Unavailable(_) => self.count(NO_DECISION),
            Unreadable::NoInput | Unreadable::NoResult => self.count(NOT_IN_LOG),
            Unreadable::NoEvent(_) | Unreadable::OtherPath(_) | Unreadable::Result(_) => {
                self.count(UNREADABLE);
                if self.unreadable.len() < TOLD_MAX {
                    self.unreadable.push((number, why.to_string()));
                }
            }
        }
    }

    fn merge(&mut self, other: Self) {
        for (why, count) in other.why {
            *self.why.entry(why).or_default() += count;
        }
        self.unreadable.extend(other.unreadable);
        self.unreadable.sort();
        self.unreadable.truncate(TOLD_MAX);
    }

    /// On stderr, beside what is printed.
    pub(super) fn tell(&self) {
        for (number, why) in &self.unreadable {
            eprintln!("agentbus: event {number} is left out: {why}");
        }
        for (why, count) in &self.why {
            let events = counted(usize::try_from(*count).unwrap_or(usize::MAX), "event");
            eprintln!("agentbus: {events} left out: {}", told(why));
        }
    }

    pub(super) fn why_none(&self) -> &'static str {
        let most = self.why.iter().max_by_key(|(_, count)| **count);
        most.map_or("nothing was logged; policy.log.share of the nodes says how much is", |(why, _)| {
            told(why)
        })
    }

    pub(super) fn as_json(&self) -> Value {
        self.why.iter().map(|(why, count)| ((*why).to_owned(), Value::from(*count))).collect()
    }
}

fn told(why: &'static str) -> &'static str {
    match why {
        NOT_IN_LOG => {
            "the policy reads what is not in the log; policy.log.content, and what masks take out, decide that"
        }
        NO_SCORE => "no record says their score, or not so closely",
        NO_DECISION => "there was no decision, as the node was too busy",
        NOT_DECIDED => "this machine is too busy to decide in time",
        _ => "they are no events about agentbus/decision",
    }
}
