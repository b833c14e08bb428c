//! Writes what waits in batches: records, deliveries, and a fence.

use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use async_nats::{Client, HeaderMap, PublishError};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use super::{
    CONFIRM_WITHIN,
    confirmations::{Batch, Shared},
};
use crate::{
    audit::Entry,
    lanes::{Dispatch, Handover},
    nats::{headers, subjects},
};

/// Jobs written between two fences.
const BATCH_MAX: usize = 64;
/// Bytes of records and deliveries after which a batch is not filled further, so that it fits into
/// one write (async-nats writes at 64 KiB).
const BATCH_BYTES: usize = 24 * 1024;
/// Batches that wait for their fence.
const UNFENCED_MAX: usize = 256;

pub(super) enum Job {
    Deliver { dispatch: Box<Dispatch>, done: oneshot::Sender<Vec<Handover>> },
    Record(Entry),
}

impl Job {
    fn bytes(&self) -> usize {
        match self {
            Job::Deliver { dispatch, .. } => {
                let deliveries = dispatch.deliveries.iter().map(|delivery| delivery.payload.len());
                dispatch.record.payload().len() + deliveries.sum::<usize>()
            }
            Job::Record(entry) => entry.payload().len(),
        }
    }
}

/// Why a session ended.
pub(super) enum End {
    /// Nobody has a handle any more.
    Closed,
    /// The connection is lost, or could not be had.
    Lost,
}

pub(super) async fn write(
    client: &Client,
    inbox: &str,
    queue: &mut mpsc::Receiver<Job>,
    shared: &Shared,
) -> End {
    let mut jobs = Vec::with_capacity(BATCH_MAX);
    while let Some(first) = queue.recv().await {
        let mut bytes = first.bytes();
        jobs.push(first);
        while jobs.len() < BATCH_MAX && bytes < BATCH_BYTES {
            let Ok(job) = queue.try_recv() else { break };
            bytes += job.bytes();
            jobs.push(job);
        }
        while shared.unfenced.lock().len() >= UNFENCED_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Unconstrained: tokio would else let the connection write after some 128 publishes.
        let batch = tokio::task::unconstrained(write_batch(client, inbox, shared, jobs.drain(..)));
        match tokio::time::timeout(CONFIRM_WITHIN, batch).await {
            Ok(Ok(())) => {}
            // Half a batch must not be confirmed by the fence of the next.
            Ok(Err(error)) => {
                tracing::error!(%error, "a batch could not be written");
                return End::Lost;
            }
            Err(_) => {
                tracing::warn!("a batch could not be written within {CONFIRM_WITHIN:?}");
                return End::Lost;
            }
        }
    }
    End::Closed
}

async fn write_batch(
    client: &Client,
    inbox: &str,
    shared: &Shared,
    jobs: impl Iterator<Item = Job>,
) -> Result<(), PublishError> {
    let number = shared.written.fetch_add(1, Ordering::Relaxed);
    let answer_to = |what: &str| format!("{inbox}.{number}.{what}");
    let mut publishes: Vec<(String, Option<String>, HeaderMap, Bytes)> = Vec::with_capacity(2 * BATCH_MAX);
    let mut batch = Batch {
        number,
        sent: Instant::now(),
        handovers: Vec::new(),
        questions: Vec::new(),
        waiting: Vec::with_capacity(BATCH_MAX),
    };

    for job in jobs {
        // One acknowledgement a batch shows that records get through.
        let ack = publishes.is_empty().then(|| answer_to("r"));
        match job {
            Job::Record(entry) => {
                let (subject, record) = entry.into_parts();
                publishes.push((subject, ack, HeaderMap::new(), record));
            }
            Job::Deliver { dispatch, .. } if Instant::now() > dispatch.not_after => {
                // Whoever waits for it hears that it is not confirmed. A claim lasts longer than this,
                // so what a node does after it was stalled cannot double what another did meanwhile.
                tracing::warn!(decision_id = dispatch.decision_id, "too late to be delivered");
            }
            Job::Deliver { dispatch, done } => {
                let (subject, record) = dispatch.record.clone().into_parts();
                publishes.push((subject, ack, HeaderMap::new(), record));
                batch.waiting.push((dispatch.deliveries.len(), done));
                for (index, delivery) in dispatch.deliveries.iter().enumerate() {
                    let inbox = subjects::inbox(&dispatch.key.tenant, delivery.permit.recipient());
                    let missed = match &dispatch.answer_to {
                        None => answer_to(&batch.handovers.len().to_string()),
                        Some(to) => {
                            batch.questions.push((to.token.clone(), batch.handovers.len()));
                            subjects::reply_of(delivery.permit.recipient(), to)
                        }
                    };
                    batch.handovers.push(Handover::Taken);
                    let headers = headers::delivery(
                        &dispatch.key,
                        &dispatch.decision_id,
                        &dispatch.traceparent,
                        index,
                        delivery,
                    );
                    publishes.push((inbox, Some(missed), headers, delivery.payload.clone()));
                }
            }
        }
    }

    if publishes.is_empty() {
        return Ok(()); // all of it was too late
    }
    shared.unacked.lock().push_back((number, batch.sent));
    let fence = (!batch.waiting.is_empty()).then(|| answer_to("f"));
    // In the ledger before it is on the wire, so that no answer can come too early.
    if fence.is_some() {
        shared.unfenced.lock().push_back(batch);
    }
    for (subject, reply, headers, payload) in publishes {
        publish(client, subject, reply, headers, payload).await?;
    }
    match fence {
        Some(fence) => publish(client, fence, None, HeaderMap::new(), Bytes::new()).await,
        None => Ok(()),
    }
}

async fn publish(
    client: &Client,
    subject: String,
    reply: Option<String>,
    headers: HeaderMap,
    payload: Bytes,
) -> Result<(), PublishError> {
    match (reply, headers.is_empty()) {
        (Some(reply), true) => client.publish_with_reply(subject, reply, payload).await,
        (Some(reply), false) => client.publish_with_reply_and_headers(subject, reply, headers, payload).await,
        (None, _) => client.publish(subject, payload).await,
    }
}
