//! How does a judgement move the threshold? Read, learn, write back by compare-and-set.

use std::{borrow::Cow, time::Duration};

use async_nats::jetstream::{context::PublishErrorKind, message::PublishMessage};
use rand::Rng as _;

use super::{
    Thresholds,
    entry::{self, Entry, LastChange, Reading},
};
use crate::{
    audit::{Body, Place, Record, Threshold},
    deliberation::{
        Case,
        learning::{self, Change, SAMPLES, Sample},
    },
    domain::{Tenant, impact::NOT_NEEDED, scale as scale_of},
    tenants::{Directory, names::THRESHOLDS_STREAM},
};

/// Writes of one judgement; each but the first found that another node had written meanwhile.
const WRITES_MAX: u32 = 8;
/// Tries to have a record of a change confirmed.
const RECORDS_MAX: u32 = 3;

/// What became of a write.
enum Written {
    Now,
    /// Somebody else was faster, or it is not known: read again.
    Again(String),
}

impl Thresholds {
    /// Learns from a deliberation that is concluded, if its tenant learns. Calling it again for the
    /// same one changes nothing. Whoever appends the event that concludes it calls this after.
    pub async fn learn_from(&self, case: &Case) {
        let Some(tenant) = Directory::tenant(&self.directory, &case.parked.tenant) else { return };
        if !tenant.deliberation.adaptive.enabled {
            return;
        }
        if let Err(cause) = self.learn(case, &tenant).await {
            self.metrics.lesson_lost();
            tracing::warn!(tenant = %tenant.id, deliberation = %case.parked.id, cause, "a judgement did not teach");
        }
    }

    async fn learn(&self, case: &Case, tenant: &Tenant) -> Result<(), String> {
        let bucket = self.context.get_stream_no_info(THRESHOLDS_STREAM).await.map_err(|e| e.to_string())?;
        let configured = tenant.limits.deliberation_threshold;
        let adaptive = &tenant.deliberation.adaptive;
        let scale = self.scales.of_tenant(tenant);
        if on_another_scale(case, scale) {
            return Ok(());
        }
        let id = &case.parked.id;
        // Of a write that may have been stored although nobody said so.
        let mut tried = None;
        let mut cause = String::new();
        for attempt in 0..WRITES_MAX {
            if attempt > 0 {
                let wait = Duration::from_millis(20).mul_f64(rand::rng().random_range(0.5..1.5));
                tokio::time::sleep(wait * 2_u32.pow(attempt)).await;
            }
            let (revision, reading) = match entry::read(&bucket, &tenant.id).await {
                Ok(read) => read,
                Err(error) => {
                    cause = error.to_string();
                    continue;
                }
            };
            if matches!(reading, Reading::Unreadable) {
                return Err(format!("what was learned before cannot be read; delete the key {}", tenant.id));
            }
            let known = reading.of(configured, scale).cloned();
            let mut next = known.unwrap_or_else(|| Entry::new(configured, scale));
            if next.taught.contains(id) {
                self.announce(tenant, tried.as_ref()).await;
                return Ok(());
            }
            let in_force = learning::threshold(configured, Some(&next.learned), adaptive);
            let Some(sample) = Sample::of(case, in_force) else { return Ok(()) };
            let (learned, change) = next.learned.learn(sample, adaptive);
            next.learned = learned;
            next.note(id);
            let change = change.map(|change| LastChange {
                at: (self.clock)(),
                from: change.from,
                to: change.to,
                reason: sentence(&change),
                deliberation: id.clone(),
            });
            if change.is_some() {
                next.last_change.clone_from(&change);
            }
            match self.write(tenant, revision, &next).await? {
                Written::Now => {
                    self.wanted.notify_one();
                    self.announce(tenant, change.as_ref()).await;
                    return Ok(());
                }
                Written::Again(why) => (cause, tried) = (why, change),
            }
        }
        Err(format!("{WRITES_MAX} tries: {cause}"))
    }

    async fn write(&self, tenant: &Tenant, revision: u64, next: &Entry) -> Result<Written, String> {
        let json = serde_json::to_vec(next).map_err(|error| error.to_string())?;
        let message = PublishMessage::build().payload(json.into()).expected_last_subject_sequence(revision);
        let sent = self.context.send_publish(entry::subject(&tenant.id), message);
        let stored = match sent.await {
            Ok(stored) => stored.await,
            Err(error) => Err(error),
        };
        match stored {
            Ok(_) => Ok(Written::Now),
            Err(error) => match error.kind() {
                PublishErrorKind::WrongLastSequence | PublishErrorKind::TimedOut => {
                    Ok(Written::Again(error.to_string()))
                }
                _ => Err(error.to_string()),
            },
        }
    }

    /// A change is logged, counted and recorded.
    async fn announce(&self, tenant: &Tenant, change: Option<&LastChange>) {
        let Some(LastChange { at, from, to, reason, deliberation }) = change else { return };
        tracing::info!(tenant = %tenant.id, from, to, reason, %deliberation, "threshold moved");
        self.metrics.threshold_moved(to > from);
        let moved = Threshold {
            deliberation: Cow::Borrowed(deliberation),
            from: *from,
            to: *to,
            reason: Cow::Borrowed(reason),
        };
        let record = Record::new(*at, &tenant.id, &self.node, Body::Threshold(moved));
        let (subject, record) = record.entry(Place::Threshold(deliberation)).into_parts();
        for attempt in 1..=RECORDS_MAX {
            // Stored once, however often it is sent within the stream's window.
            let message = PublishMessage::build().payload(record.clone()).message_id(&subject);
            let stored = match self.context.send_publish(subject.clone(), message).await {
                Ok(stored) => stored.await,
                Err(error) => Err(error),
            };
            match stored {
                Ok(_) => return,
                Err(error) if attempt == RECORDS_MAX => {
                    self.metrics.record_dropped();
                    tracing::error!(tenant = %tenant.id, %error, "a change of the threshold is not recorded");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200) * attempt).await,
            }
        }
    }
}

/// Whether another head told its impact, which says nothing about a threshold for this one.
fn on_another_scale(case: &Case, scale: Option<&str>) -> bool {
    let told = case.parked.impact.as_ref().map(|impact| impact.model.as_str());
    match (told, scale) {
        (Some(model), Some(own)) if model != NOT_NEEDED => scale_of(model) != own,
        _ => false,
    }
}

fn sentence(change: &Change) -> String {
    let Change { from, to, false_positives, false_negatives } = change;
    if to > from {
        format!(
            "of the last {SAMPLES} that were judged, {false_positives} were parked for their impact and approved"
        )
    } else {
        format!(
            "of the last {SAMPLES} that were judged, {false_negatives} were below the threshold and denied"
        )
    }
}
