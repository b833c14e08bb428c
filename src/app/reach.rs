//! Does what a node connects to answer? Each is tried once, for `agentbus config check --connect`.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use async_nats::{Client, jetstream};

use super::{Checked, start::REDIS_WAIT};
use crate::{
    config::NodeConfig,
    nats,
    phrase::counted,
    policy::{Label, PolicyEngine as _},
    shutdown::Shutdown,
    skew::Skew,
    state::RedisStore,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{Directory, names},
};

/// The directory of tenants is read within this.
const DIRECTORY_WAIT: Duration = Duration::from_secs(5);

/// A bundle comes within this.
const BUNDLE_WAIT: Duration = Duration::from_secs(5);

/// What was tried, and what came of it.
pub type Tried = (&'static str, anyhow::Result<String>);

/// Tries all that the configuration names.
pub async fn reach(config: &NodeConfig, checked: Checked) -> Vec<Tried> {
    let stop = Shutdown::default();
    let mut tried = Vec::new();
    match nats(config).await {
        Ok(client) => {
            let told = format!("connected, server {}", client.server_info().version);
            tried.extend([("nats", Ok(told)), ("jetstream", streams(config, &client, &stop).await)]);
        }
        Err(error) => tried.push(("nats", Err(error))),
    }
    if let Some(settings) = checked.redis {
        tried.push(("redis", redis(settings, &stop).await));
    }
    if let Some(bundles) = checked.bundles {
        let found = tokio::time::timeout(BUNDLE_WAIT, bundles.next()).await;
        let found = found.context("no answer in time").and_then(|found| Ok(found?));
        let told = found.and_then(|offer| Ok(Label::of(&offer.context("there is none")?.packed)?));
        tried.push(("bundle", told.context("policy.bundle.from").map(|label| label.to_string())));
    }
    if let Some(opa) = checked.opa {
        let own = checked.policy.1.as_ref().map(|engine| Arc::clone(engine.revision()));
        let reached = opa.reach().await.into_iter();
        tried.extend(reached.map(|(server, found)| ("opa", has_policy(&server, found, own.as_deref()))));
    }
    if let Some((webhook, _)) = checked.webhook {
        let reached = webhook.reach().await.context("webhook.url");
        tried.push(("webhook", reached.map(|()| "takes connections; it was not called".to_owned())));
    }
    if let Some(collector) = checked.otlp {
        let reached = collector.reach().await.context("otlp.endpoint");
        tried.push(("otlp", reached.map(|()| "takes connections; it was told nothing".to_owned())));
    }
    stop.request();
    tried
}

/// Whether an OPA server has the node's own policy, where that is known already.
fn has_policy(server: &str, found: Result<Arc<str>, String>, own: Option<&str>) -> anyhow::Result<String> {
    match found {
        Err(why) => bail!("policy.opa.servers: {server}: {why}"),
        Ok(found) if own.is_some_and(|own| *own != *found) => bail!(
            "policy.opa.servers: {server} has policy {found}, expected this node's own, {}; give it the bundle of \
             `agentbus policy build --for opa`",
            own.unwrap_or_default()
        ),
        Ok(found) => Ok(format!("{server} answers by policy {found}")),
    }
}

async fn nats(config: &NodeConfig) -> anyhow::Result<Client> {
    let metrics = Arc::new(Metrics::new(&config.node.name));
    let connected = nats::connect(&config.node.name, &config.nats, metrics);
    let limit = 2 * config.nats.timeout;
    let client = tokio::time::timeout(limit, connected).await.context("nats.url: no answer in time")?;
    client.context("nats.url")
}

/// The streams of the bus and of each tenant that is published.
async fn streams(config: &NodeConfig, client: &Client, stop: &Shutdown) -> anyhow::Result<String> {
    let directory = Directory::watch(client, stop.token().clone(), stop.tracker());
    let read = tokio::time::timeout(DIRECTORY_WAIT, directory.ready()).await;
    read.context("no tenants are published; is the bus provisioned (`agentbus tenants apply`)?")?;
    let tenants = directory.tenants();
    let mut expected = vec![names::RECORDS_STREAM.to_owned()];
    if config.policy.log.is_on() {
        expected.push(names::DECISIONS_STREAM.to_owned());
    }
    for tenant in tenants.keys() {
        expected.extend([
            names::inbound_stream(tenant),
            names::outbound_stream(tenant),
            names::deliberations_stream(tenant),
            names::dead_letters_stream(tenant),
        ]);
    }
    let context = jetstream::new(client.clone());
    for name in &expected {
        if let Err(error) = context.get_stream(name).await {
            bail!("stream {name}: {error}; make it by `agentbus tenants apply`");
        }
    }
    Ok(format!("{} for {}", counted(expected.len(), "stream"), counted(tenants.len(), "tenant")))
}

async fn redis(settings: crate::state::RedisSettings, stop: &Shutdown) -> anyhow::Result<String> {
    let (supervisor, skew) = (Supervisor::default(), Skew::default());
    let store = RedisStore::connect(settings, stop.token().clone(), stop.tracker(), &supervisor, &skew);
    let store = store.context("redis.url")?;
    if !store.ready(REDIS_WAIT).await {
        bail!("redis.url: {}", store.refusal().unwrap_or_else(|| "it does not answer".to_owned()));
    }
    Ok("answers".to_owned())
}
