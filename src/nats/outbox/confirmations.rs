//! What came of what was sent: fences, inboxes where nobody listens, and acknowledgements of records.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize},
    },
    time::{Duration, Instant},
};

use async_nats::{Message as NatsMessage, StatusCode, Subscriber};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{CONFIRM_WITHIN, WAITING_MAX};
use crate::{
    lanes::Handover,
    nats::{
        Link,
        jetstream::publish::{PublishFailure, published},
    },
    telemetry::Metrics,
};

/// What the writer and the reader of answers share.
pub(super) struct Shared {
    pub(super) connected: AtomicBool,
    pub(super) link: Mutex<Option<Link>>,
    /// What the server takes in one message.
    pub(super) payload_max: AtomicUsize,
    /// Sent and not fenced yet, oldest first.
    pub(super) unfenced: Mutex<VecDeque<Batch>>,
    /// Batches whose records JetStream has not acknowledged, oldest first.
    pub(super) unacked: Mutex<VecDeque<(u64, Instant)>>,
    pub(super) written: AtomicU64,
    pub(super) metrics: Arc<Metrics>,
}

pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) sent: Instant,
    /// Of all deliveries of the batch, in order.
    pub(super) handovers: Vec<Handover>,
    /// Tokens of the questions among them, and which they are.
    pub(super) questions: Vec<(String, usize)>,
    /// Who waits for how many of them, in order.
    pub(super) waiting: Vec<(usize, oneshot::Sender<Vec<Handover>>)>,
}

pub(super) async fn read(mut answers: Subscriber, mut unheard: Subscriber, shared: &Shared) {
    let mut tick = tokio::time::interval(Duration::from_millis(100));
    loop {
        tokio::select! {
            // In this order: the connection, on this same thread, has what came before a fence in hand
            // before the fence.
            biased;
            question = unheard.next() => match question {
                Some(question) => shared.unheard(&question),
                None => return,
            },
            answer = answers.next() => match answer {
                Some(answer) => shared.answered(&answer),
                None => return,
            },
            _ = tick.tick() => shared.give_up_late(),
        }
    }
}

impl Shared {
    fn answered(&self, answer: &NatsMessage) {
        let mut tokens = answer.subject.rsplit('.');
        let (what, number) = (tokens.next(), tokens.next().and_then(|n| n.parse::<u64>().ok()));
        let (Some(what), Some(number)) = (what, number) else { return };
        let nobody = answer.status == Some(StatusCode::NO_RESPONDERS);
        match what {
            "f" => self.fenced(number),
            "r" => self.acked(number, answer),
            index if nobody => self.missed(number, index),
            // An agent that answers a delivery here is refused by its permissions.
            _ => {}
        }
    }

    fn fenced(&self, number: u64) {
        let mut done = Vec::new();
        {
            let mut unfenced = self.unfenced.lock();
            while unfenced.front().is_some_and(|batch| batch.number <= number) {
                done.extend(unfenced.pop_front());
            }
        }
        for batch in done {
            let mut handovers = batch.handovers.into_iter();
            for (count, waiting) in batch.waiting {
                // One who no longer waits has passed its deadline.
                let _ = waiting.send(handovers.by_ref().take(count).collect());
            }
        }
    }

    /// Nobody listens to a question. Nothing but the server's own word comes here: no user of the bus's
    /// account may publish on these subjects.
    fn unheard(&self, question: &NatsMessage) {
        if question.status != Some(StatusCode::NO_RESPONDERS) {
            return;
        }
        let Some(token) = question.subject.rsplit('.').next() else { return };
        let mut unfenced = self.unfenced.lock();
        for batch in unfenced.iter_mut() {
            let asked = batch.questions.iter().find(|(asked, _)| asked == token);
            if let Some(handover) = asked.and_then(|(_, index)| batch.handovers.get_mut(*index)) {
                *handover = Handover::NobodyListens;
            }
        }
    }

    fn missed(&self, number: u64, index: &str) {
        let mut unfenced = self.unfenced.lock();
        let batch = unfenced.iter_mut().find(|batch| batch.number == number);
        let index = index.parse::<usize>().ok();
        if let Some(handover) = batch.zip(index).and_then(|(batch, index)| batch.handovers.get_mut(index)) {
            *handover = Handover::NobodyListens;
        }
    }

    fn acked(&self, number: u64, answer: &NatsMessage) {
        match published(answer) {
            Ok(_) => {
                let mut unacked = self.unacked.lock();
                while unacked.front().is_some_and(|(first, _)| *first <= number) {
                    unacked.pop_front();
                }
                self.metrics.nats.records_unconfirmed(unacked.len());
            }
            Err(PublishFailure::NoStream) => tracing::warn!("there is no stream for records"),
            Err(error) => tracing::warn!(%error, "record refused"),
        }
    }

    fn give_up_late(&self) {
        let mut unfenced = self.unfenced.lock();
        // Dropping the batch tells those who wait.
        while unfenced.front().is_some_and(|batch| batch.sent.elapsed() > CONFIRM_WITHIN) {
            unfenced.pop_front();
        }
        drop(unfenced);
        // Only the oldest matters for lateness, and an acknowledgement of a later one clears it.
        let mut unacked = self.unacked.lock();
        let excess = unacked.len().saturating_sub(WAITING_MAX);
        unacked.drain(1.min(excess)..excess);
        self.metrics.nats.records_unconfirmed(unacked.len());
    }

    /// For how long records have not been confirmed, if that is too long.
    pub(super) fn records_late(&self) -> Option<Duration> {
        let oldest = self.unacked.lock().front().map(|(_, sent)| sent.elapsed());
        oldest.filter(|late| *late > CONFIRM_WITHIN)
    }
}
