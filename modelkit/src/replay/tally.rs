//! How many were parked before, and how many would be?

use std::collections::BTreeMap;

use serde::Serialize;

/// Names that one table lists; the rest is one line.
const NAMES_MAX: usize = 12;

/// Of some messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    pub messages: usize,
    pub parked_before: usize,
    pub parked_after: usize,
    /// Would be parked, and were not.
    pub newly: usize,
    /// Were parked, and would not be.
    pub no_longer: usize,
}

impl Tally {
    pub fn add(&mut self, before: bool, after: bool) {
        self.messages += 1;
        self.parked_before += usize::from(before);
        self.parked_after += usize::from(after);
        self.newly += usize::from(after && !before);
        self.no_longer += usize::from(before && !after);
    }

    /// Of the messages, those whose fate would be another.
    pub fn changed(&self) -> f64 {
        (self.newly + self.no_longer) as f64 / self.messages.max(1) as f64
    }
}

/// By some name, the most messages first.
#[derive(Debug, Default)]
pub struct ByName(BTreeMap<String, Tally>);

impl ByName {
    pub fn add(&mut self, name: &str, before: bool, after: bool) {
        match self.0.get_mut(name) {
            Some(tally) => tally.add(before, after),
            None => self.0.entry(name.to_owned()).or_default().add(before, after),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn rows(&self) -> Vec<(String, Tally)> {
        let mut rows: Vec<(String, Tally)> =
            self.0.iter().map(|(name, tally)| (name.clone(), *tally)).collect();
        rows.sort_by(|(a, of_a), (b, of_b)| of_b.messages.cmp(&of_a.messages).then_with(|| a.cmp(b)));
        let rest = rows.split_off(rows.len().min(NAMES_MAX));
        if !rest.is_empty() {
            let sum = rest.iter().fold(Tally::default(), |sum, (_, tally)| Tally {
                messages: sum.messages + tally.messages,
                parked_before: sum.parked_before + tally.parked_before,
                parked_after: sum.parked_after + tally.parked_after,
                newly: sum.newly + tally.newly,
                no_longer: sum.no_longer + tally.no_longer,
            });
            rows.push((format!("{} more", rest.len()), sum));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changes_is_counted_on_both_sides() {
        let mut tally = Tally::default();
        for (before, after) in [(true, true), (true, false), (false, true), (false, false)] {
            tally.add(before, after);
        }
        let expected = Tally { messages: 4, parked_before: 2, parked_after: 2, newly: 1, no_longer: 1 };
        assert_eq!(tally, expected);
        assert!((tally.changed() - 0.5).abs() < 1e-12);
        assert!(Tally::default().changed() < 1e-12, "of nothing nothing changes");
    }

    #[test]
    fn the_busiest_names_come_first_and_the_rest_is_one_line() {
        let mut names = ByName::default();
        for n in 0..20 {
            (0..=n).for_each(|_| names.add(&format!("agent-{n:02}"), false, true));
        }
        let rows = names.rows();
        assert_eq!(rows.len(), NAMES_MAX + 1);
        assert_eq!(rows.first().map(|(name, tally)| (name.as_str(), tally.newly)), Some(("agent-19", 20)));
        assert_eq!(rows.last().map(|(name, tally)| (name.as_str(), tally.messages)), Some(("8 more", 36)));
    }
}
