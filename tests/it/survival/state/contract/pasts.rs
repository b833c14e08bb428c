//! What must hold for every place where nodes share senders' pasts?

use std::time::Duration;

use agentbus::state::{Count, PAST_SCORES, PAST_SECONDS, Seen, SenderHistoryStore, Shared};

use super::{Time, agent, tenant};

pub(super) async fn contract(store: &dyn SenderHistoryStore, time: &Time) {
    what_one_tells_all_hear(store).await;
    what_is_told_twice_is_added_once(store).await;
    a_question_changes_nothing(store).await;
    a_sender_is_its_tenants_own(store).await;
    only_the_window_and_the_last_scores_are_kept(store).await;
    tellers_without_end_are_forgotten_in_order(store).await;
    counts_grow_older(store, time).await;
}

fn seen(teller: u64, sequence: u64, messages: &[(u64, u64)], scores: &[f64]) -> Seen {
    let messages = messages.iter().map(|&(age, messages)| Count { age, messages }).collect();
    Seen { teller, sequence, messages, scores: scores.to_vec(), ..Seen::default() }
}

async fn share(store: &dyn SenderHistoryStore, sender: &str, seen: &Seen) -> Shared {
    store.share(&tenant("acme"), &agent(sender), seen).await.unwrap()
}

async fn ask(store: &dyn SenderHistoryStore, sender: &str) -> Shared {
    share(store, sender, &seen(99, 0, &[], &[])).await
}

fn total(shared: &Shared) -> u64 {
    shared.messages.iter().map(|count| count.messages).sum()
}

async fn what_one_tells_all_hear(store: &dyn SenderHistoryStore) {
    assert_eq!(ask(store, "heard").await, Shared::default());
    let first = share(store, "heard", &seen(1, 5, &[(0, 3), (20, 4)], &[0.25, 0.0])).await;
    assert_eq!((first.applied, total(&first)), (5, 7));
    let second = share(store, "heard", &seen(u64::MAX, 1, &[(0, 2)], &[1.0, 1.0 / 3.0])).await;
    assert_eq!((second.applied, total(&second)), (1, 9));
    assert_eq!(second.scores, [0.25, 0.0, 1.0, 1.0 / 3.0], "in order, and not rounded");
    let old = second.messages.iter().find(|count| count.messages == 4).unwrap();
    assert!((20..=50).contains(&old.age), "{second:?}");
    let heard = ask(store, "heard").await;
    assert_eq!((heard.applied, total(&heard), heard.scores), (0, 9, second.scores));
}

async fn what_is_told_twice_is_added_once(store: &dyn SenderHistoryStore) {
    let told = seen(1, 7, &[(0, 3)], &[0.5]);
    for _ in 0..3 {
        let shared = share(store, "twice", &told).await;
        assert_eq!((shared.applied, total(&shared), shared.scores), (7, 3, vec![0.5]));
    }
    let older = share(store, "twice", &seen(1, 6, &[(0, 3)], &[0.5])).await;
    assert_eq!((older.applied, total(&older)), (7, 3));
    let newer = share(store, "twice", &seen(1, 9, &[(0, 1)], &[])).await;
    assert_eq!((newer.applied, total(&newer)), (9, 4));
    let other = share(store, "twice", &seen(2, 7, &[(0, 3)], &[0.5])).await;
    assert_eq!((other.applied, total(&other), other.scores), (7, 7, vec![0.5, 0.5]));
}

async fn a_question_changes_nothing(store: &dyn SenderHistoryStore) {
    share(store, "asked", &seen(1, 1, &[(0, 1)], &[0.5])).await;
    for _ in 0..3 {
        let shared = share(store, "asked", &seen(1, 0, &[(0, 1)], &[0.5])).await;
        assert_eq!((shared.applied, total(&shared), shared.scores), (1, 1, vec![0.5]));
    }
}

async fn a_sender_is_its_tenants_own(store: &dyn SenderHistoryStore) {
    share(store, "namesake", &seen(1, 1, &[(0, 1)], &[0.5])).await;
    let other = seen(1, 0, &[], &[]);
    let globex = store.share(&tenant("globex"), &agent("namesake"), &other).await.unwrap();
    assert_eq!(globex, Shared::default());
}

async fn only_the_window_and_the_last_scores_are_kept(store: &dyn SenderHistoryStore) {
    let late = [(PAST_SECONDS - 2, 1), (PAST_SECONDS, 10), (PAST_SECONDS + 100, 100)];
    let scores: Vec<f64> = (0..PAST_SCORES).map(|n| n as f64 / 32.0).collect();
    let shared = share(store, "bounded", &seen(1, 1, &late, &scores)).await;
    assert_eq!((total(&shared), &shared.scores), (1, &scores));
    let shared = share(store, "bounded", &seen(1, 2, &[], &[0.75])).await;
    assert_eq!(shared.scores.len(), PAST_SCORES);
    assert_eq!((shared.scores.first(), shared.scores.last()), (Some(&(1.0 / 32.0)), Some(&0.75)));
    let every = (0..1_000).map(|age| (age, 70_000)).collect::<Vec<_>>();
    let shared = share(store, "bounded", &seen(1, 3, &every, &[])).await;
    assert!(shared.messages.len() as u64 <= PAST_SECONDS, "{}", shared.messages.len());
}

async fn tellers_without_end_are_forgotten_in_order(store: &dyn SenderHistoryStore) {
    for teller in 1..=200 {
        share(store, "crowded", &seen(teller, 1, &[(0, 1)], &[])).await;
        share(store, "crowded", &seen(1_000, teller, &[], &[])).await;
    }
    let again = share(store, "crowded", &seen(1_000, 150, &[(0, 1)], &[])).await;
    assert_eq!((again.applied, total(&again)), (200, 200), "one that goes on telling is remembered");
    let last = share(store, "crowded", &seen(200, 1, &[(0, 1)], &[])).await;
    assert_eq!((last.applied, total(&last)), (1, 200));
    assert_eq!(share(store, "crowded", &seen(1, 0, &[], &[])).await.applied, 0, "the first is forgotten");
}

async fn counts_grow_older(store: &dyn SenderHistoryStore, time: &Time) {
    let edge = [(PAST_SECONDS - 2, 5), (0, 1)];
    assert_eq!(total(&share(store, "older", &seen(1, 1, &edge, &[0.5])).await), 6);
    time.pass(Duration::from_millis(2_100)).await;
    let shared = ask(store, "older").await;
    assert_eq!((total(&shared), &shared.scores[..]), (1, &[0.5][..]));
    assert!(shared.messages.iter().all(|count| (2..=30).contains(&count.age)), "{shared:?}");
}
