//! What came of what was sent: fences, inboxes where nobody listens, and acknowledgements of records.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{
    CONFIRM_WITHIN,
    batch::{Out, WAITING_MAX},
};
use crate::{
    lanes::Handover,
    nats::{Link, intake::Incoming, jetstream::publish::read},
    telemetry::Metrics,
};

/// What those who deliver, the writer and the reader share.
pub(super) struct Shared {
    pub(super) connected: AtomicBool,
    pub(super) link: Mutex<Option<Link>>,
    /// What the server takes in one message.
    pub(super) payload_max: AtomicUsize,
    pub(super) out: Mutex<Out>,
    /// There is something to write, or room for it.
    pub(super) wake: Notify,
    pub(super) metrics: Arc<Metrics>,
}

impl Shared {
    /// A message to the inbox of the session.
    pub(super) fn answered(&self, answer: &Incoming) {
        let mut tokens = answer.subject.rsplit(|byte| *byte == b'.').map(std::str::from_utf8);
        let mut number = || tokens.next()?.ok();
        let (what, batch) = (number(), number().and_then(|batch| batch.parse::<u64>().ok()));
        let (Some(what), Some(batch)) = (what, batch) else { return };
        match what {
            "r" => self.acked(batch, answer),
            index if is_no_responders(answer) => self.missed(batch, index),
            // An agent that answers a delivery here is refused by its permissions.
            _ => {}
        }
    }

    /// The server has read the oldest batch: whatever it says of it, it has said before.
    pub(super) fn fenced(&self) {
        let batch = {
            let mut out = self.out.lock();
            out.fenced = Some(Instant::now());
            out.unfenced.pop_front()
        };
        let Some(batch) = batch else { return };
        let mut handovers = batch.handovers.into_iter();
        for (count, waiting) in batch.waiting {
            // One who no longer waits has passed its deadline.
            let _ = waiting.send(handovers.by_ref().take(count).collect());
        }
        self.wake.notify_one();
    }

    /// Nobody listens to a question. Nothing but the server's own word comes here: no user of the bus's
    /// account may publish on these subjects.
    pub(super) fn unheard(&self, question: &Incoming) {
        if !is_no_responders(question) {
            return;
        }
        let subject = question.subject();
        let Some(token) = subject.rsplit('.').next() else { return };
        for batch in &mut self.out.lock().unfenced {
            let asked = batch.questions.iter().find(|(asked, _)| asked == token);
            if let Some(handover) = asked.and_then(|(_, index)| batch.handovers.get_mut(*index)) {
                *handover = Handover::NobodyListens;
            }
        }
    }

    fn missed(&self, number: u64, index: &str) {
        let mut out = self.out.lock();
        let batch = out.unfenced.iter_mut().find(|batch| batch.number == number);
        let index = index.parse::<usize>().ok();
        if let Some(handover) = batch.zip(index).and_then(|(batch, index)| batch.handovers.get_mut(index)) {
            *handover = Handover::NobodyListens;
        }
    }

    fn acked(&self, number: u64, answer: &Incoming) {
        if is_no_responders(answer) {
            tracing::warn!("there is no stream for records");
            return;
        }
        match read(&answer.payload) {
            Ok(_) => {
                let mut out = self.out.lock();
                while out.unacked.front().is_some_and(|(first, _)| *first <= number) {
                    out.unacked.pop_front();
                }
                self.metrics.nats.records_unconfirmed(out.unacked.len());
            }
            Err(error) => tracing::warn!(%error, "record refused"),
        }
    }

    /// Whether the oldest batch waits for its fence for too long.
    pub(super) fn fence_is_late(&self) -> bool {
        let mut out = self.out.lock();
        // Only the oldest matters for lateness, and an acknowledgement of a later one clears it.
        let excess = out.unacked.len().saturating_sub(WAITING_MAX);
        out.unacked.drain(1.min(excess)..excess);
        self.metrics.nats.records_unconfirmed(out.unacked.len());
        out.unfenced.front().is_some_and(|batch| batch.late() > CONFIRM_WITHIN)
    }

    /// For how long records have not been confirmed, if that is too long.
    pub(super) fn records_late(&self) -> Option<Duration> {
        let oldest = self.out.lock().unacked.front().map(|(_, sent)| sent.elapsed());
        oldest.filter(|late| *late > CONFIRM_WITHIN)
    }
}

/// The server's word that a message has gone to nobody.
fn is_no_responders(message: &Incoming) -> bool {
    message.payload.is_empty() && message.headers.starts_with(b"NATS/1.0 503")
}
