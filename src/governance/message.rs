//! A message on its way, with the evidence of how far it came.

use std::{ops::Deref, sync::Arc, time::Duration};

use super::{constitution, rules::Rules, structure};
use crate::{
    domain::{AgentId, Message, Reason, Tenant, TenantId},
    rejection::Rejection,
    state::{Digest, MessageKey},
    wire,
};

/// A tenant of the directory that lists this sender.
///
/// NATS let the sender in, and this does not rely on it: a user that was removed, or a server that checks
/// nothing, meets the directory here.
#[derive(Debug, Clone)]
pub struct Admitted {
    tenant: Arc<Tenant>,
    sender: AgentId,
}

/// A message within the hard limits, from the sender that was admitted.
#[derive(Debug)]
pub struct Decoded {
    admitted: Admitted,
    body: wire::Decoded,
    key: MessageKey,
}

/// It names a constitution that is in force.
#[derive(Debug, Clone, Copy)]
pub struct InForce<'a>(&'a Decoded);

/// Its times and its size make sense for its tenant, now.
#[derive(Debug, Clone, Copy)]
pub struct Checked<'a>(&'a Decoded);

impl Admitted {
    /// `found`: what the directory has under the tenant's id.
    pub fn new(found: Option<Arc<Tenant>>, id: &TenantId, sender: &AgentId) -> Result<Self, Rejection> {
        let Some(tenant) = found.filter(|tenant| tenant.id == *id) else {
            let detail =
                format!("found tenant {id}, expected one that `agentbus tenants apply` has published");
            return Err(Rejection::new(Reason::TenantUnknown, detail).after(Duration::from_secs(1)));
        };
        if tenant.agents.contains_key(sender) {
            return Ok(Self { tenant, sender: sender.clone() });
        }
        let detail = format!("found sender {sender}, expected an agent that the tenant's directory lists");
        Err(Rejection::new(Reason::SenderUnknown, detail).after(Duration::from_secs(1)))
    }

    /// What the decoder has read of a request of this sender.
    pub fn decoded(self, body: wire::Decoded) -> Result<Decoded, Rejection> {
        let Message { tenant, sender, id, .. } = &*body.message;
        if *tenant != self.tenant.id || *sender != self.sender {
            return Err(Rejection::new(Reason::SenderMismatch, "found a message of another sender"));
        }
        let key = MessageKey { tenant: tenant.clone(), sender: sender.clone(), message: id.clone() };
        Ok(Decoded { admitted: self, body, key })
    }
}

impl Deref for Admitted {
    type Target = Tenant;

    fn deref(&self) -> &Tenant {
        &self.tenant
    }
}

impl Decoded {
    pub fn tenant(&self) -> &Tenant {
        &self.admitted.tenant
    }

    pub(super) fn shared_tenant(&self) -> &Arc<Tenant> {
        &self.admitted.tenant
    }

    pub fn body(&self) -> &wire::Decoded {
        &self.body
    }

    pub fn message(&self) -> &Arc<Message> {
        &self.body.message
    }

    /// Under which it has one outcome, whatever becomes of it.
    pub fn key(&self) -> &MessageKey {
        &self.key
    }

    /// Of the content that the outcome is about.
    pub fn digest(&self) -> &Digest {
        &self.body.digest
    }

    /// Does it name a constitution that is in force?
    pub fn in_force(&self, rules: &Rules<'_>) -> Result<InForce<'_>, Rejection> {
        // By a wrong clock nothing can be told of its times, neither that they are good nor that they are not.
        if rules.clock_is_off {
            return Err(Rejection::new(Reason::ClockUncertain, "the clock of this node is off; ask again"));
        }
        constitution::check(self.message(), rules)?;
        Ok(InForce(self))
    }
}

impl<'a> InForce<'a> {
    /// Do its times and its size make sense?
    pub fn checked(self, rules: &Rules<'_>) -> Result<Checked<'a>, Rejection> {
        let Self(decoded) = self;
        structure::check(&decoded.body, decoded.tenant(), rules.now, rules.clock_skew)?;
        Ok(Checked(decoded))
    }
}

impl<'a> Checked<'a> {
    pub(super) fn decoded(self) -> &'a Decoded {
        self.0
    }
}
