//! What becomes of parked messages by itself, without a server.

#![allow(clippy::unwrap_used, reason = "tests")]

use parking_lot::Mutex;

use super::{
    super::{
        testing::{DEADLINE, DIGEST, ESCALATES, MemoryLog, PARKED, id, parked},
        thresholds::tests::{Kept, thresholds},
    },
    *,
};
use crate::domain::{Choice, Reason};

/// Carries out what it is told to, and counts.
#[derive(Default)]
struct Releases {
    refusals: Mutex<Vec<Reason>>,
    tries: Mutex<Vec<u64>>,
}

#[async_trait]
impl Release for Releases {
    async fn release(&self, _: &Case, tries: u64) -> Result<Event, Rejection> {
        self.tries.lock().push(tries);
        match self.refusals.lock().pop() {
            Some(reason) => Err(Rejection::new(reason, "not now")),
            None => Ok(Event::Concluded {
                at: DEADLINE,
                reason: "delivered".to_owned(),
                decision_id: "d-2".to_owned(),
                detail: String::new(),
            }),
        }
    }
}

struct Office {
    log: Arc<MemoryLog>,
    releases: Arc<Releases>,
    kept: Arc<Kept>,
    deadlines: Deadlines,
    tenant: TenantId,
    id: DeliberationId,
}

fn office(voters: &[&str], clock: fn() -> Timestamp) -> Office {
    let parked = parked(voters);
    let (tenant, id) = (parked.tenant.clone(), parked.id.clone());
    let (log, releases) = (MemoryLog::with(parked), Arc::new(Releases::default()));
    let (kept, thresholds) = thresholds();
    let deadlines = Deadlines {
        log: Arc::clone(&log) as Arc<dyn DeliberationLog>,
        lanes: Arc::clone(&releases) as Arc<dyn Release>,
        thresholds,
        clock,
    };
    Office { log, releases, kept, deadlines, tenant, id }
}

impl Office {
    async fn look(&self) -> Next {
        self.deadlines.look(&self.tenant, &self.id).await
    }

    async fn conclude(&self, attempt: u64) -> Next {
        self.deadlines.conclude(&self.tenant, &self.id, attempt).await
    }

    async fn judge(&self) {
        let case = self.log.load(&self.tenant, &self.id).await.unwrap().unwrap();
        let approval = case.vote(&id("judge"), Choice::Approve, DIGEST, "", PARKED).unwrap();
        assert_eq!(self.log.append(&case, &approval).await, Ok(Appended::Now));
    }
}

fn again(next: Next) -> Duration {
    match next {
        Next::Again(after) => after,
        Next::Done => panic!("it is done"),
    }
}

#[tokio::test]
async fn before_anything_is_due_it_is_looked_at_when_it_will_be() {
    let office = office(&["judge"], || PARKED);
    assert_eq!(office.look().await, Next::Again(Duration::from_secs(60)));
    assert_eq!(office.log.kinds(), ["parked"]);
}

#[tokio::test]
async fn what_nobody_judges_is_escalated_and_then_expires() {
    let first = office(&["judge"], || ESCALATES);
    assert_eq!(first.look().await, Next::Again(Duration::from_secs(540)));
    assert_eq!(first.log.kinds(), ["parked", "escalated"]);
    let late = office(&["judge"], || DEADLINE);
    assert_eq!(late.look().await, Next::Done, "a decision has an event of its own");
    assert_eq!(late.log.kinds(), ["parked", "decided"]);
}

#[tokio::test]
async fn two_that_keep_one_deadline_append_it_once() {
    let office = office(&["judge"], || ESCALATES);
    office.log.rivals.lock().push(Event::Escalated { at: ESCALATES });
    assert_eq!(office.look().await, Next::Again(Duration::from_secs(540)));
    assert_eq!(office.log.kinds(), ["parked", "escalated"]);
}

#[tokio::test]
async fn a_log_that_is_away_is_asked_again_soon_and_one_that_cannot_be_read_seldom() {
    let office = office(&["judge"], || ESCALATES);
    office.log.failures.lock().push(LogError::Refused("no".to_owned()));
    assert!(again(office.look().await) < RETRY_MIN * 2);
    office.log.failures.lock().push(LogError::Unreadable("torn".to_owned()));
    assert_eq!(again(office.look().await), LOOK_MAX);
}

#[tokio::test]
async fn a_decision_is_carried_out_once_and_teaches() {
    let office = office(&["judge"], || PARKED);
    assert_eq!(office.conclude(1).await, Next::Done, "it is not decided yet");
    office.judge().await;
    assert_eq!(office.conclude(1).await, Next::Done);
    assert_eq!(office.log.kinds(), ["parked", "decided", "concluded"]);
    assert_eq!(office.kept.reads(), 1, "what was learned before is read, to learn more");
    assert_eq!(office.conclude(2).await, Next::Done);
    assert_eq!(*office.releases.tries.lock(), [1], "it is concluded");
}

#[tokio::test]
async fn what_cannot_be_carried_out_now_is_tried_ever_more_seldom() {
    let office = office(&["judge"], || PARKED);
    office.judge().await;
    office.releases.refusals.lock().extend([Reason::PolicyUnavailable; 3]);
    let waits = [again(office.conclude(1).await), again(office.conclude(4).await)];
    assert!(waits[0] < RETRY_MIN * 2 && waits[1] >= RETRY_MIN * 8, "{waits:?}");
    assert!(again(office.conclude(u64::MAX).await) <= RETRY_MAX.mul_f64(1.5));
    assert_eq!(office.log.kinds(), ["parked", "decided"]);
    assert_eq!(office.kept.reads(), 0, "nothing is learned from what is not concluded");
}
