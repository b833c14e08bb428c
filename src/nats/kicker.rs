//! The user that may ask NATS servers who is connected, and to end a connection: of a node that is stalled, or of an
//! agent that is cut off.

use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::{BusError, connection::secured, link::Link, open, reconnect_delay};
use crate::{
    config,
    tenants::{self, BusUser, Seed, User, names},
};

/// For a question to leave.
const WRITE_WITHIN: Duration = Duration::from_millis(500);
/// For the servers to answer; how many there are, nobody knows beforehand.
const ANSWERS_WITHIN: Duration = Duration::from_millis(500);
/// Answers to one round of questions.
const ANSWERS_MAX: usize = 1_024;

/// A connection to account SYS. Clones are the same one.
#[derive(Clone)]
pub struct Kicker(Client);

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
        open(secured(options, settings)?, settings).await.map(Self).map(Some)
    }

    /// Asks the server to end it.
    pub(super) async fn end(&self, link: &Link) {
        let asked = serde_json::json!({ "cid": link.client() }).to_string();
        // The server acts only on what it could answer; the answer is of no use.
        let (subject, reply) = (names::kick(link.server()), self.0.new_inbox());
        let kicking = self.0.publish_with_reply(subject, reply, asked.into());
        let _ = tokio::time::timeout(WRITE_WITHIN, kicking).await;
    }

    /// What all servers answer to each of these questions about connections, with the place of its question.
    pub(super) async fn connections(&self, questions: &[String]) -> Vec<(usize, Bytes)> {
        let inbox = self.0.new_inbox();
        let Ok(mut answers) = self.0.subscribe(format!("{inbox}.*")).await else { return Vec::new() };
        for (place, question) in questions.iter().enumerate() {
            let reply = format!("{inbox}.{place}");
            let asking = self.0.publish_with_reply(names::CONNECTIONS, reply, question.clone().into());
            let _ = tokio::time::timeout(WRITE_WITHIN, asking).await;
        }
        let until = tokio::time::Instant::now() + ANSWERS_WITHIN;
        let mut all = Vec::new();
        while let Ok(Some(answer)) = tokio::time::timeout_at(until, answers.next()).await {
            let place = answer.subject.rsplit_once('.').and_then(|(_, place)| place.parse().ok());
            all.extend(place.map(|place| (place, answer.payload)));
            if all.len() == ANSWERS_MAX {
                break;
            }
        }
        all
    }
}
