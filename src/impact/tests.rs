//! What the formula promises, part by part and as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::{BroadcastFilter, MessageType, Priority, Recipient, Value};

/// 2026-01-01 12:00 UTC, an ordinary hour.
const NOON: Timestamp = Timestamp(1_767_268_800_000);

fn message(sender: &str, content: &[(&str, Value)]) -> Message {
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
        content: content.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect(),
        tools: BTreeSet::new(),
        metadata: BTreeMap::new(),
        created_at: NOON,
        expires_at: None,
    }
}

fn text(text: &str) -> Vec<(&'static str, Value)> {
    vec![("text", Value::Text(text.to_owned()))]
}

fn tools(tools: &[&str]) -> BTreeSet<String> {
    tools.iter().map(|&tool| tool.to_owned()).collect()
}

fn assessor() -> Assessor {
    Assessor::new(Arc::new(Keywords), Settings::default()).unwrap()
}

#[test]
fn the_parts_are_those_of_the_table() {
    for (asked, expected) in [
        (&[][..], 0.1),
        (&["summarise"], 0.1),
        (&["read"], 0.2),
        (&["get", "list", "view"], 0.2),
        (&["read", "send"], 0.5),
        (&["update"], 0.5),
        (&["modify"], 0.5),
        (&["read", "execute"], 0.9),
        (&["delete"], 0.9),
        (&["write"], 0.9),
        (&["submit"], 0.9),
        (&["transfer"], 0.9),
        (&["db.delete"], 0.9),
        (&["transfer_funds"], 0.9),
        (&["reader"], 0.1),
    ] {
        assert_eq!(signals::permission(&tools(asked)), expected, "{asked:?}");
    }
    for (messages, expected) in
        [(1, 0.1), (9, 0.1), (10, 0.4), (49, 0.4), (50, 0.7), (99, 0.7), (100, 1.0), (u32::MAX, 1.0)]
    {
        assert_eq!(signals::volume(messages), expected, "{messages}");
    }
    for (distance, expected) in [(0.0, 0.0), (0.3, 0.0), (0.36, 0.6), (0.6, 1.0), (0.9, 1.0)] {
        assert!((signals::drift(distance, Some(0.0)) - expected).abs() < 1e-9, "{distance}");
        assert!((signals::drift(0.0, Some(distance)) - expected).abs() < 1e-9, "{distance}");
    }
    assert_eq!(signals::drift(0.9, Some(0.6)), 0.0, "a step of the keywords is no drift");
    assert_eq!(signals::drift(0.9, None), 0.0);
    let priorities: Vec<f64> = Priority::ALL.iter().map(|&it| signals::priority(it)).collect();
    assert_eq!(priorities, [0.1, 0.3, 0.7, 1.0]);
    for &message_type in MessageType::ALL {
        let expected = match message_type.as_str() {
            word if word.starts_with("governance") || word.starts_with("constitutional") => 0.8,
            word if word.starts_with("task") => 0.5,
            _ => 0.2,
        };
        assert_eq!(signals::message_type(message_type), expected, "{message_type}");
    }
}

#[test]
fn the_context_knows_the_hour_and_the_money() {
    assert_eq!(signals::context(false, false), 0.2);
    assert_eq!(signals::context(true, false), 0.5);
    assert_eq!(signals::context(false, true), 0.6);
    assert_eq!(signals::context(true, true), 0.9);
    for (hour, minute, expected) in
        [(0, 59, false), (1, 0, true), (3, 30, true), (5, 59, true), (6, 0, false), (23, 0, false)]
    {
        let now = Timestamp(1_767_225_600_000 + (hour * 60 + minute) * 60_000);
        assert_eq!(signals::unusual_hour(now), expected, "{hour}:{minute}");
    }
    let under = |key: &str, value: Value| signals::large_amount(&[(key.to_owned(), value)].into());
    let map = |key: &str, value: Value| Value::Map([(key.to_owned(), value)].into());
    assert!(under("amount", Value::Int(10_001)));
    assert!(!under("amount", Value::Int(10_000)));
    assert!(under("total_price", Value::Float(10_000.5)));
    assert!(under("invoiceTotal", Value::Int(20_000)));
    assert!(under("AMOUNT", Value::Int(i128::from(i64::MIN))));
    assert!(under("payment", map("eur", Value::Int(50_000))));
    assert!(under("payments", Value::List(vec![Value::Int(1), Value::Int(50_000)])));
    assert!(under("order", map("sum", Value::Text("25,000.00 EUR".to_owned()))));
    assert!(under("order", Value::List(vec![map("fee", Value::Text("99999".to_owned()))])));
    assert!(!under("order", Value::Int(50_000)), "a number alone is no money");
    assert!(!under("summary", Value::Int(50_000)), "only whole words name money");
    assert!(!under("amount", Value::Text("about twenty".to_owned())));
    assert!(!under("amount", Value::Bool(true)));
}

