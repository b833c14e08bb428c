//! How is it told over the wire what one has counted, in no more than so many bytes?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Comparison, Example, Group, OTHERS, Tally};

/// Names of one group that are told at first; fewer, where they are too long.
const NAMES_TOLD: usize = 256;

/// A [`Comparison`], with the names where most changes, and all others as one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    all: Tally,
    groups: BTreeMap<Group, Vec<(String, Tally)>>,
    /// Each with its place among all, which it does not bear itself.
    examples: Vec<(u64, Example)>,
}

impl Summary {
    /// Of at most so many bytes as JSON; sums alone, if need be.
    pub fn of(comparison: &Comparison, bytes_max: usize) -> Self {
        let mut names = NAMES_TOLD;
        loop {
            let summary = Self::with(comparison, names);
            let bytes = serde_json::to_vec(&summary).map_or(0, |json| json.len());
            if bytes <= bytes_max || names == 0 {
                return summary;
            }
            names /= 2;
        }
    }

    fn with(comparison: &Comparison, names: usize) -> Self {
        let told = |&group| {
            let rows = comparison.rows(group);
            let (first, others) = rows.split_at(rows.len().min(names));
            let mut told: Vec<_> = first.iter().map(|&(name, tally)| (name.to_owned(), tally)).collect();
            if !others.is_empty() {
                let mut sum = Tally::default();
                others.iter().for_each(|(_, tally)| sum.merge(*tally));
                told.push((OTHERS.to_owned(), sum));
            }
            (group, told)
        };
        let numbered = |example: &Example| (example.number, Example { number: 0, ..example.clone() });
        let examples = comparison.examples().map(numbered);
        let examples = if names == 0 { Vec::new() } else { examples.collect() };
        Self { all: *comparison.all(), groups: Group::ALL.iter().map(told).collect(), examples }
    }
}

impl Comparison {
    /// Adds what somebody else tells.
    pub fn merge_told(&mut self, told: Summary) {
        let Summary { all, groups, examples } = told;
        let mut other = Comparison::new(examples.len());
        other.all = all;
        for (group, names) in groups {
            let mine = other.groups.entry(group).or_default();
            names.into_iter().for_each(|(name, tally)| super::tally_of(mine, &name).merge(tally));
        }
        examples.into_iter().for_each(|(number, example)| other.show(Example { number, ..example }));
        self.merge(other);
    }
}
