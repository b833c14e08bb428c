//! One message by both lanes: what its reviewers must see is let through by neither, also when it would be
//! judged otherwise by then.

use std::path::Path;

use agentbus::{
    deliberation::{self, Appended, DeliberationLog as _},
    domain::{Parked, Timestamp},
    state::MessageKey,
    tenants::BusUser,
};
use async_nats::{HeaderMap, jetstream};

use super::*;

fn policy(folder: &Path, obligations: &str) {
    let text = format!(
        "package agentbus.modules.own\nallow := true\nobligations := {{\"deliberate\": {obligations}}}\n"
    );
    std::fs::write(folder.join("own.rego"), text).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_parked_by_one_lane_is_not_let_through_by_the_other_and_no_repeat_is() {
    let folder = tempfile::tempdir().unwrap();
    policy(folder.path(), "true");
    let mut court = Court::with(ONE_OF_TWO, |options| {
        let dir = folder.path().to_str().unwrap();
        options.node_overrides.extend(toml::toml! {
            policy = { dir = dir }
            // Shorter than reviewers take.
            idempotency = { window = "3s" }
        });
    })
    .await;
    let mut live = court.worker.inbox().await.unwrap();
    let (sent, open) = (Draft::to_agent("worker", "sent"), Draft::to_agent("worker", "sent, and open"));
    let submitted = Draft::to_agent("worker", "submitted");
    let denied = court.park(&sent).await;
    let waiting = court.park(&open).await;
    let submit = async |court: &Court, draft: &Draft, expected: Status| {
        let bytes = draft.encode(Encoding::Json);
        let answer = court.planner.submit(bytes, Patience::default()).await.unwrap();
        assert_eq!(answer.status, expected, "{answer:?}");
    };
    submit(&court, &submitted, Status::Stored).await;
    assert_eq!(told(&court.planner).await.status, Status::Deliberating);
    denied.vote(&court.judge, "reject").await;
    denied.vote(&court.agent("arbiter").await, "reject").await;
    assert_eq!(told(&court.planner).await.reason, Reason::DeliberationDenied);

    // By now it could go at once.
    policy(folder.path(), "false");
    court.bus.stack.node_mut(0).unwrap().stop().await;
    court.bus.stack.node_mut(0).unwrap().restart().await.unwrap();
    assert_eq!(court.worker.register(&[]).await.unwrap()["status"], "ok");
    let free = send(&court.planner, &Draft::to_agent("worker", "another")).await;
    assert_eq!(free.reason, Reason::Delivered, "{free:?}");
    live.next().await.unwrap();
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    // The lane knows its own repeat by its outcome.
    let (new, repeat) = (Status::Stored, Status::Deliberating);
    let again = [(&sent, Some(&denied), new), (&open, Some(&waiting), new), (&submitted, None, repeat)];
    for (draft, parked, answer) in again {
        let verdict = send(&court.planner, draft).await;
        assert_eq!(verdict.status, Status::Deliberating, "{verdict:?}");
        let id = verdict.deliberation_id.map(|id| id.to_string());
        assert!(parked.is_none_or(|parked| id.as_ref() == Some(&parked.id)), "{id:?}");
        submit(&court, draft, answer).await;
    }
    // What was submitted is governed before this.
    let last = Draft::to_agent("worker", "the last");
    submit(&court, &last, Status::Stored).await;
    let delivered = take(&court.worker, 4, Duration::from_secs(5)).await;
    let ids: Vec<&str> = delivered.iter().map(|message| header(message, "Agentbus-Message-Id")).collect();
    assert_eq!(ids, [last.message_id.as_str()]);
    assert!(tokio::time::timeout(MEANWHILE, live.next()).await.is_err(), "delivered live");
    court.stop().await;
}

/// A node that died right after it had parked it has told nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_parked_under_an_id_is_not_taken_for_another_message() {
    let court = Court::sit(1, ONE_OF_TWO).await;
    let another = races::parked(7);
    let Parked { tenant, sender, message_id: message, .. } = another.clone();
    let draft = Draft { message_id: message.to_string(), ..Draft::to_agent("worker", "quite another") };
    let id = deliberation::id_of(&MessageKey { tenant, sender, message });
    let log = races::node(&court.bus, 10).await;
    let never = Timestamp(u64::MAX / 4);
    assert_eq!(log.park(&Parked { id, deadline: never, ..another }, Priority::High).await, Ok(Appended::Now));
    let node = jetstream::new(court.bus.stack.connect(BusUser::Node).await.unwrap());
    let mut headers = HeaderMap::new();
    headers.insert("Agentbus-Redriven", "1");
    let subject = format!("tenant.acme.submitted.planner.{}", draft.message_id);
    node.publish_with_headers(subject, headers, draft.encode(Encoding::Json)).await.unwrap().await.unwrap();
    let verdict = told(&court.planner).await;
    assert_eq!(verdict.reason, Reason::DuplicateMessage, "{verdict:?}");
    nothing_for(&court.worker).await;
    court.stop().await;
}
