//! How is a delivery or a verdict stored once? By compare-and-set over all that is stored of its message.
//!
//! Every writer names one filter, letter by letter the same. While publishes are under way, the leader of a
//! replicated stream keeps apart only those whose filters are written alike.

use std::{collections::BTreeSet, time::Duration};

use async_nats::jetstream::{message::StreamMessage, stream::Stream};
use futures_util::{StreamExt as _, TryStreamExt as _};
use rand::Rng as _;

use super::{JetStreamLane, found, requests::Message};
use crate::{
    domain::{AgentId, Status, Verdict},
    lanes::{DurableWrite, Evidence, LaneError, Noted, Notice, OutcomeStage, Precondition, Stored},
    nats::{
        headers,
        jetstream::publish::{Published, expected},
        subjects,
    },
    state::{Digest, MessageKey},
    tenants::names,
    wire,
};

/// Times in a row that somebody else comes first, before it is left to a later attempt.
const LATE_MAX: usize = 16;
/// For another's publish that is under way: it cannot be read yet, and may come to nothing.
const UNDER_WAY_MS: std::ops::Range<u64> = 2..20;
/// Recipients of one message that are read; no tenant has as many agents.
const RECIPIENTS_READ_MAX: usize = 100_000;

impl JetStreamLane {
    /// Each delivery expects the one before. Who comes late reads what is there and decides anew.
    pub(super) async fn store_once(&self, write: &DurableWrite) -> Result<Stored, LaneError> {
        let key = &write.key;
        let filter = subjects::all_stored(key);
        // Who has a part of a broadcast already is known only by reading; to come late leads there.
        let mut last = if write.to_each { 0 } else { write.after };
        let mut has_it = BTreeSet::new();
        let mut late = 0;
        let cause = headers::cause(write.cause.as_deref());
        let mut deliveries = write.deliveries.iter().enumerate();
        let mut next = deliveries.next();
        while let Some((index, delivery)) = next {
            let to = delivery.permit.recipient();
            if has_it.contains(to) {
                next = deliveries.next();
                continue;
            }
            let delivery_id = headers::delivery_id(&write.decision_id, index);
            let of = (key, &*write.decision_id, &*delivery_id);
            let note = headers::note(delivery);
            let fields = headers::delivery(of, &write.traceparent, delivery, (&cause, &note));
            let after = last.to_string();
            let headers = [fields.as_slice(), &expected(&after, &filter)].concat();
            let (subject, payload) = (&subjects::stored_message(key, to), &delivery.payload);
            let not_after = Some(write.not_after);
            let message = Message { subject, headers: &headers, payload, not_after };
            match self.requests.publish(message).await? {
                Published::Kept { sequence, .. } => {
                    (last, late) = (sequence, 0);
                    self.nudge(key, to);
                    next = deliveries.next();
                }
                Published::Late => {
                    late += 1;
                    let Some(evidence) = self.read_late(key, &mut last, late).await? else { continue };
                    let decided = write.precondition == Precondition::Undecided && evidence.verdict.is_some();
                    let delivered = !write.to_each && !evidence.recipients.is_empty();
                    if decided || delivered {
                        return Ok(Stored::Before(Box::new(evidence)));
                    }
                    has_it = evidence.recipients.into_iter().collect();
                }
            }
        }
        Ok(Stored::Now { last })
    }

    /// Tells who listens live that something has come into the durable inbox. A hint without content: it is
    /// lost if nobody listens, and nothing waits for it.
    fn nudge(&self, key: &MessageKey, to: &AgentId) {
        self.requests.hint(&subjects::inbox(&key.tenant, to), &headers::nudge(key));
    }

    /// The first verdict of its stage stands.
    pub(super) async fn notify_once(&self, notice: &Notice) -> Result<Noted, LaneError> {
        let Notice { key, to, stage, .. } = notice;
        let subject = subjects::stored_outcome(key, to, *stage);
        let (filter, mut last) = match stage {
            OutcomeStage::Governed => (subjects::all_stored(key), 0),
            OutcomeStage::Delivered => (subjects::all_stored(key), notice.after),
            // Nothing else is about these subjects.
            OutcomeStage::Judged | OutcomeStage::Repeated(_) | OutcomeStage::Redriven(_) => {
                (subject.clone(), 0)
            }
        };
        let payload = &wire::encode_verdict(&notice.verdict, notice.encoding);
        let fields = headers::outcome(notice);
        for late in 1..=LATE_MAX {
            let after = last.to_string();
            let mut headers = headers::slices(&fields);
            headers.extend(expected(&after, &filter));
            let not_after = Some(notice.not_after);
            let message = Message { subject: &subject, headers: &headers, payload, not_after };
            match self.requests.publish(message).await? {
                Published::Kept { sequence, .. } => {
                    if *stage == OutcomeStage::Delivered
                        && let Some(agent) = told_of(&notice.verdict)
                    {
                        self.told.insert(key.clone(), (agent.clone(), sequence));
                    }
                    return Ok(Noted::Now);
                }
                Published::Late => {}
            }
            let stands = match stage {
                OutcomeStage::Governed => self.read_late(key, &mut last, late).await?.is_some(),
                OutcomeStage::Delivered => {
                    let found = self.read_late(key, &mut last, late).await?;
                    found.is_some_and(|found| found.verdict.is_some())
                }
                OutcomeStage::Judged | OutcomeStage::Repeated(_) | OutcomeStage::Redriven(_) => {
                    let told = self.verdict_on(key, &subject).await?;
                    if told.is_none() {
                        under_way().await;
                    }
                    told.is_some()
                }
            };
            if stands {
                return Ok(Noted::Before);
            }
        }
        Err(LaneError::Unconfirmed)
    }

