//! Does a connection still do what it is there for? A message to ourselves, again and again.
//!
//! async-nats' own state says "connected" also when the task behind it has ended.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::Client;
use parking_lot::Mutex;

use super::fence;
use crate::{shutdown::Shutdown, supervisor::Supervisor};

/// When a message last came back over a connection.
pub struct RoundTrips {
    started: Instant,
    last: Mutex<Option<Instant>>,
}

impl RoundTrips {
    /// Watches a connection until the shutdown. A connection whose task is gone ends the node: whatever was
    /// made with it would have to be made anew.
    pub fn watch(
        name: &'static str,
        client: Client,
        every: Duration,
        background: &Shutdown,
        supervisor: &Supervisor,
    ) -> Arc<Self> {
        let round_trips = Arc::new(Self { started: Instant::now(), last: Mutex::new(None) });
        let (seen, fatal) = (Arc::clone(&round_trips), supervisor.clone());
        supervisor.keep(name, background.tracker(), background.token().clone(), move || {
            let (seen, client, fatal) = (Arc::clone(&seen), client.clone(), fatal.clone());
            async move {
                loop {
                    match fence(&client).await {
                        Some(true) => *seen.last.lock() = Some(Instant::now()),
                        Some(false) => {}
                        None => fatal.fail(format!("{name}: the connection to NATS has ended for good")),
                    }
                    tokio::time::sleep(every).await;
                }
            }
        });
        round_trips
    }

    /// For how long no message has come back.
    pub fn silent_for(&self) -> Duration {
        self.last.lock().unwrap_or(self.started).elapsed()
    }
}
