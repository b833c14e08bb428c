//! What do tests start before they can ask anything?

use std::path::Path;

pub(crate) mod bus;
pub(crate) mod cluster;
pub(crate) mod fault_points;
pub(crate) mod last_version;
#[cfg(feature = "model")]
pub(crate) mod model;
pub(crate) mod opa;
pub(crate) mod raw;
pub(crate) mod servers;

/// The repository, which the program's package is a folder of.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