    /// What is there for who came late, and in `last` what is to be expected now. `None`: another's publish
    /// is under way, or what was there has become too old in this instant.
    async fn read_late(
        &self,
        key: &MessageKey,
        last: &mut u64,
        late: usize,
    ) -> Result<Option<Evidence>, LaneError> {
        if late >= LATE_MAX {
            return Err(LaneError::Unconfirmed);
        }
        let found = self.read(key).await?;
        let now_last = found.as_ref().map_or(0, |found| found.last);
        if now_last == *last {
            under_way().await;
            return Ok(None);
        }
        *last = now_last;
        Ok(found)
    }

    /// What is stored of a message.
    pub(super) async fn read(&self, key: &MessageKey) -> Result<Option<Evidence>, LaneError> {
        let stored = self.outbound(key).await?;
        // Before the rest: what comes in between is then not expected, and its writer finds it.
        let newest = found(stored.get_last_raw_message_by_subject(&subjects::all_stored(key)).await)?;
        let Some(newest) = newest else { return Ok(None) };
        let first_on =
            async |subjects: &str| found(stored.get_first_raw_message_by_subject(subjects, 1).await);
        // Where contents have gone, what says so is left: so it is looked for after them.
        let delivery = first_on(&subjects::all_deliveries(key)).await?;
        let receipt = first_on(&subjects::all_receipts(key)).await?;
        let sequence = |message: &Option<StreamMessage>| message.as_ref().map(|message| message.sequence);
        let is_only = is_only(newest.sequence, sequence(&delivery), sequence(&receipt));
        let first = delivery.or(receipt);
        let mut recipients: BTreeSet<AgentId> = match &first {
            Some(only) if is_only => subjects::delivered_to(&only.subject).into_iter().collect(),
            Some(_) => {
                let all = subjects::all_stored(key);
                let subjects = stored.info_with_subjects(&all).await.map_err(unreadable)?;
                let some = subjects.take(RECIPIENTS_READ_MAX);
                some.try_filter_map(async |(subject, _)| Ok(subjects::delivered_to(&subject)))
                    .try_collect()
                    .await
                    .map_err(unreadable)?
            }
            None => BTreeSet::new(),
        };
        let mut decision_id = first
            .as_ref()
            .and_then(|first| first.headers.get(headers::DECISION).map(|id| id.as_str().to_owned()));
        // After the deliveries: their contents may go as soon as it is there, without a receipt.
        let (verdict, digest) = self.verdict_on(key, &subjects::verdict(key)).await?.unzip();
        if let Some((verdict, agent)) =
            verdict.as_ref().and_then(|verdict| Some((verdict, told_of(verdict)?)))
        {
            if recipients.is_empty() {
                decision_id = Some(verdict.decision_id.clone());
            }
            recipients.insert(agent.clone());
        }
        Ok((verdict.is_some() || !recipients.is_empty()).then(|| Evidence {
            recipients: recipients.into_iter().collect(),
            decision_id,
            verdict,
            digest: digest.flatten(),
            last: newest.sequence,
        }))
    }

    /// The verdict that is stored on this subject, and the digest of what it is about.
    pub(super) async fn verdict_on(
        &self,
        key: &MessageKey,
        subject: &str,
    ) -> Result<Option<(Verdict, Option<Digest>)>, LaneError> {
        let stored = self.outbound(key).await?;
        let last = stored.get_last_raw_message_by_subject(subject).await;
        let Some(message) = found(last)? else { return Ok(None) };
        let verdict = wire::decode_verdict(&message.payload)
            .map_err(|error| LaneError::Unreadable(format!("a verdict: {error}")))?;
        Ok(Some((verdict, headers::digest(&message.headers))))
    }

    pub(super) async fn outbound(&self, key: &MessageKey) -> Result<Stream<()>, LaneError> {
        let stream = self.context.get_stream_no_info(names::outbound_stream(&key.tenant)).await;
        stream.map_err(unreadable)
    }
}

/// To whom alone a verdict says that its message was delivered. Of a broadcast it names nobody.
pub(super) fn told_of(verdict: &Verdict) -> Option<&AgentId> {
    let delivered = verdict.status == Status::Delivered;
    verdict.reach.as_ref().filter(|_| delivered)?.agent.as_ref()
}

/// Whether the first delivery, or the first receipt, is all that is stored of a message.
fn is_only(newest: u64, delivery: Option<u64>, receipt: Option<u64>) -> bool {
    matches!((delivery, receipt), (Some(only), None) | (None, Some(only)) if only == newest)
}

async fn under_way() {
    let pause = rand::rng().random_range(UNDER_WAY_MS);
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

fn unreadable(error: impl std::fmt::Display) -> LaneError {
    LaneError::Unreadable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_receipt_is_found_beside_a_delivery_that_is_the_newest() {
        // One had it, whose content has gone, and another got it after that.
        assert!(!is_only(3, Some(3), Some(2)));
        // The same the other way round, and with a verdict behind it.
        assert!(!is_only(3, Some(2), Some(3)));
        assert!(!is_only(3, Some(2), None));
        assert!(!is_only(3, None, Some(2)));
        assert!(is_only(3, Some(3), None));
        assert!(is_only(3, None, Some(3)));
        assert!(!is_only(3, None, None));
    }
}
