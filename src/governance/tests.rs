//! Are equal facts given equal plans, and does none deliver without permits?
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use proptest::prelude::*;

use super::*;
use crate::{
    domain::{
        AgentGrant, AgentId, AgentRecord, Approval, Approver, Constitution, Impact, Level, Parts, Reason,
        RuleKind, Tenant, Timestamp, Why,
    },
    impact::{Unassessed, Unscored},
    policy::{Decision, Gate, Obligations, Permit, PolicyEngine, PolicyError, Question, Rate, reads::Reads},
    rejection::Rejection,
    wire,
};

const NOW: Timestamp = Timestamp(1_767_268_800_000);
const HASH: &str = "cdd01ef066bc6cf2";
const AGENTS: [&str; 5] = ["planner", "worker", "judge", "helper", "arbiter"];

/// All that judging a message takes, as it could have been recorded.
#[derive(Debug, Clone)]
struct Facts {
    to: serde_json::Value,
    created_at: u64,
    hash: &'static str,
    clock_is_off: bool,
    in_conversation: bool,
    registered: Vec<&'static str>,
    answers: Vec<Said>,
    impact: Result<f64, Unscored>,
    threshold: f64,
    mode: RetryMode,
    redriven: bool,
    /// How many have approved it.
    approved_by: Option<usize>,
}

/// What the policy says about one recipient.
#[derive(Debug, Clone)]
enum Said {
    Allowed(Obligations),
    Denied,
    Nothing,
}

fn tenant(threshold: f64) -> Arc<Tenant> {
    let mut tenant = Tenant::new("acme".parse().unwrap());
    for agent in AGENTS {
        tenant.agents.insert(agent.parse().unwrap(), AgentGrant::default());
    }
    tenant.limits.deliberation_threshold = threshold;
    Arc::new(tenant)
}

fn decoded(facts: &Facts) -> Decoded {
    let body = serde_json::json!({
        "message_id": "m1", "message_type": "event", "to": facts.to, "constitutional_hash": facts.hash,
        "content": { "text": "hi" }, "created_at": facts.created_at,
        "conversation_id": facts.in_conversation.then_some("c1"),
    });
    let (tenant, sender) = ("acme".parse().unwrap(), "planner".parse().unwrap());
    let stamp = wire::Stamp { tenant: &tenant, sender: &sender };
    let letter = wire::decode(body.to_string().as_bytes(), stamp, &wire::Limits::default()).unwrap();
    Admitted::new(Some(self::tenant(facts.threshold)), &tenant, &sender).unwrap().decoded(letter).unwrap()
}

/// Says what it is told to, so that the gate makes a real permit of it.
struct Told(Said);

#[async_trait]
impl PolicyEngine for Told {
    async fn evaluate(&self, _: &Question<'_>) -> Result<Decision, PolicyError> {
        match &self.0 {
            Said::Allowed(obligations) => Ok(Decision::Allowed(obligations.clone())),
            Said::Denied => Ok(Decision::Denied { reasons: vec!["told so".to_owned()] }),
            Said::Nothing => Err(PolicyError::Broken { cause: "told so".to_owned() }),
        }
    }

    fn revision(&self) -> &Arc<str> {
        static REVISION: std::sync::LazyLock<Arc<str>> =
            std::sync::LazyLock::new(|| "0123456789abcdef".into());
        &REVISION
    }

    fn reads(&self) -> Reads {
        Reads::NOTHING
    }
}

fn answer(said: &Said, question: &Question<'_>) -> Result<Permit, Rejection> {
    Gate::new(Arc::new(Told(said.clone()))).decide(question).now_or_never().unwrap()
}

fn view(facts: &Facts, asks: &Unaddressed<'_>) -> Result<View, Rejection> {
    let record = |id: &AgentId| {
        let registered = facts.registered.contains(&id.as_str());
        let (id, capabilities) = (id.clone(), Arc::default());
        registered
            .then(|| Arc::new(AgentRecord { id, capabilities, encoding: None, description: String::new() }))
    };
    let all: Vec<AgentId> = facts.registered.iter().map(|id| id.parse().unwrap()).collect();
    let ids = match asks.lookup() {
        Lookup::Agent(id) => vec![id.clone()],
        Lookup::Holders(_) => all,
        Lookup::Everybody(filter) => asks.matching(&all, filter)?,
    };
    let sender = record(&asks.decoded().message().sender);
    Ok(View { sender, recipients: ids.iter().filter_map(record).collect() })
}

