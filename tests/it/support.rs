//! What do tests start before they can ask anything?

pub(crate) mod bus;
pub(crate) mod cluster;
#[cfg(feature = "model")]
pub(crate) mod model;
pub(crate) mod raw;
pub(crate) mod servers;
