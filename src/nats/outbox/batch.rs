//! What waits to leave, in batches of bytes that go out in one write each: records, deliveries, and a fence.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::{BufMut as _, BytesMut};
use tokio::sync::oneshot;

use crate::{
    audit::{self, Written},
    lanes::{Dispatch, Handover, LiveError},
    nats::{
        headers,
        intake::codec::{self, BadSubject, Publish},
        subjects,
    },
};

/// Records and deliveries of a batch.
const BATCH_MAX: usize = 64;
/// Bytes after which a batch is not filled further, so that a socket takes it whole.
const BATCH_BYTES: usize = 24 * 1024;
/// Messages whose records stand ahead of their deliveries together: so many are on record at most that did not leave,
/// where a write is cut in two.
const PART_MAX: usize = 4;
/// Records and deliveries that wait to be written.
pub(super) const WAITING_MAX: usize = 4_096;
/// Bytes of them.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Batches that wait for their fence.
const UNFENCED_MAX: usize = 256;
/// The last word of a batch. Its answer is the fence.
const PING: &[u8] = b"PING\r\n";
const PONG: &[u8] = b"PONG\r\n";

/// Of one session.
#[derive(Default)]
pub(super) struct Out {
    /// There is a connection that takes something.
    pub(super) open: bool,
    /// Where answers go to.
    inbox: String,
    /// Of the batch that is begun next.
    number: u64,
    /// To be written, oldest first; the last one may be filled further.
    filling: VecDeque<Batch>,
    waiting: usize,
    waiting_bytes: usize,
    /// Pings of the server that wait for an answer.
    pub(super) pongs: usize,
    /// A fence is wanted although nothing is sent.
    probing: bool,
    /// When a fence last came back.
    pub(super) fenced: Option<Instant>,
    /// Written and not fenced yet, oldest first.
    pub(super) unfenced: VecDeque<Sent>,
    /// Batches whose records JetStream has not acknowledged, oldest first.
    pub(super) unacked: VecDeque<(u64, Instant)>,
}

/// A batch before it is written.
struct Batch {
    /// Records that no delivery waits for.
    records: Vec<Written>,
    intents: Vec<Intent>,
    /// What the intents are of, in their order.
    deliveries: BytesMut,
    /// Bytes of all records.
    record_bytes: usize,
    /// The earliest [`Dispatch::not_after`] of its deliveries.
    not_after: Option<Instant>,
    /// The earliest [`Dispatch::written_by`] of them.
    written_by: Option<Instant>,
    sent: Sent,
}

/// A record that goes ahead of deliveries.
struct Intent {
    record: Written,
    /// Bytes of the deliveries.
    bytes: usize,
}

/// What is to be written next.
#[derive(Default)]
pub(super) struct Leaving {
    pub(super) bytes: BytesMut,
    /// Later than this, none of its deliveries may leave.
    pub(super) written_by: Option<Instant>,
}

/// What is to come back of a batch.
pub(super) struct Sent {
    pub(super) number: u64,
    pub(super) at: Instant,
    /// Of all deliveries of the batch, in order.
    pub(super) handovers: Vec<Handover>,
    /// Tokens of the questions among them, and which they are.
    pub(super) questions: Vec<(String, usize)>,
    /// Who waits for how many of them, in order.
    pub(super) waiting: Vec<(usize, oneshot::Sender<Vec<Handover>>)>,
}

impl Out {
    /// A session begins; what waited for the one before has been told so.
    pub(super) fn begin(&mut self, inbox: String) {
        *self = Self { open: true, inbox, number: self.number, ..Self::default() };
    }

    /// Whoever waits hears that it is not confirmed, and nothing of it is written on the next session.
    pub(super) fn end(&mut self) {
        *self = Self { number: self.number, ..Self::default() };
    }

    pub(super) fn is_idle(&self) -> bool {
        self.filling.is_empty() && self.unfenced.is_empty() && self.unacked.is_empty()
    }

    /// Nothing is on its way to a fence.
    pub(super) fn is_fenced(&self) -> bool {
        self.filling.is_empty() && self.unfenced.is_empty()
    }

