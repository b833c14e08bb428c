//! What the formula promises, part by part and as a whole.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::prelude::*;

use super::{weights::LIFT_FROM, *};
use crate::domain::{Adaptive, BroadcastFilter, MessageType, Priority, Recipient, Value};

mod patience;

/// 2026-01-01 12:00 UTC, an ordinary hour.
const NOON: Timestamp = Timestamp(1_767_268_800_000);

pub(super) fn message(sender: &str, content: &[(&str, Value)]) -> Message {
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

pub(super) fn text(text: &str) -> Vec<(&'static str, Value)> {
    vec![("text", Value::Text(text.to_owned()))]
}

fn tools(tools: &[&str]) -> BTreeSet<String> {
    tools.iter().map(|&tool| tool.to_owned()).collect()
}

fn tenant() -> Tenant {
    Tenant::new("acme".parse().unwrap())
}

fn unshared() -> Arc<Senders> {
    Arc::new(Senders::unshared(1_000))
}

fn assessor() -> Assessor {
    remembering(1_000)
}

fn remembering(senders_max: u64) -> Assessor {
    let senders = Arc::new(Senders::unshared(senders_max));
    Assessor::new(Arc::new(Keywords), Settings::default(), senders).unwrap()
}

impl Assessor {
    /// As the first and only time that the message comes.
    async fn judged(
        &self,
        message: &Arc<Message>,
        tenant: &Tenant,
        need: Need,
        now: Timestamp,
    ) -> Result<Impact, Unassessed> {
        let observation = self.observe(message, tenant, now).await;
        let impact = self.assess(message, tenant, observation.past(), (need, Patience::RoundTrip), now).await;
        observation.count(impact.as_ref().ok().and_then(|impact| impact.parts.semantic));
        impact
    }
}

#[test]
fn the_parts_are_those_of_the_table() {
    for (asked, expected) in [
        (&[][..], 0.1),
        (&["summarise"], 0.9),
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
        (&["reader"], 0.9),
        (&["read_file"], 0.2),
        (&["book_flight"], 0.9),
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
    let impact = assessor()
        .judged(&Arc::new(message("a", &text("hello"))), &tenant(), Need::IfItMatters, NOON)
        .await
        .unwrap();
    // 0.3·0 + 0.2·0.1 + 0.1·0.1 + 0.1·0.2 + 0.15·0 + 0.1·0.3 + 0.05·0.2
    assert!((impact.score - 0.09).abs() < 1e-12, "{impact:?}");
    assert_eq!((impact.level, impact.model.as_str()), (Level::Low, "keywords"));
}

#[tokio::test]
async fn alarming_words_lift_a_message_to_their_own_score_and_critical_priority_to_its_floor() {
    let assessor = assessor();
    let alarming = message("a", &text("critical security breach"));
    let impact =
        assessor.judged(&Arc::new(alarming.clone()), &tenant(), Need::IfItMatters, NOON).await.unwrap();
    assert_eq!((impact.parts.semantic, impact.score), (Some(0.9), 0.9));
    let mut urgent = message("b", &text("hello"));
    urgent.priority = Priority::Critical;
    assert_eq!(
        assessor.judged(&Arc::new(urgent.clone()), &tenant(), Need::IfItMatters, NOON).await.unwrap().score,
        0.9
    );
}

#[tokio::test]
async fn a_senders_past_counts_for_that_sender_alone() {
    let assessor = assessor();
    for _ in 0..120 {
        assessor
            .judged(&Arc::new(message("loud", &text("hello"))), &tenant(), Need::IfItMatters, NOON)
            .await
            .unwrap();
    }
    let loud = assessor
        .judged(&Arc::new(message("loud", &text("attack, breach"))), &tenant(), Need::IfItMatters, NOON)
        .await
        .unwrap();
    assert_eq!((loud.parts.volume, loud.parts.drift), (1.0, Some(1.0)));
    let mut namesake = message("loud", &text("attack, breach"));
    namesake.tenant = "globex".parse().unwrap();
    for quiet in [message("quiet", &text("attack, breach")), namesake] {
        let impact =
            assessor.judged(&Arc::new(quiet.clone()), &tenant(), Need::IfItMatters, NOON).await.unwrap();
        assert_eq!((impact.parts.volume, impact.parts.drift), (0.1, Some(0.0)));
    }
    let later = NOON.plus(Duration::from_secs(61));
    let rested = assessor
        .judged(&Arc::new(message("loud", &text("hello"))), &tenant(), Need::IfItMatters, later)
        .await
        .unwrap();
    assert_eq!(rested.parts.volume, 0.1);
}

#[tokio::test]
async fn judging_leaves_the_senders_past_as_it_was() {
    let assessor = assessor();
    let message = Arc::new(message("calm", &text("hello")));
    let alarming = Arc::new(self::message("calm", &text("attack, breach")));
    assessor.judged(&message, &tenant(), Need::IfItMatters, NOON).await.unwrap();
    let before = assessor.observe(&message, &tenant(), NOON).await.past();
    for _ in 0..30 {
        let observation = assessor.observe(&alarming, &tenant(), NOON).await;
        for _ in 0..3 {
            let past = observation.past();
            assessor
                .assess(&alarming, &tenant(), past, (Need::IfItMatters, Patience::RoundTrip), NOON)
                .await
                .unwrap();
        }
    }
    assert_eq!(assessor.observe(&message, &tenant(), NOON).await.past(), before);
}

#[tokio::test]
async fn senders_beyond_the_limit_are_forgotten_and_new_ones_are_not_refused() {
    let assessor = remembering(8);
    for sender in 0..1_000 {
        assessor
            .judged(
                &Arc::new(message(&sender.to_string(), &text("hello"))),
                &tenant(),
                Need::IfItMatters,
                NOON,
            )
            .await
            .unwrap();
    }
    assert!(assessor.senders.count() <= 8);
    for _ in 0..12 {
        assessor
            .judged(&Arc::new(message("new", &text("hello"))), &tenant(), Need::IfItMatters, NOON)
            .await
            .unwrap();
    }
    let impact = assessor
        .judged(&Arc::new(message("new", &text("hello"))), &tenant(), Need::IfItMatters, NOON)
        .await
        .unwrap();
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

fn others() -> impl Strategy<Value = Others> {
    (proptest::array::uniform5(0.0..=1.0_f64), any::<bool>()).prop_map(
        |([permission, volume, context, priority, message_type], asks)| Others {
            permission,
            volume,
            context,
            priority,
            message_type,
            asks,
        },
    )
}

/// How far words may lift a report.
fn lifts() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..=1.0_f64, proptest::sample::select(vec![0.0, 0.5, 0.7, 1.0])]
}

/// Every part a message can have, but for its words.
fn sums() -> impl Strategy<Value = (Sum, Option<f64>)> {
    (weights(), others(), means(), proptest::sample::select(Priority::ALL), lifts()).prop_map(
        |(weights, others, mean, priority, lift)| (Sum::new(&weights, &others, priority, mean, lift), mean),
    )
}

/// The verdict, as a node finds it: without the words where they cannot matter.
fn parked(sum: &Sum, semantic: f64, threshold: f64) -> bool {
    let bounds = sum.bounds();
    if bounds.decide(threshold) { bounds.low >= threshold } else { sum.score(semantic) >= threshold }
}

fn weights() -> impl Strategy<Value = Weights> {
    // Zeros as well: a tenant may leave parts out.
    let weight = || prop_oneof![4 => 0.001..=10.0_f64, 1 => Just(0.0)];
    proptest::array::uniform7(weight()).prop_filter("no mean", |all| all.iter().sum::<f64>() > 0.01).prop_map(
        |[a, b, c, d, e, f, g]| Weights {
            semantic: a,
            permission: b,
            volume: c,
            context: d,
            drift: e,
            priority: f,
            message_type: g,
        },
    )
}

/// Any mean, and those that put a jump of the drift on a floor or an end.
fn means() -> impl Strategy<Value = Option<f64>> {
    let special = vec![0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0];
    proptest::option::of(prop_oneof![0.0..=1.0_f64, proptest::sample::select(special)])
}

fn thresholds() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..=1.0_f64, proptest::sample::select(vec![0.0, 0.5, 0.7, 0.8, 0.9, 1.0])]
}

