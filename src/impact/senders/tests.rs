//! Are the pasts those of all nodes, within their bounds, and what does a store that is away cost?
#![allow(clippy::unwrap_used, reason = "tests")]

use std::{collections::BTreeMap, time::Instant};

use super::*;
use crate::{
    domain::{BroadcastFilter, MessageType, Priority, Recipient, scale},
    state::{Clock, Lifetimes, MemoryStore},
};

const NOON: Timestamp = Timestamp(1_767_268_800_000);

fn message(sender: &str) -> Message {
    Message {
        id: "m".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        sender: sender.parse().unwrap(),
        conversation_id: None,
        in_reply_to: None,
        message_type: MessageType::Event,
        to: Recipient::Broadcast(BroadcastFilter::default()),
        priority: Priority::Normal,
        constitution: "cdd01ef066bc6cf2".parse().unwrap(),
        content: BTreeMap::new(),
        tools: std::collections::BTreeSet::new(),
        metadata: BTreeMap::new(),
        created_at: NOON,
        expires_at: None,
    }
}

fn store() -> Arc<MemoryStore> {
    let (clock, _) = Clock::manual();
    Arc::new(MemoryStore::with(Lifetimes::default(), 10, clock))
}

fn at(ms: u64) -> Timestamp {
    NOON.plus(Duration::from_millis(ms))
}

/// The scale of a head that is not changed.
fn usual() -> Arc<str> {
    "usual".into()
}

fn sharing(senders_max: u64, store: &Arc<MemoryStore>) -> Arc<Senders> {
    Arc::new(Senders::sharing(senders_max, Arc::clone(store) as Arc<dyn SenderHistoryStore>))
}

/// Answers when everybody has asked.
struct Slow(Arc<MemoryStore>);

#[async_trait::async_trait]
impl SenderHistoryStore for Slow {
    async fn share(
        &self,
        tenant: &TenantId,
        sender: &AgentId,
        seen: &crate::state::Seen,
    ) -> Result<crate::state::Shared, StoreError> {
        tokio::task::yield_now().await;
        self.0.share(tenant, sender, seen).await
    }
}

/// What a message comes after that has its verdict at once.
async fn counted(
    senders: &Arc<Senders>,
    message: &Message,
    scale: &Arc<str>,
    now: Timestamp,
    semantic: Option<f64>,
) -> Past {
    let observation = senders.observe(message, scale, now).await;
    let past = observation.past();
    observation.count(semantic);
    past
}

#[tokio::test]
async fn a_burst_of_one_sender_never_shares_a_volume_and_its_repeats_leave_none() {
    let store = store();
    let one = Arc::new(Senders::sharing(100, Arc::new(Slow(Arc::clone(&store)))));
    let two = sharing(100, &store);
    let loud = message("loud");
    // What the other node saw is not known here yet: the copy is stale when the burst comes.
    for _ in 0..100 {
        counted(&two, &loud, &usual(), at(0), Some(0.9)).await;
    }
    two.flush(at(0)).await;
    let (usual, now) = (usual(), at(1_000));
    let begun = (0..512).map(|_| one.observe(&loud, &usual, now));
    let burst = futures_util::future::join_all(begun).await;
    let volumes: Vec<u32> = burst.iter().map(|observation| observation.past().messages).collect();
    assert_eq!(volumes, (101..=612).collect::<Vec<_>>(), "each comes after all before it");
    // Every other one is a repeat.
    for (number, observation) in burst.into_iter().enumerate() {
        if number % 2 == 0 { drop(observation) } else { observation.count(Some(0.1)) }
    }
    assert_eq!(one.observe(&loud, &usual, now).await.past().messages, 357);
    one.flush(at(1_100)).await;
    let past = two.observe(&loud, &usual, at(1_200)).await.past();
    assert_eq!(past.messages, 357, "the repeats were told to nobody");
    assert!(past.mean.is_some_and(|mean| (mean - 0.1).abs() < 1e-9), "{past:?}");
}

