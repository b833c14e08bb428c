//! What does JetStream say of a message that it hands to a node? It stands in the reply subject (ADR-15).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often and since when, from `$JS.ACK.…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::nats) struct DeliveryInfo {
    /// From 1.
    pub(in crate::nats) attempt: u64,
    /// Its place in the stream.
    pub(in crate::nats) sequence: u64,
    kept_at: Duration,
}

impl DeliveryInfo {
    pub(in crate::nats) fn read(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        // <stream> <consumer> <delivered> <stream seq> <consumer seq> <time> <pending>, and before them
        // <domain> <account> in the later form, which goes on after.
        let tokens = if tokens.len() == 7 { tokens.as_slice() } else { tokens.get(2..)? };
        let number = |index: usize| tokens.get(index)?.parse::<u64>().ok();
        Some(Self {
            attempt: number(2)?.max(1),
            sequence: number(3)?,
            kept_at: Duration::from_nanos(number(5)?),
        })
    }

    /// Since it was kept.
    pub(in crate::nats) fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(self.kept_at)
    }
}

/// How many messages a consumer has not settled, from its description (`CONSUMER.INFO`): nobody has pulled
/// them, they are in somebody's hands, or they were given back until later.
pub(in crate::nats) fn unsettled(description: &[u8]) -> Option<u64> {
    #[derive(serde::Deserialize)]
    struct Description {
        num_pending: u64,
        num_ack_pending: u64,
    }
    let Description { num_pending, num_ack_pending } = serde_json::from_slice(description).ok()?;
    Some(num_pending.saturating_add(num_ack_pending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let plain = DeliveryInfo::read("$JS.ACK.IN_acme.nodes.3.17.21.1700000000000000000.5");
        assert_eq!(plain.map(|d| (d.attempt, d.sequence)), Some((3, 17)));
        assert!(plain.is_some_and(|d| d.kept_at == Duration::from_secs(1_700_000_000)));
        let later = DeliveryInfo::read("$JS.ACK._.hash.IN_acme.nodes.3.17.21.1700000000000000000.5.random");
        assert_eq!(later, plain);
        for bad in ["", "_INBOX.x", "$JS.ACK.IN_acme.nodes", "$JS.ACK.IN_acme.nodes.x.1.1.1.1"] {
            assert_eq!(DeliveryInfo::read(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn what_was_given_back_is_not_settled() {
        let description = br#"{"type":"x","num_ack_pending":3,"num_redelivered":2,"num_pending":4}"#;
        assert_eq!(unsettled(description), Some(7));
        assert_eq!(unsettled(br#"{"error":{"code":404,"description":"consumer not found"}}"#), None);
    }
}
