//! Who answers a question: Rego in this process, OPA servers, or OPA and Rego in its stead? For each tenant as the operator
//! has chosen.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use super::{
    Decision, Event, Meter, OffRuntime, PolicyEngine, PolicyError, Question, opa::OpaServers, reads::Reads,
    rego::LogPolicy,
};
use crate::domain::TenantId;

/// How questions are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// In process.
    #[default]
    Rego,
    /// By OPA servers, or not at all.
    Opa,
    /// By OPA servers; in process where none answers.
    OpaOrRego,
}

/// The modes of a node.
pub struct Modes {
    usual: Mode,
    tenants: BTreeMap<TenantId, Mode>,
    opa: Option<Arc<OpaServers>>,
    meter: Arc<dyn Meter>,
}

impl Modes {
    pub fn new(
        usual: Mode,
        tenants: BTreeMap<TenantId, Mode>,
        opa: Option<Arc<OpaServers>>,
        meter: Arc<dyn Meter>,
    ) -> Self {
        Self { usual, tenants, opa, meter }
    }

    /// Rego for everybody.
    pub fn in_process() -> Self {
        Self::new(Mode::Rego, BTreeMap::new(), None, Arc::new(()))
    }

    /// The servers that are asked, if any are.
    pub fn opa(&self) -> Option<&Arc<OpaServers>> {
        self.opa.as_ref()
    }

    /// Whether somebody's messages come to nothing while no server answers.
    pub fn need_opa(&self) -> bool {
        self.usual == Mode::Opa || self.tenants.values().any(|mode| *mode == Mode::Opa)
    }

    fn of(&self, tenant: &TenantId) -> Mode {
        self.tenants.get(tenant).copied().unwrap_or(self.usual)
    }
}

/// A policy that is in this process, and asked here or elsewhere.
#[derive(Clone)]
pub struct Moded {
    rego: Arc<OffRuntime>,
    modes: Arc<Modes>,
}

impl Moded {
    pub fn new(rego: Arc<OffRuntime>, modes: Arc<Modes>) -> Self {
        if modes.opa.is_some() {
            for what in rego.differences() {
                tracing::warn!(what, "OPA servers are asked, and may decide otherwise than this node");
            }
        }
        Self { rego, modes }
    }

    async fn by_rego(&self, question: &Question<'_>) -> Result<Decision, PolicyError> {
        self.modes.meter.see(Event::AskedRego);
        self.rego.evaluate(question).await
    }

    async fn by_opa(&self, question: &Question<'_>) -> Result<Decision, PolicyError> {
        let Some(opa) = &self.modes.opa else {
            return Err(PolicyError::Broken { cause: "no OPA server is configured".to_owned() });
        };
        self.modes.meter.see(Event::AskedOpa);
        opa.ask(&question.tenant.id, self.rego.revision(), self.rego.input(question)).await
    }
}

#[async_trait]
impl PolicyEngine for Moded {
    async fn evaluate(&self, question: &Question<'_>) -> Result<Decision, PolicyError> {
        match self.modes.of(&question.tenant.id) {
            Mode::Rego => self.by_rego(question).await,
            Mode::Opa => self.by_opa(question).await,
            Mode::OpaOrRego => match self.by_opa(question).await {
                // Nobody has answered. A rule that fails there has: it is no reason to ask elsewhere.
                Err(
                    PolicyError::Unanswered { .. }
                    | PolicyError::BreakerOpen { .. }
                    | PolicyError::Busy { .. }
                    | PolicyError::Broken { .. },
                ) => {
                    self.modes.meter.see(Event::InsteadOfOpa);
                    self.by_rego(question).await
                }
                answer => answer,
            },
        }
    }

    fn revision(&self) -> &Arc<str> {
        self.rego.revision()
    }

    fn reads(&self) -> Reads {
        self.rego.reads()
    }

    fn is_far(&self, tenant: &TenantId) -> bool {
        self.modes.of(tenant) != Mode::Rego
    }

    fn log_policy(&self) -> Option<Arc<LogPolicy>> {
        self.rego.log_policy()
    }
}
