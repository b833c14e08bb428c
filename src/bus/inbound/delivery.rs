//! What does JetStream say of a message that it hands to a node? It stands in the reply subject (ADR-15).

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often and since when, from `$JS.ACK.…`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    /// From 1.
    pub(super) attempt: u64,
    kept_at: Duration,
    /// Messages that nobody has pulled yet.
    pub(super) waiting: u64,
}

impl Delivery {
    pub(super) fn read(reply: &str) -> Option<Self> {
        let tokens: Vec<&str> = reply.strip_prefix("$JS.ACK.")?.split('.').collect();
        // <stream> <consumer> <delivered> <stream seq> <consumer seq> <time> <pending>, and before them
        // <domain> <account> in the later form, which goes on after.
        let tokens = if tokens.len() == 7 { tokens.as_slice() } else { tokens.get(2..)? };
        let number = |index: usize| tokens.get(index)?.parse::<u64>().ok();
        Some(Self {
            attempt: number(2)?.max(1),
            kept_at: Duration::from_nanos(number(5)?),
            waiting: number(6)?,
        })
    }

    /// Since it was kept.
    pub(super) fn age(&self) -> Duration {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.saturating_sub(self.kept_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let plain = Delivery::read("$JS.ACK.IN_acme.nodes.3.17.21.1700000000000000000.5");
        assert_eq!(plain.map(|d| (d.attempt, d.waiting)), Some((3, 5)));
        assert!(plain.is_some_and(|d| d.kept_at == Duration::from_secs(1_700_000_000)));
        let later = Delivery::read("$JS.ACK._.hash.IN_acme.nodes.3.17.21.1700000000000000000.5.random");
        assert_eq!(later, plain);
        for bad in ["", "_INBOX.x", "$JS.ACK.IN_acme.nodes", "$JS.ACK.IN_acme.nodes.x.1.1.1.1"] {
            assert_eq!(Delivery::read(bad), None, "{bad:?}");
        }
    }
}
