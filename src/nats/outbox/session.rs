//! The outbox's thread and its connection.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, atomic::Ordering},
};

use async_nats::{Client, Event, Subscriber};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use super::{
    batch::{End, Job, write},
    confirmations::{Shared, read},
};
use crate::{
    config,
    nats::{BusError, Link, open_any, options, reconnect_delay, server_list::Servers},
    supervisor::Supervisor,
};

/// What the thread is called among the node's parts.
const PART: &str = "outbox";
/// Publishes that wait for the connection; more than a full batch has, so that writing one does
/// not wait half-way.
const PUBLISHES_MAX: usize = 16_384;

/// How the thread connects.
pub(super) struct Session {
    pub(super) name: String,
    pub(super) settings: config::Nats,
    /// A session begins with what those before it were told.
    pub(super) servers: Mutex<Servers>,
    /// Where the server says that nobody listens to a question.
    pub(super) unheard: String,
    pub(super) supervisor: Supervisor,
}

/// The life of the thread: one session after the other.
///
/// Each session has a runtime of its own, and its end drops all that the connection still held: what
/// was not on the wire when it was lost will never be, and whoever waits for it hears that it is not
/// confirmed. async-nats' own reconnect would send it late, when another node may have acted.
pub(super) fn keep(session: &Session, mut queue: mpsc::Receiver<Job>, shared: &Arc<Shared>) {
    let mut lost = 0;
    loop {
        let end = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => {
                let run = session.supervisor.within(PART, session.run(&mut queue, shared));
                std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run))).ok()
            }
            Err(error) => {
                tracing::error!(%error, "no runtime for the outbox");
                Some(End::Lost)
            }
        };
        lost = if shared.connected.swap(false, Ordering::Relaxed) { 1 } else { lost + 1 };
        shared.unfenced.lock().clear();
        shared.unacked.lock().clear();
        match end {
            Some(End::Closed) => return,
            Some(End::Lost) => std::thread::sleep(reconnect_delay(lost)),
            // It has panicked.
            None => match session.supervisor.restart(PART) {
                Some(pause) => std::thread::sleep(pause),
                None => return,
            },
        }
    }
}

impl Session {
    async fn run(&self, queue: &mut mpsc::Receiver<Job>, shared: &Arc<Shared>) -> End {
        let disconnected = Arc::new(Notify::new());
        let (client, inbox, answers, unheard) = match self.open(Arc::clone(&disconnected)).await {
            Ok(opened) => opened,
            Err(error) => {
                tracing::warn!(%error, "the outbox does not reach NATS");
                // A handle may be gone while there is nothing to connect to.
                return if queue.is_closed() { End::Closed } else { End::Lost };
            }
        };
        shared.payload_max.store(client.max_payload(), Ordering::Relaxed);
        shared.connected.store(true, Ordering::Relaxed);
        *shared.link.lock() = Some(Link::of(&client));
        tokio::select! {
            end = write(&client, &inbox, queue, shared) => end,
            () = read(answers, unheard, shared) => End::Lost,
            () = disconnected.notified() => End::Lost,
        }
    }

    async fn open(
        &self,
        disconnected: Arc<Notify>,
    ) -> Result<(Client, String, Subscriber, Subscriber), BusError> {
        let options = options(&self.name, &self.settings)?.client_capacity(PUBLISHES_MAX).event_callback(
            move |event| {
                if matches!(event, Event::Disconnected | Event::Closed) {
                    disconnected.notify_one();
                }
                std::future::ready(())
            },
        );
        let servers = self.servers.lock().all();
        let client = open_any(options, servers, &self.settings).await?;
        self.servers.lock().learn(&client.server_info());
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*.*")).await?;
        let unheard = client.subscribe(self.unheard.clone()).await?;
        Ok((client, inbox, answers, unheard))
    }
}
