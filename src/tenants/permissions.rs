//! What may each NATS user publish and subscribe?
//!
//! Allow-lists only, and never `allow_responses`: a reply subject is chosen by the requester, so a
//! user that may answer anything can be made to publish anything. Nobody but
//! provisioning may make a consumer, and nobody may use `DIRECT.GET`, see `published.rs`.

use std::collections::BTreeSet;

use super::names::{
    ACCOUNTS, ACCOUNTS_HELD, ACCOUNTS_OFFERED, BusUser, CONNECTED, CONNECTIONS, CONNECTIONS_CHANGED,
    CONSTITUTION_REQUESTS, CONSTITUTION_STATUS, CONSTITUTION_STREAM, CONSTITUTIONS, DEAD_LETTER_RECORDS,
    DEAD_LETTERS_SUBJECTS, DEADLINES_CONSUMER, DECISIONS_STREAM, DECISIONS_SUBJECTS, DELIBERATIONS_SUBJECTS,
    EVIDENCE_CONSUMER, EVIDENCE_KEPT, FREEZE_REQUESTS, FREEZE_STATUS, FREEZE_STREAM, FREEZES, HEALTH_NOTICES,
    HEARTBEATS, INBOX_DOMAIN, NODE_RECOVERY, NODE_STATUS, NODES_CONSUMER, NODES_QUEUE, POLICY_BUNDLE,
    POLICY_DIFF, POLICY_REQUESTS, POLICY_SHADOW, POLICY_STREAM, RECORDS_STREAM, RECORDS_SUBJECTS,
    REQUESTS_OF_ANY_VERB, TENANTS_BUCKET, TENANTS_CHANGED, TENANTS_STREAM, THRESHOLDS_BUCKET,
    THRESHOLDS_STREAM, USAGE_STREAM, USAGE_SUBJECTS, User, WEBHOOKS_CONSUMER, accounts_part, answers_to,
    dead_letters_stream, deliberations_stream, inbound_stream, inbox_messages, inbox_subjects, kick,
    outbound_stream, own_records_stream, requests_of_all_tenants, unheard_questions,
};
use crate::domain::{TenantId, Verb};

/// Subjects that a user may use. Neither list is ever empty: to the server an empty list means
/// everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    pub publish: Vec<String>,
    /// Each a subject, or a subject and a queue group with a space between.
    pub subscribe: Vec<String>,
}

/// The allow-lists of one user, on a bus of these tenants. What `former` ones left may be deleted.
pub fn permissions<'a>(
    user: &User,
    tenants: impl Iterator<Item = &'a TenantId>,
    former: &BTreeSet<TenantId>,
) -> Permissions {
    let inbox = format!("{}.>", user.inbox_prefix());
    match user {
        User::Agent(tenant, agent) => {
            let stream = outbound_stream(tenant);
            let publish = vec![
                format!("bus.{agent}.>"),
                // Its durable inbox, by an ordinary JetStream client.
                format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{agent}"),
                format!("$JS.{INBOX_DOMAIN}.API.CONSUMER.MSG.NEXT.{stream}.{agent}"),
                format!("$JS.{INBOX_DOMAIN}.API.CONSUMER.INFO.{stream}.{agent}"),
                format!("$JS.ACK.{stream}.{agent}.>"),
            ];
            Permissions { publish, subscribe: vec![format!("agent.{agent}.>"), inbox] }
        }
        User::Bus(BusUser::Node) => node(inbox),
        User::Bus(BusUser::Provisioner) => provisioner(inbox, tenants, former),
        User::Bus(BusUser::Operator) => operator(inbox, tenants),
        User::Bus(BusUser::Admin) => admin(inbox),
        User::Bus(BusUser::Keeper) => keeper(inbox),
        User::Bus(BusUser::Kicker) => kicker(inbox),
    }
}

