//! Agents, connected by the keys that `agentbus tenants` or a stack has made for them.

use std::path::Path;

use agentbus::{
    client::AgentClient,
    domain::AgentId,
    servers::Stack,
    tenants::{Seed, User},
};

/// An agent's key, from the data folder.
pub fn seed(dir: &Path, tenant: &str, agent: &str) -> anyhow::Result<Seed> {
    Ok(Seed::read(&User::Agent(tenant.parse()?, agent.parse()?).seed_path(dir))?)
}

/// Connects as an agent whose key is in `dir`.
pub async fn connect(url: &str, dir: &Path, tenant: &str, agent: &str) -> anyhow::Result<AgentClient> {
    let id: AgentId = agent.parse()?;
    Ok(AgentClient::connect(url, &id, seed(dir, tenant, agent)?.reveal()).await?)
}

/// The same on a stack.
pub async fn of_stack(stack: &Stack, tenant: &str, agent: &str) -> anyhow::Result<AgentClient> {
    connect(&stack.nats_url(), stack.dir(), tenant, agent).await
}
