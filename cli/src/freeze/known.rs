//! Is there what is to be stopped, and what of it waits?

use std::time::Duration;

use agentbus::{
    domain::{Scope, id::shown},
    nats::{Answers, Fleet, NodeFreezes},
    tenants::{Directory, names},
};
use anyhow::{Context as _, bail};
use async_nats::{Client, jetstream};

/// For the tenants to be read, and for one answer of JetStream.
const READ_WITHIN: Duration = Duration::from_secs(5);
/// For a node to look for whom to end, and to see that it may not.
const TRIED_WITHIN: Duration = Duration::from_secs(2);
/// Names listed in an error.
const LISTED_MAX: usize = 20;

/// A name that was mistyped stops nobody, and whoever typed it must know that at once.
pub(super) async fn check(client: &Client, scope: &Scope) -> anyhow::Result<()> {
    let Some(id) = scope.tenant() else { return Ok(()) };
    let directory = Directory::new();
    let (followed, reader) = (directory.clone(), client.clone());
    let following = tokio::spawn(async move { followed.follow(&reader).await });
    let ready = tokio::time::timeout(READ_WITHIN, directory.ready()).await;
    following.abort();
    ready.context("the tenants of the bus cannot be read; is it provisioned (`agentbus tenants apply`)?")?;
    let Some(tenant) = directory.tenant(id) else {
        let tenants = directory.tenants();
        bail!("found tenant {}, expected one of: {}", shown(id.as_str()), listed(tenants.keys()));
    };
    if let Scope::Agent { agent, .. } = scope
        && !tenant.agents.contains_key(agent)
    {
        bail!("found agent {}, expected one of: {}", shown(agent.as_str()), listed(tenant.agents.keys()));
    }
    Ok(())
}

/// Where nobody may end connections, nothing is done.
pub(super) async fn can_be_cut_off(fleet: &Fleet, nodes: &[String], scope: &Scope) -> anyhow::Result<()> {
    if !matches!(scope, Scope::Agent { .. } | Scope::Tenant { .. }) {
        bail!("--cut-off ends connections of an agent or a tenant: name one by --agent or --tenant");
    }
    if !somebody_cuts_off(&fleet.freezes(nodes, 0).await?) {
        bail!(
            "--cut-off: no node may end connections, and nothing was done; nodes need nats.kicker_nkey_file, and NATS \
             the accounts that `agentbus tenants apply` of this version writes"
        );
    }
    Ok(())
}

/// Whether one of them has found, within some seconds, that it may end connections.
pub(super) fn somebody_cuts_off(answers: &Answers<NodeFreezes>) -> bool {
    answers.values().flatten().any(|answer| answer.cuts_off)
}

/// The same once they have tried.
pub(super) async fn is_cut_off(fleet: &Fleet, nodes: &[String]) -> anyhow::Result<bool> {
    tokio::time::sleep(TRIED_WITHIN).await;
    Ok(somebody_cuts_off(&fleet.freezes(nodes, 0).await?))
}

fn listed<T: ToString>(names: impl Iterator<Item = T>) -> String {
    let mut names: Vec<_> = names.map(|name| name.to_string()).collect();
    names.sort();
    let more = names.len().saturating_sub(LISTED_MAX);
    names.truncate(LISTED_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &more
}

/// Messages of its tenant on the durable lane, which go on waiting; `None` where nobody can tell.
pub(super) async fn waiting(client: &Client, scope: &Scope) -> Option<u64> {
    let mut context = jetstream::new(client.clone());
    context.set_timeout(READ_WITHIN);
    let stream = context.get_stream_no_info(names::inbound_stream(scope.tenant()?)).await.ok()?;
    Some(stream.get_info().await.ok()?.state.messages)
}
