//! Which threshold is in force, and what moves it, without a server.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::{
    super::testing::{DIGEST, One, PARKED, id, parked},
    *,
};
use crate::{
    deliberation::{
        Case,
        learning::{SAMPLES, Sample},
    },
    domain::{Adaptive, Choice, Event, Impact, Level, Parts, Why},
};

const CONFIGURED: f64 = 0.8;
const FLOOR: f64 = 0.6;

/// What is learned, in this process.
#[derive(Default)]
pub(in super::super) struct Kept {
    entry: Mutex<(u64, Option<Reading>)>,
    reads: AtomicUsize,
    away: Mutex<bool>,
    /// What the next writes say. `Now` and `Again` are written all the same.
    writes: Mutex<Vec<Written>>,
    records: Mutex<Vec<audit::Entry>>,
}

impl Kept {
    pub(in super::super) fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    fn entry(&self) -> Option<Entry> {
        match &self.entry.lock().1 {
            Some(Reading::Entry(entry)) => Some(entry.as_ref().clone()),
            _ => None,
        }
    }

    fn here(&self) -> Result<(), LearnedError> {
        if *self.away.lock() { Err(LearnedError("away".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl LearnedStore for Kept {
    async fn version(&self) -> Result<Version, LearnedError> {
        self.here()?;
        Ok(Version { created_ns: 1, last_sequence: self.entry.lock().0 })
    }

    async fn read(&self, _: &TenantId) -> Result<(u64, Reading), LearnedError> {
        self.here()?;
        self.reads.fetch_add(1, Ordering::Relaxed);
        let (revision, reading) = self.entry.lock().clone();
        Ok((revision, reading.unwrap_or(Reading::Nothing)))
    }

    async fn write(&self, _: &TenantId, revision: u64, entry: &Entry) -> Result<Written, LearnedError> {
        let mut kept = self.entry.lock();
        if kept.0 != revision {
            return Ok(Written::Again("another was first".to_owned()));
        }
        *kept = (revision + 1, Some(Reading::Entry(Box::new(entry.clone()))));
        Ok(self.writes.lock().pop().unwrap_or(Written::Now))
    }

    async fn record(&self, record: audit::Entry) -> Result<(), LearnedError> {
        self.records.lock().push(record);
        Ok(())
    }
}

/// Of one tenant that learns.
pub(in super::super) fn thresholds() -> (Arc<Kept>, Arc<Thresholds>) {
    let mut tenant = Tenant::new("acme".parse().unwrap());
    tenant.limits.deliberation_threshold = CONFIGURED;
    tenant.deliberation.adaptive = Adaptive { enabled: true, floor: FLOOR, ceiling: 0.9 };
    let kept = Arc::new(Kept::default());
    let thresholds = Thresholds::new(
        Arc::clone(&kept) as Arc<dyn LearnedStore>,
        Arc::new(One(Arc::new(tenant))),
        "node-1",
        || PARKED,
        Arc::new(Metrics::new("node-1")),
        Scales::default(),
    );
    (kept, thresholds)
}

fn in_force(thresholds: &Thresholds) -> f64 {
    thresholds.tenant(&"acme".parse().unwrap()).unwrap().limits.deliberation_threshold
}

/// Parked for its impact, and approved: a false alarm.
fn false_alarm(number: usize) -> Case {
    let mut parked = parked(&["judge"]);
    parked.id = format!("{number:024x}").parse().unwrap();
    parked.why = Why::Impact { score: 0.85, threshold: CONFIGURED };
    parked.impact = Some(Impact {
        score: 0.85,
        level: Level::High,
        parts: Parts::default(),
        model: "keywords".to_owned(),
        levels: None,
        unscored: None,
        tokens: 0,
        score_max: None,
    });
    let begun = Case::replay([(1, Event::Parked(Box::new(parked.clone())))]).unwrap().unwrap();
    let approval = begun.vote(&id("judge"), Choice::Approve, DIGEST, "", PARKED).unwrap();
    Case::replay([(1, Event::Parked(Box::new(parked))), (2, approval)]).unwrap().unwrap()
}

/// One false alarm from a change.
async fn on_the_brink(kept: &Kept, thresholds: &Thresholds) {
    thresholds.learn_from(&false_alarm(0)).await;
    let mut entry = kept.entry().unwrap();
    entry.learned.judged = std::iter::repeat_n(Sample::FalsePositive, SAMPLES - 1).collect();
    kept.entry.lock().1 = Some(Reading::Entry(Box::new(entry)));
}

#[tokio::test(start_paused = true)]
async fn until_it_is_known_what_was_learned_the_floor_is_in_force() {
    let (kept, thresholds) = thresholds();
    assert_eq!(in_force(&thresholds), FLOOR);
    assert!(thresholds.trouble().is_some());
    thresholds.read().await.unwrap();
    assert_eq!(in_force(&thresholds), CONFIGURED, "nothing was learned");
    assert!(thresholds.trouble().is_none());
    *kept.away.lock() = true;
    assert!(thresholds.read().await.is_err());
    assert_eq!(in_force(&thresholds), CONFIGURED, "it was read a moment ago");
    tokio::time::advance(FRESH).await;
    assert_eq!(in_force(&thresholds), FLOOR);
    kept.entry.lock().1 = Some(Reading::Unreadable);
    *kept.away.lock() = false;
    kept.entry.lock().0 += 1;
    thresholds.read().await.unwrap();
    assert_eq!(in_force(&thresholds), FLOOR, "what is kept cannot be read");
}

#[tokio::test]
async fn what_has_not_changed_is_not_read_again() {
    let (kept, thresholds) = thresholds();
    for _ in 0..3 {
        thresholds.read().await.unwrap();
    }
    assert_eq!(kept.reads(), 1);
    thresholds.learn_from(&false_alarm(1)).await;
    thresholds.read().await.unwrap();
    assert_eq!(kept.reads(), 3, "once to learn, once because it has changed");
}

#[tokio::test]
async fn a_judgement_teaches_once_and_a_change_is_recorded_once() {
    let (kept, thresholds) = thresholds();
    on_the_brink(&kept, &thresholds).await;
    for _ in 0..2 {
        thresholds.learn_from(&false_alarm(1)).await;
    }
    let entry = kept.entry().unwrap();
    assert_eq!((entry.learned.threshold, entry.learned.changes), (0.85, 1));
    assert_eq!(kept.records.lock().len(), 1);
    thresholds.read().await.unwrap();
    assert_eq!(in_force(&thresholds), 0.85);
    let shown = thresholds.shown();
    assert_eq!(shown.pointer("/thresholds/acme/in_force"), Some(&json!(0.85)));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_nobody_confirmed_teaches_once_and_has_its_record() {
    let (kept, thresholds) = thresholds();
    on_the_brink(&kept, &thresholds).await;
    kept.writes.lock().push(Written::Again("no answer".to_owned()));
    thresholds.learn_from(&false_alarm(1)).await;
    assert_eq!(kept.entry().unwrap().learned.changes, 1);
    assert_eq!(kept.records.lock().len(), 1);
}

#[tokio::test]
async fn what_another_version_has_written_is_not_overwritten() {
    let (kept, thresholds) = thresholds();
    *kept.entry.lock() = (7, Some(Reading::Unreadable));
    thresholds.learn_from(&false_alarm(1)).await;
    assert!(matches!(*kept.entry.lock(), (7, Some(Reading::Unreadable))));
}
