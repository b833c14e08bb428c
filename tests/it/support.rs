//! What do tests start before they can ask anything?

pub(crate) mod bus;
pub(crate) mod servers;
