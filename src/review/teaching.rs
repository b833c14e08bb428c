//! How does a judgement move the threshold? Read, learn, write back unless somebody has written meanwhile.

use std::{borrow::Cow, time::Duration};

use rand::Rng as _;

use super::{
    Thresholds,
    thresholds::{LearnedError, Written},
};
use crate::{
    audit::{Body, Place, Record, Threshold},
    deliberation::{
        Case,
        lessons::{LastChange, Lesson, lesson, on_another_scale},
    },
    domain::Tenant,
};

/// Writes of one judgement; each but the first found that another node had written meanwhile.
const WRITES_MAX: u32 = 8;
/// Tries to have a record of a change confirmed.
const RECORDS_MAX: u32 = 3;

impl Thresholds {
    /// Learns from a deliberation that is concluded, if its tenant learns. Calling it again for the
    /// same one changes nothing. Whoever appends the event that concludes it calls this after.
    pub async fn learn_from(&self, case: &Case) {
        let Some(tenant) = self.directory.tenant(&case.parked.tenant) else { return };
        if !tenant.deliberation.adaptive.enabled {
            return;
        }
        if let Err(cause) = self.learn(case, &tenant).await {
            self.metrics.lesson_lost();
            tracing::warn!(tenant = %tenant.id, deliberation = %case.parked.id, %cause, "a judgement did not teach");
        }
    }

    async fn learn(&self, case: &Case, tenant: &Tenant) -> Result<(), LearnedError> {
        let scale = self.scales.of_tenant(tenant);
        if on_another_scale(case, scale) {
            return Ok(());
        }
        // Of a write that may have been stored although nobody said so.
        let mut tried = None;
        let mut cause = String::new();
        for attempt in 0..WRITES_MAX {
            if attempt > 0 {
                let wait = Duration::from_millis(20).mul_f64(rand::rng().random_range(0.5..1.5));
                tokio::time::sleep(wait * 2_u32.pow(attempt)).await;
            }
            let (revision, reading) = match self.store.read(&tenant.id).await {
                Ok(read) => read,
                Err(error) => {
                    cause = error.to_string();
                    continue;
                }
            };
            let (entry, change) = match lesson(case, &reading, tenant, scale, (self.clock)()) {
                Lesson::New { entry, change } => (entry, change),
                Lesson::Nothing => return Ok(()),
                Lesson::Taught => {
                    self.announce(tenant, tried.as_ref()).await;
                    return Ok(());
                }
                Lesson::Unreadable => {
                    let id = &tenant.id;
                    let why = format!("what was learned before cannot be read; delete the key {id}");
                    return Err(LearnedError(why));
                }
            };
            match self.store.write(&tenant.id, revision, &entry).await? {
                Written::Now => {
                    self.wanted.notify_one();
                    self.announce(tenant, change.as_ref()).await;
                    return Ok(());
                }
                Written::Again(why) => (cause, tried) = (why, change),
            }
        }
        Err(LearnedError(format!("{WRITES_MAX} tries: {cause}")))
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
        let record = record.entry(Place::Threshold(deliberation));
        for attempt in 1..=RECORDS_MAX {
            match self.store.record(record.clone()).await {
                Ok(()) => return,
                Err(error) if attempt == RECORDS_MAX => {
                    self.metrics.record_dropped();
                    tracing::error!(tenant = %tenant.id, %error, "a change of the threshold is not recorded");
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(200) * attempt).await,
            }
        }
    }
}
