//! Who would have to look? How far levels are told apart, and what each threshold parks of each.

use agentbus::domain::LEVELS;

use super::{Figures, Judged, Step, calibration_error, ratio, steps};

/// Thresholds that are shown: 0.5 to 0.95.
const THRESHOLDS: std::ops::RangeInclusive<u8> = 10..=19;
/// Shares of the harmless that may be parked in vain.
const FALSE_ALARMS: [f64; 2] = [0.01, 0.05];
/// From this level on a text is high.
const HIGH: usize = 2;

/// Of texts whose level is known.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Grades {
    pub texts: [usize; LEVELS],
    /// How often a text of level 2 or above scores above one of a level below, ties half.
    pub auc_level_2: Option<f64>,
    /// The same of level 3.
    pub auc_level_3: Option<f64>,
    /// Expected calibration error of the probability of level 2 or above; of the score, if the scorer knows no
    /// levels.
    pub calibration_error: Option<f64>,
    pub parked: Vec<Parked>,
    pub at_false_alarms: Vec<AtFalseAlarms>,
}

/// What one threshold parks of each level.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Parked {
    pub threshold: f64,
    pub share: [Option<f64>; LEVELS],
}

/// What is found of level 2 and above, if at most so many of the others may be parked with it.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct AtFalseAlarms {
    pub allowed: f64,
    /// The lowest threshold that keeps to it; absent if none does.
    pub threshold: Option<f64>,
    pub recall: Option<f64>,
    pub precision: Option<f64>,
}

impl Grades {
    /// Nothing if no text has a level.
    pub fn of<'a>(judged: impl IntoIterator<Item = &'a Judged>) -> Option<Self> {
        let graded: Vec<&Judged> = judged.into_iter().filter(|one| one.level.is_some()).collect();
        let above = |level| -> Vec<(f64, bool)> {
            graded.iter().map(|one| (one.score, one.place() >= level)).collect()
        };
        let auc = |level| Figures::of_pairs(&above(level), 0.5).auc;
        let texts = counts(&graded, |_| true);
        (!graded.is_empty()).then(|| Self {
            texts,
            auc_level_2: auc(HIGH),
            auc_level_3: auc(LEVELS - 1),
            calibration_error: calibration_error(&probabilities(graded.iter().copied())),
            parked: THRESHOLDS
                .map(|twentieth| Parked::at(f64::from(twentieth) / 20.0, &graded, texts))
                .collect(),
            at_false_alarms: FALSE_ALARMS.map(|allowed| AtFalseAlarms::of(&above(HIGH), allowed)).into(),
        })
    }
}

impl Parked {
    fn at(threshold: f64, graded: &[&Judged], texts: [usize; LEVELS]) -> Self {
        let parked = counts(graded, |one| one.score >= threshold);
        let mut share = [None; LEVELS];
        for ((share, parked), texts) in share.iter_mut().zip(parked).zip(texts) {
            *share = ratio(parked, texts);
        }
        Self { threshold, share }
    }
}

impl AtFalseAlarms {
    fn of(pairs: &[(f64, bool)], allowed: f64) -> Self {
        let high = pairs.iter().filter(|(_, high)| *high).count();
        let most = allowed * (pairs.len() - high) as f64;
        let steps = steps(pairs);
        let best: Option<&Step> = steps.iter().take_while(|step| step.false_alarms as f64 <= most).last();
        let (found, false_alarms) = best.map_or((0, 0), |step| (step.found, step.false_alarms));
        Self {
            allowed,
            threshold: best.map(|step| step.score),
            recall: ratio(found, high),
            precision: ratio(found, found + false_alarms),
        }
    }
}

impl Judged {
    fn place(&self) -> usize {
        self.level.map_or(0, usize::from)
    }

    /// How likely it is of level 2 or above, by what the scorer says.
    fn probability(&self) -> f64 {
        self.levels.map_or(self.score, |levels| levels.iter().skip(HIGH).sum())
    }
}

