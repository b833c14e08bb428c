//! How good are scores, where it is known which texts are harmful?
//!
//! Pure functions over scores and labels. What has no meaning (the AUC of texts that are all
//! harmless) is absent, not 0. Knows nothing of where scores come from.

use std::collections::BTreeMap;

use agentbus::domain::LEVELS;

mod curves;
mod grades;
mod plots;
mod report;

pub use curves::{Bin, Step, histogram, reliability, steps};
pub use grades::{AtFalseAlarms, Grades, Parked, probabilities, worst};
pub use report::{Report, html};

/// A text with a known answer, and what the scorer said.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub score: f64,
    /// How likely each level is, if the scorer knows levels.
    pub levels: Option<[f64; LEVELS]>,
    /// Whether it should be found.
    pub high: bool,
    /// How harmful, 0 to 3, if the data says so.
    pub level: Option<u8>,
    /// Where it comes from.
    pub group: String,
    pub text: String,
}

/// Right and wrong at one threshold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Confusion {
    pub found: usize,
    pub missed: usize,
    pub false_alarms: usize,
    pub left_alone: usize,
}

/// All figures of one set of texts.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Figures {
    pub texts: usize,
    pub high: usize,
    pub threshold: f64,
    pub confusion: Confusion,
    /// Area under the ROC curve: how often a harmful text scores above a harmless one, ties half.
    pub auc: Option<f64>,
    /// Area under the precision–recall curve, by steps.
    pub average_precision: Option<f64>,
    pub f1: Option<f64>,
    pub precision: Option<f64>,
    pub recall: Option<f64>,
    /// Of the harmless, how many are at or above the threshold.
    pub false_positive_rate: Option<f64>,
    pub best_f1: Option<f64>,
    /// Where [`Figures::best_f1`] is: the middle between the scores on both sides.
    pub best_f1_threshold: Option<f64>,
    /// Of the harmful, how many are found if at most 5 % of the harmless may be.
    pub recall_at_5_percent: Option<f64>,
    /// Mean squared distance from 0 or 1.
    pub brier: Option<f64>,
    /// Expected calibration error, over ten bins of equal width.
    pub calibration_error: Option<f64>,
    pub log_loss: Option<f64>,
}

/// Width of the bins of [`Figures::calibration_error`] and of the reliability plot.
const BINS: usize = 10;

impl Figures {
    pub fn of<'a>(judged: impl IntoIterator<Item = &'a Judged>, threshold: f64) -> Self {
        let pairs: Vec<(f64, bool)> = judged.into_iter().map(|one| (one.score, one.high)).collect();
        Self::of_pairs(&pairs, threshold)
    }

    /// Of scores from 0 to 1 and whether they should be high.
    pub fn of_pairs(pairs: &[(f64, bool)], threshold: f64) -> Self {
        let steps = steps(pairs);
        let confusion = Confusion::at(pairs, threshold);
        let high = confusion.found + confusion.missed;
        let harmless = confusion.false_alarms + confusion.left_alone;
        let best = best_f1(&steps, high);
        Self {
            texts: pairs.len(),
            high,
            threshold,
            confusion,
            auc: auc(&steps, high, harmless),
            average_precision: average_precision(&steps, high),
            f1: f1(confusion.found, confusion.false_alarms, high),
            precision: ratio(confusion.found, confusion.found + confusion.false_alarms),
            recall: ratio(confusion.found, high),
            false_positive_rate: ratio(confusion.false_alarms, harmless),
            best_f1: best.map(|(f1, _)| f1),
            best_f1_threshold: best.map(|(_, threshold)| threshold),
            recall_at_5_percent: recall_at(&steps, high, harmless, 0.05),
            brier: mean(pairs.iter().map(|&(score, high)| (score - f64::from(u8::from(high))).powi(2))),
            calibration_error: calibration_error(pairs),
            log_loss: mean(pairs.iter().map(|&(score, high)| log_loss(score, high))),
        }
    }
}

impl Confusion {
    fn at(pairs: &[(f64, bool)], threshold: f64) -> Self {
        let mut counts = Self::default();
        for &(score, high) in pairs {
            match (high, score >= threshold) {
                (true, true) => counts.found += 1,
                (true, false) => counts.missed += 1,
                (false, true) => counts.false_alarms += 1,
                (false, false) => counts.left_alone += 1,
            }
        }
        counts
    }
}

