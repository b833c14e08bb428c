//! What do tests start before they can ask anything?

pub(crate) mod bus;
pub(crate) mod cluster;
pub(crate) mod last_version;
#[cfg(feature = "model")]
pub(crate) mod model;
pub(crate) mod raw;
pub(crate) mod servers;