    pub(super) fn record(&mut self, record: Written) -> Result<(), LiveError> {
        self.takes()?;
        self.write(|batch, _| {
            batch.record_bytes += record.bytes();
            batch.records.push(record);
            Ok(())
        })
    }

    pub(super) fn deliver(
        &mut self,
        dispatch: Dispatch,
        done: oneshot::Sender<Vec<Handover>>,
    ) -> Result<(), LiveError> {
        self.takes()?;
        self.write(|batch, inbox| {
            let before = batch.deliveries.len();
            deliveries(batch, inbox, &dispatch)?;
            batch.not_after = batch.not_after.into_iter().chain([dispatch.not_after]).min();
            batch.written_by = batch.written_by.into_iter().chain([dispatch.written_by]).min();
            batch.sent.waiting.push((dispatch.deliveries.len(), done));
            batch.record_bytes += dispatch.record.bytes();
            let bytes = batch.deliveries.len() - before;
            batch.intents.push(Intent { record: dispatch.record, bytes });
            Ok(())
        })
    }

    fn takes(&self) -> Result<(), LiveError> {
        match self.open {
            false => Err(LiveError::NotConnected),
            true if self.waiting >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX => {
                Err(LiveError::Full { waiting: self.waiting })
            }
            true => Ok(()),
        }
    }

    fn write(
        &mut self,
        part: impl FnOnce(&mut Batch, &str) -> Result<(), BadSubject>,
    ) -> Result<(), LiveError> {
        if self.filling.back().is_none_or(Batch::is_full) {
            self.filling.push_back(Batch::new(self.number));
            self.number += 1;
        }
        let Some(batch) = self.filling.back_mut() else { return Err(LiveError::NotConnected) };
        let (before, delivered) = (batch.bytes(), batch.deliveries.len());
        let (handovers, questions) = (batch.sent.handovers.len(), batch.sent.questions.len());
        if part(batch, &self.inbox).is_err() {
            // Subjects are made of ids, so this cannot be; and half of it must neither leave nor be waited for.
            batch.deliveries.truncate(delivered);
            batch.sent.handovers.truncate(handovers);
            batch.sent.questions.truncate(questions);
            return Err(LiveError::NotConnected);
        }
        self.waiting += 1;
        self.waiting_bytes += batch.bytes() - before;
        Ok(())
    }

    /// What is to be written next. `None`: there is nothing, or too much is on its way.
    pub(super) fn next(&mut self) -> Option<Leaving> {
        let mut leaving = self.batch().unwrap_or_default();
        let bytes = &mut leaving.bytes;
        for _ in 0..std::mem::take(&mut self.pongs) {
            bytes.put_slice(PONG);
        }
        if std::mem::take(&mut self.probing) {
            self.unfenced.push_back(Sent::new(self.number));
            self.number += 1;
            bytes.put_slice(PING);
        }
        (!bytes.is_empty()).then_some(leaving)
    }

    fn batch(&mut self) -> Option<Leaving> {
        while self.unfenced.len() < UNFENCED_MAX {
            let mut batch = self.filling.pop_front()?;
            self.waiting = self.waiting.saturating_sub(batch.parts());
            self.waiting_bytes = self.waiting_bytes.saturating_sub(batch.bytes());
            let now = Instant::now();
            if batch.not_after.is_some_and(|not_after| now > not_after) {
                batch.leave_out_deliveries();
            }
            let Some(bytes) = batch.write(&self.inbox) else {
                continue; // all of it was too late
            };
            batch.sent.at = now;
            self.unacked.push_back((batch.sent.number, now));
            self.unfenced.push_back(batch.sent);
            return Some(Leaving { bytes, written_by: batch.written_by });
        }
        None
    }

    /// Wants a fence if none has come for so long and none is on its way.
    pub(super) fn probe(&mut self, every: Duration) -> bool {
        let recent = self.fenced.is_some_and(|at| at.elapsed() < every);
        self.probing = !recent && self.is_fenced();
        self.probing
    }
}

impl Batch {
    fn new(number: u64) -> Self {
        Self {
            records: Vec::new(),
            intents: Vec::with_capacity(BATCH_MAX),
            deliveries: BytesMut::with_capacity(BATCH_BYTES),
            record_bytes: 0,
            not_after: None,
            written_by: None,
            sent: Sent::new(number),
        }
    }

