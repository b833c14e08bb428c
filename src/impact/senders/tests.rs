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

#[tokio::test]
async fn scores_of_two_heads_do_not_mix_on_one_node_or_several() {
    let store = store();
    let [old, new, other] = [(); 3].map(|()| Senders::sharing(100, Arc::clone(&store) as Arc<dyn Pasts>));
    let [before, after] = ["minilm@1/int8", "minilm@2/int8"].map(|model| Arc::from(scale(model)));
    let loud = message("loud");
    for (node, head, score) in [(&old, &before, 0.9), (&new, &after, 0.1), (&new, &before, 0.7)] {
        node.record_message(&loud, head, at(0)).await;
        node.record_semantic(&loud, head, score);
        node.flush(at(400)).await;
    }
    for (head, expected) in [(&before, 0.8), (&after, 0.1)] {
        let Past { mean, .. } = other.record_message(&loud, head, at(1_000)).await;
        assert!((mean.unwrap() - expected).abs() < 1e-9, "{mean:?}");
    }
}

#[tokio::test]
async fn two_nodes_see_each_others_messages_and_scores() {
    let store = store();
    let [one, two] = [(); 2].map(|()| Senders::sharing(100, Arc::clone(&store) as Arc<dyn Pasts>));
    let loud = message("loud");
    for step in 0..9 {
        // The clocks of two nodes may be hours apart.
        one.record_message(&loud, &usual(), at(step)).await;
        one.record_semantic(&loud, &usual(), 0.9);
        two.record_message(&loud, &usual(), at(7_200_000 + step)).await;
        two.record_semantic(&loud, &usual(), 0.1);
    }
    one.flush(at(400)).await;
    two.flush(at(7_200_400)).await;
    for (node, now) in [(&one, at(1_000)), (&two, at(7_201_000))] {
        let Past { messages, mean } = node.record_message(&loud, &usual(), now).await;
        assert!((19..=20).contains(&messages), "{messages}");
        assert!((mean.unwrap() - 0.5).abs() < 1e-9, "{mean:?}");
    }
    assert_eq!(
        one.record_message(&message("quiet"), &usual(), at(1_000)).await,
        Past { messages: 1, mean: None }
    );
}

#[tokio::test]
async fn a_node_that_starts_again_knows_what_was_told_before_it_stopped() {
    let store = store();
    let first = Senders::sharing(100, Arc::clone(&store) as Arc<dyn Pasts>);
    for _ in 0..30 {
        first.record_message(&message("loud"), &usual(), NOON).await;
        first.record_semantic(&message("loud"), &usual(), 0.4);
    }
    first.flush_all(NOON, Duration::from_secs(1)).await;
    let second = Senders::sharing(100, store);
    let Past { messages, mean } = second.record_message(&message("loud"), &usual(), NOON).await;
    assert_eq!(messages, 31);
    assert!((mean.unwrap() - 0.4).abs() < 1e-9);
}

#[tokio::test]
async fn a_fresh_copy_asks_nobody() {
    let store = store();
    let [one, two] = [(); 2].map(|()| Senders::sharing(100, Arc::clone(&store) as Arc<dyn Pasts>));
    let loud = message("loud");
    one.record_message(&loud, &usual(), at(0)).await;
    for _ in 0..5 {
        two.record_message(&loud, &usual(), at(0)).await;
        two.flush(at(0)).await;
    }
    assert_eq!(one.record_message(&loud, &usual(), at(599)).await.messages, 2, "as heard before");
    assert_eq!(one.record_message(&loud, &usual(), at(600)).await.messages, 8);
}

#[tokio::test]
async fn senders_without_end_are_remembered_within_the_bounds() {
    let store = store();
    let senders = Senders::sharing(500, Arc::clone(&store) as Arc<dyn Pasts>);
    // Nothing is flushed, as if the flush were behind.
    for sender in 0..100_000 {
        senders.record_message(&message(&sender.to_string()), &usual(), NOON).await;
    }
    assert!(senders.count() <= 500);
    assert!(senders.untold.lock().len() <= 500);
    assert!(store.senders() <= MemoryStore::SENDERS_MAX);
    for _ in 0..11 {
        senders.record_message(&message("new"), &usual(), NOON).await;
    }
    assert_eq!(
        senders.record_message(&message("new"), &usual(), NOON).await.messages,
        12,
        "a new one is not refused"
    );
}

#[tokio::test]
#[ignore = "prints figures"]
#[allow(clippy::print_stdout, reason = "figures for people")]
async fn figures_of_a_message() {
    const MESSAGES: u32 = 2_000_000;
    for (name, senders) in [("alone", Senders::alone(65_536)), ("sharing", Senders::sharing(65_536, store()))]
    {
        let known: Vec<Message> = (0..1_000).map(|n| message(&format!("agent-{n}"))).collect();
        for message in &known {
            senders.record_message(message, &usual(), NOON).await;
        }
        let start = Instant::now();
        for message in known.iter().cycle().take(MESSAGES as usize) {
            std::hint::black_box(senders.record_message(message, &usual(), NOON).await);
        }
        let record = start.elapsed() / MESSAGES;
        let start = Instant::now();
        for message in known.iter().cycle().take(MESSAGES as usize) {
            senders.record_semantic(message, &usual(), 0.5);
        }
        println!("{name}: record_message {record:?}, record_semantic {:?}", start.elapsed() / MESSAGES);
    }
}
