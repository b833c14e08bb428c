//! Who scores: threads with a judge each, fed from one bounded queue.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Instant,
};

use agentbus::{
    domain::{Impact, LEVELS, Weights},
    impact::score_standalone,
};
use agentbus_modelkit::{
    judge::{Judge, JudgeError, Said, Seat},
    line::{Ask, ask},
};
use anyhow::Context as _;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::{Value, json};

use super::split::{Batch, Line};
use crate::printable;

/// What is written for one batch.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub text: Vec<u8>,
    pub lines: u64,
    pub failed: u64,
}

type Job = (Batch, SyncSender<Answers>);

/// The threads' queue. They end when it is dropped.
pub(super) struct Work {
    queue: SyncSender<Job>,
}

impl Work {
    pub(super) fn start(judge: &Judge, threads: NonZeroUsize, waiting: usize) -> anyhow::Result<Self> {
        let (queue, jobs) = sync_channel::<Job>(threads.get() * waiting);
        let jobs = Arc::new(Mutex::new(jobs));
        for number in 0..threads.get() {
            let (seat, jobs) = (judge.seat(), Arc::clone(&jobs));
            thread::Builder::new()
                .name(format!("score-{number}"))
                .spawn(move || work(seat, &jobs))
                .context("a thread to score with")?;
        }
        Ok(Self { queue })
    }

    /// Waits while the queue is full. If the threads are gone, there will be no answer.
    pub(super) fn give(&self, batch: Batch) -> Receiver<Answers> {
        let (reply, answers) = sync_channel(1);
        // A failed send drops `reply`, which whoever waits for the answers sees.
        let _ = self.queue.send((batch, reply));
        answers
    }
}

fn work(mut seat: Seat, jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Held while waiting: the next job goes to whoever waits first, and the others queue here.
        let next = jobs.lock().recv();
        let Ok((batch, reply)) = next else { return };
        // Nobody listens any more only when the program ends.
        let _ = reply.send(answer(&mut seat, &batch));
    }
}

/// One line of output, as docs/impact.md describes it.
#[derive(Serialize)]
struct Scored<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a Value>,
    score: f64,
    semantic: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    levels: Option<[f64; LEVELS]>,
    parts: Value,
    model: &'a str,
    tokens: usize,
    elapsed_us: u64,
}

fn answer(seat: &mut Seat, batch: &Batch) -> Answers {
    let started = Instant::now();
    let asks: Vec<Result<Ask, String>> = batch.lines.iter().map(understood).collect();
    let reading_us = micros(started) / batch.lines.len().max(1) as u64;
    let messages: Vec<_> = asks.iter().flatten().map(|ask| Arc::clone(&ask.message)).collect();
    let mut semantics = seat.semantics(&messages).into_iter();
    let name = seat.name().to_owned();

    let mut answers = Answers { lines: batch.lines.len() as u64, ..Answers::default() };
    for (line, ask) in batch.lines.iter().zip(&asks) {
        let value = match ask {
            Err(error) => Err((None, error.clone())),
            Ok(ask) => match semantics.next() {
                Some(Ok(said)) => Ok(scored(ask, &said, &name, reading_us)),
                Some(Err(error)) => Err((ask.id.as_ref(), error.to_string())),
                None => Err((ask.id.as_ref(), JudgeError::Missing.to_string())),
            },
        };
        let written = value.unwrap_or_else(|(id, error)| {
            answers.failed += 1;
            refused(line.number, id, &error)
        });
        answers.text.extend_from_slice(written.as_bytes());
        answers.text.push(b'\n');
    }
    answers
}

fn understood(line: &Line) -> Result<Ask, String> {
    let text = line.text.as_ref().map_err(ToString::to_string)?;
    ask(text, line.number).map_err(|error| error.to_string())
}

fn scored(ask: &Ask, said: &Said, model: &str, reading_us: u64) -> String {
    let Impact { score, parts, levels, .. } =
        score_standalone(&ask.message, said.semantic, model, &Weights::default(), ask.at);
    let semantic = said.semantic.score;
    let (score, parts) = if ask.bare {
        // Of the formula's parts a text has this one alone, and so its mean is that part.
        (semantic, json!({ "semantic": semantic }))
    } else {
        let parts = json!({
            "semantic": parts.semantic,
            "permission": parts.permission,
            "volume": parts.volume,
            "context": parts.context,
            "drift": parts.drift,
            "priority": parts.priority,
            "type": parts.message_type,
        });
        (score, parts)
    };
    let line = Scored {
        id: ask.id.as_ref(),
        score,
        semantic,
        levels,
        parts,
        model,
        tokens: said.tokens,
        elapsed_us: reading_us + said.elapsed_us,
    };
    printable::json(&json!(line).to_string())
}

fn refused(number: u64, id: Option<&Value>, error: &str) -> String {
    match id {
        Some(id) => printable::json(&json!({ "line": number, "id": id, "error": error }).to_string()),
        None => printable::json(&json!({ "line": number, "error": error }).to_string()),
    }
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX)
}
