#![allow(clippy::unwrap_used, reason = "tests")]

use std::{future::Future as _, pin::pin, sync::atomic::AtomicUsize, task::Context};

use futures_util::task::noop_waker;

use super::*;
use crate::{
    nats::intake::{Intake, turn::BEGUN_MAX},
    telemetry::Metrics,
};

/// How many of a thousand that come together are taken at once, at most.
async fn at_once(took: Took) -> usize {
    const MESSAGES: usize = 1_000;
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    let subscription = Subscription { subject: "s".to_owned(), queue: None, source: () };
    let handler = move |(): &(), _: Incoming| {
        counted.fetch_add(1, Ordering::Relaxed);
        took
    };
    let settings = config::Nats::default();
    let metrics = Arc::new(Metrics::new("node"));
    let (_, life) = Intake::new("node", &settings, vec![subscription], handler, metrics).unwrap();
    let mut servers = Servers::parse(&settings.url).unwrap();
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
    assert_eq!(at_once(Took::Work).await, BEGUN_MAX);
    assert!(at_once(Took::Little).await > BEGUN_MAX);
}
