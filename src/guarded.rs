//! What a node asks of others, behind breakers: each port that leads out of it, in the same shape, and open at once where
//! it would only fail late.
//!
//! What counts as a fault is said here, for each port: no answer, or none in time. An answer that refuses is an answer,
//! and what one message brings about must not close the way of all others. Knows no backend: `app` says what is behind.

mod lane;
mod live;
mod log;
mod spread;
mod store;

pub use lane::GuardedLane;
pub use live::GuardedTransport;
pub use log::GuardedLog;
pub use spread::Spread;
pub use store::GuardedStore;