fn impact(of: &Result<f64, Unscored>) -> Result<Impact, Unassessed> {
    let (score, why) = match of {
        Ok(score) => (*score, None),
        Err(why) => (0.1, Some(why.clone())),
    };
    let impact = Impact {
        score,
        score_max: None,
        level: Level::of(score),
        parts: Parts { semantic: why.is_none().then_some(score), ..Parts::default() },
        levels: None,
        model: "told".to_owned(),
        unscored: None,
        tokens: 0,
    };
    match why {
        None => Ok(impact),
        Some(why) => Err(Unassessed { why, impact: Box::new(impact) }),
    }
}

/// What the shell does, with facts that are known already.
fn plan<'a>(
    decoded: &'a Decoded,
    approval: Option<&'a Approval>,
    facts: &Facts,
) -> Result<Plan<'a>, Rejection> {
    let constitutions = [Constitution { hash: HASH.parse().unwrap(), from: None, until: None }];
    let rules = Rules {
        constitutions: &constitutions,
        elsewhere: &Default::default(),
        clock_skew: Duration::from_secs(30),
        clock_is_off: facts.clock_is_off,
        now: NOW,
    };
    let purpose = Purpose { mode: facts.mode, approval, redriven: facts.redriven };
    let mut judging = decoded.in_force(&rules)?.checked(&rules)?.judge(purpose);
    loop {
        judging = match judging {
            Judging::NeedsRegistry(asks) => {
                let view = view(facts, &asks)?;
                asks.found(view)?
            }
            Judging::NeedsPolicy(asks) => {
                let said = asks.recipients().iter().zip(facts.answers.iter().cycle());
                let answers: Vec<_> =
                    said.map(|(recipient, said)| answer(said, &asks.question(recipient))).collect();
                asks.answered(answers)?
            }
            Judging::NeedsModel(permitted) => {
                let impact = permitted.need().map(|_| impact(&facts.impact));
                permitted.scored(impact)?
            }
            Judging::Routed(routed) => return Ok(routed.plan()),
        }
    }
}

fn approval(facts: &Facts) -> Option<Approval> {
    let approver = |agent: &&str| Approver { id: agent.parse().unwrap(), roles: Default::default() };
    facts.approved_by.map(|given| Approval {
        deliberation: "0123456789abcdef01234567".parse().unwrap(),
        rule: RuleKind::Quorum,
        approvals: AGENTS.iter().take(given).map(approver).collect(),
        escalated: false,
    })
}

fn facts() -> impl Strategy<Value = Facts> {
    let to = prop_oneof![
        Just(serde_json::json!({ "agent": "worker" })),
        Just(serde_json::json!({ "agent": "nobody" })),
        Just(serde_json::json!({ "capability": "sum" })),
        Just(serde_json::json!({ "broadcast": {} })),
    ];
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    let obligations = (any::<bool>(), proptest::option::of(1_u32..4), flags).prop_map(
        |(deliberate, min_approvals, (durable, score, rated, labelled, rogue))| Obligations {
            deliberate,
            min_approvals,
            lane: durable.then_some(crate::policy::Lane::Durable),
            score,
            rates: rated.then(|| ("own".to_owned(), Rate::new(1, 60).unwrap())).into_iter().collect(),
            freezes: rogue.then(|| ("own".to_owned(), "it asks".to_owned())).into_iter().collect(),
            labels: labelled.then(|| "pii".parse().unwrap()).into_iter().collect(),
            ..Obligations::default()
        },
    );
    let said = prop_oneof![
        2 => Just(Said::Allowed(Obligations::default())),
        2 => obligations.prop_map(Said::Allowed),
        1 => Just(Said::Denied),
        1 => Just(Said::Nothing),
    ];
    let scored = prop_oneof![
        3 => (0.0..1.0).prop_map(Ok),
        1 => Just(Err(Unscored::NoModel)),
        1 => Just(Err(Unscored::Stopping)),
        1 => Just(Err(Unscored::TooLong { windows: 25, max: 24 })),
        1 => Just(Err(Unscored::Busy { waiting: 9 })),
    ];
    let mode = prop_oneof![
        Just(RetryMode::Sender),
        Just(RetryMode::Questioner),
        Just(RetryMode::Asker),
        Just(RetryMode::Lane),
        Just(RetryMode::LastOfLane),
    ];
    let when = prop_oneof![6 => Just(NOW.0), 1 => Just(NOW.0 + 60_000)];
    let hash = prop_oneof![6 => Just(HASH), 1 => Just("ffffffffffffffff")];
    let registered = proptest::sample::subsequence(AGENTS.to_vec(), 0..=AGENTS.len());
    let flags = (prop::bool::weighted(0.1), any::<bool>(), any::<bool>());
    let others = (0.1..1.0, mode, proptest::option::of(0_usize..4), flags);
    (to, when, hash, registered, proptest::collection::vec(said, 1..5), scored, others).prop_map(
        |(
            to,
            created_at,
            hash,
            registered,
            answers,
            impact,
            (threshold, mode, approved_by, (clock_is_off, redriven, in_conversation)),
        )| Facts {
            to,
            created_at,
            hash,
            clock_is_off,
            in_conversation,
            registered,
            answers,
            impact,
            threshold,
            mode,
            redriven,
            approved_by,
        },
    )
}

