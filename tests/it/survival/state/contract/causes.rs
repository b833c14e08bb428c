//! What must hold for every place where it is kept what led to messages?

use agentbus::{
    domain::{Cause, Conversation},
    state::{Causes, Claim, Counted, Followed, HandedBack, Idempotency, Known, MessageKey, Name, StoreError},
};

use super::{DIGEST, agent, tenant};

fn conversation(text: &str) -> Conversation {
    text.parse().unwrap()
}

fn named(message: &str) -> Name {
    Name::Message(message.parse().unwrap())
}

pub(super) async fn known(
    store: &dyn Causes,
    by: &str,
    answered: &str,
    to: Option<&str>,
) -> Result<Known, StoreError> {
    let handed = HandedBack {
        by: agent(by),
        answered: Some(answered.parse().unwrap()),
        span: None,
        to: to.map(agent),
        conversation: conversation("worker/own"),
    };
    store.cause(&tenant("acme"), &handed).await
}

/// A message of `sender` goes to the worker, by these names.
async fn goes(store: &dyn Causes, sender: &str, names: &[Name]) -> Cause {
    let begun = Cause { conversation: conversation("planner/c1"), hops: 3, chain: Vec::new() };
    let cause = begun.followed_by(&agent(sender), &"d-1".parse().unwrap());
    let recipients = vec![agent("worker"), agent("judge")];
    let followed = Followed { recipients, names: names.to_vec(), cause: cause.clone() };
    store.follow(&tenant("acme"), &followed).await.unwrap();
    cause
}

pub(super) async fn contract<S: Causes + Idempotency>(store: &S) {
    only_who_got_a_message_finds_what_follows_from_it(store).await;
    what_follows_is_counted_of_the_delivery_and_of_the_conversation(store).await;
    another_senders_message_of_the_same_name_is_not_taken_for_that_of_who_is_answered(store).await;
    many_recipients_are_all_told(store).await;
    what_led_to_the_first_message_of_a_name_stands(store).await;
}

async fn only_who_got_a_message_finds_what_follows_from_it(store: &dyn Causes) {
    assert_eq!(known(store, "worker", "answer", None).await.unwrap(), Known::default());
    let names = [named("answer"), Name::Decision("d-1".parse().unwrap()), Name::Span("1-2".to_owned())];
    let cause = goes(store, "planner", &names).await;
    for answered in ["answer", "d-1"] {
        assert_eq!(
            known(store, "worker", answered, None).await.unwrap().cause.as_ref(),
            Some(&cause),
            "{answered}"
        );
    }
    assert_eq!(known(store, "planner", "answer", None).await.unwrap().cause, None, "it has sent it");
    let handed = |answered: Option<&str>, span: &str| HandedBack {
        by: agent("worker"),
        answered: answered.map(|answered| answered.parse().unwrap()),
        span: Some(span.to_owned()),
        to: None,
        conversation: conversation("worker/own"),
    };
    for (answered, span, expected) in
        [(None, "1-2", true), (Some("unknown"), "1-2", true), (None, "1-3", false)]
    {
        let known = store.cause(&tenant("acme"), &handed(answered, span)).await.unwrap();
        assert_eq!(known.cause.is_some(), expected, "{answered:?} {span}");
    }
    let other = store.cause(&tenant("globex"), &handed(Some("answer"), "1-2")).await.unwrap();
    assert_eq!(other, Known::default());
}

async fn what_follows_is_counted_of_the_delivery_and_of_the_conversation(store: &dyn Causes) {
    goes(store, "planner", &[named("counted")]).await;
    let counted = |answered: Option<&str>| Counted {
        conversation: conversation("planner/c1"),
        answered: answered.map(|answered| (agent("planner"), answered.parse().unwrap())),
    };
    for answered in [Some("asked"), Some("asked"), Some("other"), None] {
        store.count(&tenant("acme"), &counted(answered)).await.unwrap();
    }
    let after = known(store, "worker", "counted", None).await.unwrap();
    assert_eq!((after.messages, after.followers), (4, 0));
    assert_eq!(known(store, "planner", "asked", None).await.unwrap().followers, 2);
    assert_eq!(known(store, "worker", "asked", None).await.unwrap().followers, 0, "each has its own");
    store.renew(&tenant("acme"), &conversation("planner/c1")).await.unwrap();
    assert_eq!(known(store, "worker", "counted", None).await.unwrap().messages, 0);
    store.count(&tenant("acme"), &counted(None)).await.unwrap();
    assert_eq!(known(store, "worker", "counted", None).await.unwrap().messages, 1);
}

async fn another_senders_message_of_the_same_name_is_not_taken_for_that_of_who_is_answered<
    S: Causes + Idempotency,
>(
    store: &S,
) {
    let cause = goes(store, "stranger", &[named("same")]).await;
    assert_eq!(known(store, "worker", "same", Some("editor")).await.unwrap().cause.as_ref(), Some(&cause));
    let key =
        MessageKey { tenant: tenant("acme"), sender: agent("editor"), message: "same".parse().unwrap() };
    let claim = store.claim(&key, &DIGEST, None).await.unwrap();
    assert!(matches!(claim, Claim::Mine { .. }), "{claim:?}");
    assert_eq!(known(store, "worker", "same", Some("editor")).await.unwrap().cause, None);
    for to in [None, Some("stranger"), Some("judge")] {
        assert_eq!(known(store, "worker", "same", to).await.unwrap().cause.as_ref(), Some(&cause), "{to:?}");
    }
    // Nobody chooses the name of a decision.
    let decided = goes(store, "editor", &[Name::Decision("d-2".parse().unwrap())]).await;
    goes(store, "stranger", &[named("d-2")]).await;
    assert_eq!(known(store, "worker", "d-2", None).await.unwrap().cause, Some(decided));
}

async fn many_recipients_are_all_told(store: &dyn Causes) {
    let cause = Cause { conversation: conversation("planner/many"), hops: 1, chain: Vec::new() };
    let recipients = (0..300).map(|n| agent(&format!("a{n}"))).collect();
    let followed = Followed { recipients, names: vec![named("all")], cause };
    store.follow(&tenant("acme"), &followed).await.unwrap();
    for by in ["a0", "a127", "a128", "a299"] {
        let known = known(store, by, "all", None).await.unwrap();
        assert_eq!((known.cause.is_some(), known.messages), (true, 0), "{by}");
    }
}

/// A repeat goes under the name of the first, and its own decision delivers nothing.
async fn what_led_to_the_first_message_of_a_name_stands(store: &dyn Causes) {
    let names = |decision: &str| [named("repeated"), Name::Decision(decision.parse().unwrap())];
    let first = goes(store, "planner", &names("first")).await;
    let again = goes(store, "editor", &names("again")).await;
    for (answered, expected) in [("repeated", &first), ("first", &first), ("again", &again)] {
        let known = known(store, "worker", answered, None).await.unwrap();
        assert_eq!(known.cause.as_ref(), Some(expected), "{answered}");
    }
}
