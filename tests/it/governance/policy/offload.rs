//! Does a rule run where nothing else waits for it? What shows it is what others get done meanwhile.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use agentbus::{
    cpu::{Cpu, CpuSettings},
    domain::{Reason, Value},
    policy::{Event, Gate, OffRuntime, sources::PolicySources},
};
use futures_util::FutureExt as _;

use super::{
    load,
    question::{Owned, random},
    watched, with_modules,
};

/// Runs until it is stopped, on a content that says so.
const RUNAWAY: &str = "package agentbus.modules.own
default allow := false
allow if not input.message.content.runaway
allow if { input.message.content.runaway
    count([1 | some a in n; some b in n; some c in n; some d in n; a + b + c + d > 0]) < 0 }
n := numbers.range(1, 1000)";

fn node(sources: &PolicySources) -> Gate {
    let cpu = Cpu::start(CpuSettings { threads: 2, queue: 64 }, Arc::new(())).unwrap();
    Gate::new(Arc::new(OffRuntime::new(load(sources), Arc::new(cpu))))
}

/// A question that the shipped policy allows.
fn allowed(tenant: &str) -> Owned {
    use rand::{SeedableRng as _, rngs::StdRng};
    let engine = load(&PolicySources::shipped());
    let mut rng = StdRng::seed_from_u64(11);
    let drawn = std::iter::repeat_with(|| Owned::from_input(&random(&mut rng))).take(1_000);
    let fits = |q: &Owned| matches!(engine.decide(&q.ask()), Ok(agentbus::policy::Decision::Allowed(_)));
    let mut found = drawn.into_iter().find(fits).unwrap();
    found.tenant.id = tenant.parse().unwrap();
    found.approval = None;
    found
}

fn runaway(tenant: &str, number: i128) -> Owned {
    let mut asked = allowed(tenant);
    let content = &mut Arc::make_mut(&mut asked.message).content;
    content.insert("runaway".to_owned(), Value::Bool(true));
    content.insert("n".to_owned(), Value::Int(number));
    asked
}

/// As often as a machine may have no time for a question.
const TRIES: usize = 50;

/// Asks until the machine has time for it.
async fn answered(gate: &Gate, asked: &Owned) {
    for _ in 0..TRIES {
        match gate.decide(&asked.ask()).await {
            Ok(_) => return,
            Err(busy) => assert_eq!(busy.reason, Reason::PolicyUnavailable, "{busy}"),
        }
    }
    panic!("no time for it in {TRIES} tries");
}

/// One thread: what is done while the rule runs is done only if the rule runs elsewhere.
#[tokio::test(flavor = "current_thread")]
async fn others_go_on_while_a_rule_of_the_operators_runs() {
    let gate = node(&with_modules(&[("own.rego", RUNAWAY)]));
    let turns = Arc::new(AtomicUsize::new(0));
    let other = tokio::spawn({
        let turns = Arc::clone(&turns);
        async move {
            loop {
                turns.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
            }
        }
    });
    let refused = gate.decide(&runaway("hostile", 0).ask()).await.unwrap_err();
    // The latter where the machine had no time for it.
    assert!(matches!(refused.reason, Reason::PolicyFailed | Reason::PolicyUnavailable), "{refused}");
    let turns = turns.load(Ordering::SeqCst);
    assert!(turns > 10, "another task had {turns} turns while the rule ran for 100 ms");
    other.abort();
}

/// A crowd of one tenant's runaways, each 100 ms, and in the midst of it another tenant's questions. That
/// these have a thread of their own is shown in `src/cpu/tests.rs`, without a clock.
#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_runaways_are_refused_and_another_tenants_questions_are_answered() {
    let (gate, seen) = watched(node(&with_modules(&[("own.rego", RUNAWAY)])));
    let gate = Arc::new(gate);
    let crowd: Vec<_> = (0..12)
        .map(|number| {
            let gate = Arc::clone(&gate);
            tokio::spawn(
                async move { gate.decide(&runaway("hostile", number).ask()).await.unwrap_err().reason },
            )
        })
        .collect();
    while seen.count(Event::Miss) < 12 {
        tokio::task::yield_now().await;
    }
    answered(&gate, &allowed("other")).await;
    for reason in futures_util::future::join_all(crowd).await {
        // Those that had no turn in time are told that it was not for them.
        assert!(matches!(reason.unwrap(), Reason::PolicyFailed | Reason::PolicyUnavailable));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn shipped_rules_are_asked_at_once_and_an_answer_that_is_known_is_given_at_once() {
    let gate = node(&PolicySources::shipped());
    let at_once = || gate.decide(&allowed("acme").ask()).now_or_never().unwrap();
    assert!((0..TRIES).any(|_| at_once().is_ok()));
    let gate = node(&with_modules(&[("own.rego", RUNAWAY)]));
    // Some of them may be answered before it is looked for.
    let mut asked = allowed("acme");
    let mut handed_over = |number: usize| {
        asked.tenant.id = format!("tenant-{number}").parse().unwrap();
        gate.decide(&asked.ask()).now_or_never().is_none()
    };
    assert!((0..10 * TRIES).any(&mut handed_over), "those of the operator are handed over");
    let asked = allowed("acme");
    answered(&gate, &asked).await;
    assert!(gate.decide(&asked.ask()).now_or_never().unwrap().is_ok(), "it is remembered");
}

/// Its key would have to be made of all of it.
#[tokio::test]
async fn an_answer_about_a_large_content_that_is_read_is_not_remembered() {
    for (sources, remembered) in
        [(with_modules(&[("own.rego", RUNAWAY)]), false), (PolicySources::shipped(), true)]
    {
        let (gate, seen) = watched(node(&sources));
        let mut asked = allowed("acme");
        asked.size = 17 * 1024;
        for _ in 0..2 {
            answered(&gate, &asked).await;
        }
        assert_eq!(seen.count(Event::Hit), usize::from(remembered));
        let uncached = seen.count(Event::Uncached);
        assert!(if remembered { uncached == 0 } else { uncached >= 2 }, "{uncached}");
    }
}

#[tokio::test]
async fn what_finds_no_thread_is_unavailable_and_may_be_asked_again() {
    let cpu = Arc::new(Cpu::start(CpuSettings { threads: 1, queue: 1 }, Arc::new(())).unwrap());
    assert!(cpu.close(std::time::Duration::from_secs(10)).await);
    let (gate, seen) =
        watched(Gate::new(Arc::new(OffRuntime::new(load(&with_modules(&[("own.rego", RUNAWAY)])), cpu))));
    let refused = gate.decide(&allowed("acme").ask()).await.unwrap_err();
    assert_eq!((refused.reason, refused.reason.retryable()), (Reason::PolicyUnavailable, true));
    assert!(refused.retry_after.is_some());
    assert_eq!(seen.count(Event::Unavailable), 1);
}
