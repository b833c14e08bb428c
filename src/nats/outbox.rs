//! What leaves the node: records, deliveries, and the proof that somebody listened.
//!
//! Batches are written, all on one connection, so the server sees them in this order: the records of a few
//! intents, then their deliveries, then the next few, at the end a *fence*, a ping. Deliveries carry a reply subject, so for an inbox without a
//! subscription the server answers "no responders" at once; when the pong comes back, every such answer has come
//! before it, and every other delivery is in a subscriber's connection. One fence serves all that was waiting: a round
//! trip a batch, not a message.
//!
//! Each thread of the fast lane has such a connection. What the messages of one turn of its loop have to send, they
//! write into one batch, which leaves in one write behind them; so a node that is killed has sent a record and its
//! delivery, or neither. Is the write cut in two, it is so for all messages but those of one part. Records of one
//! tenant and turn are one message in a part (`audit::together`).

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_nats::Client;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use super::{BusError, Link, files, headers::HEADERS_MAX, intake::session::Login};
use crate::{
    audit::{Record, Written},
    config,
    event_loop::{EventLoop, PerLoop},
    lanes::{Dispatch, Handover, LiveError, LiveTransport, Named},
    shutdown::Shutdown,
    state::MessageKey,
    supervisor::Supervisor,
    telemetry::Metrics,
    tenants::{Seed, names},
};

mod batch;
mod confirmations;
mod holders;
mod session;

use batch::Out;
use confirmations::Shared;
use holders::{Holders, Unreadable};
use session::Life;

/// A delivery without a fence, or a record without an ack, is given up after this.
const CONFIRM_WITHIN: Duration = Duration::from_secs(2);

/// The live transport over NATS.
pub struct Outbox {
    holders: Holders,
    connections: PerLoop<Arc<Shared>>,
}

impl Outbox {
    /// `asking` is this node's token in the subjects of answers.
    pub fn start(
        name: &str,
        settings: &config::Nats,
        reader: Client,
        metrics: Arc<Metrics>,
        asking: &str,
        (loops, background, supervisor): (&PerLoop<EventLoop>, &Shutdown, &Supervisor),
    ) -> Result<Self, BusError> {
        super::servers(settings)?;
        let seed = settings.nkey_file.as_deref().map(Seed::read).transpose()?;
        let connections = loops.map(|event_loop| {
            let shared = Arc::new(Shared {
                connected: AtomicBool::new(false),
                link: Mutex::default(),
                payload_max: AtomicUsize::new(reader.max_payload()),
                out: Mutex::new(Out::default()),
                wake: Notify::new(),
                metrics: Arc::clone(&metrics),
            });
            let life = Arc::new(Life {
                shared: Arc::clone(&shared),
                login: Login {
                    name: format!("agentbus node {name} outbox"),
                    seed: seed.clone(),
                    files: files(settings),
                },
                settings: settings.clone(),
                unheard: names::unheard_questions(asking),
            });
            let _on = event_loop.handle().enter();
            supervisor.keep("outbox", background.tracker(), background.token().clone(), move || {
                let life = Arc::clone(&life);
                async move { life.run().await }
            });
            shared
        });
        Ok(Self { holders: Holders::new(reader), connections })
    }

    /// Waits for the first connection; the caller bounds the wait.
    pub async fn ready(&self) {
        while !self.connected() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What the server calls the connections.
    pub fn links(&self) -> Vec<Link> {
        self.connections.iter().filter_map(|shared| shared.link.lock().clone()).collect()
    }

    /// All of its connections are there.
    pub fn connected(&self) -> bool {
        self.connections.iter().all(|shared| shared.connected.load(Ordering::Relaxed))
    }

    /// For how long JetStream has not acknowledged records, if that is too long.
    pub fn records_late(&self) -> Option<Duration> {
        self.connections.iter().filter_map(|shared| shared.records_late()).max()
    }

    /// Waits until everything handed in so far is written, fenced and acknowledged. `false`: not
    /// within the limit.
    pub async fn flush(&self, limit: Duration) -> bool {
        let done = async {
            while !self.connections.iter().all(|shared| shared.out.lock().is_idle()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(limit, done).await.is_ok()
    }
}

#[async_trait]
impl LiveTransport for Outbox {
    async fn deliver(&self, dispatch: Dispatch) -> Result<Vec<Handover>, LiveError> {
        let shared = self.connections.here();
        if let Some(late) = shared.records_late() {
            return Err(LiveError::RecordsUnconfirmed {
                unconfirmed_ms: u64::try_from(late.as_millis()).unwrap_or(u64::MAX),
            });
        }
        let (done, handovers) = oneshot::channel();
        shared.out.lock().deliver(dispatch, done)?;
        shared.wake.notify_one();
        handovers.await.map_err(|_| LiveError::Unconfirmed)
    }

    fn record(&self, record: Written) -> Result<(), LiveError> {
        let shared = self.connections.here();
        shared.out.lock().record(record)?;
        shared.wake.notify_one();
        Ok(())
    }

    async fn last_intent(
        &self,
        key: &MessageKey,
        named: Named<'_>,
    ) -> Result<Option<Record<'static>>, LiveError> {
        self.holders.last_intent(key, named).await.map_err(|cause| {
            tracing::warn!(%cause, "records unreadable");
            match cause {
                Unreadable::Stream(_) => LiveError::RecordsUnreadable,
                Unreadable::Record(_) | Unreadable::TooMany | Unreadable::Busy => LiveError::RecordStrange,
            }
        })
    }

    fn payload_max(&self) -> usize {
        self.connections.here().payload_max.load(Ordering::Relaxed).saturating_sub(HEADERS_MAX)
    }
}
