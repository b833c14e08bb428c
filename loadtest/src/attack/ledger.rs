//! What was tried, and what came of it? One line for each try, a table at the end.

use std::time::Duration;

/// What came of one try.
pub(crate) enum Outcome {
    Held,
    /// The attacker has what it wanted, or somebody was hurt.
    Succeeded(String),
    /// The harness could not carry it out; that is no evidence of anything.
    NotRun(String),
}

#[derive(Default)]
pub(crate) struct Ledger {
    kinds: Vec<Tally>,
}

struct Tally {
    kind: &'static str,
    tried: usize,
    succeeded: usize,
    not_run: usize,
    took: Duration,
}

impl Ledger {
    pub(crate) fn begin(&mut self, kind: &'static str) {
        self.kinds.push(Tally { kind, tried: 0, succeeded: 0, not_run: 0, took: Duration::ZERO });
    }

    pub(crate) fn end(&mut self, took: Duration) {
        if let Some(tally) = self.kinds.last_mut() {
            tally.took = took;
        }
    }

    pub(crate) fn note(&mut self, name: &str, outcome: &Outcome) {
        let Some(tally) = self.kinds.last_mut() else { return };
        let kind = tally.kind;
        match outcome {
            Outcome::Held => {
                tally.tried += 1;
                println!("held       {kind:<10} {name}");
            }
            Outcome::Succeeded(what) => {
                tally.tried += 1;
                tally.succeeded += 1;
                println!("SUCCEEDED  {kind:<10} {name}: {what}");
            }
            Outcome::NotRun(why) => {
                tally.not_run += 1;
                println!("NOT RUN    {kind:<10} {name}: {why}");
            }
        }
    }

    pub(crate) fn print(&self) {
        println!("\n{:<12} {:>6} {:>10} {:>8} {:>7}", "kind", "tried", "succeeded", "not run", "s");
        for Tally { kind, tried, succeeded, not_run, took } in &self.kinds {
            println!("{kind:<12} {tried:>6} {succeeded:>10} {not_run:>8} {:>7.1}", took.as_secs_f64());
        }
    }

    pub(crate) fn tried(&self) -> usize {
        self.kinds.iter().map(|tally| tally.tried).sum()
    }

    pub(crate) fn succeeded(&self) -> usize {
        self.kinds.iter().map(|tally| tally.succeeded).sum()
    }

    pub(crate) fn not_run(&self) -> usize {
        self.kinds.iter().map(|tally| tally.not_run).sum()
    }
}
