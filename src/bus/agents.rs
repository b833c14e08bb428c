//! The registry's verbs: an agent registers itself, stays alive, leaves, and finds others.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::answered;
use crate::{
    domain::{AgentId, Encoding, Reason, Tenant, Verb},
    lanes::{Admission, Request, Tenants},
    rejection::Rejection,
    state::{Registration, Registry, StoreError},
    telemetry::Metrics,
    wire::{self, FindRequest, FoundAgent, RegisterRequest, RegistryReply},
};

/// Answers the registry's verbs.
pub struct Agents {
    pub registry: Arc<dyn Registry>,
    pub tenants: Arc<dyn Tenants>,
    pub admission: Arc<Admission>,
    pub metrics: Arc<Metrics>,
    pub limits: wire::Limits,
    /// What a heartbeat renews to.
    pub ttl: Duration,
    /// From the request to its answer.
    pub deadline: Duration,
}

impl Agents {
    /// The answer in the encoding of the request, and its reason.
    pub(super) async fn handle(&self, verb: Verb, request: &Request) -> (Bytes, Reason) {
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
            Verb::Heartbeat => {
                self.admission.admit_unrated(&*self.tenants, &request.tenant, &request.sender)?
            }
            _ => self.admission.admit(&*self.tenants, &request.tenant, &request.sender)?,
        };
        let (body, sender) = (&request.payload, &request.sender);
        match verb {
            Verb::Register => {
                let asked = wire::decode_register(body, &self.limits)?;
                *encoding = asked.encoding;
                owns(sender, asked.request.agent.as_ref())?;
                asked.request.check(tenant.limits.capabilities.as_ref())?;
                self.register(&tenant, asked.request.into_record(sender.clone())).await
            }
            Verb::Heartbeat => {
                let asked = wire::decode_heartbeat(body, &self.limits)?;
                *encoding = asked.encoding;
                owns(sender, asked.request.agent.as_ref())?;
                match self.registry.heartbeat(&tenant.id, sender).await.map_err(unavailable)? {
                    true => Ok(RegistryReply::Live { ttl: self.ttl }),
                    false => Err(not_registered(sender)),
                }
            }
            Verb::Unregister => {
                let asked = wire::decode_unregister(body, &self.limits)?;
                *encoding = asked.encoding;
                owns(sender, asked.request.agent.as_ref())?;
                match self.registry.unregister(&tenant.id, sender).await.map_err(unavailable)? {
                    true => Ok(RegistryReply::Done),
                    false => Err(not_registered(sender)),
                }
            }
            Verb::Find => {
                let asked = wire::decode_find(body, &self.limits)?;
                *encoding = asked.encoding;
                self.find(&tenant, asked.request).await
            }
            Verb::Send | Verb::Submit | Verb::Ask | Verb::Answer | Verb::Deliberations | Verb::Vote => {
                Err(Rejection::new(Reason::Malformed, format!("`{verb}` is not a verb of the registry")))
            }
        }
    }

    async fn register(
        &self,
        tenant: &Tenant,
        record: crate::domain::AgentRecord,
    ) -> Result<RegistryReply, Rejection> {
        match self.registry.register(&tenant.id, &record, tenant.limits.agents).await.map_err(unavailable)? {
            Registration::Registered { ttl } => Ok(RegistryReply::Live { ttl }),
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

    async fn find(&self, tenant: &Tenant, asked: FindRequest) -> Result<RegistryReply, Rejection> {
        let ids = match &asked.capability {
            Some(capability) => self.registry.holders(&tenant.id, capability).await,
            None => self.registry.agents(&tenant.id).await,
        }
        .map_err(unavailable)?;
        let matching: Vec<&AgentId> =
            ids.iter().filter(|id| asked.agent.as_ref().is_none_or(|agent| agent == *id)).collect();
        let mut agents = Vec::with_capacity(matching.len().min(RegistryReply::AGENTS_MAX));
        for id in matching.iter().take(RegistryReply::AGENTS_MAX) {
            let record = self.registry.agent(&tenant.id, id).await.map_err(unavailable)?;
            // An index only says where to look.
            let record = record
                .filter(|record| asked.capability.as_ref().is_none_or(|it| record.capabilities.contains(it)));
            agents.extend(record.map(|record| FoundAgent {
                id: record.id.clone(),
                capabilities: RegisterRequest::told(
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

fn unavailable(error: StoreError) -> Rejection {
    tracing::warn!(%error, "registry unavailable");
    Rejection::new(Reason::RegistryUnavailable, "the registry of agents does not answer")
        .after(Duration::from_millis(500))
}
