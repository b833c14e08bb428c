//! Is there another node of this name? Records, verdicts and logs could not be told apart.
//!
//! A node says on a subject of its name's own who it is. Whoever hears somebody else there has a namesake.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Client;
use futures_util::StreamExt as _;
use parking_lot::Mutex;

use crate::{
    shutdown::Shutdown,
    supervisor::Supervisor,
    tenants::{BusUser, User},
};

const SAY_EVERY: Duration = Duration::from_secs(2);
/// A namesake that was not heard for so long is gone.
const GONE_AFTER: Duration = Duration::from_secs(7);

/// When another node of the same name was last heard.
pub struct Namesakes {
    /// Of this process.
    id: String,
    subject: String,
    heard: Mutex<Option<Instant>>,
}

impl Namesakes {
    /// Says and hears it until the shutdown.
    pub fn watch(name: &str, client: Client, shutdown: &Shutdown, supervisor: &Supervisor) -> Arc<Self> {
        // Of the account of the nodes: no agent hears or says anything there.
        let subject = format!("{}.name.{name}", User::Bus(BusUser::Node).inbox_prefix());
        let namesakes = Arc::new(Self { id: nuid::next().to_string(), subject, heard: Mutex::default() });
        let watched = Arc::clone(&namesakes);
        supervisor.keep("name", shutdown.tracker(), shutdown.token().clone(), move || {
            let (namesakes, client) = (Arc::clone(&watched), client.clone());
            async move { namesakes.run(&client).await }
        });
        namesakes
    }

    pub fn is_there(&self) -> bool {
        self.heard.lock().is_some_and(|at| at.elapsed() < GONE_AFTER)
    }

    async fn run(&self, client: &Client) {
        let Ok(mut others) = client.subscribe(self.subject.clone()).await else { return };
        let mut say = tokio::time::interval(SAY_EVERY);
        loop {
            tokio::select! {
                _ = say.tick() => {
                    // One that is lost is said again.
                    let _ = client.publish(self.subject.clone(), self.id.clone().into()).await;
                }
                other = others.next() => match other {
                    Some(other) if other.payload != self.id.as_bytes() => self.hear(),
                    Some(_) => {}
                    None => return,
                },
            }
        }
    }

    fn hear(&self) {
        if !self.is_there() {
            tracing::error!("another node has the name of this one: give each its own (node.name)");
        }
        *self.heard.lock() = Some(Instant::now());
    }
}
