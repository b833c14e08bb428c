//! Does JetStream take records? Asked the way that they go: each second by one that it has to refuse, so that
//! nothing is stored of it, and now and then by one that is stored. A stream that is full, or a server whose disk
//! is, still refuses what it has to.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_nats::{Client, HeaderMap, header::NATS_EXPECTED_LAST_SEQUENCE};
use parking_lot::Mutex;

use super::jetstream::publish::{PublishFailure, Published, published};
use crate::{
    audit::{PROBE, PROBE_SUBJECT},
    breakers::Breaker,
    shutdown::Shutdown,
    supervisor::Supervisor,
};

const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Some 100 bytes each: a node's take one in a thousand of the stream's default size.
const STORED_EVERY: Duration = Duration::from_secs(10);
/// No stream gets so far.
const NEVER_LAST: &str = "1000000000000000000";

/// What JetStream last said.
#[derive(Default)]
pub struct RecordsProbe {
    trouble: Mutex<Option<String>>,
}

impl RecordsProbe {
    /// Asks until the background ends, and closes the breaker when records are taken again.
    pub fn watch(
        client: Client,
        breaker: Arc<Breaker>,
        background: &Shutdown,
        supervisor: &Supervisor,
    ) -> Arc<Self> {
        let probe = Arc::new(Self::default());
        let watched = Arc::clone(&probe);
        supervisor.keep("records", background.tracker(), background.token().clone(), move || {
            let (probe, client, breaker) = (Arc::clone(&watched), client.clone(), Arc::clone(&breaker));
            async move {
                let mut stored: Option<Instant> = None;
                loop {
                    // What is in trouble is well again when one is stored.
                    let store = stored.is_none_or(|at| at.elapsed() >= STORED_EVERY);
                    let answer = ask(&client, store).await;
                    match (&answer, store) {
                        (Ok(()), true) => {
                            stored = Some(Instant::now());
                            breaker.restored();
                        }
                        (Ok(()), false) => {}
                        (Err(_), _) => stored = None,
                    }
                    *probe.trouble.lock() = answer.err();
                    tokio::time::sleep(PROBE_EVERY).await;
                }
            }
        });
        probe
    }

    /// Why it would take none, for people.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().clone()
    }
}

async fn ask(client: &Client, store: bool) -> Result<(), String> {
    let mut headers = HeaderMap::new();
    if !store {
        headers.insert(NATS_EXPECTED_LAST_SEQUENCE, NEVER_LAST);
    }
    let answer = client.request_with_headers(PROBE_SUBJECT, headers, PROBE.into()).await;
    let answer = answer.map_err(|error| format!("it does not answer ({})", error.kind()))?;
    match published(&answer) {
        Ok(Published::Kept { .. } | Published::Late) => Ok(()),
        Err(PublishFailure::Full(why) | PublishFailure::Refused { description: why, .. }) => Err(why),
        Err(_) => Err("what answers is no JetStream".to_owned()),
    }
}
