//! How many connections does each key have just now? Asked of the servers by the administrator.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::Client;
use serde_json::json;

use super::reload::{ReloadError, gather};

/// Connections in one answer of a server.
const PAGE: usize = 1_024;
/// Answers asked of each server; what is beyond is not counted.
const PAGES_MAX: usize = 64;

/// Connections of each of these keys on all servers.
pub async fn connections_of(
    admin: &Client,
    keys: &BTreeSet<String>,
) -> Result<BTreeMap<String, usize>, ReloadError> {
    let mut counts = BTreeMap::new();
    for page in 0..PAGES_MAX {
        let ask = json!({ "auth": true, "limit": PAGE, "offset": page * PAGE }).to_string();
        let mut full = false;
        for answer in gather(admin, "$SYS.REQ.SERVER.PING.CONNZ", ask.into()).await? {
            let Ok(Answer { data: Some(list) }) = serde_json::from_slice(&answer) else { continue };
            full |= list.connections.len() >= PAGE;
            for key in list.connections.into_iter().filter_map(|one| one.authorized_user) {
                if keys.contains(&key) {
                    *counts.entry(key).or_default() += 1;
                }
            }
        }
        if !full {
            break;
        }
    }
    Ok(counts)
}

#[derive(serde::Deserialize)]
struct Answer {
    data: Option<List>,
}

#[derive(serde::Deserialize)]
struct List {
    #[serde(default)]
    connections: Vec<One>,
}

#[derive(serde::Deserialize)]
struct One {
    /// Of a user with an NKey, its public key.
    authorized_user: Option<String>,
}
