//! On which thread is a question answered? Shipped rules on little to read where they are asked for, all
//! else on the threads for computing: what an operator writes may take as long as it likes.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::value::RawValue;

use super::{
    Decision, PolicyEngine, PolicyError, Question, RegoEngine, owned::Owned, reads::Reads, rego::LogPolicy,
};
use crate::cpu::{Cpu, CpuError, Work};

/// The policy of a node.
pub struct OffRuntime {
    engine: Arc<RegoEngine>,
    cpu: Arc<Cpu>,
}

impl OffRuntime {
    pub fn new(engine: RegoEngine, cpu: Arc<Cpu>) -> Self {
        Self { engine: Arc::new(engine), cpu }
    }

    pub(super) fn differences(&self) -> &[String] {
        self.engine.differences()
    }

    /// What the policy reads of the question, for whoever has the same policy.
    pub(super) async fn input(&self, question: &Question<'_>) -> Result<Box<RawValue>, PolicyError> {
        if self.engine.is_little(question) {
            return self.engine.input(question);
        }
        let (engine, owned) = (Arc::clone(&self.engine), Owned::of(question));
        let written = self.cpu.run(&question.tenant.id, Work::Policy, move || engine.input(&owned.ask()));
        written.await.unwrap_or_else(|why| Err(undecided(&why)))
    }
}

#[async_trait]
impl PolicyEngine for OffRuntime {
    async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, PolicyError> {
        if self.engine.is_quick(question) {
            // A hand-over would cost more than the microseconds it takes.
            return self.engine.decide(question);
        }
        let (engine, owned) = (Arc::clone(&self.engine), Owned::of(question));
        let decided = self.cpu.run(&question.tenant.id, Work::Policy, move || engine.decide(&owned.ask()));
        decided.await.unwrap_or_else(|why| Err(undecided(&why)))
    }

    fn revision(&self) -> &Arc<str> {
        self.engine.revision()
    }

    fn reads(&self) -> Reads {
        self.engine.reads()
    }

    fn log_policy(&self) -> Option<Arc<LogPolicy>> {
        self.engine.log_policy()
    }
}

fn undecided(why: &CpuError) -> PolicyError {
    match *why {
        CpuError::Late { limit } => PolicyError::TimedOut { limit },
        // It is for the question that a builtin took so long, or that there was a panic.
        CpuError::Overran { .. } | CpuError::Panicked => {
            PolicyError::Failed { rule: "the policy".to_owned(), cause: why.to_string() }
        }
        CpuError::Busy { .. } | CpuError::Stopping => PolicyError::Busy { cause: why.to_string() },
    }
}