#[tokio::test]
async fn scores_of_two_heads_do_not_mix_on_one_node_or_several() {
    let store = store();
    let [old, new, other] = [(); 3].map(|()| sharing(100, &store));
    let [before, after] = ["minilm@1/int8", "minilm@2/int8"].map(|model| Arc::from(scale(model)));
    let loud = message("loud");
    for (node, head, score) in [(&old, &before, 0.9), (&new, &after, 0.1), (&new, &before, 0.7)] {
        counted(node, &loud, head, at(0), Some(score)).await;
        node.flush(at(400)).await;
    }
    for (head, expected) in [(&before, 0.8), (&after, 0.1)] {
        let Past { mean, .. } = counted(&other, &loud, head, at(1_000), None).await;
        assert!((mean.unwrap() - expected).abs() < 1e-9, "{mean:?}");
    }
}

#[tokio::test]
async fn two_nodes_see_each_others_messages_and_scores() {
    let store = store();
    let [one, two] = [(); 2].map(|()| sharing(100, &store));
    let loud = message("loud");
    for step in 0..9 {
        // The clocks of two nodes may be hours apart.
        counted(&one, &loud, &usual(), at(step), Some(0.9)).await;
        counted(&two, &loud, &usual(), at(7_200_000 + step), Some(0.1)).await;
    }
    one.flush(at(400)).await;
    two.flush(at(7_200_400)).await;
    for (node, now) in [(&one, at(1_000)), (&two, at(7_201_000))] {
        let Past { messages, mean } = counted(node, &loud, &usual(), now, None).await;
        assert!((19..=20).contains(&messages), "{messages}");
        assert!((mean.unwrap() - 0.5).abs() < 1e-9, "{mean:?}");
    }
    assert_eq!(
        counted(&one, &message("quiet"), &usual(), at(1_000), None).await,
        Past { messages: 1, mean: None }
    );
}

#[tokio::test]
async fn a_node_that_starts_again_knows_what_was_told_before_it_stopped() {
    let store = store();
    let first = sharing(100, &store);
    for _ in 0..30 {
        counted(&first, &message("loud"), &usual(), NOON, Some(0.4)).await;
    }
    first.flush_all(NOON, Duration::from_secs(1)).await;
    let second = sharing(100, &store);
    let Past { messages, mean } = counted(&second, &message("loud"), &usual(), NOON, None).await;
    assert_eq!(messages, 31);
    assert!((mean.unwrap() - 0.4).abs() < 1e-9);
}

#[tokio::test]
async fn a_fresh_copy_asks_nobody() {
    let store = store();
    let [one, two] = [(); 2].map(|()| sharing(100, &store));
    let loud = message("loud");
    counted(&one, &loud, &usual(), at(0), None).await;
    for _ in 0..5 {
        counted(&two, &loud, &usual(), at(0), None).await;
        two.flush(at(0)).await;
    }
    assert_eq!(counted(&one, &loud, &usual(), at(599), None).await.messages, 2, "as heard before");
    assert_eq!(counted(&one, &loud, &usual(), at(600), None).await.messages, 8);
}

#[tokio::test]
async fn senders_without_end_are_remembered_within_the_bounds() {
    let store = store();
    let senders = sharing(500, &store);
    // Nothing is flushed, as if the flush were behind.
    for sender in 0..100_000 {
        counted(&senders, &message(&sender.to_string()), &usual(), NOON, None).await;
    }
    assert!(senders.count() <= 500);
    assert!(senders.untold.lock().len() <= 500);
    assert!(store.senders() <= MemoryStore::SENDERS_MAX);
    for _ in 0..11 {
        counted(&senders, &message("new"), &usual(), NOON, None).await;
    }
    assert_eq!(
        counted(&senders, &message("new"), &usual(), NOON, None).await.messages,
        12,
        "a new one is not refused"
    );
}

#[tokio::test]
#[ignore = "prints figures"]
#[allow(clippy::print_stdout, reason = "figures for people")]
async fn figures_of_a_message() {
    const MESSAGES: u32 = 2_000_000;
    let usual = usual();
    for (name, senders) in
        [("alone", Senders::unshared(65_536)), ("sharing", Senders::sharing(65_536, store()))]
    {
        let senders = Arc::new(senders);
        let known: Vec<Message> = (0..1_000).map(|n| message(&format!("agent-{n}"))).collect();
        for message in &known {
            counted(&senders, message, &usual, NOON, Some(0.5)).await;
        }
        let start = Instant::now();
        for message in known.iter().cycle().take(MESSAGES as usize) {
            std::hint::black_box(counted(&senders, message, &usual, NOON, Some(0.5)).await);
        }
        println!("{name}: {:?}", start.elapsed() / MESSAGES);
    }
}