/// The fast lane, records, the directory and async-nats' micro services run within it without one
/// refusal (`tests/it/tenancy/works.rs`).
fn node(inbox: String) -> Permissions {
    let mut publish = lines(&[
        "tenant.*.agent.*.inbox",
        "tenant.*.agent.*.outcome",
        // Replies to agents: the server makes `_R_.<random per account>.<random>` for a request that
        // comes through a service import, so nothing narrower can be written down beforehand.
        "_R_.*.*",
        // Replies to an operator's `$SRV` requests.
        "_INBOX.operator.>",
        RECORDS_SUBJECTS,
        DECISIONS_SUBJECTS,
        HEARTBEATS,
        HEALTH_NOTICES,
        USAGE_SUBJECTS,
        // What the policy stops, and who stops itself.
        FREEZES,
    ]);
    // The durable lane, deliberations, what was learned.
    publish.extend(lines(&[
        "tenant.*.submitted.*.*",
        "tenant.*.stored.*.*.*.*",
        DELIBERATIONS_SUBJECTS,
        DEAD_LETTERS_SUBJECTS,
    ]));
    publish.push(format!("$KV.{THRESHOLDS_BUCKET}.*"));
    // Of every tenant: a reload that changes what a user may do ends the user's connections, so that a new
    // tenant may not change it for nodes.
    for consumer in [NODES_CONSUMER, EVIDENCE_CONSUMER, DEADLINES_CONSUMER, WEBHOOKS_CONSUMER] {
        publish.push(format!("$JS.API.CONSUMER.MSG.NEXT.*.{consumer}"));
        publish.push(format!("$JS.ACK.*.{consumer}.>"));
    }
    // A request to oneself is the fence of the graceful stop.
    publish.push(inbox.clone());
    // All streams of the account are the bus's own: what was recorded, stored, decided, learned, and
    // the directory (`published.rs`).
    publish.extend(lines(&[
        "$JS.API.STREAM.MSG.GET.*",
        "$JS.API.STREAM.INFO.*",
        // How far an agent has read its durable inbox, too.
        "$JS.API.CONSUMER.INFO.*.*",
    ]));

    // With the queue in the rule a node cannot listen to all requests beside the group.
    let mut subscribe: Vec<String> =
        Verb::ALL.iter().map(|&verb| format!("{} {NODES_QUEUE}", requests_of_all_tenants(verb))).collect();
    subscribe.push(format!("{REQUESTS_OF_ANY_VERB} {NODES_QUEUE}"));
    subscribe.push(format!("{} {NODES_QUEUE}", answers_to("*")));
    subscribe.push(unheard_questions("*"));
    for verb in ["PING", "INFO", "STATS"] {
        subscribe.extend([format!("$SRV.{verb}"), format!("$SRV.{verb}.>")]);
    }
    subscribe.extend(
        [
            TENANTS_CHANGED,
            HEARTBEATS,
            POLICY_REQUESTS,
            FREEZE_REQUESTS,
            CONSTITUTION_REQUESTS,
            NODE_STATUS,
            NODE_RECOVERY,
        ]
        .map(str::to_owned),
    );
    subscribe.push(inbox);
    Permissions { publish, subscribe }
}

/// Each tenant's streams by name: a wildcard would be all streams.
fn provisioner<'a>(
    inbox: String,
    tenants: impl Iterator<Item = &'a TenantId>,
    former: &BTreeSet<TenantId>,
) -> Permissions {
    let mut publish = lines(&["$JS.API.INFO", "$JS.API.STREAM.NAMES"]);
    let mut stream = |stream: &str, consumers: &[&str]| {
        for verb in ["INFO", "CREATE", "UPDATE"] {
            publish.push(format!("$JS.API.STREAM.{verb}.{stream}"));
        }
        for consumer in consumers {
            publish.push(format!("$JS.API.CONSUMER.CREATE.{stream}.{consumer}"));
        }
        if !consumers.is_empty() {
            publish.push(format!("$JS.API.CONSUMER.NAMES.{stream}"));
        }
    };
    stream(RECORDS_STREAM, &[]);
    stream(DECISIONS_STREAM, &[]);
    stream(TENANTS_STREAM, &[]);
    stream(THRESHOLDS_STREAM, &[]);
    stream(POLICY_STREAM, &[]);
    stream(FREEZE_STREAM, &[]);
    stream(CONSTITUTION_STREAM, &[]);
    stream(USAGE_STREAM, &[]);
    let tenants: Vec<_> = tenants.collect();
    for tenant in &tenants {
        stream(&inbound_stream(tenant), &[NODES_CONSUMER]);
        let mut inboxes = vec![format!("*.{}", inbox_subjects(tenant, "*"))];
        inboxes.push(format!("{EVIDENCE_CONSUMER}.{}", inbox_messages(tenant)));
        inboxes.extend(EVIDENCE_KEPT.map(|(name, subjects)| format!("{name}.{}", subjects(tenant))));
        stream(&outbound_stream(tenant), &inboxes.iter().map(String::as_str).collect::<Vec<_>>());
        stream(&deliberations_stream(tenant), &[DEADLINES_CONSUMER, WEBHOOKS_CONSUMER]);
        stream(&dead_letters_stream(tenant), &[]);
        stream(&own_records_stream(tenant), &[]);
    }
    // What an agent or a tenant that left has held (`purge.rs`).
    for tenant in tenants.into_iter().chain(former) {
        let outbound = outbound_stream(tenant);
        publish.push(format!("$JS.API.CONSUMER.DELETE.{outbound}.*"));
        let streams = [
            inbound_stream(tenant),
            outbound,
            deliberations_stream(tenant),
            dead_letters_stream(tenant),
            own_records_stream(tenant),
        ];
        publish.extend(streams.map(|stream| format!("$JS.API.STREAM.DELETE.{stream}")));
    }
    // One token: a tenant's id. A key cannot grow further.
    publish.push(format!("$KV.{TENANTS_BUCKET}.*"));
    publish.push(format!("$JS.API.STREAM.MSG.GET.{TENANTS_STREAM}"));
    Permissions { publish, subscribe: vec![inbox] }
}

