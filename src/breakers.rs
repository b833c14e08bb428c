//! May what has failed of late be asked now? A breaker for each thing that a node asks of others: after faults it is left
//! alone for a while, then one call finds out whether it is well again.
//!
//! Open, a breaker never means allow: who would have asked refuses, and says when to try again. [`Machine`] is the whole
//! of it as a function; [`Breaker`] is one that messages on all threads pass; [`Breakers`] are those of a node. Knows
//! nothing of what is asked: the rooms that ask say what a fault is.

mod all;
mod breaker;
mod kind;
mod machine;
mod window;

pub use all::{Breakers, Counts, Standing, TARGETS_MAX};
pub use breaker::{Breaker, Call, Open, Told};
pub use kind::{Kind, Recovery, Settings, Table};
pub use machine::{Answer, Event, Machine, Phase};
pub use window::Window;
