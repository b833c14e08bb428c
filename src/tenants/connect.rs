//! How does a user log in? Its seed, its inbox, and bounded waits.

use std::{path::Path, sync::Arc, time::Duration};

use async_nats::{Client, ConnectOptions};

use super::{
    keys::{KeysError, Seed},
    names::User,
};
use crate::tls::{self, TlsError};

/// For the TCP connection and the log-in.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// For the answer to one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead connection is noticed after two of them.
const PING_INTERVAL: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The server knows no such key: generated, but not applied?
    #[error("the NATS server does not accept {user}; apply the tenants first")]
    Refused { user: User },
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("no NATS server answers at {url}: {cause}")]
    Unreachable { url: String, cause: String },
}

/// Logs in with the user's seed below `dir`.
pub async fn connect(
    server: impl Into<tls::Server>,
    dir: &Path,
    user: impl Into<User>,
) -> Result<Client, ConnectError> {
    let server = server.into();
    let user = user.into();
    let seed = Seed::read(&user.seed_path(dir))?;
    secured(options(&user, &seed), &server.files)?.connect(server.urls()).await.map_err(|error| {
        use async_nats::ConnectErrorKind as Kind;
        match error.kind() {
            Kind::Authentication | Kind::AuthorizationViolation => ConnectError::Refused { user },
            _ => ConnectError::Unreachable { url: server.url, cause: error.to_string() },
        }
    })
}

/// Options for a client of this user, to add to. Without the inbox prefix the server refuses the
/// client's inbox.
pub fn options(user: &User, seed: &Seed) -> ConnectOptions {
    ConnectOptions::with_nkey(seed.reveal().to_owned())
        .custom_inbox_prefix(user.inbox_prefix())
        .name(user)
        .connection_timeout(CONNECT_TIMEOUT)
        .request_timeout(Some(REQUEST_TIMEOUT))
        .ping_interval(PING_INTERVAL)
}

/// With TLS, and with nothing else, if files are named for it. Reads them.
pub(crate) fn secured(options: ConnectOptions, files: &tls::Files) -> Result<ConnectOptions, TlsError> {
    if !files.are_named() {
        return Ok(options);
    }
    let config = Arc::unwrap_or_clone(tls::client(files)?);
    Ok(options.require_tls(true).tls_client_config(config))
}
