//! Who sends, and who receives? Connections of the agents that fall to this process.

use std::{path::Path, sync::Arc, time::Duration};

use agentbus::{
    client::AgentClient,
    domain::TenantId,
    tenants::{BusUser, Seed, User},
};
use anyhow::Context as _;
use async_nats::Client;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::task::JoinHandle;

use super::{
    super::{
        job::Job,
        names,
        profile::{CAPABILITY, Group, Side, Way},
    },
    answers,
    arrivals::Arrivals,
};
use crate::bare;

/// Connections that are being made at one time.
const CONNECTING_MAX: usize = 32;
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// Registrations are renewed so often.
const HEARTBEAT: Duration = Duration::from_secs(8);

/// Everybody of this process.
pub(super) struct Agents {
    pub(super) senders: Vec<Sender>,
    pub(super) arrivals: Arc<Arrivals>,
    /// Who receives and who judges, on the sides with accounts.
    clients: Vec<AgentClient>,
    /// Of durable inboxes.
    readers: Vec<JoinHandle<()>>,
    /// What the bare side of what is submitted publishes through.
    pub(super) node: Option<async_nats::jetstream::Context>,
}

/// One connection of one sending agent.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) nats: Client,
    pub(super) agent: String,
    pub(super) tenant: String,
    pub(super) group: usize,
}

/// One agent to be connected.
struct Place<'a> {
    group: usize,
    of: &'a Group,
    tenant: String,
    agent: String,
    role: Role,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Sender,
    Recipient,
    Judge,
}

/// Groups that take part in a load: the measured one, and those beside it.
pub(super) fn active(job: &Job) -> impl Iterator<Item = (usize, &Group)> {
    let measured = job.profile.measured(&job.load).map(|group| group.name.as_str());
    let takes_part =
        move |group: &Group| Some(group.name.as_str()) == measured || job.load.beside.contains(&group.name);
    job.profile.group.iter().enumerate().filter(move |(_, group)| takes_part(group))
}

pub(super) async fn connect(job: &Job) -> anyhow::Result<Agents> {
    let arrivals = Arc::new(Arrivals::default());
    let places = active(job).flat_map(|(at, group)| places(job, at, group)).collect::<Vec<_>>();
    // Recipients first: what is sent before they listen would be lost.
    let (senders, others): (Vec<Place<'_>>, Vec<Place<'_>>) =
        places.into_iter().partition(|place| place.role == Role::Sender);
    let listening =
        stream::iter(others).map(|place| listen(job, place, &arrivals)).buffer_unordered(CONNECTING_MAX);
    let (clients, readers): (Vec<_>, Vec<_>) = listening.try_collect::<Vec<_>>().await?.into_iter().unzip();
    let copies = senders.iter().flat_map(|place| (0..job.profile.connections).map(move |copy| (place, copy)));
    let sending = stream::iter(copies).map(|(place, copy)| sender(job, place, copy)).buffered(CONNECTING_MAX);
    let senders = sending.try_collect().await?;
    let bare = job.side == Side::Baseline && active(job).any(|(_, group)| submits(group));
    let node = match bare {
        true => {
            let seed = Seed::read(&User::from(BusUser::Node).seed_path(&job.keys))?;
            Some(bare::connect(&job.nats, seed.reveal()).await?)
        }
        false => None,
    };
    let clients = clients.into_iter().flatten().collect();
    let readers = readers.into_iter().flatten().collect();
    Ok(Agents { senders, arrivals, clients, readers, node })
}

fn submits(group: &Group) -> bool {
    group.mix.iter().any(|entry| entry.verb == Way::Submit)
}

/// The agents of a group that fall to this process: every sender, its share of the recipients, and in the first
/// process the judges. Senders of all tenants in turn.
fn places<'a>(job: &Job, at: usize, of: &'a Group) -> Vec<Place<'a>> {
    let (process, processes) = (job.process, job.profile.processes);
    let roles = [
        (Role::Sender, of.senders, names::sender as fn(u32) -> String),
        (Role::Recipient, of.recipients, names::recipient),
        (Role::Judge, if process == 0 { of.judges } else { 0 }, names::judge),
    ];
    let mut places = Vec::new();
    for (role, count, name) in roles {
        for number in (1..=count).filter(|n| role != Role::Recipient || (n - 1) % processes == process) {
            for tenant in 1..=of.tenants {
                let tenant = names::tenant(of, tenant);
                places.push(Place { group: at, of, tenant, agent: name(number), role });
            }
        }
    }
    places
}

