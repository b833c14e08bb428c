//! Who takes part: two tenants with senders, recipients, one that is away, and reviewers.

use std::{path::PathBuf, sync::Arc, time::Duration};

use agentbus::{
    client::{AgentClient, ClientError},
    domain::AgentId,
    servers::Stack,
    tenants::Plan,
};
use agentbus_testkit::{agents, books::Books};
use anyhow::{Context as _, ensure};

use tokio_util::sync::CancellationToken;

pub(crate) const TENANTS: [&str; 2] = ["acme", "globex"];
pub(crate) const SENDERS: [&str; 2] = ["planner-1", "planner-2"];
/// Holders of [`CAPABILITY`], whom a broadcast to [`ROLE`] reaches.
pub(crate) const WORKERS: [&str; 3] = ["worker-1", "worker-2", "worker-3"];
pub(crate) const CAPABILITY: &str = "translate";
pub(crate) const ROLE: &str = "implementer";
/// Gets messages all the time and reads them when all is over.
pub(crate) const AWAY: &str = "traveller";
/// Two, and a quorum is more than half: both must agree.
pub(crate) const JUDGES: [&str; 2] = ["judge-1", "judge-2"];
/// Messages of this type are parked, of that one denied, whoever sends them.
pub(crate) const PARKED_TYPE: agentbus::domain::MessageType = agentbus::domain::MessageType::TaskRequest;
pub(crate) const DENIED_TYPE: agentbus::domain::MessageType = agentbus::domain::MessageType::AuditLog;

/// Registrations live 30 s, and a Redis that comes back empty knows nobody until the next one.
const HEARTBEAT: Duration = Duration::from_secs(1);
const CONNECT_WAIT: Duration = Duration::from_secs(15);

pub(crate) fn plan() -> anyhow::Result<Plan> {
    let mut text = String::new();
    for tenant in TENANTS {
        text.push_str(&format!(
            "[tenants.{tenant}]\nlabels = {{ deliberate_message_types = \"{}\" }}\n\
             [tenants.{tenant}.limits]\nmessages_per_minute = 10000000\n[tenants.{tenant}.agents]\n\
             {AWAY} = {{ roles = [\"monitor\"] }}\n",
            PARKED_TYPE.as_str()
        ));
        for (agents, role) in [(&SENDERS[..], "executive"), (&WORKERS[..], ROLE), (&JUDGES[..], "judicial")] {
            for agent in agents {
                text.push_str(&format!("{agent} = {{ roles = [\"{role}\"] }}\n"));
            }
        }
    }
    Ok(Plan::parse(&text)?)
}

/// What everybody who takes part needs.
#[derive(Clone)]
pub(crate) struct Setting {
    pub(crate) books: Arc<Books>,
    pub(crate) nats_url: String,
    pub(crate) folder: PathBuf,
    /// Senders end.
    pub(crate) enough: CancellationToken,
    /// All others end.
    pub(crate) over: CancellationToken,
}

impl Setting {
    pub(crate) fn new(stack: &Stack, books: Arc<Books>) -> Self {
        Self {
            books,
            nats_url: stack.nats_url(),
            folder: stack.dir().to_owned(),
            enough: CancellationToken::new(),
            over: CancellationToken::new(),
        }
    }

    /// Connects as an agent, while servers may come and go.
    pub(crate) async fn connect(&self, tenant: &str, agent: &str) -> anyhow::Result<AgentClient> {
        let id: AgentId = agent.parse()?;
        let seed = agents::seed(&self.folder, tenant, agent)?;
        let started = tokio::time::Instant::now();
        loop {
            match AgentClient::connect(&self.nats_url, &id, seed.reveal()).await {
                Ok(client) => return Ok(client),
                Err(ClientError::Connect { cause, .. }) => {
                    ensure!(started.elapsed() < CONNECT_WAIT, "{tenant}/{agent} cannot connect: {cause}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Registers, and again with every heartbeat until all is over.
    pub(crate) async fn keep_registered(
        &self,
        client: AgentClient,
        capabilities: &'static [&'static str],
    ) -> anyhow::Result<()> {
        let started = tokio::time::Instant::now();
        while client
            .register(capabilities)
            .await
            .ok()
            .is_none_or(|answer| answer.get("status").is_none_or(|status| status != "ok"))
        {
            let id = client.id();
            ensure!(started.elapsed() < CONNECT_WAIT, "{id} cannot register");
        }
        let over = self.over.clone();
        tokio::spawn(over.run_until_cancelled_owned(async move {
            loop {
                tokio::time::sleep(HEARTBEAT).await;
                // While servers are down it fails; the next one makes up for it.
                let _ = client.register(capabilities).await;
            }
        }));
        Ok(())
    }
}

/// A header of a message, or nothing.
pub(crate) fn header(message: &async_nats::Message, name: &str) -> Option<String> {
    let headers = message.headers.as_ref()?;
    headers.get(name).map(|value| value.as_str().to_owned())
}

/// A seed of the run's randomness for one of those who take part.
pub(crate) fn rng(seed: u64, tenant: &str, agent: &str, number: usize) -> anyhow::Result<rand::rngs::StdRng> {
    use sha2::{Digest as _, Sha256};
    let hash = Sha256::digest(format!("{seed} {tenant} {agent} {number}"));
    let seed = hash.first_chunk::<32>().context("a hash has 32 bytes")?;
    Ok(rand::SeedableRng::from_seed(*seed))
}
