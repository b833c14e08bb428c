//! What of an event may anybody see? What `data.system.log` of a policy leaves of it.

use serde_json::Value;

use super::{event::erase, mask};
use crate::policy::rego::LogPolicy;

/// Takes out what nobody is to see. `false`: the event is not to be seen at all. Who is told hears why the rules
/// cannot be followed; then neither input nor result is left.
pub(in crate::policy) fn leave_visible(
    policy: &LogPolicy,
    event: &mut Value,
    mut tell: impl FnMut(&str),
) -> bool {
    let mut withhold = |event: &mut Value, cause: &str| {
        tell(cause);
        // Unknown never shows what was to be hidden.
        erase(event, "/input");
        erase(event, "/result");
    };
    match policy.drops(event) {
        Ok(true) => return false,
        Ok(false) => {}
        Err(cause) => withhold(event, &cause.to_string()),
    }
    let masks = policy.masks(event).map_err(|cause| cause.to_string());
    if let Err(cause) = masks.and_then(|masks| mask::apply(&masks, event)) {
        withhold(event, &cause);
    }
    true
}
