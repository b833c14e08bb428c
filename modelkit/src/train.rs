//! How is a head made: logistic regression over pooled texts, and a calibration of its scores.
//!
//! Newton's method in double precision, on one thread and in a fixed order, so that equal input
//! gives equal bits. Minimised is `Σ weight · log loss + l2 / 2 · |w|²`, the bias not counted:
//! `l2` is `1 / C` of scikit-learn. Knows nothing of encoders and of files.

use crate::evaluate::{Figures, log_loss};

/// One text as the encoder sees it, with the right answer.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    pub features: &'a [f32],
    pub high: bool,
    pub weight: f64,
}

/// `w · x + b`: the head of a model, before the sigmoid.
#[derive(Debug, Clone, PartialEq)]
pub struct Linear {
    pub weights: Vec<f64>,
    pub bias: f64,
}

/// Why there is no head.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainError {
    #[error("of {rows} texts to learn from {high} are high; both kinds are needed")]
    OneKind { rows: usize, high: usize },
    #[error("a text has {found} features, expected {expected}")]
    Width { found: usize, expected: usize },
    #[error("l2 is {found}, expected a number above 0")]
    L2 { found: f64 },
    #[error(
        "no end after {steps} steps (gradient still {gradient:.1e}): a larger l2 converges sooner, or allow more"
    )]
    NotConverged { steps: usize, gradient: f64 },
    #[error("the features or weights are too large or not numbers")]
    NotFinite,
}

/// The gradient per unit of weight below which nothing changes any more.
const GRADIENT_MIN: f64 = 1e-9;

impl Linear {
    pub fn zero(width: usize) -> Self {
        Self { weights: vec![0.0; width], bias: 0.0 }
    }

    /// How far `features` are on the harmful side.
    pub fn margin(&self, features: &[f32]) -> f64 {
        dot(&self.weights, features) + self.bias
    }

    pub fn score(&self, features: &[f32]) -> f64 {
        sigmoid(self.margin(features))
    }
}

/// The best head for `rows`, searched from `start`.
pub fn fit(rows: &[Row<'_>], l2: f64, start: Linear, steps_max: usize) -> Result<Linear, TrainError> {
    check(rows, l2, start.weights.len())?;
    let total: f64 = rows.iter().map(|row| row.weight).sum();
    let mut head = start;
    let mut loss = objective(rows, l2, &head);
    let mut gradient_size = f64::INFINITY;
    for _ in 0..steps_max {
        let (gradient, hessian) = derivatives(rows, l2, &head);
        gradient_size = gradient.iter().map(|it| it * it).sum::<f64>().sqrt() / total;
        if gradient_size <= GRADIENT_MIN {
            return Ok(head);
        }
        let step = solve(hessian, gradient).ok_or(TrainError::NotFinite)?;
        // Newton overshoots far from the end: halve until it is downhill.
        let mut length = 1.0;
        let (next, next_loss) = loop {
            let next = moved(&head, &step, length);
            let next_loss = objective(rows, l2, &next);
            if next_loss <= loss {
                break (next, next_loss);
            }
            length /= 2.0;
            if length < 1e-9 {
                // Rounding is all that is left.
                return Ok(head);
            }
        };
        (head, loss) = (next, next_loss);
    }
    Err(TrainError::NotConverged { steps: steps_max, gradient: gradient_size })
}

/// How scores of a head are spread over 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Calibration {
    /// As probabilities on dev, then moved so that the best F1 on dev is at 0.5
    BestF1,
    /// As probabilities on dev
    Probability,
    /// As they come from training
    None,
}

/// Scales and moves a head, by its margins on texts that it has not learned from.
pub fn calibrate(head: &Linear, margins: &[(f64, bool)], how: Calibration) -> Result<Linear, TrainError> {
    match how {
        Calibration::None => Ok(head.clone()),
        Calibration::Probability => Ok(scaled(head, platt(margins)?)),
        Calibration::BestF1 => {
            let scale = platt(margins)?;
            let scores: Vec<(f64, bool)> = margins
                .iter()
                .map(|&(margin, high)| (sigmoid(scale.slope * margin + scale.offset), high))
                .collect();
            let best = Figures::of_pairs(&scores, 0.5).best_f1_threshold.unwrap_or(0.5);
            // Not to the very ends: one odd text must not move everything.
            let best = best.clamp(0.1, 0.9);
            let offset = scale.offset - (best / (1.0 - best)).ln();
            Ok(scaled(head, Scale { offset, ..scale }))
        }
    }
}