/// As people would compare two plans.
fn shown(plan: &Result<Plan<'_>, Rejection>) -> String {
    match plan {
        Ok(Plan { effect, duties, precondition, record_ahead, notify, remember }) => {
            let effect = match effect {
                Effect::Deliver(to) | Effect::Store(to) => format!("{to:?}"),
                Effect::Park(parking) => format!("{:?}", parking.why()),
                Effect::Queue => "queued".to_owned(),
            };
            format!("{effect} {duties:?} {precondition:?} {record_ahead} {notify} {remember:?}")
        }
        Err(rejection) => format!("{rejection:?}"),
    }
}

proptest! {
    #[test]
    fn equal_facts_give_equal_plans(facts in facts()) {
        let (decoded, approval) = (decoded(&facts), approval(&facts));
        let [one, two] = [(); 2].map(|()| shown(&plan(&decoded, approval.as_ref(), &facts)));
        prop_assert_eq!(one, two);
    }

    #[test]
    fn no_plan_delivers_without_a_permit_for_each_and_none_goes_where_the_facts_forbid(facts in facts()) {
        let (decoded, approval) = (decoded(&facts), approval(&facts));
        let Ok(Plan { effect, duties, record_ahead, .. }) = plan(&decoded, approval.as_ref(), &facts) else { return Ok(()) };
        prop_assert!(facts.hash == HASH && facts.created_at == NOW.0 && !facts.clock_is_off);
        let waits = matches!(facts.mode, RetryMode::Sender | RetryMode::Questioner | RetryMode::Asker);
        prop_assert_eq!(record_ahead, waits);
        let to = match effect {
            Effect::Park(parking) => {
                prop_assert!(facts.approved_by.is_none(), "parked again: {:?}", parking.why());
                prop_assert!(duties.labels.is_empty(), "labelled, and nobody has it");
                return Ok(());
            }
            Effect::Queue => {
                let long = matches!(facts.impact, Err(Unscored::TooLong { .. }));
                prop_assert!(long && facts.mode == RetryMode::Sender && facts.approved_by.is_none());
                prop_assert_eq!(duties, Duties::default(), "judged anew, and it counts there");
                return Ok(());
            }
            Effect::Deliver(to) => {
                prop_assert!(waits && facts.approved_by.is_none(), "live, and nobody waits");
                to
            }
            Effect::Store(to) => to,
        };
        prop_assert!(!to.permits.is_empty());
        let demanded = |what: fn(&Obligations) -> bool| to.permits.iter().any(|it| what(it.obligations()));
        prop_assert_eq!(!duties.labels.is_empty(), demanded(|it| !it.labels.is_empty()));
        prop_assert!(duties.labels.is_empty() || facts.in_conversation, "there is nothing to label");
        let rogue = demanded(|it| !it.freezes.is_empty());
        prop_assert_eq!(duties.freeze.is_some(), rogue, "stopped, whoever has approved it");
        let rated = demanded(|it| !it.rates.is_empty()) && facts.approved_by.is_none();
        prop_assert_eq!(!duties.rates.is_empty(), rated, "counted once, when it came");
        for permit in &to.permits {
            prop_assert!(Arc::ptr_eq(permit.message(), decoded.message()));
            prop_assert_ne!(permit.recipient().as_str(), "nobody");
            let demanded = permit.obligations();
            match facts.approved_by {
                Some(given) => prop_assert!(demanded.min_approvals.is_none_or(|it| it as usize <= given)),
                None => prop_assert!(!demanded.deliberate && demanded.min_approvals.is_none()),
            }
        }
        if facts.approved_by.is_none() {
            prop_assert!(facts.impact.is_ok_and(|score| score < facts.threshold), "not scored, or severe");
        }
    }
}

