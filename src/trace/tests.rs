#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::{Duration, SystemTime};

use super::*;

const INCOMING: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const SLOW: Duration = Duration::from_millis(500);

fn tracer(ratio: f64) -> (Arc<Tracer>, Spans) {
    Tracer::new(Sampling { ratio, slow: SLOW })
}

#[test]
fn a_trace_is_continued_and_a_malformed_one_is_not() {
    let outgoing = continued(Some(INCOMING));
    assert!(outgoing.starts_with("00-0af7651916cd43dd8448eb211c80319c-") && outgoing.ends_with("-01"));
    assert_ne!(outgoing, INCOMING, "the span is new");
    for bad in [
        "",
        "x",
        "00-0-0-0",
        &INCOMING.to_uppercase(),
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
    ] {
        let outgoing = continued(Some(bad));
        assert_eq!(TraceContext::parse(bad), None, "{bad}");
        assert!(TraceContext::parse(&outgoing).is_some(), "{outgoing}");
        assert!(!outgoing.contains("af7651916cd43dd8448eb211c80319c"), "{bad} was continued");
    }
}

#[test]
fn who_sends_decides_on_its_own_trace_and_the_ratio_on_new_ones() {
    let parent = TraceContext::parse(INCOMING).unwrap();
    for ratio in [0.0, 1.0] {
        let (tracer, _spans) = tracer(ratio);
        assert!(tracer.begin(Some(parent)).is_sampled());
        assert!(!tracer.begin(Some(parent.with_sampled(false))).is_sampled());
        assert_eq!(tracer.begin(None).is_sampled(), ratio == 1.0);
    }
    let (quarter, _spans) = tracer(0.25);
    let sampled = (0..4_000).filter(|_| quarter.begin(None).is_sampled()).count();
    assert!((800..1_200).contains(&sampled), "{sampled} of 4000");
}

#[test]
fn what_failed_waits_or_was_slow_is_kept_though_it_is_not_sampled() {
    let (tracer, _spans) = tracer(0.0);
    let context = tracer.begin(None);
    let fine = Ended { failed: false, parked: false, took: SLOW - Duration::from_millis(1) };
    assert!(!tracer.keeps(context, fine));
    assert!(tracer.keeps(context.with_sampled(true), fine));
    for worth in
        [Ended { failed: true, ..fine }, Ended { parked: true, ..fine }, Ended { took: SLOW, ..fine }]
    {
        assert!(tracer.keeps(context, worth), "{worth:?}");
    }
}

#[test]
fn a_tenant_that_floods_has_its_share_and_its_neighbour_all_of_its_own() {
    let (tracer, _spans) = tracer(1.0);
    let flood = (0..10_000).filter(|_| tracer.has_room("acme")).count();
    assert!((200..5_000).contains(&flood), "{flood}");
    assert!((0..200).all(|_| tracer.has_room("globex")));
}

#[tokio::test]
async fn what_finds_no_room_is_told_and_nothing_waits() {
    let (tracer, mut spans) = tracer(1.0);
    let then = SystemTime::UNIX_EPOCH;
    let span = || Span::below(TraceContext::start(), "s", (then, then));
    for _ in 0..WAITING_MAX {
        tracer.export(vec![span()]).unwrap();
    }
    assert_eq!(tracer.export(vec![span(), span()]), Err(Dropped(2)));
    assert_eq!(spans.recv().await.unwrap().len(), 1);
    tracer.export(vec![span()]).unwrap();
}

#[tokio::test]
async fn a_probe_is_found_only_by_what_works_for_its_message() {
    let (one, other) = (Probe::default(), Probe::default());
    let add = async |name| {
        let now = std::time::Instant::now();
        tokio::task::yield_now().await;
        probe().unwrap().add(Timing { name, started: now, ended: now, attributes: Vec::new() });
    };
    tokio::join!(one.within(add("a")), other.within(add("b")));
    assert!(probe().is_none());
    assert_eq!(one.take().iter().map(|timing| timing.name).collect::<Vec<_>>(), ["a"]);
    assert_eq!(other.take().len(), 1);
    assert_eq!(Value::from("é".repeat(200).as_str()), Value::Text("é".repeat(128)), "cut between letters");
}
