//! Every way to say no, as one value: the reason word, the facts, and when to try again.
//!
//! Modules have their own closed error enums with facts; each maps, exhaustively, to a `Rejection`.
//! Its `detail` goes to the sender, so it never holds an internal address, a secret or a cause from
//! a library; those belong in the log.

use std::time::Duration;

use crate::domain::{Reason, Status};

/// A message that goes no further.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{}: {detail}", reason.as_str())]
pub struct Rejection {
    pub reason: Reason,
    /// One sentence: what was found, what was expected.
    pub detail: String,
    pub retry_after: Option<Duration>,
}

impl Rejection {
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), retry_after: None }
    }

    /// `what` was not asked, since it has failed of late: nothing was done.
    pub fn breaker_open(what: &str, retry_after: Duration) -> Self {
        let detail = format!("{what} has failed of late and is left alone for a moment; nothing was done");
        Self::new(Reason::BreakerOpen, detail).after(retry_after)
    }

    /// With the time before which a retry is pointless.
    pub fn after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..self }
    }

    /// `shed` when the bus had no room for the message or an operator has stopped it, `rejected` when it judged it.
    pub fn status(&self) -> Status {
        match self.reason {
            Reason::RateLimited | Reason::Overloaded | Reason::Frozen => Status::Shed,
            _ => Status::Rejected,
        }
    }
}
