//! How long does a decision take, cached and not (`measures.md`, P5)?
//!
//! `cargo test --release --test it policy::speed -- --ignored --nocapture`

use std::{hint::black_box, sync::Arc, time::Instant};

use agentbus::policy::{Gate, sources::PolicySources};
use rand::{SeedableRng, rngs::StdRng};

use super::{
    interpreted_shipped, load,
    question::{Owned, random},
};

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
