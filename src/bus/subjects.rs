//! Subjects: built from checked identifiers, and read back into them.

use crate::{
    domain::{AgentId, IdError, TenantId, id::shown},
    pipeline::RecordPlace,
    state::MessageKey,
};

/// Reads who is asking from the subject, which NATS has stamped.
///
/// The server accepts publishes to subjects with NUL, invalid UTF-8 and `..`, so the tokens are
/// checked here as well.
pub(crate) fn asker(subject: &str) -> Result<(TenantId, AgentId), IdError> {
    let mut tokens = subject.split('.');
    match (tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next(), tokens.next()) {
        (Some("tenant"), Some(tenant), Some("bus"), Some(agent), Some(_), None) => {
            Ok((tenant.parse()?, agent.parse()?))
        }
        _ => Err(IdError {
            what: "subject",
            expected: "tenant.<tenant>.bus.<agent>.<verb>",
            found: shown(subject),
        }),
    }
}

pub(crate) fn inbox(tenant: &TenantId, agent: &AgentId) -> String {
    format!("tenant.{tenant}.agent.{agent}.inbox")
}

/// Where it is recorded that a message is about to be delivered, and if that came to nothing.
///
/// Only the holder of the message's claim writes here, so the last record tells whether it was sent.
pub(crate) fn intent(key: &MessageKey) -> String {
    format!("record.{}.{}.{}.intent", key.tenant, key.sender, key.message)
}

/// Where a record belongs. `~` stands where no message id was readable; no id contains it.
pub(crate) fn record(place: RecordPlace<'_>) -> String {
    let RecordPlace { tenant, sender, message, after_intent } = place;
    let message = message.map_or("~", |id| id.as_str());
    let last = if after_intent { "intent" } else { "verdict" };
    format!("record.{tenant}.{sender}.{message}.{last}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_asker_is_read_only_from_well_formed_subjects() {
        assert!(asker("tenant.acme.bus.planner.send").is_ok());
        for bad in [
            "tenant.acme.bus..send",
            "tenant.acme.bus.a b.send",
            "tenant.acme.bus.a\0.send",
            "tenant.acme.bus.planner.send.more",
            "tenant.acme.agent.planner.send",
            "tenant.*.bus.planner.send",
            "",
        ] {
            assert!(asker(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
