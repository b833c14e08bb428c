//! Limits that count for all nodes together: what each may use is leased from one account, some at a time.

use std::time::Duration;

use async_trait::async_trait;

use super::StoreError;
use crate::domain::{AgentId, TenantId};

/// Accounts of what tenants may send.
#[async_trait]
pub trait SharedLimits: Send + Sync {
    /// Takes as many of `wanted` messages as are left, for this node to let in.
    async fn lease(&self, tenant: &TenantId, rate: SharedRate, wanted: u64) -> Result<Leased, StoreError>;

    /// The same of one agent's, which may have sent so many in an hour, all of them at once.
    async fn lease_of_agent(
        &self,
        of: (&TenantId, &AgentId),
        per_hour: u32,
        wanted: u64,
    ) -> Result<Leased, StoreError>;

    /// The same of what a rule of the policy lets a sender send, in nanoseconds: a rule that says `10` of one message
    /// and `100` of another has one account, from which each takes its part.
    async fn lease_of_rule(&self, of: RuleAccount<'_>, wanted: u64) -> Result<Leased, StoreError>;
}

/// Messages of a minute, and how many of them may come at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SharedRate {
    pub per_minute: u32,
    pub burst: u32,
}

/// What a rule of the policy says of its sender's messages at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleAccount<'a> {
    pub tenant: &'a TenantId,
    pub sender: &'a AgentId,
    /// The name of its module: letters, digits and `_`, at most 64.
    pub rule: &'a str,
    /// The time whose messages may come at once.
    pub window: Duration,
    /// What one message takes of it.
    pub each: Duration,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leased {
    /// So many messages, or nanoseconds where the account is in time; at least what one takes, or all that was wanted.
    Given(u64),
    /// There is not enough for one message; there is after this.
    After(Duration),
}
