//! What is kept of a tenant's learning, under its key.

use std::collections::VecDeque;

use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};

use crate::{
    deliberation::learning::Learned,
    domain::{DeliberationId, TenantId, Timestamp},
    tenants::names::THRESHOLDS_BUCKET,
};

/// Deliberations that are known to have taught; a repeat of a later one is as good as impossible.
const TAUGHT_MAX: usize = 64;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The threshold that the operator had configured. With another, learning begins anew: the
    /// operator's word is the last.
    pub(super) configured: f64,
    /// Whose scores it is about. With another head learning begins anew. Absent: of a node without a model, or of
    /// a version that knew one head alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scale: Option<String>,
    pub(super) learned: Learned,
    /// The last that taught, so that none does twice.
    pub(super) taught: VecDeque<DeliberationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) last_change: Option<LastChange>,
}

/// How the threshold came to be what it is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastChange {
    pub(super) at: Timestamp,
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) reason: String,
    pub(super) deliberation: DeliberationId,
}

impl Entry {
    pub(super) fn new(configured: f64, scale: Option<&str>) -> Self {
        let learned = Learned::new(configured);
        Self {
            configured,
            scale: scale.map(str::to_owned),
            learned,
            taught: VecDeque::new(),
            last_change: None,
        }
    }

    pub(super) fn note(&mut self, deliberation: &DeliberationId) {
        self.taught.push_back(deliberation.clone());
        while self.taught.len() > TAUGHT_MAX {
            self.taught.pop_front();
        }
    }
}

/// What is under a key.
#[derive(Debug, Clone)]
pub(super) enum Reading {
    Nothing,
    Entry(Box<Entry>),
    /// Another version's, or damaged. Neither used nor overwritten.
    Unreadable,
}

impl Reading {
    /// What was learned from this configured threshold on this scale; on any, where the node has none.
    pub(super) fn of(&self, configured: f64, scale: Option<&str>) -> Option<&Entry> {
        let Reading::Entry(entry) = self else { return None };
        let from_here = entry.configured.total_cmp(&configured).is_eq();
        let comparable = scale.is_none() || entry.scale.as_deref() == scale;
        (from_here && comparable).then_some(&**entry)
    }
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(super) struct ReadingError(String);

impl<K> From<async_nats::error::Error<K>> for ReadingError
where
    K: Clone + std::fmt::Debug + std::fmt::Display + PartialEq,
{
    fn from(error: async_nats::error::Error<K>) -> Self {
        Self(error.to_string())
    }
}

pub(super) fn subject(tenant: &TenantId) -> String {
    format!("$KV.{THRESHOLDS_BUCKET}.{tenant}")
}

/// The revision and what is there; 0 for nothing.
pub(super) async fn read(bucket: &Stream<()>, tenant: &TenantId) -> Result<(u64, Reading), ReadingError> {
    let message = match bucket.get_last_raw_message_by_subject(&subject(tenant)).await {
        Ok(message) => message,
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
            return Ok((0, Reading::Nothing));
        }
        Err(error) => return Err(error.into()),
    };
    let reading = if message.headers.get("KV-Operation").is_some() {
        // Deleted: the operator wants it forgotten.
        Reading::Nothing
    } else {
        match serde_json::from_slice(&message.payload) {
            Ok(entry) => Reading::Entry(Box::new(entry)),
            Err(error) => {
                tracing::error!(%tenant, %error, "what was learned cannot be read; the floor is in force");
                Reading::Unreadable
            }
        }
    };
    Ok((message.sequence, reading))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::deliberation::learning::Sample;

    #[test]
    fn what_was_learned_is_written_and_read_as_other_versions_do() {
        let id: DeliberationId = "0123456789abcdef01234567".parse().unwrap();
        let mut entry = Entry::new(0.8, None);
        entry.learned.judged.push_back(Sample::FalseNegative);
        entry.note(&id);
        entry.last_change = Some(LastChange {
            at: Timestamp(1_790_000_000_000),
            from: 0.8,
            to: 0.75,
            reason: "denied below it".to_owned(),
            deliberation: id,
        });
        let committed = crate::golden::same("threshold.json", &serde_json::to_vec(&entry).unwrap());
        assert_eq!(serde_json::from_slice::<Entry>(&committed).unwrap(), entry);
        entry.scale = Some("0123abcd".to_owned());
        let committed = crate::golden::same("threshold-scale.json", &serde_json::to_vec(&entry).unwrap());
        assert_eq!(serde_json::from_slice::<Entry>(&committed).unwrap(), entry);
    }

    #[test]
    fn what_was_learned_of_one_heads_scores_is_nothing_to_another() {
        let reading = Reading::Entry(Box::new(Entry::new(0.8, Some("old"))));
        assert!(reading.of(0.8, Some("old")).is_some());
        assert!(reading.of(0.8, Some("new")).is_none());
        assert!(reading.of(0.8, None).is_some(), "a node without a model is not laxer than those with one");
        assert!(reading.of(0.7, Some("old")).is_none());
        let before = Reading::Entry(Box::new(Entry::new(0.8, None)));
        assert!(before.of(0.8, Some("new")).is_none(), "nobody knows whose scores they were");
    }
}
