//! Limits that count for all nodes together: what each may use is leased from one account, several at a time.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{AgentId, TenantId};

/// Accounts of what tenants may send.
#[async_trait]
pub trait SharedLimits: Send + Sync {
    /// Takes as many of `wanted` messages as are left, for this node to let in.
    async fn lease(&self, tenant: &TenantId, rate: SharedRate, wanted: u32) -> Result<Leased, StoreError>;

    /// The same of one agent's, which may have sent so many in an hour, all of them at once.
    async fn lease_of_agent(
        &self,
        of: (&TenantId, &AgentId),
        per_hour: u32,
        wanted: u32,
    ) -> Result<Leased, StoreError>;
}

/// Messages of a minute, and how many of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedRate {
    pub per_minute: u32,
    pub burst: u32,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// At least one.
    Messages(u32),
    /// None is left; there is one after this.
    After(Duration),
}
