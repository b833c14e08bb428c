//! The accounts as a file with a number: read, written, and given and fetched in parts that fit in a message.

use std::{fs, path::Path, time::Duration};

use async_nats::Client;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::SyncError;
use crate::tenants::{accounts, keys::write_whole, names::accounts_part, server_conf::PAYLOAD_MAX};

/// Bytes of one part. Half of what a message may have.
const PART: usize = PAYLOAD_MAX / 2;
/// Bytes of the file. A thousand tenants of a thousand agents would have some 400 MB and are beyond any server;
/// this is room for 100,000 agents.
const BYTES_MAX: usize = 64 * 1024 * 1024;
/// For one part.
const PART_WITHIN: Duration = Duration::from_secs(5);
/// Of one part, when whoever gave it ends.
const TRIES: usize = 3;
/// Before the next of them.
const AGAIN: Duration = Duration::from_millis(100);
/// Those who hold the same share the requests for its parts.
const GIVERS: &str = "holders";

/// What is said of a file in place of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    pub(super) revision: u64,
    /// SHA-256 of all of it, in hexadecimal digits.
    pub(super) digest: String,
    pub(super) bytes: usize,
}

#[derive(Debug, Clone)]
pub(super) struct Edition {
    pub(super) about: About,
    text: Bytes,
}

impl Edition {
    fn of(text: Bytes) -> Self {
        let revision = std::str::from_utf8(&text).map_or(0, accounts::revision);
        let digest = hex::encode(Sha256::digest(&text));
        Self { about: About { revision, digest, bytes: text.len() }, text }
    }

    pub(super) fn read(path: &Path) -> Result<Self, SyncError> {
        let text = fs::read(path).map_err(|source| SyncError::Read { path: path.to_owned(), source })?;
        match text.len() {
            bytes if bytes > BYTES_MAX => {
                Err(SyncError::TooLarge { path: path.to_owned(), bytes, max: BYTES_MAX })
            }
            _ => Ok(Self::of(text.into())),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), SyncError> {
        write_whole(path, &self.text, 0o644)
            .map_err(|source| SyncError::Write { path: path.to_owned(), source })
    }

    /// The same accounts by another number.
    pub(super) fn raised(&self, revision: u64) -> Self {
        let text = String::from_utf8_lossy(&self.text);
        Self::of(accounts::renumbered(&text, revision).into())
    }

    /// Asks those who hold it for its parts, and believes what has the digest.
    pub(super) async fn fetch(client: &Client, about: &About) -> Result<Self, SyncError> {
        let cut = |cause: String| SyncError::Cut { revision: about.revision, cause };
        if about.bytes > BYTES_MAX {
            return Err(cut(format!("found {} bytes, expected at most {BYTES_MAX}", about.bytes)));
        }
        let mut text = BytesMut::new();
        while text.len() < about.bytes {
            let part = part(client, about, text.len()).await.map_err(cut)?;
            if part.is_empty() || text.len() + part.len() > about.bytes {
                return Err(cut(format!("found a part of {} bytes at {}", part.len(), text.len())));
            }
            text.extend_from_slice(&part);
        }
        let found = Self::of(text.freeze());
        match found.about == *about {
            true => Ok(found),
            false => Err(cut("what came is not what was offered".to_owned())),
        }
    }
}

async fn part(client: &Client, about: &About, offset: usize) -> Result<Bytes, String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        let asked = client.request(accounts_part(&about.digest), offset.to_string().into());
        match tokio::time::timeout(PART_WITHIN, asked).await {
            Ok(Ok(part)) => return Ok(part.payload),
            Ok(Err(error)) => {
                last = error.to_string();
                tokio::time::sleep(AGAIN).await;
            }
            Err(_) => last = format!("no answer within {PART_WITHIN:?}"),
        }
    }
    Err(last)
}

/// Gives parts of it to whoever asks, until that cannot go on.
pub(super) async fn give(client: &Client, edition: &Edition) -> SyncError {
    let unavailable = |cause: String| SyncError::Unavailable { cause };
    let asked = client.queue_subscribe(accounts_part(&edition.about.digest), GIVERS.to_owned());
    let mut asked = match asked.await {
        Ok(asked) => asked,
        Err(error) => return unavailable(error.to_string()),
    };
    while let Some(request) = asked.next().await {
        let Some(reply) = request.reply else { continue };
        let offset = std::str::from_utf8(&request.payload).ok().and_then(|offset| offset.parse().ok());
        let Some(offset) = offset.filter(|&offset: &usize| offset < edition.text.len()) else { continue };
        let end = (offset + PART).min(edition.text.len());
        if let Err(error) = client.publish(reply, edition.text.slice(offset..end)).await {
            return unavailable(error.to_string());
        }
    }
    unavailable("the connection has ended".to_owned())
}
