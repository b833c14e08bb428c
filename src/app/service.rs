//! What is the service manager told of a node, and when?
//!
//! A node is ready for it when `/readyz` is good for the first time, and it lives as long as `/livez` says so and both
//! the runtime's threads and the fast lane's event loops still come to what is given to them.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::{basis::Basis, health::NodeHealth};
use crate::{
    admin::{Health as _, Report},
    health::State,
    service_manager::{Notice, ServiceManager},
    shutdown::Shutdown,
};

/// Between two looks at the node, and less where the watchdog is stricter.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Looks within the time that the watchdog allows.
const LOOKS: u32 = 4;
/// A node waits for NATS as long as it takes. One that says nothing for so long does not wait, it hangs.
const STARTS_WITHIN: Duration = Duration::from_secs(30);

struct Service {
    manager: ServiceManager,
    health: Arc<NodeHealth>,
    loops: Vec<Handle>,
    shutdown: Shutdown,
}

/// What the manager has heard.
#[derive(Default)]
struct Told {
    ready: bool,
    stopping: bool,
    status: String,
    /// It did not take something, and the log says so.
    in_vain: bool,
}

/// Tells the service manager of the node until its end, if one wants to hear.
pub(super) fn keep(basis: &Basis, health: &Arc<NodeHealth>) {
    let manager = match ServiceManager::of_environment() {
        Ok(Some(manager)) => manager,
        Ok(None) => return,
        Err(error) => return tracing::error!(%error, "the service manager is told nothing"),
    };
    let loops =
        basis.loops.iter().chain([&basis.durable]).map(|event_loop| event_loop.handle().clone()).collect();
    let health = Arc::clone(health);
    let service = Arc::new(Service { manager, health, loops, shutdown: basis.shutdown.clone() });
    basis.keep("service", move || {
        let service = Arc::clone(&service);
        async move { service.run().await }
    });
}

impl Service {
    async fn run(&self) {
        let strict = self.manager.watchdog().map_or(LOOK_EVERY, |limit| limit / LOOKS);
        let mut told = Told::default();
        loop {
            // Whoever waits here is told nothing by: that is what the watchdog is for. But the stop is told at once.
            let turned = tokio::select! {
                turned = self.turn() => turned,
                () = self.shutdown.requested(), if !told.stopping => false,
            };
            self.look(&mut told, turned);
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY.min(strict)) => {}
                () = self.shutdown.requested(), if !told.stopping => {}
            }
        }
    }

    /// Waits until each event loop comes to something new.
    async fn turn(&self) -> bool {
        let turns = self.loops.iter().map(|event_loop| event_loop.spawn(async {}));
        join_all(turns).await.iter().all(Result::is_ok)
    }

    fn look(&self, told: &mut Told, turned: bool) {
        let report = self.health.report();
        let stopping = self.shutdown.is_requested();
        let ready = told.ready || (report.ready() && !stopping);
        let status = if stopping { "stopping".to_owned() } else { status(&report) };
        let mut notices = Vec::new();
        if stopping && !told.stopping {
            notices.push(Notice::Stopping);
        }
        if ready && !told.ready {
            notices.push(Notice::Ready);
        }
        if turned && !ready && !stopping {
            notices.push(Notice::Starting(STARTS_WITHIN));
        }
        if turned && report.live && self.manager.watchdog().is_some() {
            notices.push(Notice::Beat);
        }
        if status != told.status {
            notices.push(Notice::Status(&status));
        }
        match self.manager.tell(&notices) {
            Ok(()) => *told = Told { ready, stopping, status, in_vain: false },
            Err(error) => {
                if !told.in_vain {
                    tracing::warn!(%error, "the service manager takes nothing; trying again without end");
                }
                told.in_vain = true;
            }
        }
    }
}

/// One line: how the node is, and which parts are not well.
fn status(report: &Report) -> String {
    let ill = report.parts.iter().filter(|part| part.health.state != State::Up);
    let parts: Vec<String> = ill.map(|part| format!("{}: {}", part.name, part.health.note)).collect();
    let word = report.status();
    if parts.is_empty() { word.to_owned() } else { format!("{word}; {}", parts.join("; ")) }
}

#[cfg(test)]
mod tests;
