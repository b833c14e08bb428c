//! What must hold for every place where the labels of conversations are kept?

use std::collections::BTreeSet;

use agentbus::{
    domain::{ConversationLabel, MessageId},
    state::{ConversationLabels, Labelled},
};

use super::{agent, tenant};

fn conversation(id: &str) -> MessageId {
    id.parse().unwrap()
}

fn labels(words: &[&str]) -> BTreeSet<ConversationLabel> {
    words.iter().map(|word| word.parse().unwrap()).collect()
}

async fn label(store: &dyn ConversationLabels, sender: &str, id: &str, words: &[&str]) -> Labelled {
    let by = (&tenant("acme"), &agent(sender));
    store.label(by, &conversation(id), &labels(words)).await.unwrap()
}

async fn told(store: &dyn ConversationLabels, id: &str) -> BTreeSet<ConversationLabel> {
    store.labels(&tenant("acme"), &conversation(id)).await.unwrap()
}

pub(super) async fn contract(store: &dyn ConversationLabels) {
    labels_only_grow_whoever_adds_them(store).await;
    a_conversation_is_its_tenants_own(store).await;
    what_would_be_too_many_adds_none(store).await;
    a_sender_labels_so_many_conversations_and_others_as_many(store).await;
}

async fn labels_only_grow_whoever_adds_them(store: &dyn ConversationLabels) {
    assert_eq!(told(store, "grows").await, labels(&[]));
    assert_eq!(label(store, "planner", "grows", &["pii"]).await, Labelled::Done);
    assert_eq!(label(store, "worker", "grows", &["external", "pii"]).await, Labelled::Done);
    assert_eq!(label(store, "planner", "grows", &["pii"]).await, Labelled::Done);
    assert_eq!(told(store, "grows").await, labels(&["external", "pii"]));
}

async fn a_conversation_is_its_tenants_own(store: &dyn ConversationLabels) {
    assert_eq!(label(store, "planner", "own", &["pii"]).await, Labelled::Done);
    let other = store.labels(&tenant("globex"), &conversation("own")).await.unwrap();
    assert_eq!(other, labels(&[]));
}

async fn what_would_be_too_many_adds_none(store: &dyn ConversationLabels) {
    let all: Vec<String> = (0..32).map(|n| format!("l{n}")).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(label(store, "planner", "many", &all[..31]).await, Labelled::Done);
    let full = Labelled::TooMany { most: 32 };
    assert_eq!(label(store, "planner", "many", &["one", "two"]).await, full);
    assert_eq!(told(store, "many").await, labels(&all[..31]));
    assert_eq!(label(store, "planner", "many", &all[30..]).await, Labelled::Done);
    assert_eq!(label(store, "planner", "many", &["one"]).await, full);
    assert_eq!(label(store, "planner", "many", &all).await, Labelled::Done, "it has them already");
}

async fn a_sender_labels_so_many_conversations_and_others_as_many(store: &dyn ConversationLabels) {
    const MOST: usize = 4_096;
    // As many at a time as a store answers within its limit on a busy machine.
    for first in (0..MOST).step_by(64) {
        let adding = (first..first + 64)
            .map(|n| async move { label(store, "busy", &format!("c{n}"), &["pii"]).await });
        assert!(futures_util::future::join_all(adding).await.iter().all(|done| *done == Labelled::Done));
    }
    let full = Labelled::TooManyConversations { most: MOST };
    assert_eq!(label(store, "busy", "one-more", &["pii"]).await, full);
    assert_eq!(told(store, "one-more").await, labels(&[]));
    assert_eq!(label(store, "busy", "c0", &["secret"]).await, Labelled::Done, "one of those there are");
    assert_eq!(label(store, "other", "one-more", &["pii"]).await, Labelled::Done);
}