/// Every hundredth of a percent, and both sides of where the formula jumps.
fn semantics(mean: Option<f64>) -> impl Iterator<Item = f64> {
    let mean = mean.unwrap_or(0.5);
    let jumps = [LIFT_FROM, 0.7, mean - 0.3, mean + 0.3, mean - 0.6, mean + 0.6];
    let near = jumps.into_iter().flat_map(|at| [-3e-9, -1e-12, 0.0, 1e-12, 3e-9].map(|by| at + by));
    (0..=10_000).map(|n| f64::from(n) / 10_000.0).chain(near).filter(|s| (0.0..=1.0).contains(s))
}

proptest! {
    #[test]
    fn a_score_is_between_0_and_1_and_never_below_its_floors(
        weights in weights(),
        others in others(),
        semantic in 0.0..=1.0_f64,
        mean in means(),
        priority in proptest::sample::select(Priority::ALL),
    ) {
        let score = Sum::new(&weights, &others, priority, mean, 1.0).score(semantic);
        prop_assert!((0.0..=1.0).contains(&score));
        prop_assert!(priority != Priority::Critical || score >= 0.9);
        // So no threshold that is learned under the default ceiling lets one pass its reviewers.
        prop_assert!(priority != Priority::Critical || score > Adaptive::default().ceiling);
        prop_assert!(semantic < LIFT_FROM || score >= semantic);
    }

    #[test]
    fn a_semantic_part_that_is_no_number_makes_the_highest_score(
        weights in weights(), others in others(), mean in means(),
    ) {
        let score = Sum::new(&weights, &others, Priority::Low, mean, 0.5).score(f64::NAN);
        prop_assert_eq!(score, 1.0);
    }

    #[test]
    fn a_score_grows_with_every_part(
        weights in weights(),
        others in others(),
        semantic in 0.0..=1.0_f64,
        place in 0..6_usize,
        more in 0.0..=1.0_f64,
        priority in proptest::sample::select(Priority::ALL),
    ) {
        let (mut raised, mut louder) = (others, semantic);
        let part = [
            &mut raised.permission,
            &mut raised.volume,
            &mut raised.context,
            &mut raised.priority,
            &mut raised.message_type,
            &mut louder,
        ];
        for (at, part) in part.into_iter().enumerate().filter(|(at, _)| *at == place) {
            let _ = at;
            *part = part.max(more);
        }
        let before = Sum::new(&weights, &others, priority, None, 0.7).score(semantic);
        // The same sum in another order of magnitude may differ in the last digit.
        prop_assert!(Sum::new(&weights, &raised, priority, None, 0.7).score(louder) >= before - 1e-12);
    }

    #[test]
    fn the_bounds_hold_every_score_and_are_reached((sum, mean) in sums()) {
        let bounds = sum.bounds();
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for semantic in semantics(mean) {
            let score = sum.score(semantic);
            prop_assert!(bounds.low - 1e-9 <= score && score <= bounds.high + 1e-9, "{bounds:?} {score}");
            (low, high) = (low.min(score), high.max(score));
        }
        // Tight but for the step of the grid: nothing is asked of the model for no reason.
        prop_assert!(low - bounds.low < 1e-3 && bounds.high - high < 1e-3, "{bounds:?} {low} {high}");
    }

    #[test]
    fn a_spared_message_has_the_verdict_that_any_score_gives((sum, mean) in sums(), threshold in thresholds()) {
        let bounds = sum.bounds();
        if bounds.decide(threshold) {
            for semantic in semantics(mean) {
                prop_assert_eq!(sum.score(semantic) >= threshold, bounds.low >= threshold);
            }
        }
    }

    #[test]
    fn what_is_parked_at_a_threshold_is_parked_at_every_lower_one(
        (sum, _) in sums(),
        semantic in 0.0..=1.0_f64,
        thresholds in [thresholds(), thresholds()],
    ) {
        let (lower, higher) = (thresholds[0].min(thresholds[1]), thresholds[0].max(thresholds[1]));
        prop_assert!(!parked(&sum, semantic, higher) || parked(&sum, semantic, lower));
    }

    #[test]
    fn words_alone_park_what_asks_from_their_own_score_on_and_from_no_other(
        quiet in proptest::array::uniform5(0.0..=0.5_f64),
        semantic in LIFT_FROM..=1.0_f64,
        threshold in 0.5..=0.95_f64,
    ) {
        let [permission, volume, context, priority, message_type] = quiet;
        let others = Others { permission, volume, context, priority, message_type, asks: true };
        let sum = Sum::new(&Weights::default(), &others, Priority::Normal, None, 0.0);
        prop_assert_eq!(parked(&sum, semantic, threshold), semantic >= threshold);
    }

    #[test]
    fn more_alarming_words_never_unpark_a_message_but_for_drift(
        (sum, mean) in sums(),
        words in [0.0..=1.0_f64, 0.0..=1.0_f64],
        threshold in thresholds(),
    ) {
        let (calm, alarming) = (words[0].min(words[1]), words[0].max(words[1]));
        // Drift counts what is unlike the sender's past, so calmer words than usual may score higher.
        let unlike = mean.is_some_and(|mean| calm < mean);
        let by_the_words_alone = sum.lift(calm, calm >= LIFT_FROM) >= threshold;
        if by_the_words_alone || !unlike {
            // The same sum in another order of magnitude may differ in the last digit.
            let after = sum.score(alarming) + 1e-12;
            prop_assert!(!parked(&sum, calm, threshold) || after >= threshold, "{calm} {alarming}");
        }
    }

    #[test]
    fn no_report_that_is_passed_unread_is_read_where_words_may_lift_it_less(
        weights in weights(),
        others in others(),
        mean in means(),
        lifts in [lifts(), lifts()],
        threshold in thresholds(),
    ) {
        let report = Others { asks: false, ..others };
        let (less, more) = (lifts[0].min(lifts[1]), lifts[0].max(lifts[1]));
        let bounds = |lift| Sum::new(&weights, &report, Priority::Normal, mean, lift).bounds();
        let passed = |bounds: Bounds| bounds.decide(threshold) && bounds.low < threshold;
        prop_assert!(!passed(bounds(more)) || passed(bounds(less)));
    }

    #[test]
    fn text_cannot_talk_a_message_below_what_its_other_parts_say(
        weights in weights(),
        others in others(),
        mean in means(),
        semantic in 0.0..=1.0_f64,
        priority in proptest::sample::select(Priority::ALL),
    ) {
        let sum = Sum::new(&weights, &others, priority, mean, 0.7);
        let Weights { permission, volume, context, priority: urgency, message_type, .. } = weights;
        let alone = permission * others.permission + volume * others.volume + context * others.context
            + urgency * others.priority + message_type * others.message_type;
        let total = weights.semantic + weights.drift + permission + volume + context + urgency + message_type;
        prop_assert!(sum.score(semantic) >= alone / total - 1e-12);
        prop_assert!(sum.bounds().low >= alone / total - 1e-12);
    }
}

