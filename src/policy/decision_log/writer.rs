//! The thread that writes events: masked, of bounded length, into the file and on to the bus.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use serde_json::Value;
use tokio::sync::mpsc;

use super::{
    Losses, Settings, Written,
    event::{self, Labels},
    file::EventFile,
    visible::leave_visible,
};
use crate::policy::decided::Decided;

/// Of an event: half of what NATS takes.
const EVENT_BYTES_MAX: usize = 128 * 1024;

pub(super) struct Writer {
    labels: Labels,
    content: bool,
    file: Option<EventFile>,
    losses: Losses,
}

impl Writer {
    pub(super) fn new(settings: &Settings, node: &str, losses: Losses) -> io::Result<Self> {
        let file = settings.file.clone().map(EventFile::open).transpose()?;
        Ok(Self { labels: Labels::of(node), content: settings.content, file, losses })
    }

    /// Until nobody tells of decisions any more.
    pub(super) fn run(mut self, mut decided: mpsc::Receiver<Decided>, written: &mpsc::Sender<Written>) {
        while let Some(decided) = decided.blocking_recv() {
            // The operator's rules run here, and so does regorus.
            let event = catch_unwind(AssertUnwindSafe(|| self.event(&decided)));
            let event = match event {
                Ok(Some(event)) => event,
                Ok(None) => continue,
                Err(_) => {
                    self.losses.lost("an event could not be written: a panic");
                    continue;
                }
            };
            if let Some(file) = &mut self.file
                && let Err(error) = file.append(&event)
            {
                self.losses.lost_by_file(&format!("{}: {error}", file.path().display()));
            }
            let question = decided.question.ask();
            let event = Written {
                tenant: question.tenant.id.clone(),
                sender: question.sender.id.clone(),
                decision_id: decided.id.clone(),
                event: event.into(),
                _room: decided.room,
            };
            if written.blocking_send(event).is_err() {
                self.losses.lost("the node is stopping");
            }
        }
    }

    /// `None`: the policy does not want it to be logged.
    fn event(&self, decided: &Decided) -> Option<Vec<u8>> {
        let mut event = event::of(decided, &self.labels);
        if !self.content {
            event::erase_content(&mut event);
        }
        if let Some(policy) = &decided.log_policy {
            let what = "what data.system.log says cannot be followed; input and result are not logged";
            if !leave_visible(policy, &mut event, |cause| self.losses.told(cause, what)) {
                return None;
            }
        }
        Some(bounded(event))
    }
}

/// The event as JSON, without what makes it too long.
fn bounded(mut event: Value) -> Vec<u8> {
    let fits = |event: &Value| {
        let bytes = event.to_string().into_bytes();
        (bytes.len() <= EVENT_BYTES_MAX).then_some(bytes)
    };
    if let Some(bytes) = fits(&event) {
        return bytes;
    }
    event::erase_content(&mut event);
    if let Some(bytes) = fits(&event) {
        return bytes;
    }
    event::erase(&mut event, "/input");
    event.to_string().into_bytes()
}
