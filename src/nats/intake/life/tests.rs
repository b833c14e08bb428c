#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{future::Future as _, pin::pin, sync::atomic::AtomicUsize, task::Context, time::Duration};

use futures_util::task::noop_waker;

use super::*;
use crate::{
    nats::intake::{Intake, codec, turn::BEGUN_MAX},
    telemetry::Metrics,
};

fn life(handler: impl Fn(&(), Incoming) -> Took + Send + Sync + 'static) -> Life<()> {
    let subscription = Subscription { subject: "s".to_owned(), queue: None, source: () };
    let (settings, metrics) = (config::Nats::default(), Arc::new(Metrics::new("node")));
    Intake::new("node", &settings, vec![subscription], handler, metrics).unwrap().1
}

/// How many of a thousand that come together are taken at once, at most.
async fn at_once(took: fn() -> Took) -> usize {
    const MESSAGES: usize = 1_000;
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let life = life(move |(), _| {
        counted.fetch_add(1, Ordering::Relaxed);
        took()
    });
    let mut servers = Servers::parse(&life.settings.url).unwrap();
    let read = BytesMut::from(format!("MSG s {FIRST_SID} 0\r\n\r\n").repeat(MESSAGES).as_bytes());
    let mut reader = tokio::io::empty();
    let mut reading = pin!(life.read(&mut reader, read, &mut servers));
    let (mut before, mut most) = (0, 0);
    while reading.as_mut().poll(&mut Context::from_waker(&noop_waker())).is_pending() {
        let now = taken.load(Ordering::Relaxed);
        most = most.max(now - before);
        before = now;
    }
    assert_eq!(taken.load(Ordering::Relaxed), MESSAGES);
    most.max(MESSAGES - before)
}

#[tokio::test]
async fn messages_that_come_together_are_taken_some_at_a_time_and_all_at_once_where_they_take_little() {
    assert_eq!(at_once(|| Took::Work).await, BEGUN_MAX);
    assert!(at_once(|| Took::Little).await > BEGUN_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_brings_nothing_is_given_up_and_not_one_that_brings_others_messages_first() {
    let life = life(|(), _| Took::Little);
    life.shared.connected();
    assert!(matches!(life.stay().await, SessionError::Silent));
    life.take_in(message(), &mut Turn::default(), Instant::now());
    assert!(tokio::time::timeout(Duration::from_secs(60), life.stay()).await.is_err());
}

#[test]
fn what_is_dropped_of_who_found_no_room_is_counted_and_not_taken() {
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let life = life(move |(), _| {
        counted.fetch_add(1, Ordering::Relaxed);
        Took::Refused(None)
    });
    let (now, mut turn) = (Instant::now(), Turn::default());
    const MANY: usize = 10_000;
    (0..MANY).for_each(|_| life.take_in(message(), &mut turn, now));
    let taken = taken.load(Ordering::Relaxed);
    assert!(taken > 0 && taken < MANY, "{taken}");
    let said = life.shared.metrics.encode();
    assert!(said.contains(&format!("agentbus_requests_dropped_total {}\n", MANY - taken)), "{said}");
    assert!(said.contains("agentbus_requests_unanswered_total 0\n"), "{said}");
}

fn message() -> Incoming {
    let Ok(Some(Operation::Message(message))) = codec::decode(&mut BytesMut::from("MSG s 2 0\r\n\r\n"))
    else {
        panic!("it is a message");
    };
    message
}
