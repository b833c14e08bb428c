//! Is what the policy decides what it should be: in process, by OPA, when it fails, and fast?
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "tests"
)]

mod bundles;
mod cases;
mod conformance;
mod faults;
mod gate;
mod liars;
mod library;
mod log;
mod offload;
mod opa;
mod parity;
mod question;
mod rollout;
mod servers;
mod shadow;
mod shared;
mod speed;
mod web;

use std::sync::{Arc, Mutex};

use agentbus::policy::{
    Decision, Event, Gate, Meter, PolicyError,
    rego::RegoEngine,
    sources::{Module, PolicySources},
};

/// The shipped policy with the operator's modules beside it.
fn with_modules(modules: &[(&str, &str)]) -> PolicySources {
    let modules = modules
        .iter()
        .map(|(file, text)| Module { file: file.to_string(), text: text.to_string() })
        .collect();
    PolicySources { modules, ..PolicySources::shipped() }
}

/// The shipped modules as if they were the operator's, so that the interpreter runs them.
fn interpreted_shipped() -> PolicySources {
    PolicySources { shipped: false, ..with_modules(agentbus::policy::sources::SHIPPED) }
}

/// What a gate has seen, in order.
#[derive(Clone, Default)]
struct Seen(Arc<Mutex<Vec<Event>>>);

impl Meter for Seen {
    fn see(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Seen {
    fn count(&self, event: Event) -> usize {
        self.0.lock().unwrap().iter().filter(|seen| **seen == event).count()
    }
}

fn watched(gate: Gate) -> (Gate, Seen) {
    let seen = Seen::default();
    (gate.metered(Arc::new(seen.clone())), seen)
}

/// Decides, again where the processor was busy with other things.
fn patiently(decide: impl Fn() -> Result<Decision, PolicyError>) -> Result<Decision, PolicyError> {
    for _ in 0..100 {
        match decide() {
            Err(PolicyError::TimedOut { .. }) => {}
            decided => return decided,
        }
    }
    panic!("the processor has no time");
}

fn load(sources: &PolicySources) -> RegoEngine {
    RegoEngine::load(sources).unwrap_or_else(|error| panic!("{error}"))
}
