//! The registry's verbs: an agent registers itself, stays alive, leaves, and finds others; or stops itself.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{About, Registrations, answered};
use crate::{
    audit::Change,
    domain::{AgentId, Encoding, Freeze, FrozenBy, Reason, Scope, Tenant, Verb},
    freezes::Freezes,
    lanes::{Admission, Request, Tenants, registry_unavailable},
    rejection::Rejection,
    state::{Before, Registration, Registry},
    telemetry::Metrics,
    wire::{self, FindRequest, FoundAgent, RegisterRequest, RegistryReply},
};

/// An operator may thaw somebody.
const NO_PLACE_FOR: Duration = Duration::from_secs(60);

/// Answers the registry's verbs.
pub struct Agents {
    pub registry: Arc<dyn Registry>,
    pub registrations: Arc<Registrations>,
    pub tenants: Arc<dyn Tenants>,
    pub admission: Arc<Admission>,
    pub metrics: Arc<Metrics>,
    pub limits: wire::Limits,
    pub about: About,
    pub freezes: Arc<Freezes>,
    /// What a heartbeat renews to.
    pub ttl: Duration,
    /// From the request to its answer.
    pub deadline: Duration,
}

impl Agents {
    /// The answer in the encoding of the request, and its reason.
    pub async fn handle(&self, verb: Verb, request: &Request) -> (Bytes, Reason) {
        let mut encoding = wire::encoding_of(&request.payload);
        let acting = self.act(verb, request, &mut encoding);
        let (outcome, reason) = answered(verb, request, acting, self.deadline, &self.metrics).await;
        let reply = outcome.unwrap_or_else(RegistryReply::Refused);
        (wire::encode_registry_reply(&reply, encoding).into(), reason)
    }

    async fn act(
        &self,
        verb: Verb,
        request: &Request,
        encoding: &mut Encoding,
    ) -> Result<RegistryReply, Rejection> {
        let (tenant, _slot) = match verb {
            // Whoever sends too much can stop itself all the same.
            Verb::Heartbeat | Verb::Freeze => {
                self.admission.admit_beside(&*self.tenants, &request.tenant, &request.sender)?
            }
            _ => self.admission.admit(&*self.tenants, &request.tenant, &request.sender)?,
        };
        let (body, sender) = (&request.payload, &request.sender);
        match verb {
            Verb::Register => {
                let asked = wire::decode_register(body, &self.limits)?;
                *encoding = asked.encoding;
                self.register(&tenant, sender, asked.request).await
            }
            Verb::Heartbeat => {
                let asked = wire::decode_heartbeat(body, &self.limits)?;
                *encoding = asked.encoding;
                self.heartbeat(&tenant, sender, asked.request.agent.as_ref()).await
            }
            Verb::Unregister => {
                let asked = wire::decode_unregister(body, &self.limits)?;
                *encoding = asked.encoding;
                self.unregister(&tenant, sender, asked.request.agent.as_ref()).await
            }
            Verb::Find => {
                let asked = wire::decode_find(body, &self.limits)?;
                *encoding = asked.encoding;
                self.find(&tenant, asked.request).await
            }
            Verb::About => {
                let asked = wire::decode_about(body, &self.limits)?;
                *encoding = asked.encoding;
                owns(sender, asked.request.agent.as_ref())?;
                Ok(RegistryReply::About(Box::new(self.about.tell(&tenant))))
            }
            Verb::Freeze => {
                let asked = wire::decode_freeze(body, &self.limits)?;
                *encoding = asked.encoding;
                owns(sender, asked.request.agent.as_ref())?;
                self.freeze(&tenant, sender, &asked.request.why).await
            }
            Verb::Send | Verb::Submit | Verb::Ask | Verb::Answer | Verb::Deliberations | Verb::Vote => {
                Err(Rejection::new(Reason::Malformed, format!("`{verb}` is not a verb of the registry")))
            }
        }
    }

    /// Makes an agent live, with what it can do. `named` in these is the agent that the request names, if it does.
    pub async fn register(
        &self,
        tenant: &Tenant,
        sender: &AgentId,
        request: RegisterRequest,
    ) -> Result<RegistryReply, Rejection> {
        owns(sender, request.agent.as_ref())?;
        request.check(tenant.limits.capabilities.as_ref())?;
        let record = request.into_record(sender.clone());
        match self
            .registry
            .register(&tenant.id, &record, tenant.limits.agents)
            .await
            .map_err(registry_unavailable)?
        {
            Registration::Registered { ttl, before } => {
                let change = match before {
                    Before::Nothing => Some(Change::Registered),
                    Before::Other => Some(Change::Changed),
                    Before::Same => None,
                };
                if let Some(change) = change {
                    self.registrations.changed(&tenant.id, sender, change, &record.capabilities);
                }
                Ok(RegistryReply::Live { ttl })
            }
            Registration::QuotaExceeded { agents } => Err(Rejection::new(
                Reason::QuotaExceeded,
                format!(
                    "the tenant has {}, its limit is {}",
                    crate::phrase::counted(agents, "live agent"),
                    tenant.limits.agents
                ),
            )
            .after(Duration::from_secs(5))),
        }
    }