/// A scorer that says how often it was asked.
struct Counting {
    answer: Result<f64, Unscored>,
    asked: AtomicU64,
}

impl Counting {
    fn new(answer: Result<f64, Unscored>) -> Arc<Self> {
        Arc::new(Self { answer, asked: AtomicU64::new(0) })
    }

    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl SemanticScorer for Counting {
    fn read(&self, _: &Message, _: Patience) -> Result<Words, Unscored> {
        Ok(Words::Scored(Semantic::from(0.0)))
    }

    async fn score(&self, _: Words) -> Result<Semantic, Unscored> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answer.clone().map(Semantic::from)
    }

    fn score_in_background(&self, _: Words, then: Box<dyn FnOnce(f64) + Send>) {
        if let Ok(score) = self.answer {
            then(score);
        }
    }

    fn cost(&self) -> Cost {
        Cost::High
    }

    fn name(&self) -> &str {
        "counting"
    }
}

#[derive(Default)]
struct Seen(parking_lot::Mutex<Vec<Event>>);

impl Meter for Seen {
    fn see(&self, event: Event) {
        self.0.lock().push(event);
    }

    fn see_of_guard(&self, _: &str, event: Event) {
        self.see(event);
    }
}

fn with_threshold(threshold: f64) -> Tenant {
    let mut tenant = tenant();
    tenant.limits.deliberation_threshold = threshold;
    tenant
}

