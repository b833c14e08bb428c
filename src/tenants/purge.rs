//! What did tenants and agents that left leave behind, and how does it go? Streams, inboxes and seeds.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    str::FromStr as _,
};

use async_nats::{
    Client,
    jetstream::{self, Context},
};

use crate::{domain::TenantId, tls::Server};

use super::{
    BusUser, ConnectError, GenerateError, ReloadError, connect, keys,
    names::{
        dead_letters_stream, deliberations_stream, inbound_stream, is_own_consumer, outbound_stream,
        own_records_stream,
    },
    plan::Plan,
    provision::{ProvisionError, bounded, consumer_names, stream_names},
    reload,
    streams::{self, Present, StoreSettings},
    sync::{self, SyncError},
};

/// What is of nobody in the plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    pub streams: Vec<LeftStream>,
    /// Durable inboxes of agents that left a tenant that stays, such as `OUT_acme/clerk`.
    pub inboxes: Vec<String>,
    pub seeds: Vec<PathBuf>,
    /// Streams in the bus's account that are none of its own. They stay.
    pub foreign: Vec<String>,
}

/// A stream of a tenant that left, or of what is not kept apart any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftStream {
    pub name: String,
    pub tenant: TenantId,
    pub messages: u64,
    pub bytes: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    #[error(transparent)]
    Provision(#[from] ProvisionError),
    #[error(transparent)]
    Generate(#[from] GenerateError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Reload(#[from] ReloadError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error("a server runs on with its former accounts, so nothing was removed: {cause}")]
    NotReloaded { cause: String },
}

impl Leftovers {
    pub fn is_empty(&self) -> bool {
        self.streams.is_empty() && self.inboxes.is_empty() && self.seeds.is_empty()
    }

    /// Looks for them. `operator` may read what all streams are, `provisioner` the names of consumers.
    pub async fn find(
        operator: &Client,
        provisioner: &Client,
        plan: &Plan,
        dir: &Path,
    ) -> Result<Leftovers, PurgeError> {
        let context = jetstream::new(operator.clone());
        let seeds = keys::gone(dir, plan).map_err(GenerateError::Keys)?;
        let mut left = Leftovers { seeds, ..Leftovers::default() };
        let tenants: BTreeSet<&TenantId> = plan.tenants().iter().map(|tenant| &tenant.id).collect();
        for name in stream_names(&context).await? {
            match tenant_of(&name) {
                // Its records are not to be kept apart any more.
                Some(tenant) if tenants.contains(&tenant) => {
                    if name == own_records_stream(&tenant) && plan.store(&tenant).records_bytes == 0 {
                        left.streams.push(stream(&context, name, tenant).await?);
                    }
                }
                Some(tenant) => left.streams.push(stream(&context, name, tenant).await?),
                None if is_shared(&name) => {}
                None => left.foreign.push(name),
            }
        }
        let context = jetstream::new(provisioner.clone());
        for tenant in plan.tenants() {
            let stream = outbound_stream(&tenant.id);
            let names = consumer_names(&context, &stream, &format!("stream {stream}")).await?;
            let is_there = |name: &String| tenant.agents.keys().any(|id| id.as_str() == name);
            let gone = names.into_iter().filter(|name| !is_there(name) && !is_own_consumer(name));
            left.inboxes.extend(gone.map(|name| format!("{stream}/{name}")));
        }
        Ok(left)
    }

    /// Removes them. The provisioner may delete streams of tenants in the plan only, so the servers are told
    /// of those that left for as long as it takes.
    pub async fn remove(&self, server: &Server, plan: &Plan, dir: &Path) -> Result<(), PurgeError> {
        let stays = |tenant: &TenantId| plan.tenants().iter().any(|it| it.id == *tenant);
        let tenants = self.streams.iter().map(|stream| stream.tenant.clone());
        let former: BTreeSet<TenantId> = tenants.filter(|tenant| !stays(tenant)).collect();
        // Deletes the seeds as well.
        plan.generate_with(dir, &former)?;
        if !former.is_empty() {
            reload_all(server, dir).await?;
        }
        let deleted = self.delete(server, dir).await;
        if !former.is_empty() {
            plan.generate(dir)?;
            reload_all(server, dir).await?;
        }
        deleted
    }

    async fn delete(&self, server: &Server, dir: &Path) -> Result<(), PurgeError> {
        let context = jetstream::new(connect(server, dir, BusUser::Provisioner).await?);
        for LeftStream { name, .. } in &self.streams {
            bounded(&format!("stream {name}"), context.delete_stream(name)).await?;
        }
        for (stream, consumer) in self.inboxes.iter().filter_map(|inbox| inbox.split_once('/')) {
            let what = format!("inbox {stream}/{consumer}");
            bounded(&what, context.delete_consumer_from_stream(consumer, stream)).await?;
        }
        Ok(())
    }
}

async fn reload_all(server: &Server, dir: &Path) -> Result<(), PurgeError> {
    let admin = connect(server, dir, BusUser::Admin).await?;
    let refused = sync::distribute(&admin, dir).await?.failed.into_iter().map(|(_, cause)| cause).next();
    let cause = match refused {
        None => not_everywhere(&admin, dir).await?,
        some => some,
    };
    cause.map_or(Ok(()), |cause| Err(PurgeError::NotReloaded { cause }))
}

/// Why some server does not run with the accounts of `dir` once all have reloaded.
async fn not_everywhere(admin: &Client, dir: &Path) -> Result<Option<String>, PurgeError> {
    let servers = reload(admin).await?;
    if let Some(fault) = servers.iter().find_map(|server| server.outcome.as_ref().err()) {
        return Ok(Some(fault.to_string()));
    }
    let astray = sync::astray(admin, dir, &servers).await?;
    Ok(astray.into_iter().next().map(|server| format!("{server} has others")))
}

async fn stream(context: &Context, name: String, tenant: TenantId) -> Result<LeftStream, PurgeError> {
    let found = bounded(&format!("stream {name}"), context.get_stream(&name)).await?;
    let state = &found.cached_info().state;
    Ok(LeftStream { tenant, messages: state.messages, bytes: state.bytes, name })
}

/// Whose a stream is, if it is a tenant's.
pub(super) fn tenant_of(stream: &str) -> Option<TenantId> {
    let tenant = TenantId::from_str(stream.split_once('_')?.1).ok()?;
    let own =
        [inbound_stream, outbound_stream, deliberations_stream, dead_letters_stream, own_records_stream];
    own.iter().any(|name| name(&tenant) == stream).then_some(tenant)
}

fn is_shared(stream: &str) -> bool {
    streams::shared(&StoreSettings::default().over(&Present::default())).iter().any(|own| own.name == stream)
}
