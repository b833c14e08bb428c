//! What is done with more requests than can be worked on? Some are worked on, the next wait for a moment in fair turns,
//! and the rest hears at once that there is no room.
//!
//! - [`Gate`]: begins, waits or is refused? [`Place`]: one request that is worked on.
//! - `backlog`: what waits, for how long and how much of it. `limit`: how many may be worked on, by how long they take.
//!
//! Knows nothing of messages: who asks says whose a request is and what it costs.

mod backlog;
mod gate;
mod limit;

pub use gate::{Entered, Gate, Next, Place};
