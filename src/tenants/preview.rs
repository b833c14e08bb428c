//! What would [`provision`](super::provision()) change? Asks JetStream, changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::{
    Client,
    jetstream::{self, Context},
};
use bytes::Bytes;
use serde_json::Value;

use crate::domain::{Tenant, TenantId};

use super::{
    names::{DECISIONS_STREAM, RECORDS_STREAM, TENANTS_STREAM},
    plan::Plan,
    provision::{ProvisionError, consumer_names, present, stream_names},
    published,
    purge::tenant_of,
    streams::{self, Present, Settled, StoreSettings, Wanted},
};

/// Differences of one tenant that are told one by one.
const DIFFERENCES_MAX: usize = 20;

/// What a run would change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreChanges {
    pub tenants_added: Vec<TenantId>,
    /// With what differs, such as `limits.agents 100 → 200`.
    pub tenants_changed: Vec<(TenantId, Vec<String>)>,
    /// Keys of the bucket that the plan no longer has.
    pub tenants_removed: Vec<String>,
    /// Streams and inboxes, such as `OUT_acme` or `OUT_acme/worker`.
    pub created: Vec<String>,
    /// Settings of streams, such as `OUT_acme: max_age 7days → 1day`.
    pub changed: Vec<String>,
    /// The same, where it discards what is stored.
    pub discarding: Vec<String>,
    /// Streams and inboxes of tenants and agents that left the plan. They stay.
    pub left: Vec<String>,
    /// Why the streams that are there could not be compared.
    pub unknown: Option<String>,
}

impl StoreChanges {
    /// Whether nothing would change. What is left is no change: it stays.
    pub fn is_empty(&self) -> bool {
        Self { left: Vec::new(), unknown: None, ..self.clone() } == Self::default()
    }

    pub fn takes_away(&self) -> bool {
        !self.tenants_removed.is_empty() || !self.discarding.is_empty()
    }
}

/// Looks at what [`provision`](super::provision()) would make of the plan. `client` is the provisioner.
pub async fn preview(
    client: &Client,
    plan: &Plan,
    settings: &StoreSettings,
) -> Result<StoreChanges, ProvisionError> {
    let context = jetstream::new(client.clone());
    let names = stream_names(&context).await?;
    let published = match names.contains(TENANTS_STREAM) {
        true => published::read(&context, None).await?.map(|read| read.entries).unwrap_or_default(),
        false => BTreeMap::new(),
    };
    let found = async |name: &str| match names.contains(name) {
        true => present(&context, name, &format!("stream {name}")).await,
        false => Ok(None),
    };
    let records = found(RECORDS_STREAM).await?;
    // The provisioner of an earlier version, whose users are on the server until it reloads, may not look at it.
    let (decisions, unknown) = match found(DECISIONS_STREAM).await {
        Ok(decisions) => (decisions, None),
        Err(error) => (None, Some(format!("{DECISIONS_STREAM}: {error}"))),
    };
    let changes = StoreChanges { unknown, ..StoreChanges::default() };
    let look = Look { context: &context, names, replicas: settings.replicas, found: changes };
    look.all(plan, &settings.over(&Present { records, decisions }), published).await
}

struct Look<'a> {
    context: &'a Context,
    /// Of the streams that are there.
    names: BTreeSet<String>,
    replicas: Option<usize>,
    found: StoreChanges,
}

impl Look<'_> {
    async fn all(
        mut self,
        plan: &Plan,
        settings: &Settled,
        mut published: BTreeMap<String, Bytes>,
    ) -> Result<StoreChanges, ProvisionError> {
        let mut known = BTreeSet::new();
        for wanted in streams::shared(settings) {
            known.insert(wanted.name.clone());
            self.stream((wanted, None), true).await;
        }
        for tenant in plan.tenants() {
            let before = published.remove(tenant.id.as_str());
            let store = plan.store(&tenant.id);
            for wanted in streams::of_tenant(&tenant.id, tenant.agents.keys(), &store, settings) {
                known.insert(wanted.0.name.clone());
                // Those of a tenant that comes back are not ours to look at until it is applied.
                self.stream(wanted, before.is_some()).await;
            }
            self.tenant(tenant, before.as_deref());
        }
        self.found.tenants_removed = published.into_keys().collect();
        let left = self.names.into_iter().filter(|name| !known.contains(name) && tenant_of(name).is_some());
        self.found.left.extend(left);
        Ok(self.found)
    }

    async fn stream(&mut self, (wanted, consumers): Wanted, ours: bool) {
        if !self.names.contains(&wanted.name) {
            self.found.created.push(wanted.name);
        } else if ours && self.found.unknown.is_none() {
            // The first that is not answered says it for all: each would take seconds.
            let name = wanted.name.clone();
            if let Err(error) = self.compare(wanted, consumers.unwrap_or_default()).await {
                self.found.unknown = Some(format!("{name}: {error}"));
            }
        }
    }

    async fn compare(
        &mut self,
        mut wanted: jetstream::stream::Config,
        consumers: Vec<jetstream::consumer::pull::Config>,
    ) -> Result<(), ProvisionError> {
        let name = wanted.name.clone();
        let what = format!("stream {name}");
        let Some(before) = present(self.context, &name, &what).await? else { return Ok(()) };
        if self.replicas.is_none() {
            wanted.num_replicas = before.num_replicas;
        }
        let changed = streams::differences(&before, &wanted).into_iter();
        let changed = changed.map(|change| format!("{name}: {change}"));
        match streams::discards(&before, &wanted) {
            true => self.found.discarding.extend(changed),
            false => self.found.changed.extend(changed),
        }
        if consumers.is_empty() {
            return Ok(());
        }
        let mut there = consumer_names(self.context, &name, &what).await?;
        for consumer in consumers.into_iter().filter_map(|consumer| consumer.durable_name) {
            if !there.remove(&consumer) {
                self.found.created.push(format!("{name}/{consumer}"));
            }
        }
        self.found.left.extend(there.into_iter().map(|consumer| format!("{name}/{consumer}")));
        Ok(())
    }

    fn tenant(&mut self, tenant: &Tenant, before: Option<&[u8]>) {
        let Some(before) = before else {
            self.found.tenants_added.push(tenant.id.clone());
            return;
        };
        let before = serde_json::from_slice(before).unwrap_or_default();
        let after = serde_json::to_value(tenant).unwrap_or_default();
        let mut differences = Vec::new();
        compare("", &before, &after, &mut differences);
        if !differences.is_empty() {
            let more = differences.len().saturating_sub(DIFFERENCES_MAX);
            differences.truncate(DIFFERENCES_MAX);
            differences.extend((more > 0).then(|| format!("and {more} more")));
            self.found.tenants_changed.push((tenant.id.clone(), differences));
        }
    }
}

/// What differs between two documents, by its path. Bounded by their size.
fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(old), Value::Object(new)) => {
            let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for key in keys {
                let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let side = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                compare(&below, &side(old), &side(new), found);
            }
        }
        (Value::Null, after) => found.push(format!("{path} is new: {after}")),
        (before, Value::Null) => found.push(format!("{path} goes: {before}")),
        (before, after) => found.push(format!("{path} {before} → {after}")),
    }
}