/// `slope · margin + offset` is the log odds of being high.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Scale {
    slope: f64,
    offset: f64,
}

fn scaled(head: &Linear, Scale { slope, offset }: Scale) -> Linear {
    Linear {
        weights: head.weights.iter().map(|weight| weight * slope).collect(),
        bias: head.bias * slope + offset,
    }
}

/// Platt's scaling: a logistic regression with one feature. Never turns the order round.
fn platt(margins: &[(f64, bool)]) -> Result<Scale, TrainError> {
    // As much a prior as one text: without it, texts that separate perfectly have no best slope.
    const L2: f64 = 0.01;
    let features: Vec<[f32; 1]> = margins.iter().map(|&(margin, _)| [margin as f32]).collect();
    let rows: Vec<Row<'_>> = features
        .iter()
        .zip(margins)
        .map(|(features, &(_, high))| Row { features, high, weight: 1.0 })
        .collect();
    let fitted = fit(&rows, L2, Linear::zero(1), 100)?;
    let slope = fitted.weights.first().copied().unwrap_or(1.0).max(1e-3);
    Ok(Scale { slope, offset: fitted.bias })
}

fn check(rows: &[Row<'_>], l2: f64, width: usize) -> Result<(), TrainError> {
    let high = rows.iter().filter(|row| row.high).count();
    if high == 0 || high == rows.len() {
        return Err(TrainError::OneKind { rows: rows.len(), high });
    }
    if let Some(row) = rows.iter().find(|row| row.features.len() != width) {
        return Err(TrainError::Width { found: row.features.len(), expected: width });
    }
    let finite = |row: &Row<'_>| row.weight.is_finite() && row.features.iter().all(|it| it.is_finite());
    if !rows.iter().all(finite) {
        return Err(TrainError::NotFinite);
    }
    if l2.is_finite() && l2 > 0.0 { Ok(()) } else { Err(TrainError::L2 { found: l2 }) }
}

fn objective(rows: &[Row<'_>], l2: f64, head: &Linear) -> f64 {
    let losses = rows.iter().map(|row| row.weight * loss(head.margin(row.features), row.high));
    losses.sum::<f64>() + l2 / 2.0 * head.weights.iter().map(|it| it * it).sum::<f64>()
}

/// The log loss of a margin, without overflow.
fn loss(margin: f64, high: bool) -> f64 {
    let wrong = if high { -margin } else { margin };
    wrong.max(0.0) + (-wrong.abs()).exp().ln_1p()
}

/// Gradient and Hessian, the bias last. Of the Hessian the lower triangle, by rows.
fn derivatives(rows: &[Row<'_>], l2: f64, head: &Linear) -> (Vec<f64>, Vec<Vec<f64>>) {
    let width = head.weights.len();
    let mut gradient: Vec<f64> = head.weights.iter().map(|weight| l2 * weight).collect();
    gradient.push(0.0);
    let mut hessian: Vec<Vec<f64>> = (0..=width).map(|row| vec![0.0; row + 1]).collect();
    for (at, line) in hessian.iter_mut().enumerate().take(width) {
        if let Some(diagonal) = line.get_mut(at) {
            *diagonal = l2;
        }
    }
    let mut features = vec![1.0; width + 1];
    for row in rows {
        let score = sigmoid(head.margin(row.features));
        for (wide, narrow) in features.iter_mut().zip(row.features) {
            *wide = f64::from(*narrow);
        }
        let error = row.weight * (score - f64::from(u8::from(row.high)));
        add(&mut gradient, error, &features);
        let curvature = row.weight * score * (1.0 - score);
        for (line, feature) in hessian.iter_mut().zip(&features) {
            add(line, curvature * feature, &features);
        }
    }
    (gradient, hessian)
}

/// `sum += factor · values`, as far as `sum` is long.
fn add(sum: &mut [f64], factor: f64, values: &[f64]) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += factor * value;
    }
}

/// The step against the gradient, by Cholesky. None if the Hessian is not positive definite, which
/// with l2 above 0 and finite features it is.
fn solve(mut lower: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    for at in 0..lower.len() {
        let (done, rest) = lower.split_at_mut(at);
        let line = rest.first_mut()?;
        for (column, above) in done.iter().enumerate() {
            let sum: f64 = line.iter().zip(above).take(column).map(|(a, b)| a * b).sum();
            let entry = line.get_mut(column)?;
            *entry = (*entry - sum) / above.last()?;
        }
        let squares: f64 = line.iter().take(at).map(|it| it * it).sum();
        let diagonal = line.last_mut()?;
        // The bias has no l2 of its own; this keeps it solvable where every score is 0 or 1.
        let left = *diagonal - squares + 1e-12;
        if !(left.is_finite() && left > 0.0) {
            return None;
        }
        *diagonal = left.sqrt();
        let known: f64 = line.iter().zip(&right).take(at).map(|(a, b)| a * b).sum();
        let diagonal = *line.last()?;
        let value = right.get_mut(at)?;
        *value = (*value - known) / diagonal;
    }
    for at in (0..lower.len()).rev() {
        let line = lower.get(at)?;
        let value = right.get(at)? / line.last()?;
        add(right.get_mut(..at)?, -value, line);
        *right.get_mut(at)? = value;
    }
    Some(right)
}

fn moved(head: &Linear, step: &[f64], length: f64) -> Linear {
    let weights = head.weights.iter().zip(step).map(|(weight, step)| weight - length * step).collect();
    Linear { weights, bias: head.bias - length * step.last().copied().unwrap_or_default() }
}

fn dot(weights: &[f64], features: &[f32]) -> f64 {
    weights.iter().zip(features).map(|(weight, feature)| weight * f64::from(*feature)).sum()
}

pub fn sigmoid(margin: f64) -> f64 {
    1.0 / (1.0 + (-margin).exp())
}

/// The mean log loss of a head over what it has not learned from.
pub fn loss_of(scores: &[(f64, bool)]) -> f64 {
    scores.iter().map(|&(score, high)| log_loss(score, high)).sum::<f64>() / scores.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;

    /// Numbers that look random and are the same everywhere.
    fn noise(seed: u64) -> impl FnMut() -> f64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
        }
    }

    fn cloud(count: usize, width: usize) -> Vec<(Vec<f32>, bool)> {
        let mut noise = noise(count as u64);
        (0..count)
            .map(|_| {
                let features: Vec<f32> = (0..width).map(|_| noise() as f32).collect();
                let high = f64::from(features[0] - 0.5 * features[1]) + 0.4 * noise() > 0.1;
                (features, high)
            })
            .collect()
    }

    fn rows(cloud: &[(Vec<f32>, bool)]) -> Vec<Row<'_>> {
        cloud.iter().map(|(features, high)| Row { features, high: *high, weight: 1.0 }).collect()
    }

    #[test]
    fn the_fit_is_where_the_gradient_vanishes() {
        let cloud = cloud(300, 7);
        let rows = rows(&cloud);
        let head = fit(&rows, 0.5, Linear::zero(7), 50).unwrap();
        let least = objective(&rows, 0.5, &head);
        for at in 0..8 {
            for nudge in [-1e-4, 1e-4] {
                let mut other = head.clone();
                if at < 7 {
                    other.weights[at] += nudge;
                } else {
                    other.bias += nudge;
                }
                assert!(objective(&rows, 0.5, &other) > least, "parameter {at} is not at its best");
            }
        }
        let right = rows.iter().filter(|row| (head.score(row.features) >= 0.5) == row.high).count();
        assert!(right > 240, "{right} of 300");
    }

    #[test]
    fn the_same_rows_give_the_same_bits_and_any_start_the_same_head() {
        let cloud = cloud(200, 5);
        let rows = rows(&cloud);
        let one = fit(&rows, 1.0, Linear::zero(5), 50).unwrap();
        assert_eq!(one, fit(&rows, 1.0, Linear::zero(5), 50).unwrap());
        let far = Linear { weights: vec![9.0, -9.0, 9.0, -9.0, 9.0], bias: -4.0 };
        let other = fit(&rows, 1.0, far, 50).unwrap();
        for (a, b) in one.weights.iter().zip(&other.weights) {
            assert!((a - b).abs() < 1e-6, "{a} {b}");
        }
    }

    #[test]
    fn a_weight_of_two_is_the_row_twice() {
        let cloud = cloud(120, 4);
        let mut doubled = rows(&cloud);
        doubled.extend(rows(&cloud).into_iter().take(60));
        let mut weighted = rows(&cloud);
        weighted.iter_mut().take(60).for_each(|row| row.weight = 2.0);
        let (one, other) = (
            fit(&doubled, 0.3, Linear::zero(4), 50).unwrap(),
            fit(&weighted, 0.3, Linear::zero(4), 50).unwrap(),
        );
        assert!((one.bias - other.bias).abs() < 1e-7);
    }

    #[test]
    fn separable_rows_still_have_an_end() {
        let (low, high) = ([-1.0_f32], [1.0_f32]);
        let rows = [
            Row { features: &low, high: false, weight: 1.0 },
            Row { features: &high, high: true, weight: 1.0 },
        ];
        let head = fit(&rows, 1e-6, Linear::zero(1), 200).unwrap();
        assert!(head.score(&high) > 0.99 && head.score(&low) < 0.01, "{head:?}");
    }

    #[test]
    fn what_cannot_be_learned_from_is_refused_with_its_facts() {
        let (a, b) = ([0.1_f32, 0.2], [f32::NAN, 0.0]);
        let row = |features: &'static [f32], high| Row { features, high, weight: 1.0 };
        let one_kind = [row(&[0.1, 0.2], true)];
        assert_eq!(fit(&one_kind, 1.0, Linear::zero(2), 9), Err(TrainError::OneKind { rows: 1, high: 1 }));
        let both = [Row { features: &a, high: true, weight: 1.0 }, row(&[0.3, 0.1], false)];
        assert_eq!(fit(&both, 1.0, Linear::zero(3), 9), Err(TrainError::Width { found: 2, expected: 3 }));
        assert_eq!(fit(&both, 0.0, Linear::zero(2), 9), Err(TrainError::L2 { found: 0.0 }));
        let nan = [Row { features: &b, high: true, weight: 1.0 }, row(&[0.3, 0.1], false)];
        assert_eq!(fit(&nan, 1.0, Linear::zero(2), 9), Err(TrainError::NotFinite));
        assert!(matches!(
            fit(&both, 1.0, Linear::zero(2), 1),
            Err(TrainError::NotConverged { steps: 1, .. })
        ));
    }

    #[test]
    fn after_calibration_the_best_f1_is_at_one_half() {
        let cloud = cloud(400, 3);
        let skewed = Linear { weights: vec![3.0, -1.5, 0.0], bias: -5.0 };
        let margins = |head: &Linear| -> Vec<(f64, bool)> {
            cloud.iter().map(|(features, high)| (head.margin(features), *high)).collect()
        };
        let better = calibrate(&skewed, &margins(&skewed), Calibration::BestF1).unwrap();
        let scores: Vec<(f64, bool)> =
            cloud.iter().map(|(features, high)| (better.score(features), *high)).collect();
        let figures = Figures::of_pairs(&scores, 0.5);
        assert!((figures.f1.unwrap() - figures.best_f1.unwrap()).abs() < 1e-9, "{figures:?}");
        let probable = calibrate(&skewed, &margins(&skewed), Calibration::Probability).unwrap();
        let mean = cloud.iter().map(|(features, _)| probable.score(features)).sum::<f64>() / 400.0;
        let share = cloud.iter().filter(|(_, high)| *high).count() as f64 / 400.0;
        assert!((mean - share).abs() < 0.01, "{mean} {share}");
        assert_eq!(calibrate(&skewed, &[], Calibration::None).unwrap(), skewed);
    }
}
