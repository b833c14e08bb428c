#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

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
fn what_a_part_writes_of_a_turn_is_one_message_and_the_first_of_a_batch_alone_is_acknowledged() {
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

/// Of a message: its record, and a delivery of so many bytes.
fn put(out: &mut Out, decision: &DecisionId, payload: &[u8]) {
    let put = out.write(|batch, _| {
        let (before, publish) =
            (batch.deliveries.len(), Publish { subject: b"inbox", reply: None, headers: &[], payload });
        codec::publish(&mut batch.deliveries, &publish)?;
        let record = written(Some(decision));
        batch.record_bytes += record.bytes();
        batch.intents.push(Intent { record, bytes: batch.deliveries.len() - before });
        Ok(())
    });
    put.unwrap();
}

/// Records and deliveries that a server has read of these bytes.
fn taken(mut bytes: &[u8]) -> (usize, usize) {
    let (mut records, mut deliveries) = (0, 0);
    while let Some(end) = bytes.windows(2).position(|two| two == b"\r\n") {
        let line = std::str::from_utf8(&bytes[..end]).unwrap();
        let Some(publish) = line.strip_prefix("PUB ") else { break };
        let length: usize = publish.rsplit_once(' ').unwrap().1.parse().unwrap();
        let Some(payload) = bytes.get(end + 2..end + 2 + length + 2) else { break };
        if publish.starts_with("record.") {
            let Body::Batch(parts) = audit::decode(&payload[..length]).unwrap().body else {
                panic!("no batch")
            };
            records += parts.len();
        } else {
            deliveries += 1;
        }
        bytes = &bytes[end + 2 + length + 2..];
    }
    (records, deliveries)
}

#[test]
fn wherever_a_write_is_cut_no_delivery_is_without_its_record_and_few_records_without_their_delivery() {
    let mut out = Out::default();
    out.begin("_INBOX.n".to_owned());
    let messages = 2 * PART_MAX + 1;
    for index in 0..messages {
        // Of two turns by turns: a part has a message for each.
        let turn = DecisionId::new(9, (index % 2) as u64, index as u32);
        put(&mut out, &turn, &vec![b'x'; 100 * index]);
    }
    let leaving = out.next().unwrap();
    assert_eq!(taken(&leaving.bytes), (messages, messages));
    for cut in 0..leaving.bytes.len() {
        let (records, deliveries) = taken(&leaving.bytes[..cut]);
        let undelivered = records.checked_sub(deliveries).expect("a delivery without its record");
        assert!(undelivered <= PART_MAX, "cut at {cut}: {undelivered} on record never left");
    }
}
