#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::borrow::Cow;

use super::*;
use crate::{
    audit::{Body, Change, Place, Record, Registration},
    domain::{DecisionId, Timestamp},
    state::MessageKey,
};

const SOON: Duration = Duration::from_secs(60);

fn key() -> MessageKey {
    let (tenant, sender) = ("acme".parse().unwrap(), "planner".parse().unwrap());
    MessageKey { tenant, sender, message: "m-1".parse().unwrap() }
}

/// A record of this decision, or one by itself.
fn written(decision: Option<&DecisionId>) -> Written {
    let MessageKey { tenant, sender, .. } = key();
    let (capabilities, changes) = (Cow::default(), 1);
    let body = Registration { agent: Cow::Borrowed(&sender), change: Change::Left, capabilities, changes };
    let record = Record::new(Timestamp(1), &tenant, "node-1", Body::Registration(body));
    match decision {
        Some(decision) => Written::Part(record.part(decision)),
        None => record.entry(Place::Registration(&sender)).into(),
    }
}

/// Of an answer to who waits in this process: a record, and no delivery beside it.
fn dispatch(decision: &DecisionId, not_after: Instant) -> Dispatch {
    Dispatch {
        key: key(),
        decision_id: decision.to_string(),
        record: written(Some(decision)),
        deliveries: Vec::new(),
        traceparent: String::new(),
        cause: None,
        answer_to: None,
        not_after,
        written_by: not_after,
    }
}

/// Subjects and replies, in order.
fn published(leaving: &Leaving) -> Vec<String> {
    let text = String::from_utf8_lossy(&leaving.bytes).into_owned();
    assert!(text.ends_with("PING\r\n"), "{text}");
    let lines = text.split("\r\n").filter_map(|line| line.strip_prefix("PUB "));
    lines.map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect()
}

#[test]
fn what_a_turn_writes_is_one_message_and_the_first_one_alone_is_acknowledged() {
    let mut out = Out::default();
    out.begin("_INBOX.n".to_owned());
    let (turn, next) = (DecisionId::new(9, 1, 0), DecisionId::new(9, 2, 0));
    let later = Instant::now() + SOON;
    for decision in [&turn, &turn, &next, &turn] {
        out.deliver(dispatch(decision, later), oneshot::channel().0).unwrap();
    }
    out.record(written(Some(&turn))).unwrap();
    out.record(written(None)).unwrap();
    let leaving = out.next().unwrap();
    assert_eq!(
        published(&leaving),
        [
            "record.acme.planner.~.registration _INBOX.n.0.r",
            "record.acme.~.0000000000000009-1.batch",
            "record.acme.~.0000000000000009-2.batch",
        ]
    );
    assert_eq!(leaving.written_by, Some(later));
    assert!(out.next().is_none() && out.waiting == 0 && out.waiting_bytes == 0);
    assert_eq!(out.unfenced[0].waiting.len(), 4);
}

#[test]
fn what_is_too_late_to_be_delivered_is_not_recorded_as_an_intent_and_all_else_is() {
    let mut out = Out::default();
    out.begin("_INBOX.n".to_owned());
    let (turn, next) = (DecisionId::new(9, 1, 0), DecisionId::new(9, 2, 0));
    let (done, mut waits) = oneshot::channel();
    out.deliver(dispatch(&turn, Instant::now()), done).unwrap();
    out.record(written(Some(&next))).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    let leaving = out.next().unwrap();
    assert_eq!(published(&leaving), ["record.acme.~.0000000000000009-2.batch _INBOX.n.0.r"]);
    assert_eq!(leaving.written_by, None);
    assert!(waits.try_recv().is_err(), "it was told that it was delivered");

    // Where nothing is left, nothing is written.
    out.deliver(dispatch(&turn, Instant::now()), oneshot::channel().0).unwrap();
    std::thread::sleep(Duration::from_millis(2));
    assert!(out.next().is_none());
}