#[tokio::test]
async fn a_tenants_own_head_scores_its_messages_and_nothing_stands_in_for_one_that_is_missing() {
    let (usual, own) = (Counting::new(Ok(0.1)), Counting::new(Ok(0.3)));
    let heads = semantic::Heads::from([("acme".to_owned(), Arc::clone(&own) as Arc<dyn SemanticScorer>)]);
    let assessor =
        Assessor::new(Arc::clone(&usual) as Arc<dyn SemanticScorer>, Settings::default(), unshared())
            .unwrap()
            .with_heads(heads);
    let plain = Arc::new(message("a", &text("hello")));
    let mut tenant = with_threshold(0.7);
    for (head, asked) in [(None, (1, 0)), (Some("acme"), (1, 1)), (None, (2, 1))] {
        tenant.limits.head = head.map(str::to_owned);
        assert!(assessor.judged(&plain, &tenant, Need::Demanded, NOON).await.is_ok());
        assert_eq!((usual.asked(), own.asked()), asked, "{head:?}");
    }
    assert_eq!(assessor.trouble(), None);
    tenant.limits.head = Some("globex".to_owned());
    let unassessed = assessor.judged(&plain, &tenant, Need::Demanded, NOON).await.unwrap_err();
    assert_eq!(unassessed.why, Unscored::NoModel);
    assert_eq!((usual.asked(), own.asked()), (2, 1));
    let told = assessor.trouble().unwrap();
    assert!(told.contains("globex") && told.contains("impact.heads"), "{told}");
}

