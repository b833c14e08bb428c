//! How many records does an agent have that changes its entry, once and all the time?

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{
    audit,
    review::testing::{Records, id},
};

fn kept() -> (Arc<Records>, Arc<Registrations>) {
    let records = Arc::new(Records::default());
    let metrics = Arc::new(Metrics::new("node-1"));
    let live = Arc::clone(&records) as Arc<dyn LiveTransport>;
    (records, Arc::new(Registrations::new(live, metrics, "node-1", || Timestamp(7))))
}

/// Subject, change, first capability and number of changes of each record.
fn written(records: &Records) -> Vec<(String, Change, Option<String>, u64)> {
    let told = |entry: &audit::Entry| {
        let record = audit::decode(entry.payload()).unwrap();
        let Body::Registration(Registration { change, capabilities, changes, .. }) = record.body else {
            panic!("{record:?}")
        };
        let first = capabilities.first().map(ToString::to_string);
        (entry.subject().to_owned(), change, first, changes)
    };
    records.0.lock().iter().map(told).collect()
}

fn can(capability: &str) -> Arc<BTreeSet<CapabilityId>> {
    Arc::new([capability.parse().unwrap()].into())
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_one_agent_leaves_a_record_a_second_with_the_last_change_and_how_many_there_were() {
    let (records, registrations) = kept();
    let acme: TenantId = "acme".parse().unwrap();
    let stop = CancellationToken::new();
    let kept = tokio::spawn(Arc::clone(&registrations).keep(stop.clone()));
    let begun = Instant::now();
    let mut changes = 0;
    while begun.elapsed() < 10 * EVERY {
        for change in [Change::Registered, Change::Left] {
            registrations.changed(&acme, &id("stormy"), change, &can("add"));
            changes += 1;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    registrations.changed(&acme, &id("calm"), Change::Registered, &can("sum"));
    registrations.changed(&acme, &id("stormy"), Change::Changed, &can("last"));
    changes += 1;
    registrations.flush();
    stop.cancel();
    kept.await.unwrap();
    let written = written(&records);
    let (calm, stormy): (Vec<_>, Vec<_>) = written.into_iter().partition(|it| it.0.contains(".calm."));
    let subject = "record.acme.calm.~.registration".to_owned();
    assert_eq!(calm, [(subject, Change::Registered, Some("sum".to_owned()), 1)]);
    // Not one a second for each sweep that comes late, and one at the end.
    assert!((7..=12).contains(&stormy.len()), "{stormy:?}");
    assert_eq!(stormy.iter().map(|it| it.3).sum::<u64>(), changes);
    let (_, change, capability, _) = stormy.last().unwrap();
    assert_eq!((*change, capability.as_deref()), (Change::Changed, Some("last")));
}

#[tokio::test(start_paused = true)]
async fn who_changes_now_and_then_is_recorded_at_once_each_time_and_forgotten_in_between() {
    let (records, registrations) = kept();
    let acme: TenantId = "acme".parse().unwrap();
    let stop = CancellationToken::new();
    let kept = tokio::spawn(Arc::clone(&registrations).keep(stop.clone()));
    for at in 1..=3 {
        registrations.changed(&acme, &id("worker"), Change::Changed, &can("add"));
        assert_eq!(written(&records).len(), at);
        tokio::time::sleep(3 * EVERY).await;
        assert!(registrations.recent.lock().is_empty());
    }
    stop.cancel();
    kept.await.unwrap();
}
