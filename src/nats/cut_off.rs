//! Whose connections are to be ended, as long as an operator has cut them off?
//!
//! A tenant's are those of its account. An agent's are those that listen as it: no other user may subscribe below
//! `_INBOX.<agent>` or `agent.<agent>` (`tenants/permissions.rs`), so the server itself says whose they are. Their keys are
//! remembered, and what else was opened with one of them is ended as well. Each node that may looks by itself; a
//! connection that another has ended already is no fault.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::{
    connected::connected,
    kicker::{Kicker, WaitFor},
    link::Link,
};
use crate::{
    domain::{Scope, TenantId},
    freezes::Freezes,
    telemetry::{EndedFor, Metrics},
};

/// Between two looks while somebody is cut off.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon it is seen that somebody is to be cut off.
const NOTICE_EVERY: Duration = Duration::from_millis(100);
/// Between two looks whether this node may.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// Connections of one answer; the rest is ended at the next look.
const CONNECTIONS_MAX: usize = 256;
/// Keys of agents that are remembered, by this node and as long as it runs.
const KEYS_MAX: usize = 1_024;

/// A question, and whose connections its answer names.
struct Asked {
    scope: Scope,
    question: String,
    /// By what it listens to, so that its key can be learned.
    tells_key: bool,
}

/// Keys by which agents that are cut off were connected.
type Keys = Vec<(Scope, String)>;

/// Ends what is to be ended, until the future is dropped.
pub async fn cut_off(kicker: Option<Kicker>, freezes: Arc<Freezes>, metrics: Arc<Metrics>) {
    let Some(kicker) = kicker else { return std::future::pending().await };
    let (mut keys, mut asked) = (Keys::new(), None);
    loop {
        // Whether the server lets this node ask is known only by asking; it may not tomorrow.
        if asked.is_none_or(|asked: Instant| asked.elapsed() >= TRY_EVERY) {
            let able = !kicker.connections(&[nobody()], WaitFor::All).await.is_empty();
            freezes.can_cut_off(able);
            asked = Some(Instant::now());
        }
        let scopes = freezes.cut_off();
        keys.retain(|(scope, _)| scopes.contains(scope));
        match (freezes.cuts_off(), scopes.is_empty()) {
            (true, false) => {
                let ended = look(&kicker, &freezes, &scopes, &mut keys).await;
                metrics.nats.connections_ended(EndedFor::CutOff, ended);
                asked = Some(Instant::now());
                tokio::time::sleep(LOOK_EVERY).await;
            }
            (true, true) => tokio::time::sleep(NOTICE_EVERY).await,
            (false, _) => tokio::time::sleep(TRY_EVERY).await,
        }
    }
}

/// How many connections are ended.
async fn look(kicker: &Kicker, freezes: &Freezes, scopes: &[Scope], keys: &mut Keys) -> usize {
    let asked: Vec<Asked> = scopes.iter().flat_map(|scope| questions(scope, keys)).collect();
    let all: Vec<_> = asked.iter().map(|asked| asked.question.clone()).collect();
    let mut ended = BTreeSet::new();
    let answers = kicker.connections(&all, WaitFor::All).await;
    // Without any answer it is not let in, or not allowed to any more.
    freezes.can_cut_off(!answers.is_empty());
    for (place, answer) in answers {
        let Some(asked) = asked.get(place) else { continue };
        for (link, key) in named(asked, &answer) {
            if asked.tells_key && keys.len() < KEYS_MAX && !key.is_empty() {
                let known = (asked.scope.clone(), key);
                if !keys.contains(&known) {
                    keys.push(known);
                }
            }
            // One that is named by two answers is ended once.
            if ended.insert((link.server().to_owned(), link.client())) {
                kicker.end(&link).await;
            }
        }
    }
    if !ended.is_empty() {
        tracing::warn!(connections = ended.len(), "connections of whom an operator has cut off are ended");
    }
    ended.len()
}

