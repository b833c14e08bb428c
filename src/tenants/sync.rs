//! How do the accounts reach every server of a cluster, and does each run with them?
//!
//! Beside each server runs a keeper, which owns that server's copy of `accounts.conf`. `apply` offers what it has written,
//! every keeper fetches it, writes it and says so. One that was away asks the others; the highest revision wins.
//! All of it is said in the system account, where neither agents nor nodes are. Where no keeper answers, whoever
//! runs the servers brings the file to them. Either way each server is asked in the end what it runs with.
//!
//! - `edition`: the accounts as a file, and its parts on the way.
//! - [`keeper`]: what runs beside a server.

use std::{collections::BTreeSet, fs, io, path::Path, path::PathBuf, time::Duration};

use async_nats::{Client, StatusCode};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout_at};

use super::{
    accounts,
    names::{ACCOUNTS_HELD, ACCOUNTS_MARK, ACCOUNTS_OFFERED, SYSTEM_ACCOUNT, accounts_conf},
    reload::{ReloadError, Reloaded, gather},
};
use edition::{About, Edition};

mod edition;
pub mod keeper;

/// For the first keeper to answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);
/// Once one has answered, how long others may take after the last.
const QUIET: Duration = Duration::from_millis(300);
/// For all keepers to fetch and write.
const ALL_WRITTEN: Duration = Duration::from_secs(30);
/// Keepers that are listened to, one for each server.
const KEEPERS_MAX: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{}: found {bytes} bytes, expected at most {max}", path.display())]
    TooLarge { path: PathBuf, bytes: usize, max: usize },
    #[error("revision {revision} did not come whole: {cause}")]
    Cut { revision: u64, cause: String },
    #[error("the keepers could not be asked: {cause}")]
    Unavailable { cause: String },
    #[error(transparent)]
    Servers(#[from] ReloadError),
}

/// What became of an offer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distributed {
    pub revision: u64,
    /// Names of the servers whose keepers have it.
    pub written: Vec<String>,
    /// The others, and why not.
    pub failed: Vec<(String, String)>,
}

/// A keeper's answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Said {
    /// The name of its server.
    server: String,
    held: About,
    /// Why it does not hold what it was offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

/// Gives the accounts of `dir` to all keepers. Nobody has any: `written` and `failed` are empty, and nothing was done.
///
/// Where a keeper holds others of as high a revision, made from another folder, these get a higher one: the file is
/// rewritten with it. `admin` is logged in to the system account.
pub async fn distribute(admin: &Client, dir: &Path) -> Result<Distributed, SyncError> {
    let path = accounts_conf(dir);
    let mut edition = Edition::read(&path)?;
    let held = ask(admin, ACCOUNTS_HELD, Bytes::new(), None).await?;
    if held.is_empty() {
        return Ok(Distributed::default());
    }
    let others = held.iter().map(|said| &said.held).filter(|held| held.digest != edition.about.digest);
    if let Some(newest) = others.map(|held| held.revision).max().filter(|&n| n >= edition.about.revision) {
        edition = edition.raised(newest.saturating_add(1));
        edition.write(&path)?;
    }
    let offer = Bytes::from(serde_json::to_vec(&edition.about).unwrap_or_default());
    let said = tokio::select! {
        // Whoever hears the offer asks for the parts at once.
        biased;
        fault = edition::give(admin, &edition) => return Err(fault),
        said = ask(admin, ACCOUNTS_OFFERED, offer, Some(held.len())) => said?,
    };
    Ok(outcome(&edition.about, &held, said))
}

fn outcome(offered: &About, asked: &[Said], said: Vec<Said>) -> Distributed {
    let mut done = Distributed { revision: offered.revision, ..Distributed::default() };
    let mut silent: BTreeSet<&str> = asked.iter().map(|said| said.server.as_str()).collect();
    for Said { server, held, fault } in said {
        silent.remove(server.as_str());
        match held == *offered {
            true => done.written.push(server),
            false => done.failed.push((server, fault.unwrap_or_else(|| "it holds others".to_owned()))),
        }
    }
    let silent =
        silent.into_iter().map(|server| (server.to_owned(), format!("no answer within {ALL_WRITTEN:?}")));
    done.failed.extend(silent);
    done.written.sort();
    done
}

