//! Does the gate give permits for allows only, remember what it may, and change policies in flight?

use std::sync::Arc;

use agentbus::{
    domain::{Approval, Reason, RuleKind},
    policy::{
        Decision, Event, Gate, PolicyEngine, cache, reads::Fields, rego::RegoEngine, sources::PolicySources,
    },
};
use rand::{SeedableRng, rngs::StdRng};
use std::collections::HashMap;

use super::{
    load, patiently,
    question::{Owned, random},
    watched, with_modules,
};

fn gate(sources: &PolicySources) -> Gate {
    Gate::new(Arc::new(load(sources)))
}

/// The first draw that the shipped policy allows, or denies.
fn question(allowed: bool) -> Owned {
    let engine = load(&PolicySources::shipped());
    let mut rng = StdRng::seed_from_u64(4);
    let drawn = std::iter::repeat_with(|| Owned::from_input(&random(&mut rng))).take(1_000);
    let fits = |q: &Owned| matches!(engine.decide(&q.ask()).unwrap(), Decision::Allowed(_)) == allowed;
    drawn.into_iter().find(fits).unwrap()
}

#[tokio::test]
async fn an_allow_gives_a_permit_and_a_deny_says_why() {
    let (gate, seen) = watched(gate(&PolicySources::shipped()));
    let allowed = question(true);
    let permit = gate.decide(&allowed.ask()).await.unwrap();
    assert_eq!(permit.recipient(), &allowed.recipient.id);
    assert_eq!(permit.message().id, allowed.message.id);
    assert_eq!(*permit.revision(), gate.revision());

    let rejection = gate.decide(&question(false).ask()).await.unwrap_err();
    assert_eq!(rejection.reason, Reason::PolicyDenied);
    assert!(rejection.detail.starts_with("denied by policy: "), "{}", rejection.detail);
    assert_eq!(seen.count(Event::Denied), 1);
}

#[tokio::test]
async fn a_second_equal_question_is_answered_from_the_cache_whatever_its_content() {
    let (gate, seen) = watched(gate(&PolicySources::shipped()));
    let mut asked = question(true);
    for n in 0..10 {
        let message = Arc::make_mut(&mut asked.message);
        message.content.insert("n".to_owned(), agentbus::domain::Value::Int(n));
        asked.size += 1;
        gate.decide(&asked.ask()).await.unwrap();
    }
    assert_eq!(seen.count(Event::Hit), 9);
    assert_eq!(seen.count(Event::Miss), 1);
}

#[tokio::test]
async fn a_policy_that_uses_time_is_never_cached() {
    let own = "package agentbus.modules.own\nallow if time.now_ns() > 0\n";
    let (gate, seen) = watched(gate(&with_modules(&[("own.rego", own)])));
    let asked = question(true);
    for _ in 0..3 {
        gate.decide(&asked.ask()).await.unwrap();
    }
    assert_eq!(seen.count(Event::Hit), 0);
    assert_eq!(seen.count(Event::Uncached), 3);
}

#[tokio::test]
async fn an_answer_about_an_approval_is_neither_remembered_nor_taken_from_memory() {
    let own =
        "package agentbus.modules.own\nallow if not input.approval\nallow if input.approval.escalated\n";
    let (gate, seen) = watched(gate(&with_modules(&[("own.rego", own)])));
    let mut asked = question(true);
    asked.approval = None;
    gate.decide(&asked.ask()).await.unwrap();
    for escalated in [false, true, false] {
        asked.approval = Some(Approval {
            deliberation: "0123456789abcdef01234567".parse().unwrap(),
            rule: RuleKind::Quorum,
            approvals: Vec::new(),
            escalated,
        });
        assert_eq!(gate.decide(&asked.ask()).await.is_ok(), escalated);
    }
    asked.approval = None;
    gate.decide(&asked.ask()).await.unwrap();
    assert_eq!(seen.count(Event::Uncached), 3);
    assert_eq!((seen.count(Event::Miss), seen.count(Event::Hit)), (1, 1));
}

#[tokio::test]
async fn a_modules_text_reaches_the_sender_escaped() {
    let asked = question(true);
    let closed = "package agentbus.modules.closed\nallow := false\nreasons := [\"closed\\r\\n\\u202e for \\u00e9ver\"]\n";
    let gate = gate(&with_modules(&[("closed.rego", closed)]));
    let rejection = gate.decide(&asked.ask()).await.unwrap_err();
    assert_eq!(
        rejection.detail, "denied by policy: closed: closed\\u{d}\\u{a}\\u{202e} for \\u{e9}ver",
        "a module's text is escaped"
    );
}