#[test]
fn keywords_count_whole_words_once_in_any_case_wherever_they_are() {
    let of = |content: &[(&str, Value)]| Keywords::of(&message("a", content));
    assert_eq!(of(&text("a quiet day")), 0.0);
    assert_eq!(of(&text("Risk, risk and RISK")), 0.3);
    assert_eq!(of(&text("risky attacks")), 0.0, "only whole words");
    assert_eq!(of(&text("attack_risk")), 0.6);
    assert_eq!(of(&text("«threat»…aLeRt—breach")), 0.9);
    let nested =
        Value::List(vec![Value::Map([("breach".to_owned(), Value::Text("alert".to_owned()))].into())]);
    assert_eq!(of(&[("danger", nested)]), 0.9);
    let mut governance = message("a", &text("hello"));
    governance.message_type = MessageType::GovernanceRequest;
    governance.tools = tools(&["transfer"]);
    assert_eq!(Keywords::of(&governance), 0.6, "the type and the tools are words too");
}

#[tokio::test]
async fn a_score_is_the_weighted_mean_of_its_parts() {
    let impact = assessor().assess(&message("a", &text("hello")), NOON).await.unwrap();
    // 0.3·0 + 0.2·0.1 + 0.1·0.1 + 0.1·0.2 + 0.15·0 + 0.1·0.3 + 0.05·0.2
    assert!((impact.score - 0.09).abs() < 1e-12, "{impact:?}");
    assert_eq!((impact.level, impact.model.as_str()), (Level::Low, "keywords"));
}

#[tokio::test]
async fn alarming_words_and_critical_priority_lift_a_message_to_their_floors() {
    let assessor = assessor();
    let alarming = message("a", &text("critical security breach"));
    let impact = assessor.assess(&alarming, NOON).await.unwrap();
    assert_eq!((impact.parts.semantic, impact.score), (0.9, 0.8));
    let mut urgent = message("b", &text("hello"));
    urgent.priority = Priority::Critical;
    assert_eq!(assessor.assess(&urgent, NOON).await.unwrap().score, 0.9);
}

#[tokio::test]
async fn a_senders_past_counts_for_that_sender_alone() {
    let assessor = assessor();
    for _ in 0..120 {
        assessor.assess(&message("loud", &text("hello")), NOON).await.unwrap();
    }
    let loud = assessor.assess(&message("loud", &text("attack, breach")), NOON).await.unwrap();
    assert_eq!((loud.parts.volume, loud.parts.drift), (1.0, 1.0));
    let mut namesake = message("loud", &text("attack, breach"));
    namesake.tenant = "globex".parse().unwrap();
    for quiet in [message("quiet", &text("attack, breach")), namesake] {
        let impact = assessor.assess(&quiet, NOON).await.unwrap();
        assert_eq!((impact.parts.volume, impact.parts.drift), (0.1, 0.0));
    }
    let later = NOON.plus(Duration::from_secs(61));
    let rested = assessor.assess(&message("loud", &text("hello")), later).await.unwrap();
    assert_eq!(rested.parts.volume, 0.1);
}