/// Names of servers that do not run with the accounts of `dir`, or do not say so, although they have reloaded.
pub async fn astray(admin: &Client, dir: &Path, reloaded: &[Reloaded]) -> Result<Vec<String>, SyncError> {
    let path = accounts_conf(dir);
    let text = fs::read_to_string(&path).map_err(|source| SyncError::Read { path, source })?;
    let expected = format!("{ACCOUNTS_MARK}{}", accounts::mark(&text));
    let about = serde_json::json!({ "account": SYSTEM_ACCOUNT }).to_string();
    let answers = gather(admin, "$SYS.REQ.SERVER.PING.ACCOUNTZ", about.into()).await?;
    let servers = answers.iter().filter_map(|answer| serde_json::from_slice::<Accounts>(answer).ok());
    let has_them = |one: &Accounts| one.data.account_detail.exports.iter().any(|e| e.subject == expected);
    let (right, wrong): (Vec<_>, Vec<_>) = servers.partition(has_them);
    let right: BTreeSet<_> = right.into_iter().map(|one| one.server.name).collect();
    let silent = reloaded.iter().map(|server| &server.server_name).filter(|name| !right.contains(*name));
    let astray: BTreeSet<_> = wrong.into_iter().map(|one| one.server.name).chain(silent.cloned()).collect();
    Ok(astray.into_iter().collect())
}

/// What keepers say to a question: for a moment, or until so many have answered. Nobody, where none is there.
async fn ask(
    client: &Client,
    subject: &'static str,
    with: Bytes,
    expected: Option<usize>,
) -> Result<Vec<Said>, SyncError> {
    let unavailable = |cause: String| SyncError::Unavailable { cause };
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.map_err(|e| unavailable(e.to_string()))?;
    client.publish_with_reply(subject, inbox, with).await.map_err(|e| unavailable(e.to_string()))?;
    let mut said = Vec::new();
    let mut until = Instant::now() + expected.map_or(FIRST_ANSWER, |_| ALL_WRITTEN);
    while said.len() < expected.unwrap_or(KEEPERS_MAX).min(KEEPERS_MAX) {
        let Ok(Some(answer)) = timeout_at(until, answers.next()).await else { break };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            break;
        }
        said.extend(serde_json::from_slice::<Said>(&answer.payload));
        if expected.is_none() {
            until = Instant::now() + QUIET;
        }
    }
    Ok(said)
}

/// The part of a server's answer that matters here.
#[derive(Deserialize)]
struct Accounts {
    server: Server,
    data: Data,
}

#[derive(Deserialize)]
struct Server {
    name: String,
}

#[derive(Deserialize)]
struct Data {
    account_detail: Detail,
}

#[derive(Deserialize)]
struct Detail {
    #[serde(default)]
    exports: Vec<Export>,
}

#[derive(Deserialize)]
struct Export {
    subject: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn keepers_of_other_versions_understand_what_is_offered_and_held() {
        let about = About { revision: 7, digest: "ab".repeat(32), bytes: 4_096 };
        let bytes = crate::golden::same("accounts-offered.json", &serde_json::to_vec(&about).unwrap());
        assert_eq!(serde_json::from_slice::<About>(&bytes).unwrap(), about);
        let fault = Some("no space left on device".to_owned());
        let said = Said { server: "nats-1".to_owned(), held: about, fault };
        let bytes = crate::golden::same("accounts-held.json", &serde_json::to_vec(&said).unwrap());
        let read = serde_json::from_slice::<Said>(&bytes).unwrap();
        assert_eq!((read.server, read.held, read.fault), (said.server, said.held, said.fault));
    }

    #[test]
    fn who_is_silent_or_holds_something_else_has_not_written_what_was_offered() {
        let about = |revision| About { revision, digest: "ab".repeat(32), bytes: 4_096 };
        let said =
            |server: &str, revision| Said { server: server.to_owned(), held: about(revision), fault: None };
        let asked = [said("nats-1", 6), said("nats-2", 6), said("nats-3", 6)];
        let done = outcome(&about(7), &asked, vec![said("nats-1", 7), said("nats-2", 6)]);
        assert_eq!((done.revision, done.written), (7, vec!["nats-1".to_owned()]));
        let failed: Vec<_> = done.failed.iter().map(|(server, _)| server.as_str()).collect();
        assert_eq!(failed, ["nats-2", "nats-3"]);
    }
}