/// The figures of each group of texts, in the order of their names.
pub fn by_group(judged: &[Judged], threshold: f64) -> Vec<(String, Figures)> {
    by(judged, threshold, |one| Some(one.group.clone()))
}

/// The grades of each group that has levels, in the order of their names.
pub fn grades_by_group(judged: &[Judged]) -> Vec<(String, Grades)> {
    let mut groups: BTreeMap<&str, Vec<&Judged>> = BTreeMap::new();
    for one in judged {
        groups.entry(&one.group).or_default().push(one);
    }
    groups.into_iter().filter_map(|(name, all)| Some((name.to_owned(), Grades::of(all)?))).collect()
}

/// The figures of each level, of those texts that have one.
pub fn by_level(judged: &[Judged], threshold: f64) -> Vec<(u8, Figures)> {
    by(judged, threshold, |one| one.level)
}

fn by<K: Ord>(judged: &[Judged], threshold: f64, key: impl Fn(&Judged) -> Option<K>) -> Vec<(K, Figures)> {
    let mut groups: BTreeMap<K, Vec<&Judged>> = BTreeMap::new();
    for one in judged {
        if let Some(key) = key(one) {
            groups.entry(key).or_default().push(one);
        }
    }
    groups.into_iter().map(|(key, members)| (key, Figures::of(members, threshold))).collect()
}

fn ratio(part: usize, whole: usize) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> Option<f64> {
    let count = values.len();
    (count > 0).then(|| values.sum::<f64>() / count as f64)
}

/// The harmonic mean of precision and recall, 0 if nothing is found. Without anything to find it
/// has no meaning.
fn f1(found: usize, false_alarms: usize, high: usize) -> Option<f64> {
    (high > 0).then(|| 2.0 * found as f64 / (found + false_alarms + high) as f64)
}

fn best_f1(steps: &[Step], high: usize) -> Option<(f64, f64)> {
    let mut best: Option<(f64, f64)> = None;
    let below = steps.iter().skip(1).map(|step| step.score).chain(std::iter::once(0.0));
    for (step, below) in steps.iter().zip(below) {
        let here = f1(step.found, step.false_alarms, high)?;
        if best.is_none_or(|(most, _)| here > most) {
            best = Some((here, f64::midpoint(step.score, below)));
        }
    }
    best
}

/// By trapezoids over the ROC steps, which counts ties half.
fn auc(steps: &[Step], high: usize, harmless: usize) -> Option<f64> {
    if high == 0 || harmless == 0 {
        return None;
    }
    let (mut area, mut before) = (0.0, (0, 0));
    for step in steps {
        let width = (step.false_alarms - before.0) as f64;
        area += width * (step.found + before.1) as f64 / 2.0;
        before = (step.false_alarms, step.found);
    }
    Some(area / (high as f64 * harmless as f64))
}

fn average_precision(steps: &[Step], high: usize) -> Option<f64> {
    if high == 0 {
        return None;
    }
    let (mut sum, mut before) = (0.0, 0);
    for step in steps {
        let precision = step.found as f64 / (step.found + step.false_alarms) as f64;
        sum += precision * (step.found - before) as f64;
        before = step.found;
    }
    Some(sum / high as f64)
}

fn recall_at(steps: &[Step], high: usize, harmless: usize, false_positives_max: f64) -> Option<f64> {
    let allowed = false_positives_max * harmless as f64;
    let found = steps.iter().filter(|step| step.false_alarms as f64 <= allowed).map(|step| step.found).max();
    if harmless == 0 { None } else { ratio(found.unwrap_or(0), high) }
}

fn calibration_error(pairs: &[(f64, bool)]) -> Option<f64> {
    let bins = reliability(pairs, BINS);
    let distance = bins.iter().map(|bin| (bin.mean_score - bin.share_high).abs() * bin.texts as f64);
    (!pairs.is_empty()).then(|| distance.sum::<f64>() / pairs.len() as f64)
}

