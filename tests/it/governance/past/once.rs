//! Does a message count once for its sender, however often it comes?

use agentbus::{client::outcome, domain::Priority, tenants::Plan};
use futures_util::StreamExt as _;

use super::*;

/// More often than a sender may send before it is one that sends much.
const OFTEN: usize = 12;

fn task(to: &str, text: &str) -> Draft {
    Draft { message_type: MessageType::TaskRequest, ..Draft::to_agent(to, text) }
}

/// Sends the same message again and again; each time it is answered for this reason.
async fn again_and_again(agent: &AgentClient, draft: &Draft, reason: Reason) {
    let patience = Patience { attempt: SOON, deadline: SOON };
    for _ in 0..OFTEN {
        let verdict = agent.send(draft.encode(Encoding::Json), patience).await.unwrap();
        assert_eq!(verdict.reason, reason, "{verdict:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_leaves_its_senders_volume_and_drift_as_they_were() {
    let bus = Bus::start(2).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let calm = say(&planner, "worker", "hello").await;
    let alarming = task("worker", ALARMING);
    let first = crate::support::bus::send(&planner, alarming.encode(Encoding::Json)).await;
    again_and_again(&planner, &alarming, first.reason).await;
    tokio::time::sleep(TRUE_WITHIN).await;

    let next = say(&planner, "worker", "hello").await;
    let [calm, first] = [&calm, &first].map(|verdict| impact(verdict).parts.semantic.unwrap());
    let parts = &impact(&next).parts;
    assert_eq!(parts.volume, 0.1, "the third message: {next:?}");
    let away = (parts.semantic.unwrap() - f64::midpoint(calm, first)).abs();
    let expected = if away <= 0.3 { 0.0 } else { (away / 0.3 * 0.5).min(1.0) };
    assert!((parts.drift.unwrap() - expected).abs() < 1e-6, "{parts:?}, expected {expected}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_since_nobody_listened_counts_once() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let draft = task("worker", "hello");
    again_and_again(&planner, &draft, Reason::RecipientOffline).await;
    let _inbox = worker.inbox().await.unwrap();
    worker.settled().await;
    let verdict = crate::support::bus::send(&planner, draft.encode(Encoding::Json)).await;
    assert_eq!((verdict.reason, impact(&verdict).parts.volume), (Reason::Delivered, 0.1), "{verdict:?}");
    assert_eq!(impact(&say(&planner, "worker", "hello").await).parts.volume, 0.1);
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_redis_makes_many_of_no_message_that_is_sent_until_it_gets_through() {
    for _ in 0..5 {
        if claimed_in_an_outage().await {
            return;
        }
    }
    panic!("never came so far as to be claimed");
}

/// Whether the message came so far that it was to be claimed: on a busy machine the node forgets before that who is
/// registered.
async fn claimed_in_an_outage() -> bool {
    let mut bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    assert_eq!(impact(&say(&planner, "worker", "hello").await).parts.volume, 0.1);
    let (draft, patience) = (task("worker", "hello"), Patience { attempt: SOON, deadline: SOON });
    bus.stack.redis_mut().unwrap().child_mut().kill().await;
    // On a slow machine the node forgets who is registered before it has been asked so often.
    let (mut unclaimed, mut forgotten) = (0, false);
    while unclaimed < OFTEN && !forgotten {
        let verdict = planner.send(draft.encode(Encoding::Json), patience).await.unwrap();
        forgotten = super::forgotten(&verdict);
        let unclaimed_now = [Reason::IdempotencyUnavailable, Reason::BreakerOpen].contains(&verdict.reason);
        unclaimed += usize::from(unclaimed_now && !forgotten);
        assert_ne!(verdict.reason, Reason::Delivered, "{verdict:?}");
    }
    if unclaimed == 0 {
        bus.stop().await;
        return false;
    }
    let other = planner.send(task("worker", "hello").encode(Encoding::Json), patience).await.unwrap();
    if !forgotten {
        assert_eq!(impact(&other).parts.volume, 0.1, "the third message: {other:?}");
    }
    bus.stop().await;
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_durable_attempt_leaves_its_senders_volume_and_drift_as_they_were() {
    // Room for one message that waits for its reviewers.
    let plan = "[tenants.acme.agents]\nplanner = { roles = [\"executive\"] }\n\
        worker = { roles = [\"implementer\"] }\njudge = { roles = [\"judicial\"] }\n\
        arbiter = { roles = [\"judicial\"] }\n[tenants.acme.deliberation]\nopen_max = 1\n\
        [tenants.acme.deliberation.terms]\nrule = \"roles\"\ndistinct_roles = 1\n";
    let bus = Bus::with(2, |options| options.plan = Plan::parse(plan).unwrap()).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let _inbox = worker.inbox().await.unwrap();
    let mut outcomes = planner.outcomes().await.unwrap();
    for reason in [Reason::Deliberating, Reason::TooManyParked, Reason::TooManyParked] {
        let severe = Draft { priority: Priority::Critical, ..task("worker", "hello") };
        let kept = planner.submit(severe.encode(Encoding::Json), Patience::default()).await.unwrap();
        assert_eq!(kept.reason, Reason::Stored, "{kept:?}");
        let told = tokio::time::timeout(SOON, outcomes.next()).await;
        let told = outcome(&told.unwrap().unwrap(), planner.id()).unwrap();
        assert_eq!(told.reason, reason, "{told:?}");
    }
    tokio::time::sleep(TRUE_WITHIN).await;
    // Its registration has run out meanwhile.
    worker.register(&[]).await.unwrap();
    // Three messages came before it, two of them five times.
    let verdict = say(&planner, "worker", "hello").await;
    assert_eq!(impact(&verdict).parts.volume, 0.1, "{verdict:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_counts_once_for_who_gave_it() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    for agent in [&planner, &worker] {
        agent.register(&[]).await.unwrap();
    }
    let mut inbox = worker.inbox().await.unwrap();
    let _mine = planner.inbox().await.unwrap();
    let answering = worker.clone();
    let answers = tokio::spawn(async move {
        while let Some(question) = inbox.next().await {
            let answer =
                Draft { message_type: MessageType::TaskResponse, ..Draft::to_agent("planner", "yes") };
            answering.answer(&question, answer.encode(Encoding::Json)).await.unwrap();
        }
    });
    for expected in [0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.4] {
        let question = task("worker", "may I?");
        let asked = planner.ask(question.encode(Encoding::Json), Patience::FOR_AN_ANSWER).await.unwrap();
        assert_eq!(asked.verdict.reason, Reason::Delivered, "{asked:?}");
        assert_eq!(impact(&asked.verdict).parts.volume, expected, "{asked:?}");
    }
    assert_eq!(impact(&say(&worker, "planner", "hello").await).parts.volume, 0.4, "after ten answers");
    answers.abort();
    bus.stop().await;
}
