//! What reviewers are promised, without a server.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::{
    super::testing::{DIGEST, MemoryLog, One, PARKED, Records, id, parked},
    *,
};
use crate::{
    cpu::CpuSettings,
    domain::{Choice, Vote},
    lanes::AdmissionLimits,
};

struct Desk {
    log: Arc<MemoryLog>,
    records: Arc<Records>,
    reviewers: Reviewers,
    tenant: Arc<Tenant>,
    id: DeliberationId,
}

fn desk(voters: &[&str]) -> Desk {
    let parked = parked(voters);
    let (tenant, id) = (Arc::new(Tenant::new(parked.tenant.clone())), parked.id.clone());
    let (log, records) = (MemoryLog::with(parked), Arc::new(Records::default()));
    let reviewers = Reviewers {
        log: Arc::clone(&log) as Arc<dyn DeliberationLog>,
        tenants: Arc::new(One(Arc::clone(&tenant))),
        admission: Arc::new(Admission::new(AdmissionLimits { in_flight: 8, in_flight_per_tenant: 8 })),
        live: Arc::clone(&records) as Arc<dyn LiveTransport>,
        metrics: Arc::new(Metrics::new("node-1")),
        limits: wire::Limits::default(),
        clock: || PARKED.plus(Duration::from_secs(1)),
        deadline: Duration::from_secs(1),
        node: "node-1".to_owned(),
        single_flight: SingleFlight::default(),
        cpu: Arc::new(Cpu::start(CpuSettings { threads: 1, queue: 8 }, Arc::new(())).unwrap()),
        tracer: None,
    };
    Desk { log, records, reviewers, tenant, id }
}

impl Desk {
    async fn listed(&self, reader: &str) -> Vec<Docketed> {
        match self.reviewers.list(&self.tenant, &id(reader), Instant::now()).await.unwrap() {
            ReviewReply::List { listed, total } if total == listed.len() => listed,
            other => panic!("{other:?}"),
        }
    }

    async fn shown(&self, reader: &str) -> Result<ReviewReply, Reason> {
        self.reviewers.show(&self.tenant, &id(reader), &self.id).await.map_err(|refused| refused.reason)
    }

    async fn vote_on(&self, voter: &str, choice: Choice, digest: &str) -> Result<Voted, Reason> {
        let vote =
            VoteRequest { id: self.id.clone(), choice, digest: digest.to_owned(), comment: String::new() };
        self.reviewers.vote(&self.tenant, &id(voter), &vote).await.map_err(|refused| refused.reason)
    }

    async fn approve(&self, voter: &str) -> Result<Option<Judgement>, Reason> {
        self.vote_on(voter, Choice::Approve, DIGEST).await.map(|voted| voted.judgement)
    }
}

#[tokio::test]
async fn what_waits_is_listed_for_those_who_take_part_and_nobody_else() {
    let desk = desk(&["judge"]);
    for (reader, may_vote) in [("judge", true), ("planner", false), ("lead", false)] {
        let listed = desk.listed(reader).await;
        let [one] = listed.as_slice() else { panic!("{reader}: {listed:?}") };
        assert_eq!((&one.id, one.may_vote), (&desk.id, may_vote), "{reader}");
    }
    assert!(desk.listed("stranger").await.is_empty());
    desk.approve("judge").await.unwrap();
    assert!(desk.listed("judge").await.is_empty(), "it is decided");
}

#[tokio::test]
async fn a_deliberation_is_shown_whole_to_those_who_take_part_and_unknown_to_others() {
    let desk = desk(&["judge"]);
    let Ok(ReviewReply::Show(docket)) = desk.shown("judge").await else { panic!("not shown") };
    assert_eq!((docket.message.message.id.as_str(), docket.about.digest.as_str()), ("m-1", DIGEST));
    assert!(desk.shown("planner").await.is_ok());
    assert_eq!(desk.shown("stranger").await.unwrap_err(), Reason::DeliberationUnknown);
}

#[tokio::test]
async fn a_vote_counts_once_for_who_may_judge_and_has_seen_the_content() {
    let desk = desk(&["judge", "clerk", "warden"]);
    assert_eq!(desk.approve("stranger").await, Err(Reason::DeliberationUnknown));
    assert_eq!(desk.approve("planner").await, Err(Reason::SelfVote));
    assert_eq!(desk.approve("lead").await, Err(Reason::NotAVoter));
    let other = desk.vote_on("judge", Choice::Approve, "d2").await.map(|voted| voted.judgement);
    assert_eq!(other, Err(Reason::DigestMismatch));
    assert_eq!(desk.approve("judge").await, Ok(None));
    assert_eq!(desk.approve("judge").await, Err(Reason::AlreadyVoted));
    assert_eq!(desk.approve("clerk").await, Ok(Some(Judgement::Approved)));
    assert_eq!(desk.approve("warden").await, Err(Reason::DeliberationClosed));
    assert_eq!(desk.log.kinds(), ["parked", "vote", "decided"]);
    assert_eq!(desk.records.0.lock().len(), 8, "each try has its record");
}

#[tokio::test]
async fn votes_of_the_same_instant_all_count() {
    let desk = desk(&["judge", "clerk", "warden"]);
    let vote = Vote {
        voter: id("clerk"),
        choice: Choice::Reject,
        at: PARKED.plus(Duration::from_secs(1)),
        comment: String::new(),
    };
    desk.log.rivals.lock().push(Event::Vote(vote));
    let voted = desk.vote_on("judge", Choice::Approve, DIGEST).await.unwrap();
    assert_eq!((voted.tally.approvals, voted.tally.rejections), (1, 1));
    assert_eq!(desk.log.kinds(), ["parked", "vote", "vote"]);
}

#[tokio::test]
async fn a_vote_that_was_stored_without_a_confirmation_counts_once() {
    let desk = desk(&["judge", "clerk", "warden"]);
    desk.log.failures.lock().push(LogError::Unconfirmed);
    assert_eq!(desk.approve("judge").await, Ok(None));
    assert_eq!(desk.log.kinds(), ["parked", "vote"]);
}

#[tokio::test]
async fn nobody_is_told_of_a_vote_while_the_log_is_away() {
    let desk = desk(&["judge"]);
    desk.log.failures.lock().push(LogError::Refused("no".to_owned()));
    assert_eq!(desk.approve("judge").await, Err(Reason::DeliberationUnavailable));
    assert_eq!(desk.log.kinds(), ["parked"]);
}