/// Of one answer; bounded, so that one confident mistake is not infinite.
pub fn log_loss(score: f64, high: bool) -> f64 {
    let right = if high { score } else { 1.0 - score };
    -right.max(1e-15).ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "tests")]

    use super::*;

    /// Six texts, worked out by hand.
    const SIX: &[(f64, bool)] =
        &[(0.9, true), (0.8, false), (0.7, true), (0.4, true), (0.3, false), (0.1, false)];

    fn close(found: Option<f64>, expected: f64) {
        assert!(found.is_some_and(|found| (found - expected).abs() < 1e-12), "{found:?} ≠ {expected}");
    }

    #[test]
    fn figures_are_those_worked_out_by_hand() {
        let figures = Figures::of_pairs(SIX, 0.5);
        assert_eq!(figures.confusion, Confusion { found: 2, missed: 1, false_alarms: 1, left_alone: 2 });
        // Of nine pairs, (0.7, 0.8) and (0.4, 0.8) are the wrong way round.
        close(figures.auc, 7.0 / 9.0);
        // Precision where recall rises: 1/1, 2/3, 3/4.
        close(figures.average_precision, (1.0 + 2.0 / 3.0 + 3.0 / 4.0) / 3.0);
        close(figures.f1, 2.0 / 3.0);
        close(figures.precision, 2.0 / 3.0);
        close(figures.recall, 2.0 / 3.0);
        close(figures.false_positive_rate, 1.0 / 3.0);
        close(figures.best_f1, 6.0 / 7.0);
        close(figures.best_f1_threshold, 0.35);
        close(figures.recall_at_5_percent, 1.0 / 3.0);
        close(figures.brier, (0.01 + 0.64 + 0.09 + 0.36 + 0.09 + 0.01) / 6.0);
        // Every text is alone in its bin.
        close(figures.calibration_error, (0.1 + 0.8 + 0.3 + 0.6 + 0.3 + 0.1) / 6.0);
    }

    #[test]
    fn ties_count_half_and_the_order_of_texts_does_not_matter() {
        let tied = [(0.5, true), (0.5, false)];
        close(Figures::of_pairs(&tied, 0.5).auc, 0.5);
        close(Figures::of_pairs(&tied, 0.5).average_precision, 0.5);
        let mut backwards = SIX.to_vec();
        backwards.reverse();
        let (one, other) = (Figures::of_pairs(SIX, 0.5), Figures::of_pairs(&backwards, 0.5));
        assert_eq!((one.auc, one.best_f1_threshold), (other.auc, other.best_f1_threshold));
    }

    #[test]
    fn what_has_no_meaning_is_absent() {
        let none = Figures::of_pairs(&[], 0.5);
        assert!(none.auc.is_none() && none.brier.is_none() && none.calibration_error.is_none());
        let harmless = Figures::of_pairs(&[(0.2, false), (0.7, false)], 0.5);
        assert!(harmless.auc.is_none() && harmless.f1.is_none() && harmless.recall.is_none());
        close(harmless.false_positive_rate, 0.5);
        let harmful = Figures::of_pairs(&[(0.2, true)], 0.5);
        assert!(harmful.auc.is_none() && harmful.false_positive_rate.is_none());
        close(harmful.recall, 0.0);
    }

    #[test]
    fn a_perfect_and_a_wrong_order_are_one_and_zero() {
        let perfect = [(1.0, true), (0.9, true), (0.2, false), (0.0, false)];
        let figures = Figures::of_pairs(&perfect, 0.5);
        close(figures.auc, 1.0);
        close(figures.best_f1, 1.0);
        close(figures.recall_at_5_percent, 1.0);
        let wrong: Vec<(f64, bool)> = perfect.iter().map(|&(score, high)| (score, !high)).collect();
        close(Figures::of_pairs(&wrong, 0.5).auc, 0.0);
    }

    #[test]
    fn groups_and_levels_have_figures_of_their_own() {
        let judged: Vec<Judged> = [("b", 2, 0.9), ("a", 0, 0.1), ("b", 0, 0.6)]
            .into_iter()
            .map(|(group, level, score)| Judged {
                score,
                levels: None,
                high: level >= 2,
                level: Some(level),
                group: group.to_owned(),
                text: String::new(),
            })
            .collect();
        let groups = by_group(&judged, 0.5);
        let sizes: Vec<(&str, usize)> =
            groups.iter().map(|(name, figures)| (name.as_str(), figures.texts)).collect();
        assert_eq!(sizes, [("a", 1), ("b", 2)]);
        let levels: Vec<(u8, usize)> =
            by_level(&judged, 0.5).iter().map(|(level, figures)| (*level, figures.texts)).collect();
        assert_eq!(levels, [(0, 2), (2, 1)]);
    }
}
