//! The user that may ask NATS servers who is connected, and to end a connection: of a node that is stalled, of an agent
//! that is cut off, or of one that takes more than its share.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{
    BusError,
    connected::{Connected, connected},
    connection::secured,
    link::Link,
    open, reconnect_delay,
};
use crate::{
    config,
    domain::TenantId,
    tenants::{self, BusUser, Seed, User, names},
};

/// For a question to leave.
const WRITE_WITHIN: Duration = Duration::from_millis(500);
/// For the servers to answer.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// Connections in one answer of a server, and answers that are asked for.
const PAGE: usize = 128;
const PAGES_MAX: usize = 64;
/// Answers to one round of questions.
const ANSWERS_MAX: usize = 1_024;

/// A connection to account SYS. Clones are the same one.
#[derive(Clone)]
pub struct Kicker {
    client: Client,
    /// Servers that have answered when all were waited for; 0: nobody has.
    servers: Arc<AtomicUsize>,
}

/// How many servers there are, nobody knows beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WaitFor {
    /// All that there are: as long as one may take.
    All,
    /// As many as there were when all were waited for.
    AsMany,
}

impl Kicker {
    /// Connects now or when the server lets it in, where the configuration names a key.
    pub async fn connect(name: &str, settings: &config::Nats) -> Result<Option<Self>, BusError> {
        let Some(seed) = &settings.kicker_nkey_file else { return Ok(None) };
        let user = User::Bus(BusUser::Kicker);
        let options: ConnectOptions = tenants::connect::options(&user, &Seed::read(seed)?)
            .name(format!("agentbus node {name} kicker"))
            .connection_timeout(settings.timeout)
            .max_reconnects(None)
            .retry_on_initial_connect()
            .reconnect_delay_callback(reconnect_delay);
        let client = open(secured(options, settings)?, settings).await?;
        Ok(Some(Self { client, servers: Arc::default() }))
    }

    /// Asks the server to end it.
    pub(super) async fn end(&self, link: &Link) {
        let asked = serde_json::json!({ "cid": link.client() }).to_string();
        // The server acts only on what it could answer; the answer is of no use.
        let (subject, reply) = (names::kick(link.server()), self.client.new_inbox());
        let kicking = self.client.publish_with_reply(subject, reply, asked.into());
        let _ = tokio::time::timeout(WRITE_WITHIN, kicking).await;
    }

    /// How many there are, as far as is known; at least one.
    pub(super) fn servers(&self) -> usize {
        self.servers.load(Ordering::Relaxed).max(1)
    }

    /// What servers tell of themselves as it happens.
    pub(super) async fn hear(&self, subject: &'static str) -> Option<Subscriber> {
        self.client.subscribe(subject).await.ok()
    }

    /// What servers answer to each of these questions about connections, with the place of its question.
    pub(super) async fn connections(&self, questions: &[String], wait_for: WaitFor) -> Vec<(usize, Bytes)> {
        self.ask(names::CONNECTIONS, questions, wait_for).await
    }

    /// What all servers say of the accounts.
    pub(super) async fn accounts(&self) -> Vec<Bytes> {
        let answers = self.ask(names::ACCOUNTS, &[String::new()], WaitFor::All).await;
        answers.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Whether servers let this node ask that.
    pub(super) async fn may_ask_of_accounts(&self) -> bool {
        // Its own: a server without a connection of an account says nothing of it.
        let asked = serde_json::json!({ "accounts": [names::SYSTEM_ACCOUNT] }).to_string();
        !self.ask(names::ACCOUNTS, &[asked], WaitFor::All).await.is_empty()
    }

    /// All connections of a tenant's account. Asked by pages: what a client calls itself is in it, and no answer may be
    /// more than the server keeps for this connection.
    pub(super) async fn connected(&self, tenant: &TenantId) -> Vec<Connected> {
        let mut all = Vec::new();
        for page in 0..PAGES_MAX {
            let asked =
                serde_json::json!({ "acc": tenant, "auth": true, "limit": PAGE, "offset": page * PAGE });
            let answers = self.connections(&[asked.to_string()], WaitFor::AsMany).await;
            let pages: Vec<_> = answers.iter().map(|(_, answer)| connected(answer)).collect();
            let more = pages.iter().any(|page| page.len() >= PAGE);
            all.extend(pages.into_iter().flatten().filter(|one| one.account == tenant.as_str()));
            if !more {
                break;
            }
        }
        all
    }

    async fn ask(
        &self,
        subject: &'static str,
        questions: &[String],
        wait_for: WaitFor,
    ) -> Vec<(usize, Bytes)> {
        let inbox = self.client.new_inbox();
        let Ok(mut answers) = self.client.subscribe(format!("{inbox}.*")).await else { return Vec::new() };
        for (place, question) in questions.iter().enumerate() {
            let reply = format!("{inbox}.{place}");
            let asking = self.client.publish_with_reply(subject, reply, question.clone().into());
            let _ = tokio::time::timeout(WRITE_WITHIN, asking).await;
        }
        let known = match wait_for {
            WaitFor::All => 0,
            WaitFor::AsMany => self.servers.load(Ordering::Relaxed) * questions.len(),
        };
        let most = if known == 0 { ANSWERS_MAX } else { known.min(ANSWERS_MAX) };
        let until = tokio::time::Instant::now() + ANSWERS_WITHIN;
        let mut all = Vec::new();
        while all.len() < most
            && let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await
        {
            let place = answer.subject.rsplit_once('.').and_then(|(_, place)| place.parse().ok());
            all.extend(place.map(|place: usize| (place, answer.payload)));
        }
        // Every server answers this one.
        if wait_for == WaitFor::All && subject == names::CONNECTIONS {
            let first = all.iter().filter(|(place, _)| *place == 0);
            self.servers.store(first.count(), Ordering::Relaxed);
        }
        all
    }
}
