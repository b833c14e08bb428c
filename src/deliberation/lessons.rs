//! What is kept of a tenant's learning, and what the next judgement adds to it.

use std::collections::VecDeque;

use super::{
    Case,
    learning::{Change, Learned, SAMPLES, Sample, threshold},
};
use crate::domain::{DeliberationId, Tenant, Timestamp, impact::NOT_NEEDED, scale as scale_of};

/// Deliberations that are known to have taught; a repeat of a later one is as good as impossible.
const TAUGHT_MAX: usize = 64;

/// The value of a key.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The threshold that the operator had configured. With another, learning begins anew: the
    /// operator's word is the last.
    pub configured: f64,
    /// Whose scores it is about. With another head learning begins anew. Absent: of a node without a model, or of
    /// a version that knew one head alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<String>,
    pub learned: Learned,
    /// The last that taught, so that none does twice.
    pub taught: VecDeque<DeliberationId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_change: Option<LastChange>,
}

/// How the threshold came to be what it is.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LastChange {
    pub at: Timestamp,
    pub from: f64,
    pub to: f64,
    pub reason: String,
    pub deliberation: DeliberationId,
}

impl Entry {
    fn new(configured: f64, scale: Option<&str>) -> Self {
        let learned = Learned::new(configured);
        Self {
            configured,
            scale: scale.map(str::to_owned),
            learned,
            taught: VecDeque::new(),
            last_change: None,
        }
    }

    fn note(&mut self, deliberation: &DeliberationId) {
        self.taught.push_back(deliberation.clone());
        while self.taught.len() > TAUGHT_MAX {
            self.taught.pop_front();
        }
    }
}

/// What is under a key.
#[derive(Debug, Clone)]
pub enum Reading {
    Nothing,
    Entry(Box<Entry>),
    /// Another version's, or damaged. Neither used nor overwritten.
    Unreadable,
}

impl Reading {
    /// What was learned from this configured threshold on this scale; on any, where the node has none.
    pub fn of(&self, configured: f64, scale: Option<&str>) -> Option<&Entry> {
        let Reading::Entry(entry) = self else { return None };
        let from_here = entry.configured.total_cmp(&configured).is_eq();
        let comparable = scale.is_none() || entry.scale.as_deref() == scale;
        (from_here && comparable).then_some(&**entry)
    }
}

/// What a concluded deliberation adds to what is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Lesson {
    /// It says nothing about the threshold.
    Nothing,
    /// It has taught before.
    Taught,
    /// What is to be kept from now on, and how the threshold moves by it, if it does.
    New { entry: Box<Entry>, change: Option<LastChange> },
    /// What is kept cannot be read, and is not to be overwritten.
    Unreadable,
}

/// What this deliberation teaches, by what its tenant's judgements have taught so far.
pub fn lesson(case: &Case, known: &Reading, tenant: &Tenant, scale: Option<&str>, now: Timestamp) -> Lesson {
    if matches!(known, Reading::Unreadable) {
        return Lesson::Unreadable;
    }
    let (id, adaptive) = (&case.parked.id, &tenant.deliberation.adaptive);
    let configured = tenant.limits.deliberation_threshold;
    let mut entry = known.of(configured, scale).cloned().unwrap_or_else(|| Entry::new(configured, scale));
    if entry.taught.contains(id) {
        return Lesson::Taught;
    }
    let in_force = threshold(configured, Some(&entry.learned), adaptive);
    let Some(sample) = Sample::of(case, in_force) else { return Lesson::Nothing };
    let (learned, change) = entry.learned.learn(sample, adaptive);
    entry.learned = learned;
    entry.note(id);
    let change = change.map(|change| LastChange {
        at: now,
        from: change.from,
        to: change.to,
        reason: sentence(&change),
        deliberation: id.clone(),
    });
    if change.is_some() {
        entry.last_change.clone_from(&change);
    }
    Lesson::New { entry: Box::new(entry), change }
}

/// Whether another head told its impact, which says nothing about a threshold for this one.
pub fn on_another_scale(case: &Case, scale: Option<&str>) -> bool {
    let model = case.parked.impact.as_ref().map(|impact| impact.model.as_str());
    match (model, scale) {
        (Some(model), Some(own)) if model != NOT_NEEDED => scale_of(model) != own,
        _ => false,
    }
}

fn sentence(change: &Change) -> String {
    let Change { from, to, false_positives, false_negatives } = change;
    if to > from {
        format!(
            "of the last {SAMPLES} that were judged, {false_positives} were parked for their impact and approved"
        )
    } else {
        format!(
            "of the last {SAMPLES} that were judged, {false_negatives} were below the threshold and denied"
        )
    }
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
