//! What reviewers are promised, without a server.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::{
    super::testing::{DIGEST, MemoryLog, One, PARKED, Records, id, parked},
    *,
};
use crate::{
    cpu::CpuSettings,
    domain::{Choice, Level, Parts, Vote},
    lanes::AdmissionLimits,
    wire::DeliberationsRequest,
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
        self.listed_of(reader, &DeliberationsRequest::default()).await
    }

    async fn listed_of(&self, reader: &str, wanted: &DeliberationsRequest) -> Vec<Docketed> {
        match self.reviewers.list(&self.tenant, &id(reader), wanted, Instant::now()).await.unwrap() {
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
async fn what_is_listed_can_be_asked_for_by_sender_type_age_and_score_and_page_by_page() {
    let desk = desk(&["judge"]);
    let second: DeliberationId = "1123456789abcdef01234567".parse().unwrap();
    let impact = Impact {
        score: 0.9,
        score_max: None,
        level: Level::of(0.9),
        parts: Parts::default(),
        levels: None,
        model: "keywords".to_owned(),
        unscored: None,
        tokens: 0,
    };
    let one = Parked {
        id: second.clone(),
        sender: id("worker"),
        parked_at: PARKED.plus(Duration::from_secs(1)),
        impact: Some(impact),
        ..parked(&["judge"])
    };
    desk.log.add(one);
    let ids = async |wanted: DeliberationsRequest| {
        desk.listed_of("judge", &wanted).await.into_iter().map(|one| one.id).collect::<Vec<_>>()
    };
    let all = DeliberationsRequest::default;
    let only = |id: &DeliberationId| vec![id.clone()];
    let (first, both) = (desk.id.clone(), vec![desk.id.clone(), second.clone()]);
    assert_eq!(ids(all()).await, both);
    let of_worker = DeliberationsRequest { sender: Some(id("worker")), ..all() };
    assert_eq!(ids(of_worker).await, only(&second));
    assert_eq!(ids(DeliberationsRequest { message_type: Some(MessageType::Command), ..all() }).await, both);
    assert!(ids(DeliberationsRequest { message_type: Some(MessageType::Query), ..all() }).await.is_empty());
    let older = DeliberationsRequest { parked_before: Some(PARKED.plus(Duration::from_millis(1))), ..all() };
    assert_eq!(ids(older).await, only(&first));
    assert_eq!(ids(DeliberationsRequest { score_min: Some(0.9), ..all() }).await, only(&second));
    assert!(ids(DeliberationsRequest { score_min: Some(0.91), ..all() }).await.is_empty());
    let page = |after: &DeliberationId| DeliberationsRequest { after: Some(after.clone()), ..all() };
    assert_eq!(ids(page(&first)).await, only(&second));
    assert!(ids(page(&second)).await.is_empty());
    desk.approve("judge").await.unwrap();
    assert_eq!(ids(page(&first)).await, [second], "the one before is decided by now");
    let unknown = page(&"2223456789abcdef01234567".parse().unwrap());
    let refused = desk.reviewers.list(&desk.tenant, &id("judge"), &unknown, Instant::now()).await;
    assert_eq!(refused.map_err(|refused| refused.reason), Err(Reason::DeliberationUnknown));
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
