//! Which connection is that, to its server?

use async_nats::{Client, ServerInfo};

/// Characters of a server's id.
const SERVER_MAX: usize = 64;

/// A connection, as its server calls it. No server gives a number twice.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Link {
    server: String,
    client: u64,
}

impl Link {
    pub fn of(client: &Client) -> Self {
        Self::named(&client.server_info())
    }

    pub(super) fn named(info: &ServerInfo) -> Self {
        Self { server: info.server_id.clone(), client: info.client_id }
    }

    pub(super) fn new(server: String, client: u64) -> Self {
        Self { server, client }
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) fn client(&self) -> u64 {
        self.client
    }

    /// A server that can be named in a subject.
    pub(super) fn is_sound(&self) -> bool {
        let token = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit();
        (1..=SERVER_MAX).contains(&self.server.len()) && self.server.bytes().all(token)
    }
}
