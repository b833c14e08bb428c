//! How long does a decision take, cached and not (`measures.md`, P5)?
//!
//! `cargo test --release --test it policy::speed -- --ignored --nocapture`

use std::{hint::black_box, sync::Arc, time::Instant};

use agentbus::{
    domain::Timestamp,
    policy::{
        DecisionLog, Gate, Mode,
        decision_log::{Recorded, Settings},
        sources::PolicySources,
    },
};
use futures_util::{StreamExt as _, stream};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    interpreted_shipped, load,
    question::{Owned, random},
    servers::{Asking, PATIENT},
};
use crate::support::opa::{self, Opa};

const ROUNDS: usize = 1_000;

#[test]
#[ignore = "prints figures; promises nothing"]
fn decision_times() {
    let mut rng = StdRng::seed_from_u64(7);
    let questions: Vec<Owned> = (0..500).map(|_| Owned::from_input(&random(&mut rng))).collect();
    let shipped = load(&PolicySources::shipped());
    let (allowed, denied): (Vec<_>, Vec<_>) = questions
        .into_iter()
        .partition(|q| matches!(shipped.decide(&q.ask()), Ok(agentbus::policy::Decision::Allowed(_))));
    let usual = vec![Owned::from_input(&usual())];
    let interpreted = load(&interpreted_shipped());
    for (kind, questions) in [("usual", &usual), ("allowed", &allowed), ("denied", &denied)] {
        time(&format!("uncached, bytecode, {kind}"), questions, |q| {
            drop(black_box(shipped.decide(&q.ask())))
        });
        time(&format!("uncached, interpreter, {kind}"), questions, |q| {
            drop(black_box(interpreted.decide(&q.ask())));
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let gate = Gate::new(Arc::new(load(&PolicySources::shipped())));
    for (kind, questions) in [("usual", &usual), ("allowed", &allowed), ("denied", &denied)] {
        runtime.block_on(async {
            for question in questions {
                let _ = gate.decide(&question.ask()).await;
            }
            let started = Instant::now();
            for _ in 0..ROUNDS {
                for question in questions {
                    let _ = black_box(gate.decide(&question.ask()).await);
                }
            }
            report(&format!("cached, through the gate, {kind}"), questions.len(), started);
        });
    }
}

/// What the decision log costs a message and its own thread, and what replaying it takes.
#[tokio::test]
#[ignore = "prints figures; promises nothing"]
async fn log_times() {
    let shipped = || Arc::new(load(&PolicySources::shipped()));
    let settings = Settings { share: 1.0, ..Settings::default() };
    let (log, events) = DecisionLog::start(&settings, "node-1", Arc::new(()), || Timestamp(1)).unwrap();
    let (plain, logging) = (Gate::new(shipped()), Gate::new(shipped()).logged(Arc::new(log)));
    let question = Owned::from_input(&usual());
    let mut written = Vec::new();
    for (name, gate) in [("without the log", &plain), ("with the log", &logging)] {
        let in_force = gate.in_force();
        let started = Instant::now();
        for _ in 0..ROUNDS {
            let _ = black_box(gate.decide_by(&in_force, &question.ask(), "d-1").await);
        }
        report(&format!("cached, {name}"), 1, started);
    }
    let started = Instant::now();
    while written.len() < ROUNDS {
        written.push(events.next().await.unwrap().event);
    }
    report("an event, written by the thread", 1, started);
    eprintln!("{:40} {} bytes", "a usual event", written[0].len());
    let started = Instant::now();
    let read: Vec<Recorded> = written.iter().map(|event| Recorded::read(event).unwrap()).collect();
    report("an event, read", 1, started);
    for (name, engine) in [("bytecode", shipped()), ("interpreter", Arc::new(load(&interpreted_shipped())))] {
        let started = Instant::now();
        read.iter().for_each(|recorded| drop(black_box(engine.decide_recorded(&recorded.input))));
        report(&format!("decided again, {name}"), 1, started);
    }
}

/// One after the other, and many at a time; in process beside one OPA server and two.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures; promises nothing"]
async fn decision_times_by_opa_servers() {
    const QUESTIONS: usize = 2_000;
    let Some(program) = opa::program() else { return };
    let policy = interpreted_shipped();
    let servers = [Opa::with_policy(&program, &policy).await, Opa::with_policy(&program, &policy).await];
    let urls = servers.each_ref().map(Opa::url);
    let mut rng = StdRng::seed_from_u64(7);
    let questions: Vec<Owned> = (0..QUESTIONS).map(|_| Owned::from_input(&random(&mut rng))).collect();
    for (who, mode, urls) in [
        ("the interpreter in process", Mode::Rego, &urls[..]),
        ("one OPA server", Mode::Opa, &urls[..1]),
        ("two OPA servers", Mode::Opa, &urls[..]),
    ] {
        let asking = Asking::new(&policy, urls, mode, PATIENT);
        for at_once in [1, 64] {
            let started = Instant::now();
            let answers = stream::iter(&questions).map(|asked| asking.ask(asked)).buffer_unordered(at_once);
            let answered = answers.filter(|answer| std::future::ready(answer.is_ok())).count().await;
            eprintln!("{who}, {at_once} at once: {:?} each, {answered} answers", started.elapsed() / 2_000);
        }
    }
}

/// A command with one tool, to an agent, in a tenant without labels.
fn usual() -> serde_json::Value {
    serde_json::json!({
        "message": {"type": "command", "priority": "normal", "to": {"agent": "worker"}, "tools": ["write"],
                    "content": {"text": "file the report"}, "metadata": {}, "size": 512},
        "sender": {"id": "planner", "roles": ["executive"], "capabilities": [], "registered": true},
        "recipient": {"id": "worker", "roles": ["implementer"], "capabilities": ["files"]},
        "tenant": {"id": "acme", "labels": {}},
        "constitution": {"hash": "cdd01ef066bc6cf2"},
    })
}

fn time(name: &str, questions: &[Owned], mut run: impl FnMut(&Owned)) {
    let started = Instant::now();
    for _ in 0..ROUNDS {
        questions.iter().for_each(&mut run);
    }
    report(name, questions.len(), started);
}

fn report(name: &str, questions: usize, started: Instant) {
    let each = started.elapsed() / u32::try_from(questions * ROUNDS).unwrap();
    eprintln!("{name:40} {each:?} ({questions} different)");
}