#[tokio::test]
async fn a_policy_that_fails_is_not_cached_and_tells_the_sender_nothing_inside() {
    let own = "package agentbus.modules.own\nallow if not 1 / count(input.message.tools) == 7\n";
    let own =
        own.replace("count(input.message.tools)", "(count(input.sender.roles) - count(input.sender.roles))");
    // The sample fails already, so the node would not start with it.
    assert!(RegoEngine::load(&with_modules(&[("own.rego", &own)])).is_err());
    let own = "package agentbus.modules.own\nallow if input.sender.id == \"sample-sender\"\nallow if 1 / count(input.message.tools) > 0\n";
    let (gate, seen) = watched(gate(&with_modules(&[("own.rego", own)])));
    let mut asked = question(true);
    Arc::make_mut(&mut asked.message).tools.clear();
    for _ in 0..2 {
        let rejection = gate.decide(&asked.ask()).await.unwrap_err();
        assert_eq!(rejection.reason, Reason::PolicyFailed);
        assert_eq!(rejection.detail, "a rule of the policy cannot be evaluated for this message");
    }
    assert_eq!(seen.count(Event::Failed), 2);
    assert_eq!(seen.count(Event::Unavailable), 0);
    assert_eq!(seen.count(Event::Hit), 0);
}

#[test]
fn a_long_reason_is_cut() {
    let long = "package agentbus.modules.own\nallow := false\nreasons := [concat(\"\", [\"x\" | some _ in numbers.range(1, 3000)])]\n";
    let gate = gate(&with_modules(&[("own.rego", long)]));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let rejection = runtime.block_on(gate.decide(&question(true).ask())).unwrap_err();
    assert!(rejection.detail.len() < 450, "{}", rejection.detail.len());
}

/// The cache's one promise, for the shipped policy and for one that reads much more.
#[test]
fn questions_with_one_key_have_one_decision() {
    let own = "package agentbus.modules.own\nallow if input.message.content.amount < 2\n";
    for sources in [PolicySources::shipped(), with_modules(&[("own.rego", own)])] {
        let engine = load(&sources);
        let fields = engine.reads().cacheable().unwrap();
        let mut rng = StdRng::seed_from_u64(5);
        let mut seen: HashMap<cache::Key, Decision> = HashMap::new();
        let mut hits = 0;
        // From a small world, so that keys do meet.
        let world: Vec<Owned> = (0..300).map(|_| Owned::from_input(&random(&mut rng))).collect();
        for at in 0..9_000 {
            let (a, b) = (&world[at % world.len()], &world[(at * 7 + at / 300) % world.len()]);
            let mut asked = a.clone();
            let message = Arc::make_mut(&mut asked.message);
            match at % 5 {
                0 => message.content = b.message.content.clone(),
                1 => message.metadata.insert("k".to_owned(), at.to_string()).map_or((), drop),
                2 => message.to = b.message.to.clone(),
                3 => asked.size += at,
                _ => asked.recipient = b.recipient.clone(),
            }
            let decision = patiently(|| engine.decide(&asked.ask())).unwrap();
            let key = cache::key(&asked.ask(), engine.revision(), fields);
            match seen.get(&key) {
                Some(known) => {
                    hits += 1;
                    assert_eq!(known, &decision, "{asked:?}");
                }
                None => drop(seen.insert(key, decision)),
            }
        }
        assert!(hits > 1_000, "{hits} hits");
    }
}

#[test]
fn the_shipped_policy_reads_no_content_and_no_size() {
    let fields = load(&PolicySources::shipped()).reads().cacheable().unwrap();
    for unread in [Fields::CONTENT, Fields::METADATA, Fields::SIZE, Fields::TO] {
        assert!(!fields.contains(unread), "{:?}", fields.paths().collect::<Vec<_>>());
    }
}

#[test]
fn every_field_that_is_read_changes_the_key() {
    let mut rng = StdRng::seed_from_u64(6);
    let mut base = Owned::from_input(&random(&mut rng));
    Arc::make_mut(&mut base.message).tools.extend(["read".to_owned()]);
    let key = |asked: &Owned| cache::key(&asked.ask(), "0123456789abcdef", Fields::ALL);
    type Change = fn(&mut Owned);
    let changes: [(&str, Change); 9] = [
        ("content", |q| {
            drop(Arc::make_mut(&mut q.message).content.insert("x".into(), agentbus::domain::Value::Null))
        }),
        ("metadata", |q| drop(Arc::make_mut(&mut q.message).metadata.insert("x".into(), "y".into()))),
        ("tools", |q| Arc::make_mut(&mut q.message).tools.clear()),
        ("size", |q| q.size += 1),
        ("sender id", |q| q.sender.id = "other".parse().unwrap()),
        ("sender roles", |q| q.sender.roles.extend(["x".to_owned()])),
        ("registered", |q| q.sender.registered = false),
        ("recipient roles", |q| q.recipient.roles.extend(["x".to_owned()])),
        ("tenant", |q| q.tenant.id = "another".parse().unwrap()),
    ];
    for (name, change) in changes {
        let mut changed = base.clone();
        change(&mut changed);
        assert_ne!(key(&changed), key(&base), "{name}");
    }
    let revision = cache::key(&base.ask(), "fedcba9876543210", Fields::ALL);
    assert_ne!(revision, key(&base));
    // Tenant, revision and constitution count even when the policy reads nothing.
    let mut other = base.clone();
    other.tenant.id = "another".parse().unwrap();
    assert_ne!(cache::key(&other.ask(), "r", Fields::NONE), cache::key(&base.ask(), "r", Fields::NONE));
}
