//! The pure core: which way may a message go, as a function of facts?
//!
//! Evidence is handed forward by type, each made only from the one before: [`Admitted`] → [`Decoded`] →
//! [`Checked`] → [`Addressed`] → [`Permitted`] → [`Assessed`] → [`Routed`]. What the core cannot know it names
//! as a need ([`Judging`]): whoever calls it looks that up and goes on. The end is a [`Plan`], which others
//! carry out.
//!
//! Nothing here waits, asks a clock or throws dice: equal facts give equal plans. So a message can be judged
//! again from what was recorded, and by two policies beside each other. `tests/it/architecture/tidy.rs` holds it to that.

mod addressees;
mod chain;
mod constitution;
mod duties;
mod judge;
mod message;
mod plan;
mod recipients;
mod redact;
mod route;
mod rules;
mod seen;
mod structure;
mod units;

pub use addressees::{Addressees, Fanout};
pub use chain::Chain;
pub use duties::Duties;
pub use judge::Judging;
pub use message::{Admitted, Checked, Decoded, InForce};
pub use plan::{Effect, Parking, Plan, Written};
pub use recipients::{Addressed, Lookup, Permitted, Unaddressed, View};
pub use redact::redact;
pub use route::{Assessed, Route, Routed};
pub use rules::{Precondition, Purpose, RetryMode, Rules};
pub use seen::Seen;

#[cfg(test)]
mod tests;
