//! Who may make a [`Permit`], and what the policy is asked for it: Rego decides over message, sender,
//! recipient and tenant, and nothing is delivered without the evidence made here.
//!
//! [`Gate::decide`] is the only way to a permit, and [`Rollout`] the way of another policy into force. Knows nothing
//! of NATS; regorus is in [`rego`], and what is asked of OPA servers in [`opa`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use async_trait::async_trait;

use crate::{
    domain::{AgentId, Approval, CapabilityId, ConversationLabel, Message, Reason, Tenant, TenantId},
    rejection::Rejection,
};

mod absent;
pub mod bundle;
pub mod cache;
mod check;
pub mod comparison;
mod decided;
pub mod decision_log;
pub mod differs;
mod gate;
mod meter;
mod modes;
mod obligations;
mod offload;
pub mod opa;
mod owned;
pub mod reads;
mod recent;
pub mod rego;
mod rollout;
mod shadow;
mod shared;
mod source;
pub mod sources;
mod tokens;
mod trial;
mod web_bundles;

pub use absent::Absent;
pub use bundle::{Bundle, BundleError, Label, Verifier, build as build_bundle, build_for_opa};
pub use check::{Finding, check};
pub use decision_log::DecisionLog;
pub use gate::{Gate, InForce, Ruling, Source};
pub use meter::{Event, Meter};
pub use modes::{Mode, Moded, Modes};
pub use obligations::{Lane, Obligations, Rate};
pub use offload::OffRuntime;
pub use opa::{OpaServers, OpaSettings};
pub use rego::RegoEngine;
pub use rollout::{Candidate, Folder, Loaded, Origin, Refused, Rollout, ShadowOffer, Standing};
pub use shadow::{Shadow, ShadowPlan, ShadowStanding, ShadowState};
pub use shared::SharedTier;
pub use source::{BundleFile, BundleSource, Offer, SourceError};
pub use sources::{LoadError, PolicySources};
pub use trial::Trial;
pub use web_bundles::WebBundles;

use reads::Reads;
use rego::LogPolicy;

/// What the policy is asked: one message, to one recipient.
///
/// No message id and no time, so that equal questions share one cached answer.
#[derive(Debug, Clone)]
pub struct Question<'a> {
    pub message: &'a Arc<Message>,
    /// Bytes of the message's canonical form.
    pub size: usize,
    pub sender: Party<'a>,
    pub recipient: Party<'a>,
    pub tenant: &'a Tenant,
    /// Reviewers have approved the message: it was parked and is asked about again.
    pub approval: Option<&'a Approval>,
    /// What its conversation was labelled with so far. `None`: that was not looked up, as the policy does not read it.
    pub labels: Option<&'a BTreeSet<ConversationLabel>>,
}

/// An agent as the policy sees it.
#[derive(Debug, Clone, Copy)]
pub struct Party<'a> {
    pub id: &'a AgentId,
    /// Granted by the operator.
    pub roles: &'a BTreeSet<String>,
    /// Claimed by the agent when it registered.
    pub capabilities: &'a BTreeSet<CapabilityId>,
    pub registered: bool,
}

/// What the policy answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Allowed(Obligations),
    /// Sorted, each `<module>: <why>`, bounded in number and length.
    Denied {
        reasons: Vec<String>,
    },
}

/// Why there is no decision; never cached, never an allow. For the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// The processor was busy with other things.
    #[error("no decision within {limit:?}")]
    TimedOut { limit: Duration },
    /// Too many questions wait for a thread.
    #[error("no thread for it: {cause}")]
    Busy { cause: String },
    /// By this question, or within bounds: another may be answered.
    #[error("{rule} could not be evaluated: {cause}")]
    Failed { rule: String, cause: String },
    /// Whatever the question is.
    #[error("nothing can be evaluated: {cause}")]
    Broken { cause: String },
    /// No OPA server has answered; one may, later.
    #[error("{cause}")]
    Unanswered { cause: String, retry_after: Duration },
    /// None has of late, and none was asked.
    #[error("{cause}")]
    BreakerOpen { cause: String, retry_after: Duration },
}

impl PolicyError {
    /// What the sender hears. The cause is the operator's to know.
    fn rejection(&self) -> Rejection {
        match self {
            Self::Failed { .. } => Rejection::new(
                Reason::PolicyFailed,
                "a rule of the policy cannot be evaluated for this message",
            ),
            Self::TimedOut { .. } | Self::Broken { .. } => {
                Rejection::new(Reason::PolicyUnavailable, "the policy gave no clear answer")
            }
            Self::BreakerOpen { retry_after, .. } => {
                Rejection::breaker_open("what answers for the policy", *retry_after)
            }
            Self::Unanswered { retry_after, .. } => {
                Rejection::new(Reason::PolicyUnavailable, "the policy could not be asked").after(*retry_after)
            }
            Self::Busy { .. } => Rejection::new(
                Reason::PolicyUnavailable,
                "too many of the tenant's messages wait for the policy already",
            )
            .after(Duration::from_millis(200)),
        }
    }
}

/// Something that answers questions by one fixed revision of a policy.
///
/// An implementation bounds its own time; [`Gate`] waits for it without a limit.
#[async_trait]
pub trait PolicyEngine: Send + Sync {
    async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, PolicyError>;

    /// Names the modules and data in force: 16 hex digits of their SHA-256.
    fn revision(&self) -> &Arc<str>;

    /// What the policy can read, and whether equal questions have equal answers.
    fn reads(&self) -> Reads;

    /// Whether asking about a message of the tenant takes longer than to look what other nodes were answered.
    fn is_far(&self, _tenant: &TenantId) -> bool {
        false
    }

    /// What of its decisions may be logged. `None`: all that the configuration says.
    fn log_policy(&self) -> Option<Arc<LogPolicy>> {
        None
    }
}

/// Evidence that the policy allowed this message to this recipient. There is no other way to make
/// one, and delivery asks for one.
#[derive(Debug, Clone)]
pub struct Permit {
    message: Arc<Message>,
    recipient: AgentId,
    obligations: Obligations,
    revision: Arc<str>,
}

impl Permit {
    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }

    pub fn recipient(&self) -> &AgentId {
        &self.recipient
    }

    pub fn obligations(&self) -> &Obligations {
        &self.obligations
    }

    /// The revision of the policy that allowed it.
    pub fn revision(&self) -> &Arc<str> {
        &self.revision
    }
}
