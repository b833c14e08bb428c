//! Do bytecode, interpreter and an OPA server give one and the same answer?

use std::{collections::BTreeMap, fs};

use rand::{SeedableRng, rngs::StdRng};

use super::{
    cases::{self, as_json},
    interpreted_shipped, load,
    question::{Owned, random},
};
use crate::support::opa;
use agentbus::policy::{Decision, PolicyError, RegoEngine, sources::PolicySources};

#[test]
fn bytecode_and_interpreter_decide_ten_thousand_random_messages_alike() {
    let compiled = load(&PolicySources::shipped());
    let interpreted = load(&interpreted_shipped());
    let mut rng = StdRng::seed_from_u64(1);
    let mut allowed = 0;
    for _ in 0..10_000 {
        let input = random(&mut rng);
        let question = Owned::from_input(&input);
        let found = as_json(&decide(&compiled, &question));
        assert_eq!(found, as_json(&decide(&interpreted, &question)), "{input}");
        allowed += i32::from(found["allow"] == true);
    }
    assert!((500..9_500).contains(&allowed), "{allowed} allowed: the draw meets one side only");
}

/// A machine that is busy with other tests is no difference between the two.
pub(super) fn decide(engine: &RegoEngine, question: &Owned) -> Decision {
    loop {
        match engine.decide(&question.ask()) {
            Err(PolicyError::TimedOut { .. }) => {}
            other => return other.unwrap(),
        }
    }
}

#[tokio::test]
async fn an_opa_server_decides_every_case_as_the_node_does() {
    let Some(program) = opa::program() else { return };
    let mut sets: BTreeMap<Vec<(String, String)>, Vec<cases::Case>> = BTreeMap::new();
    for case in cases::all() {
        sets.entry(case.modules.clone()).or_default().push(case);
    }
    for (modules, cases) in sets {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in &modules {
            fs::write(dir.path().join(file), text).unwrap();
        }
        let server = opa::Opa::start(&program, Some(dir.path())).await;
        for case in cases {
            let found = server.decide(&case.input).await.unwrap();
            cases::check(&case.name, &case.expect, &found);
        }
    }
}

#[tokio::test]
async fn an_opa_server_decides_random_messages_as_the_node_does() {
    let Some(program) = opa::program() else { return };
    let server = opa::Opa::start(&program, None).await;
    let engine = load(&PolicySources::shipped());
    let mut rng = StdRng::seed_from_u64(2);
    for _ in 0..1_000 {
        let input = random(&mut rng);
        let decision = engine.decide(&Owned::from_input(&input).ask()).unwrap();
        assert_eq!(as_json(&decision), server.decide(&input).await.unwrap(), "{input}");
    }
}
