//! Do the running servers know the accounts? Asks each to read its configuration again.

use std::{collections::BTreeMap, time::Duration};

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::time::{Instant, timeout, timeout_at};

/// For the first server to answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// Once one has answered, how long others may take after the last.
const QUIET: Duration = Duration::from_millis(300);
/// For all servers to answer.
const ALL_ANSWERS: Duration = Duration::from_secs(5);
/// For one server to reload.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);
const SERVERS_MAX: usize = 256;

/// One server's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reloaded {
    pub server_id: String,
    pub server_name: String,
    /// Refused means that the server runs on with its former configuration.
    pub outcome: Result<(), ReloadFault>,
}

/// Why a server did not reload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReloadFault {
    #[error("the server refused its configuration: {description}")]
    Refused { description: String },
    #[error("no answer within {limit:?}")]
    TimedOut { limit: Duration },
    #[error("the reload could not be asked for: {cause}")]
    Unavailable { cause: String },
}

#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    #[error("no server answered within {limit:?}; is this the administrator of the system account?")]
    NoServer { limit: Duration },
    #[error("the servers could not be asked: {cause}")]
    Unavailable { cause: String },
}

/// Asks every server of the cluster to reload, one after the other, so that a bad configuration
/// does not reach all at once: the first refusal ends the round.
///
/// Each reloads twice. nats-server 2.15.1 makes the service imports of an account that a reload
/// introduces only with the reload after it; until then what the new tenant's agents ask reaches
/// nobody. Asking always twice also heals a run that ended between the two.
///
/// `admin` is logged in to the system account.
pub async fn reload(admin: &Client) -> Result<Vec<Reloaded>, ReloadError> {
    let mut done = Vec::new();
    for (server_id, server_name) in servers(admin).await? {
        let outcome = reload_twice(admin, &server_id).await;
        let refused = outcome.is_err();
        done.push(Reloaded { server_id, server_name, outcome });
        if refused {
            break;
        }
    }
    Ok(done)
}

/// Ids and names of the servers that answer.
async fn servers(admin: &Client) -> Result<BTreeMap<String, String>, ReloadError> {
    let answers = gather(admin, "$SYS.REQ.SERVER.PING", Bytes::new()).await?;
    let servers = answers.iter().filter_map(|answer| serde_json::from_slice(answer).ok());
    let found: BTreeMap<_, _> =
        servers.filter_map(|Answer { server, .. }| server.map(|one| (one.id, one.name))).collect();
    if found.is_empty() { Err(ReloadError::NoServer { limit: FIRST_ANSWER }) } else { Ok(found) }
}

/// What the servers of the cluster answer to one request, at least one.
pub(super) async fn gather(
    admin: &Client,
    ask: &'static str,
    with: Bytes,
) -> Result<Vec<Bytes>, ReloadError> {
    let unavailable = |cause: String| ReloadError::Unavailable { cause };
    let inbox = admin.new_inbox();
    let mut answers = admin.subscribe(inbox.clone()).await.map_err(|e| unavailable(e.to_string()))?;
    admin.publish_with_reply(ask, inbox, with).await.map_err(|e| unavailable(e.to_string()))?;
    let end = Instant::now() + ALL_ANSWERS;
    let mut wait = FIRST_ANSWER;
    let mut found = Vec::new();
    while found.len() < SERVERS_MAX {
        let until = end.min(Instant::now() + wait);
        let Ok(Some(answer)) = timeout_at(until, answers.next()).await else { break };
        found.push(answer.payload);
        wait = QUIET;
    }
    if found.is_empty() { Err(ReloadError::NoServer { limit: FIRST_ANSWER }) } else { Ok(found) }
}

pub(super) async fn reload_twice(admin: &Client, server_id: &str) -> Result<(), ReloadFault> {
    reload_once(admin, server_id).await?;
    reload_once(admin, server_id).await
}

async fn reload_once(admin: &Client, server_id: &str) -> Result<(), ReloadFault> {
    let subject = format!("$SYS.REQ.SERVER.{server_id}.RELOAD");
    match timeout(RELOAD_TIMEOUT, admin.request(subject, Bytes::new())).await {
        Err(_) => Err(ReloadFault::TimedOut { limit: RELOAD_TIMEOUT }),
        Ok(Err(error)) => Err(ReloadFault::Unavailable { cause: error.to_string() }),
        Ok(Ok(answer)) => match serde_json::from_slice(&answer.payload) {
            Ok(Answer { error: Some(error), .. }) => {
                Err(ReloadFault::Refused { description: error.description })
            }
            Ok(Answer { server: Some(_), error: None }) => Ok(()),
            _ => Err(ReloadFault::Refused { description: "an answer that is not understood".to_owned() }),
        },
    }
}

/// The part of a server's answer that matters here.
#[derive(serde::Deserialize)]
struct Answer {
    server: Option<Server>,
    error: Option<Fault>,
}

#[derive(serde::Deserialize)]
struct Server {
    id: String,
    name: String,
}

#[derive(serde::Deserialize)]
struct Fault {
    #[serde(default)]
    description: String,
}