    fn parts(&self) -> usize {
        self.records.len() + self.intents.len()
    }

    fn bytes(&self) -> usize {
        self.record_bytes + self.deliveries.len()
    }

    fn is_full(&self) -> bool {
        self.parts() >= BATCH_MAX || self.bytes() >= BATCH_BYTES
    }

    /// Some are too late, and answers are told apart by their place among the deliveries, so that all of those of a batch
    /// go. Whoever waits for them hears that they are not confirmed. A claim lasts longer than this, so what a node does
    /// after it was stalled cannot double what another did meanwhile.
    fn leave_out_deliveries(&mut self) {
        tracing::warn!("the node was stalled: some deliveries are too late, and are not made");
        self.intents.clear();
        self.deliveries.clear();
        self.sent = Sent::new(self.sent.number);
        self.written_by = None;
    }

    /// In parts, each with its records first: NATS has them before any delivery. `None`: nothing is left to be written.
    fn write(&mut self, inbox: &str) -> Option<BytesMut> {
        let mut bytes = BytesMut::with_capacity(self.record_bytes + self.deliveries.len() + 1024);
        let records = std::mem::take(&mut self.records);
        let mut intents = std::mem::take(&mut self.intents).into_iter();
        self.write_records(&mut bytes, inbox, records)?;
        while intents.len() > 0 {
            let part = intents.by_ref().take(PART_MAX).map(|intent| (intent.record, intent.bytes));
            let (records, deliveries): (Vec<_>, Vec<usize>) = part.unzip();
            self.write_records(&mut bytes, inbox, records)?;
            bytes.put_slice(&self.deliveries.split_to(deliveries.iter().sum()));
        }
        bytes.put_slice(PING);
        (bytes.len() > PING.len()).then_some(bytes)
    }

    /// Those of one turn are one message, and one acknowledgement a batch shows that records get through.
    fn write_records(&self, bytes: &mut BytesMut, inbox: &str, records: Vec<Written>) -> Option<()> {
        for entry in audit::together(records) {
            let reply = bytes.is_empty().then(|| format!("{inbox}.{}.r", self.sent.number));
            let (subject, reply) = (entry.subject().as_bytes(), reply.as_deref().map(str::as_bytes));
            let publish = Publish { subject, reply, headers: &[], payload: entry.payload() };
            // Subjects are made of ids, so this cannot be; and no delivery may leave without its record.
            codec::publish(bytes, &publish).ok()?;
        }
        Some(())
    }
}

impl Sent {
    fn new(number: u64) -> Self {
        let waiting = Vec::with_capacity(BATCH_MAX);
        Self { number, at: Instant::now(), handovers: Vec::new(), questions: Vec::new(), waiting }
    }

    /// For how long its fence has not come.
    pub(super) fn late(&self) -> Duration {
        self.at.elapsed()
    }
}

fn deliveries(batch: &mut Batch, inbox: &str, dispatch: &Dispatch) -> Result<(), BadSubject> {
    let cause = headers::cause(dispatch.cause.as_deref());
    for (index, delivery) in dispatch.deliveries.iter().enumerate() {
        let Sent { number, handovers, questions, .. } = &mut batch.sent;
        let delivery_id = headers::delivery_id(&dispatch.decision_id, index);
        let missed = match &dispatch.answer_to {
            None => format!("{inbox}.{number}.{}", handovers.len()),
            Some(to) => {
                questions.push((to.token.clone(), handovers.len()));
                subjects::reply_of(delivery.permit.recipient(), to)
            }
        };
        handovers.push(Handover::Taken);
        let note = headers::note(delivery);
        let fields = headers::delivery(
            (&dispatch.key, &dispatch.decision_id, &delivery_id),
            &dispatch.traceparent,
            delivery,
            (&cause, &note),
        );
        let subject = subjects::inbox(&dispatch.key.tenant, delivery.permit.recipient());
        codec::publish(
            &mut batch.deliveries,
            &Publish {
                subject: subject.as_bytes(),
                reply: Some(missed.as_bytes()),
                headers: fields.as_slice(),
                payload: &delivery.payload,
            },
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
