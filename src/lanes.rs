//! The lanes: each way of a message on one screen, and all in the same verbs.
//!
//! `send`, `submit` and `drain`, `ask` and `answer`, and `release` begin an `attempt`, which has the deadline,
//! the span, the timings, the answer and the record; they admit, decode, judge, claim and commit. What a message
//! may do is decided by [`crate::governance`]; here its needs are looked up and its plans carried out. Knows
//! nothing of NATS: what leaves the node goes through [`LiveTransport`] and [`DurableLane`].
//!
//! In reading order: `send`, then `attempt`, then the file of each verb.

mod admission;
mod answer;
mod ask;
mod attempt;
pub mod backoff;
mod chain;
mod claim;
mod commit;
mod decode;
mod deliver;
mod drain;
mod durable;
mod earlier;
mod errors;
mod findings;
mod fleet;
mod follows;
mod hours;
mod idempotency;
mod journal;
mod judge;
mod last_heard;
mod lease;
mod live;
mod lookup;
mod measured;
mod notify;
mod oblige;
mod pack;
mod park;
mod parts;
mod places;
mod questions;
mod rates;
mod refuse;
mod release;
mod request;
mod retry;
mod rotation;
mod send;
mod spans;
mod submit;
mod trace;
mod turns;

pub use admission::{Admission, AdmissionLimits, Slot};
pub use ask::{Ask, Heard, Waiting};
pub use decode::not_computed;
pub use drain::{Queued, Settled};
pub use durable::{
    Accepted, DeadLetter, DurableLane, DurableWrite, Evidence, LaneError, Noted, Notice, OutcomeStage,
    Stored, Submission,
};
pub use errors::registry_unavailable;
pub use fleet::Fleet;
pub use hours::Hours;
pub use last_heard::LastHeard;
pub use live::{AnswerTo, Delivery, Dispatch, Handover, LiveError, LiveTransport, Named};
pub use lookup::find;
pub use parts::Lanes;
pub use questions::{Asked, QuestionLimits, Questions};
pub use rates::Rates;
pub use release::RELEASES_MAX;
pub use request::{Answer, Limits, Request, Tenants};
pub use retry::{ATTEMPTS_MAX, FaultOwner, RetryGrace};
pub use rotation::Rotation;
pub use turns::Turns;

pub use crate::governance::Precondition;
