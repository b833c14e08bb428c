//! On which thread is a question answered? Shipped rules on little to read where they are asked for, all
//! else on the threads for computing: what an operator writes may take as long as it likes.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;

use super::{Decision, Party, PolicyEngine, PolicyError, Question, RegoEngine, reads::Reads};
use crate::{
    cpu::{Cpu, CpuError, Work},
    domain::{AgentId, Approval, CapabilityId, Message, Tenant},
};

/// The policy of a node.
pub struct OffRuntime {
    engine: Arc<RegoEngine>,
    cpu: Arc<Cpu>,
}

impl OffRuntime {
    pub fn new(engine: RegoEngine, cpu: Arc<Cpu>) -> Self {
        Self { engine: Arc::new(engine), cpu }
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

/// A question that goes to another thread.
struct Owned {
    message: Arc<Message>,
    size: usize,
    sender: OwnedParty,
    recipient: OwnedParty,
    /// What the policy sees of it: id and labels.
    tenant: Tenant,
    approval: Option<Approval>,
}

struct OwnedParty {
    id: AgentId,
    roles: BTreeSet<String>,
    capabilities: BTreeSet<CapabilityId>,
    registered: bool,
}

impl Owned {
    fn of(question: &Question<'_>) -> Self {
        let tenant = question.tenant;
        Self {
            message: Arc::clone(question.message),
            size: question.size,
            sender: OwnedParty::of(question.sender),
            recipient: OwnedParty::of(question.recipient),
            // Not its agents: there may be a thousand.
            tenant: Tenant { labels: tenant.labels.clone(), ..Tenant::new(tenant.id.clone()) },
            approval: question.approval.cloned(),
        }
    }

    fn ask(&self) -> Question<'_> {
        Question {
            message: &self.message,
            size: self.size,
            sender: self.sender.ask(),
            recipient: self.recipient.ask(),
            tenant: &self.tenant,
            approval: self.approval.as_ref(),
        }
    }
}

impl OwnedParty {
    fn of(party: Party<'_>) -> Self {
        let Party { id, roles, capabilities, registered } = party;
        Self { id: id.clone(), roles: roles.clone(), capabilities: capabilities.clone(), registered }
    }

    fn ask(&self) -> Party<'_> {
        let Self { id, roles, capabilities, registered } = self;
        Party { id, roles, capabilities, registered: *registered }
    }
}