    /// Keeps an agent live.
    pub async fn heartbeat(
        &self,
        tenant: &Tenant,
        sender: &AgentId,
        named: Option<&AgentId>,
    ) -> Result<RegistryReply, Rejection> {
        owns(sender, named)?;
        match self.registry.heartbeat(&tenant.id, sender).await.map_err(registry_unavailable)? {
            true => Ok(RegistryReply::Live { ttl: self.ttl }),
            false => Err(not_registered(sender)),
        }
    }

    /// Stops the agent that asks, and no other; all nodes know it when this returns.
    pub async fn freeze(
        &self,
        tenant: &Tenant,
        sender: &AgentId,
        why: &str,
    ) -> Result<RegistryReply, Rejection> {
        if !tenant.limits.self_freeze {
            let detail = "the agents of this tenant may not stop themselves (limits.self_freeze)";
            return Err(Rejection::new(Reason::PolicyDenied, detail));
        }
        let no_place = |detail: String| Rejection::new(Reason::QuotaExceeded, detail).after(NO_PLACE_FOR);
        let freeze = Freeze::automatic((&tenant.id, sender), FrozenBy::Agent, why, (self.about.clock)());
        self.freezes.want(freeze).map_err(|why| no_place(why.to_string()))?;
        let scope = Scope::Agent { tenant: tenant.id.clone(), agent: sender.clone() };
        match self.freezes.settled(&scope).await {
            true => Ok(RegistryReply::Done),
            false => Err(no_place("as many agents are stopped as may be".to_owned())),
        }
    }

    pub async fn unregister(
        &self,
        tenant: &Tenant,
        sender: &AgentId,
        named: Option<&AgentId>,
    ) -> Result<RegistryReply, Rejection> {
        owns(sender, named)?;
        match self.registry.unregister(&tenant.id, sender).await.map_err(registry_unavailable)? {
            true => {
                self.registrations.changed(&tenant.id, sender, Change::Left, &Arc::default());
                Ok(RegistryReply::Done)
            }
            false => Err(not_registered(sender)),
        }
    }

    /// Who is live, of those that were asked for.
    pub async fn find(&self, tenant: &Tenant, asked: FindRequest) -> Result<RegistryReply, Rejection> {
        let ids = match &asked.capability {
            Some(capability) => self.registry.holders(&tenant.id, capability).await,
            None => self.registry.agents(&tenant.id).await,
        }
        .map_err(registry_unavailable)?;
        let matching: Vec<&AgentId> =
            ids.iter().filter(|id| asked.agent.as_ref().is_none_or(|agent| agent == *id)).collect();
        let mut agents = Vec::with_capacity(matching.len().min(RegistryReply::AGENTS_MAX));
        for id in matching.iter().take(RegistryReply::AGENTS_MAX) {
            let record = self.registry.agent(&tenant.id, id).await.map_err(registry_unavailable)?;
            // An index only says where to look.
            let record = record
                .filter(|record| asked.capability.as_ref().is_none_or(|it| record.capabilities.contains(it)));
            agents.extend(record.map(|record| FoundAgent {
                id: record.id.clone(),
                capabilities: RegisterRequest::disclosed(
                    &record.capabilities,
                    tenant.limits.capabilities.as_ref(),
                ),
            }));
        }
        Ok(RegistryReply::Found { agents, total: matching.len() })
    }
}

/// A registration belongs to the NATS user whose id it bears.
fn owns(sender: &AgentId, named: Option<&AgentId>) -> Result<(), Rejection> {
    match named {
        Some(named) if named != sender => Err(Rejection::new(
            Reason::NotOwner,
            format!("found agent {named}, expected {sender}, whom NATS says the sender is"),
        )),
        Some(_) | None => Ok(()),
    }
}

fn not_registered(agent: &AgentId) -> Rejection {
    Rejection::new(Reason::NotRegistered, format!("agent {agent} is not registered, or not any more"))
}

#[cfg(test)]
mod tests;