#[tokio::test]
async fn the_model_is_asked_only_where_it_can_matter_or_is_demanded() {
    let scorer = Counting::new(Ok(0.1));
    let settings = Settings { report_lift_max: 0.7, ..Settings::default() };
    let assessor =
        Assessor::new(Arc::clone(&scorer) as Arc<dyn SemanticScorer>, settings, unshared()).unwrap();
    let report = message("a", &text("hello"));
    let mut asking = message("a", &text("hello"));
    asking.message_type = MessageType::Command;
    let mut critical = message("b", &text("hello"));
    critical.priority = Priority::Critical;

    // Alarming words alone would park it.
    let impact =
        assessor.judged(&Arc::new(asking), &with_threshold(0.95), Need::IfItMatters, NOON).await.unwrap();
    assert_eq!((scorer.asked(), impact.parts.semantic, impact.score_max), (1, Some(0.1), None));
    // No text lifts a report to this threshold, or takes a critical message below 0.9.
    for message in [&report, &critical] {
        let impact = assessor
            .judged(&Arc::new(message.clone()), &with_threshold(0.8), Need::IfItMatters, NOON)
            .await
            .unwrap();
        assert_eq!(impact.model, "not needed");
        assert_eq!((impact.parts.semantic, impact.parts.drift, impact.unscored), (None, None, None));
        assert!(impact.score_max.is_some_and(|max| max >= impact.score));
    }
    assert_eq!(scorer.asked(), 1);
    assessor.judged(&Arc::new(report.clone()), &with_threshold(0.8), Need::Demanded, NOON).await.unwrap();
    assert_eq!(scorer.asked(), 2);
    let mut strict = with_threshold(0.8);
    strict.limits.report_lift_max = Some(1.0);
    assessor.judged(&Arc::new(report), &strict, Need::IfItMatters, NOON).await.unwrap();
    assert_eq!(scorer.asked(), 3, "its tenant wants reports read like all else");
}

#[test]
fn a_message_asks_by_its_type_its_tools_its_urgency_or_its_money() {
    let asks = |change: &dyn Fn(&mut Message)| {
        let mut message = message("a", &text("hello"));
        change(&mut message);
        Others::of(&message, 1, NOON).asks
    };
    assert!(!asks(&|_| {}), "an event of normal priority");
    assert!(!asks(&|message| message.tools = tools(&["read_file"])), "that names a tool that reads");
    for (change, why) in [
        (&(|message: &mut Message| message.tools = tools(&["send_mail"])) as &dyn Fn(&mut Message), "a tool"),
        (&|message| message.tools = tools(&["frobnicate"]), "a tool that nobody knows"),
        (&|message| message.priority = Priority::High, "urgency"),
        (&|message| message.priority = Priority::Critical, "much urgency"),
        (&|message| drop(message.content.insert("amount".to_owned(), Value::Int(50_000))), "money"),
    ] {
        assert!(asks(change), "{why}");
    }
    let by_type = |message_type| asks(&|message: &mut Message| message.message_type = message_type);
    for asking in [
        MessageType::Command,
        MessageType::Query,
        MessageType::TaskRequest,
        MessageType::GovernanceRequest,
        MessageType::GovernanceResponse,
        MessageType::ConstitutionalValidation,
    ] {
        assert!(by_type(asking), "{asking:?}");
    }
    for report in [
        MessageType::Response,
        MessageType::TaskResponse,
        MessageType::Notification,
        MessageType::Heartbeat,
        MessageType::AuditLog,
    ] {
        assert!(!by_type(report), "{report:?}");
    }
}