fn operator<'a>(inbox: String, tenants: impl Iterator<Item = &'a TenantId>) -> Permissions {
    let mut publish = lines(&[
        "$SRV.>",
        "nodes.policy.status",
        "nodes.policy.reload",
        POLICY_DIFF,
        POLICY_BUNDLE,
        POLICY_SHADOW,
        FREEZE_STATUS,
        FREEZES,
        CONSTITUTION_STATUS,
        CONSTITUTIONS,
        NODE_STATUS,
        NODE_RECOVERY,
        "$JS.API.INFO",
        "$JS.API.STREAM.NAMES",
        "$JS.API.STREAM.LIST",
        "$JS.API.STREAM.INFO.*",
        "$JS.API.STREAM.MSG.GET.*",
        "$JS.API.CONSUMER.INFO.*.*",
        // A dead letter back to its lane, as a new submission of it.
        "tenant.*.submitted.*.*",
        // Who did that, or deleted it.
        DEAD_LETTER_RECORDS,
    ]);
    publish
        .extend(tenants.map(|tenant| format!("$JS.API.STREAM.MSG.DELETE.{}", dead_letters_stream(tenant))));
    Permissions { publish, subscribe: vec![inbox, HEALTH_NOTICES.to_owned()] }
}

fn admin(inbox: String) -> Permissions {
    let publish = lines(&[
        "$SYS.REQ.SERVER.PING",
        // Read-only monitoring of all servers: `nats server list`, `report`.
        "$SYS.REQ.SERVER.PING.>",
        "$SYS.REQ.SERVER.*.RELOAD",
        // The accounts for each server's keeper, who fetches them (`sync.rs`).
        ACCOUNTS_HELD,
        ACCOUNTS_OFFERED,
        "_INBOX.keeper.>",
    ]);
    Permissions { publish, subscribe: vec![inbox, accounts_part("*")] }
}

/// Who is connected and how much is written, and that a connection is ended. It cannot ask what else servers tell of
/// themselves.
fn kicker(inbox: String) -> Permissions {
    let publish = vec![kick("*"), CONNECTIONS.to_owned(), ACCOUNTS.to_owned()];
    Permissions { publish, subscribe: vec![inbox, CONNECTIONS_CHANGED.to_owned(), CONNECTED.to_owned()] }
}

/// Cannot offer accounts to other keepers; what it holds they fetch where it is newer than theirs.
fn keeper(inbox: String) -> Permissions {
    let mut publish = lines(&[ACCOUNTS_HELD, "_INBOX.admin.>", "$SYS.REQ.SERVER.*.RELOAD"]);
    publish.extend([accounts_part("*"), inbox.clone()]);
    let subscribe = vec![inbox, ACCOUNTS_HELD.to_owned(), ACCOUNTS_OFFERED.to_owned(), accounts_part("*")];
    Permissions { publish, subscribe }
}

fn lines(subjects: &[&str]) -> Vec<String> {
    subjects.iter().map(|subject| (*subject).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn no_users_list_is_empty_or_everything() {
        let acme = "acme".parse().unwrap();
        let agent = User::Agent("acme".parse().unwrap(), "planner".parse().unwrap());
        let users = BusUser::ALL.iter().map(|&user| User::Bus(user)).chain([agent]);
        for user in users {
            let Permissions { publish, subscribe } =
                permissions(&user, std::iter::once(&acme), &BTreeSet::new());
            for list in [publish, subscribe] {
                assert!(!list.is_empty(), "{user}");
                assert!(!list.iter().any(|s| s.starts_with('>') || s.starts_with('*')), "{user}: {list:?}");
            }
        }
    }
}