/// A question whose answer names nobody: no account has that name.
fn nobody() -> String {
    serde_json::json!({ "acc": "-", "limit": 1 }).to_string()
}

fn questions(scope: &Scope, keys: &Keys) -> Vec<Asked> {
    let asked = |filter: &[(&str, &str)], tells_key| {
        let mut question =
            serde_json::json!({ "acc": scope.tenant(), "auth": true, "limit": CONNECTIONS_MAX });
        if let Some(fields) = question.as_object_mut() {
            fields.extend(filter.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())));
        }
        Asked { scope: scope.clone(), question: question.to_string(), tells_key }
    };
    match scope {
        Scope::Tenant { .. } => vec![asked(&[], false)],
        Scope::Agent { agent, .. } => {
            let listens = [format!("_INBOX.{agent}.>"), format!("agent.{agent}.>")];
            let mut all: Vec<_> =
                listens.iter().map(|subject| asked(&[("filter_subject", subject)], true)).collect();
            let known = keys.iter().filter(|(of, _)| of == scope);
            all.extend(known.map(|(_, key)| asked(&[("user", key)], false)));
            all
        }
        // Nobody is cut off by these.
        Scope::Everything | Scope::Conversation { .. } => Vec::new(),
    }
}

/// The connections that are to be ended, with their keys: of the tenant's account and of no other.
fn named(asked: &Asked, answer: &Bytes) -> Vec<(Link, String)> {
    let Some(tenant) = asked.scope.tenant().map(TenantId::as_str) else { return Vec::new() };
    let all = connected(answer).into_iter().take(CONNECTIONS_MAX);
    all.filter(|one| one.account == tenant).map(|one| (one.link, one.key)).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn agent() -> Scope {
        Scope::Agent { tenant: "acme".parse().unwrap(), agent: "planner".parse().unwrap() }
    }

    #[test]
    fn only_connections_of_the_tenants_account_are_ended_whatever_a_server_answers() {
        let scope = Scope::Tenant { tenant: "acme".parse().unwrap() };
        let asked = Asked { scope, question: String::new(), tells_key: false };
        let of = |account: &str, cid: u64| serde_json::json!({ "cid": cid, "account": account, "authorized_user": "UA" });
        let answer = |server: &str, connections: serde_json::Value| {
            let json =
                serde_json::json!({ "server": { "id": server }, "data": { "connections": connections } });
            Bytes::from(json.to_string())
        };
        let all = serde_json::json!([of("acme", 1), of("BUS", 2), of("SYS", 3), of("globex", 4), of("acme", 5), { "cid": 6 }]);
        let ended: Vec<_> = named(&asked, &answer("NA", all)).iter().map(|(link, _)| link.client()).collect();
        assert_eq!(ended, [1, 5]);
        for nothing in [
            answer("NA", serde_json::Value::Null),
            answer("N*", serde_json::json!([of("acme", 1)])),
            Bytes::from_static(b"{\"error\":{}}"),
            Bytes::from_static(b"no JSON"),
        ] {
            assert!(named(&asked, &nothing).is_empty());
        }
    }

    #[test]
    fn an_agent_is_known_by_what_it_alone_may_listen_to_and_by_its_keys_then() {
        let mut keys = Keys::new();
        let told =
            |keys: &Keys| questions(&agent(), keys).into_iter().map(|it| it.question).collect::<Vec<_>>();
        let first = told(&keys);
        assert!(
            first.len() == 2 && first.iter().all(|question| question.contains(r#""acc":"acme""#)),
            "{first:?}"
        );
        assert!(first.iter().any(|question| question.contains(r#""filter_subject":"_INBOX.planner.>""#)));
        keys.push((agent(), "UA".to_owned()));
        keys.push((Scope::Everything, "UB".to_owned()));
        let then = told(&keys);
        assert!(
            then.len() == 3 && then.iter().any(|question| question.contains(r#""user":"UA""#)),
            "{then:?}"
        );
        assert!(questions(&Scope::Everything, &keys).is_empty());
    }
}
