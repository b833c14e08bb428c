//! What may each NATS user publish and subscribe?
//!
//! Allow-lists only, and never `allow_responses`: a reply subject is chosen by the requester, so a
//! user that may answer anything can be made to publish anything. Nobody may
//! make a consumer or use `DIRECT.GET`, see `published.rs`.

use super::names::{
    BusUser, NODES_QUEUE, RECORDS_STREAM, RECORDS_SUBJECTS, TENANTS_BUCKET, TENANTS_CHANGED, TENANTS_STREAM,
    User, requests_of_all_tenants,
};
use crate::domain::Verb;

/// Subjects that a user may use. Neither list is ever empty: to the server an empty list means
/// everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    pub publish: Vec<String>,
    /// Each a subject, or a subject and a queue group with a space between.
    pub subscribe: Vec<String>,
}

/// The allow-lists of one user.
pub fn permissions(user: &User) -> Permissions {
    let inbox = format!("{}.>", user.inbox_prefix());
    match user {
        User::Agent(_, agent) => Permissions {
            publish: vec![format!("bus.{agent}.>")],
            subscribe: vec![format!("agent.{agent}.>"), inbox],
        },
        User::Bus(BusUser::Node) => node(inbox),
        User::Bus(BusUser::Provisioner) => provisioner(inbox),
        User::Bus(BusUser::Operator) => operator(inbox),
        User::Bus(BusUser::Admin) => admin(inbox),
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
    ]);
    // A request to oneself is the fence of the graceful stop.
    publish.push(inbox.clone());
    // To find out whether a message was recorded before (`bus/outbox.rs`).
    publish.push(format!("$JS.API.STREAM.MSG.GET.{RECORDS_STREAM}"));
    // To read the directory (`published.rs`).
    publish.push(format!("$JS.API.STREAM.INFO.{TENANTS_STREAM}"));
    publish.push(format!("$JS.API.STREAM.MSG.GET.{TENANTS_STREAM}"));

    // With the queue in the rule a node cannot listen to all requests beside the group.
    let mut subscribe: Vec<String> =
        Verb::ALL.iter().map(|&verb| format!("{} {NODES_QUEUE}", requests_of_all_tenants(verb))).collect();
    for verb in ["PING", "INFO", "STATS"] {
        subscribe.extend([format!("$SRV.{verb}"), format!("$SRV.{verb}.>")]);
    }
    subscribe.extend([TENANTS_CHANGED.to_owned(), inbox]);
    Permissions { publish, subscribe }
}

fn provisioner(inbox: String) -> Permissions {
    let mut publish = lines(&["$JS.API.INFO"]);
    for stream in [RECORDS_STREAM, TENANTS_STREAM] {
        for verb in ["INFO", "CREATE", "UPDATE"] {
            publish.push(format!("$JS.API.STREAM.{verb}.{stream}"));
        }
    }
    // One token: a tenant's id. A key cannot grow further.
    publish.push(format!("$KV.{TENANTS_BUCKET}.*"));
    publish.push(format!("$JS.API.STREAM.MSG.GET.{TENANTS_STREAM}"));
    Permissions { publish, subscribe: vec![inbox] }
}

fn operator(inbox: String) -> Permissions {
    let mut publish = lines(&["$SRV.>", "$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST"]);
    for stream in [RECORDS_STREAM, TENANTS_STREAM] {
        publish.extend([format!("$JS.API.STREAM.INFO.{stream}"), format!("$JS.API.STREAM.MSG.GET.{stream}")]);
    }
    Permissions { publish, subscribe: vec![inbox] }
}

fn admin(inbox: String) -> Permissions {
    let publish = lines(&[
        "$SYS.REQ.SERVER.PING",
        // Read-only monitoring of all servers: `nats server list`, `report`.
        "$SYS.REQ.SERVER.PING.>",
        "$SYS.REQ.SERVER.*.RELOAD",
    ]);
    Permissions { publish, subscribe: vec![inbox] }
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
        let agent = User::Agent("acme".parse().unwrap(), "planner".parse().unwrap());
        let users = BusUser::ALL.iter().map(|&user| User::Bus(user)).chain([agent]);
        for user in users {
            let Permissions { publish, subscribe } = permissions(&user);
            for list in [publish, subscribe] {
                assert!(!list.is_empty(), "{user}");
                assert!(!list.iter().any(|s| s.starts_with('>') || s.starts_with('*')), "{user}: {list:?}");
            }
        }
    }
}