#[tokio::test]
async fn senders_beyond_the_limit_are_forgotten_and_new_ones_are_not_refused() {
    let settings = Settings { senders_max: 8, ..Settings::default() };
    let assessor = Assessor::new(Arc::new(Keywords), settings).unwrap();
    for sender in 0..1_000 {
        assessor.assess(&message(&sender.to_string(), &text("hello")), NOON).await.unwrap();
    }
    assessor.senders.run_pending_tasks();
    assert!(assessor.senders.entry_count() <= 8);
    for _ in 0..12 {
        assessor.assess(&message("new", &text("hello")), NOON).await.unwrap();
    }
    let impact = assessor.assess(&message("new", &text("hello")), NOON).await.unwrap();
    assert_eq!(impact.parts.volume, 0.4);
}

#[test]
fn weights_that_make_no_mean_are_refused() {
    let part = |semantic| Weights { semantic, ..Weights::default() }.check();
    for bad in [-0.1, f64::NAN, f64::INFINITY, 1e9] {
        assert!(matches!(part(bad), Err(WeightsError::OutOfRange { part: "semantic", .. })), "{bad}");
    }
    let none: Weights = toml::from_str(
        "semantic = 0\npermission = 0\nvolume = 0\ncontext = 0\ndrift = 0\npriority = 0\ntype = 0",
    )
    .unwrap();
    assert_eq!(none.check(), Err(WeightsError::AllZero));
}

fn parts() -> impl Strategy<Value = [f64; 7]> {
    proptest::array::uniform7(0.0..=1.0_f64)
}

fn scored(weights: &Weights, [a, b, c, d, e, f, g]: [f64; 7], priority: Priority) -> f64 {
    let parts =
        Parts { semantic: a, permission: b, volume: c, context: d, drift: e, priority: f, message_type: g };
    weights.score(&parts, priority)
}

fn weights() -> impl Strategy<Value = Weights> {
    proptest::array::uniform7(0.001..=10.0_f64).prop_map(|[a, b, c, d, e, f, g]| Weights {
        semantic: a,
        permission: b,
        volume: c,
        context: d,
        drift: e,
        priority: f,
        message_type: g,
    })
}

proptest! {
    #[test]
    fn a_score_is_between_0_and_1_and_never_below_its_floors(
        weights in weights(),
        parts in parts(),
        priority in proptest::sample::select(Priority::ALL),
    ) {
        let score = scored(&weights, parts, priority);
        prop_assert!((0.0..=1.0).contains(&score));
        prop_assert!(priority != Priority::Critical || score >= 0.9);
        let [semantic, ..] = parts;
        prop_assert!(semantic <= 0.8 || score >= 0.8);
    }

    #[test]
    fn a_score_grows_with_every_part(
        weights in weights(),
        parts in parts(),
        place in 0..7_usize,
        more in 0.0..=1.0_f64,
        priority in proptest::sample::select(Priority::ALL),
    ) {
        let mut raised = parts;
        if let Some(part) = raised.get_mut(place) {
            *part = part.max(more);
        }
        // The same sum in another order of magnitude may differ in the last digit.
        prop_assert!(scored(&weights, raised, priority) >= scored(&weights, parts, priority) - 1e-12);
    }

    #[test]
    fn text_cannot_talk_a_message_below_what_its_other_parts_say(
        words in "[a-z ]{0,60}",
        alarm in proptest::collection::vec(proptest::sample::select(vec!["breach", "attack", "risk"]), 0..4),
        past in proptest::collection::vec(0.0..=1.0_f64, 0..30),
        priority in proptest::sample::select(Priority::ALL),
    ) {
        let mut message = message("a", &text(&format!("{words} {}", alarm.join(" "))));
        message.priority = priority;
        let mut history = History::default();
        for score in past {
            history.record_semantic(score);
        }
        let semantic = Keywords::of(&message);
        let drift = signals::drift(semantic, history.record_semantic(semantic));
        let others = Parts { permission: 0.5, volume: 0.4, context: 0.2, ..Parts::default() };
        let weights = Weights::default();
        let with_text = weights.score(&Parts { semantic, drift, ..others }, priority);
        prop_assert!(with_text >= weights.score(&others, priority));
    }
}