fn plain() -> Facts {
    Facts {
        to: serde_json::json!({ "agent": "worker" }),
        created_at: NOW.0,
        hash: HASH,
        clock_is_off: false,
        in_conversation: false,
        registered: vec!["planner", "worker"],
        answers: vec![Said::Allowed(Obligations::default())],
        impact: Ok(0.1),
        threshold: 0.8,
        mode: RetryMode::Sender,
        redriven: false,
        approved_by: None,
    }
}

#[test]
fn a_permit_for_another_message_or_recipient_is_none() {
    let facts = plain();
    let (one, two) = (decoded(&facts), decoded(&facts));
    let constitutions = [Constitution { hash: HASH.parse().unwrap(), from: None, until: None }];
    let rules = Rules {
        constitutions: &constitutions,
        elsewhere: &Default::default(),
        clock_skew: Duration::ZERO,
        clock_is_off: false,
        now: NOW,
    };
    let addressed = |decoded| {
        let checked = Decoded::in_force(decoded, &rules).unwrap().checked(&rules).unwrap();
        let purpose = Purpose::of(RetryMode::Sender);
        let Judging::NeedsRegistry(asks) = checked.judge(purpose) else { panic!() };
        let view = view(&facts, &asks).unwrap();
        let Judging::NeedsPolicy(asks) = asks.found(view).unwrap() else { panic!() };
        asks
    };
    let (asks, others) = (addressed(&one), addressed(&two));
    let permit = answer(&facts.answers[0], &others.question(&others.recipients()[0])).unwrap();
    for answers in [vec![Ok(permit)], vec![]] {
        let refused = addressed(&one).answered(answers).unwrap_err();
        assert_eq!(refused.reason, Reason::PolicyUnavailable);
    }
    let permit = answer(&facts.answers[0], &asks.question(&asks.recipients()[0])).unwrap();
    assert!(asks.answered([Ok(permit)]).is_ok());
}

#[test]
fn what_has_no_score_is_parked_or_comes_again_or_is_read_where_nobody_waits_and_is_never_delivered() {
    let (long, busy) = (Unscored::TooLong { windows: 25, max: 24 }, Unscored::Busy { waiting: 9 });
    for (mode, why, expected) in [
        (RetryMode::Sender, Unscored::Stopping, "comes again"),
        (RetryMode::Lane, Unscored::Stopping, "comes again"),
        (RetryMode::Asker, Unscored::Stopping, "parked"),
        (RetryMode::LastOfLane, Unscored::Stopping, "parked"),
        (RetryMode::Sender, Unscored::NoModel, "parked"),
        (RetryMode::Sender, long.clone(), "queued"),
        (RetryMode::Sender, Unscored::TooSlow { limit: Duration::from_secs(1) }, "queued"),
        (RetryMode::Questioner, long.clone(), "parked"),
        (RetryMode::Lane, long, "parked"),
        (RetryMode::Lane, busy.clone(), "comes again"),
        (RetryMode::LastOfLane, busy, "comes again"),
    ] {
        let facts = Facts { mode, impact: Err(why.clone()), ..plain() };
        let decoded = decoded(&facts);
        let found = match plan(&decoded, None, &facts) {
            Ok(Plan { effect: Effect::Park(parking), .. }) => {
                assert!(matches!(parking.why(), Why::Unscored { .. }));
                "parked"
            }
            Ok(Plan { effect: Effect::Queue, .. }) => "queued",
            Err(rejection) if rejection.reason == Reason::Unscored => "comes again",
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expected, "{mode:?}: {why}");
    }
}