/// How likely each text is high, and whether it is.
pub fn probabilities<'a>(judged: impl IntoIterator<Item = &'a Judged>) -> Vec<(f64, bool)> {
    judged.into_iter().map(|one| (one.probability(), one.high)).collect()
}

/// The group whose texts are told apart worst, of those that have both kinds.
pub fn worst(groups: &[(String, Figures)]) -> Option<(&str, f64)> {
    let known = groups.iter().filter_map(|(name, figures)| Some((name.as_str(), figures.auc?)));
    known.min_by(|a, b| a.1.total_cmp(&b.1))
}

fn counts(graded: &[&Judged], counted: impl Fn(&Judged) -> bool) -> [usize; LEVELS] {
    let mut counts = [0; LEVELS];
    for one in graded.iter().filter(|one| counted(one)) {
        if let Some(count) = counts.get_mut(one.place()) {
            *count += 1;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp, reason = "tests")]

    use super::*;

    fn judged(level: u8, score: f64) -> Judged {
        Judged {
            score,
            levels: None,
            high: level >= 2,
            level: Some(level),
            group: "g".to_owned(),
            text: String::new(),
        }
    }

    fn some() -> Vec<Judged> {
        [(0, 0.1), (0, 0.6), (1, 0.2), (1, 0.3), (2, 0.65), (2, 0.5), (3, 0.9), (3, 0.4)]
            .map(|(level, score)| judged(level, score))
            .into()
    }

    #[test]
    fn each_threshold_says_what_it_parks_of_each_level() {
        let grades = Grades::of(&some()).unwrap();
        assert_eq!(grades.texts, [2, 2, 2, 2]);
        let at = |threshold: f64| grades.parked.iter().find(|it| it.threshold == threshold).unwrap().share;
        assert_eq!(at(0.5), [Some(0.5), Some(0.0), Some(1.0), Some(0.5)]);
        assert_eq!(at(0.65), [Some(0.0), Some(0.0), Some(0.5), Some(0.5)]);
        assert_eq!(at(0.95), [Some(0.0); 4]);
        assert_eq!(grades.parked.len(), 10);
    }

    #[test]
    fn levels_two_and_three_have_an_area_each_worked_out_by_hand() {
        let grades = Grades::of(&some()).unwrap();
        // Of 16 pairs, 0.5 and 0.4 are below 0.6.
        assert_eq!(grades.auc_level_2, Some(14.0 / 16.0));
        // Of 12 pairs, 0.4 is below 0.6, 0.65 and 0.5.
        assert_eq!(grades.auc_level_3, Some(9.0 / 12.0));
    }

    #[test]
    fn what_is_found_keeps_to_the_false_alarms_that_are_allowed() {
        let at = AtFalseAlarms::of(&[(0.9, true), (0.8, false), (0.7, true), (0.1, false)], 0.05);
        assert_eq!((at.threshold, at.recall, at.precision), (Some(0.9), Some(0.5), Some(1.0)));
        let none = AtFalseAlarms::of(&[(0.9, false), (0.8, true)], 0.05);
        assert_eq!((none.threshold, none.recall, none.precision), (None, Some(0.0), None));
    }

    #[test]
    fn calibration_is_of_the_levels_probabilities_where_there_are_some() {
        let mut sure = judged(3, 0.9);
        sure.levels = Some([0.0, 0.0, 0.25, 0.75]);
        assert_eq!(Grades::of([&sure]).unwrap().calibration_error, Some(0.0));
        assert!((Grades::of([&judged(3, 0.9)]).unwrap().calibration_error.unwrap() - 0.1).abs() < 1e-12);
    }

    #[test]
    fn without_levels_there_are_no_grades() {
        let mut one = judged(2, 0.5);
        one.level = None;
        assert_eq!(Grades::of([&one]), None);
    }
}
