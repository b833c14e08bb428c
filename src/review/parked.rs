//! The message that a deliberation is about.

use crate::{
    deliberation::{Case, LogError},
    wire,
};

/// The parked message, as it was decoded when it was parked.
pub(super) fn message(case: &Case) -> Result<wire::Decoded, LogError> {
    let parked = &case.parked;
    let stamp = wire::Stamp { tenant: &parked.tenant, sender: &parked.sender };
    // Nothing but a node has written it, and JetStream bounds it.
    let limits = wire::Limits {
        request_bytes: parked.message.len(),
        content_bytes: parked.message.len(),
        ..wire::Limits::default()
    };
    wire::decode(parked.message.as_bytes(), stamp, &limits)
        .map_err(|failure| LogError::Unreadable(failure.to_string()))
}