#[tokio::test]
async fn a_message_without_a_score_is_not_assessed_and_shows_what_is_known() {
    let nan = Unscored::OutOfRange { found: 7.0 };
    for (answer, why) in [
        (Ok(7.0), nan),
        (Err(Unscored::NoModel), Unscored::NoModel),
        (Err(Unscored::Busy { waiting: 3 }), Unscored::Busy { waiting: 3 }),
    ] {
        let assessor = Assessor::new(Counting::new(answer), Settings::default(), unshared()).unwrap();
        let plain = message("a", &text("hello"));
        let found =
            assessor.judged(&Arc::new(plain.clone()), &tenant(), Need::IfItMatters, NOON).await.unwrap_err();
        assert_eq!(found.why, why);
        assert_eq!(found.impact.unscored.as_deref(), Some(why.word()));
        assert_eq!((found.impact.parts.semantic, found.impact.parts.priority), (None, 0.3));
        assert!(found.impact.score < 0.8 && found.impact.score_max.unwrap() >= 0.8);
        assert!(Unscored::WORDS.contains(&why.word()));
    }
    let assessor = Assessor::new(Counting::new(Ok(f64::NAN)), Settings::default(), unshared()).unwrap();
    let plain = message("a", &text("hello"));
    assert!(
        assessor.judged(&Arc::new(plain.clone()), &tenant(), Need::IfItMatters, NOON).await.is_err(),
        "not a number"
    );
}

#[tokio::test]
async fn a_share_of_the_spared_messages_is_scored_all_the_same() {
    let (scorer, seen) = (Counting::new(Ok(1.0)), Arc::new(Seen::default()));
    let settings = Settings { audit_every: 10, report_lift_max: 0.7, ..Settings::default() };
    let assessor =
        Assessor::new(scorer, settings, unshared()).unwrap().metered(Arc::clone(&seen) as Arc<dyn Meter>);
    for _ in 0..40 {
        let plain = message("a", &text("hello"));
        assessor
            .judged(&Arc::new(plain.clone()), &with_threshold(0.9), Need::IfItMatters, NOON)
            .await
            .unwrap();
    }
    let of = |event: Event| seen.0.lock().iter().filter(|found| **found == event).count();
    assert_eq!(of(Event::NotNeeded), 40);
    assert_eq!(of(Event::Audited { differed: false }), 4);
    assert_eq!(of(Event::Audited { differed: true }), 0);
}

#[tokio::test]
async fn large_messages_are_read_on_threads_of_their_own_and_small_ones_on_the_spot() {
    struct Where(parking_lot::Mutex<Vec<String>>);

    #[async_trait]
    impl SemanticScorer for Where {
        fn read(&self, _: &Message, _: Patience) -> Result<Words, Unscored> {
            self.0.lock().push(std::thread::current().name().unwrap_or_default().to_owned());
            Ok(Words::Scored(Semantic::from(0.0)))
        }

        async fn score(&self, _: Words) -> Result<Semantic, Unscored> {
            Ok(Semantic::from(0.0))
        }

        fn score_in_background(&self, _: Words, _: Box<dyn FnOnce(f64) + Send>) {}

        fn cost(&self) -> Cost {
            Cost::Low
        }

        fn name(&self) -> &str {
            "where"
        }
    }

    let scorer = Arc::new(Where(parking_lot::Mutex::default()));
    let assessor =
        Assessor::new(Arc::clone(&scorer) as Arc<dyn SemanticScorer>, Settings::default(), unshared())
            .unwrap();
    for said in ["hello", "\u{fdfa}", &"word ".repeat(1_000)] {
        let message = Arc::new(message("a", &text(said)));
        assessor.judged(&message, &tenant(), Need::IfItMatters, NOON).await.unwrap();
    }
    let threads = scorer.0.lock().clone();
    assert!(!threads.first().unwrap().starts_with("reader-"), "{threads:?}");
    assert!(
        threads.iter().skip(1).all(|name| name.starts_with("reader-")) && threads.len() == 3,
        "{threads:?}"
    );
}