async fn sender(job: &Job, place: &Place<'_>, copy: u32) -> anyhow::Result<Sender> {
    let nats = match job.side {
        Side::Direct => bare_connection(&job.nats).await?,
        Side::Baseline => agent(job, &place.tenant, &place.agent).await?.nats().clone(),
        Side::Bus => {
            let client = agent(job, &place.tenant, &place.agent).await?;
            if job.process == 0 && copy == 0 {
                keep_registered(&client, &[]).await?;
            }
            client.nats().clone()
        }
    };
    Ok(Sender { nats, agent: place.agent.clone(), tenant: place.tenant.clone(), group: place.group })
}

async fn listen(
    job: &Job,
    place: Place<'_>,
    arrivals: &Arc<Arrivals>,
) -> anyhow::Result<(Option<AgentClient>, Option<JoinHandle<()>>)> {
    let id = &place.agent;
    if job.side == Side::Direct {
        // One server without accounts: the tenant is in the subject.
        let nats = bare_connection(&job.nats).await?;
        answers::echo(nats, names::direct(&place.tenant, id), Arc::clone(arrivals)).await?;
        return Ok((None, None));
    }
    let client = agent(job, &place.tenant, id).await?;
    if place.role == Role::Judge {
        if job.side == Side::Bus {
            keep_registered(&client, &[]).await?;
            answers::judge(client.clone());
        }
        return Ok((Some(client), None));
    }
    answers::inbox(&client, Arc::clone(arrivals)).await?;
    if job.side == Side::Bus {
        keep_registered(&client, &[CAPABILITY]).await?;
    }
    if !submits(place.of) && place.of.judges == 0 {
        return Ok((Some(client), None));
    }
    let tenant: TenantId = place.tenant.parse()?;
    let counted = submits(place.of).then(|| Arc::clone(arrivals));
    let reader = answers::durable_inbox(&client, &tenant, counted);
    Ok((Some(client), Some(reader)))
}

impl Agents {
    /// Reads no more, and waits until no pull is left behind that would take messages from the next one. An error where
    /// agents have published what they may not: the server logs each, and the figures would be of that too.
    pub(super) async fn leave(&self) -> anyhow::Result<()> {
        self.readers.iter().for_each(JoinHandle::abort);
        if !self.readers.is_empty() {
            tokio::time::sleep(answers::PULL_EXPIRES).await;
        }
        let refused: u64 = self.clients.iter().map(AgentClient::violations).sum();
        anyhow::ensure!(refused == 0, "NATS has refused {refused} publishes of agents that receive");
        Ok(())
    }
}

/// Registers, and again with every heartbeat. Ends with the process.
async fn keep_registered(client: &AgentClient, capabilities: &'static [&'static str]) -> anyhow::Result<()> {
    let answer = client.register(capabilities).await?;
    let ok = answer.get("status").is_some_and(|status| status == "ok");
    anyhow::ensure!(ok, "{} cannot register: {answer}", client.id());
    let client = client.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(HEARTBEAT).await;
            if let Err(error) = client.register(capabilities).await {
                eprintln!("loadtest: heartbeat of {}: {error}", client.id());
            }
        }
    });
    Ok(())
}

async fn agent(job: &Job, tenant: &str, id: &str) -> anyhow::Result<AgentClient> {
    let seed = seed(&job.keys, tenant, id)?;
    let client = AgentClient::connect(&job.nats, &id.parse()?, seed.reveal()).await;
    client.with_context(|| format!("{tenant}/{id}"))
}

fn seed(keys: &Path, tenant: &str, id: &str) -> anyhow::Result<Seed> {
    let user = User::Agent(tenant.parse()?, id.parse()?);
    Ok(Seed::read(&user.seed_path(keys))?)
}

async fn bare_connection(url: &str) -> anyhow::Result<Client> {
    let options = async_nats::ConnectOptions::new().connection_timeout(CONNECT_WAIT);
    Ok(options.connect(url).await?)
}
