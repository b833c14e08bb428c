//! How is one output of a head learned: is a text at or above this level?

use anyhow::Context as _;

use super::{L2, ROUNDS};
use crate::train::{Calibration, Linear, Row, calibrate, fit, loss_of, sigmoid};

/// A text as the encoder sees it, the pooled state of each of its windows, with the right answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub windows: &'a [Vec<f32>],
    pub high: bool,
    pub weight: f64,
}

/// How to learn.
#[derive(Debug, Clone, Copy)]
pub(super) struct How<'a> {
    /// Strengths of the penalty to choose from.
    pub l2: &'a [f64],
    pub steps_max: usize,
    pub balance: bool,
    pub calibrate: Calibration,
}

/// What an output was chosen for.
pub(super) struct Chosen {
    pub output: Linear,
    pub l2: f64,
}

/// The output that knows most of `asked`, of those that learned from `learned`.
pub(super) fn choose(
    mut learned: Vec<Seen<'_>>,
    asked: &[Seen<'_>],
    width: usize,
    how: How<'_>,
) -> anyhow::Result<Chosen> {
    if how.balance {
        balance(&mut learned);
    }
    let tried = if how.l2.is_empty() { L2 } else { how.l2 };
    let mut best: Option<(f64, Chosen)> = None;
    let mut start = Linear::zero(width);
    for &l2 in tried {
        let raw = learn(&learned, l2, start, how.steps_max)?;
        start = raw.clone();
        let margins = margins(&raw, asked);
        // As probabilities: whatever the calibration, a head is better if it knows more.
        let probable = calibrate(&raw, &margins, Calibration::Probability)?;
        let loss = loss_of(&scores(&probable, asked));
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            best = Some((loss, Chosen { output: calibrate(&raw, &margins, how.calibrate)?, l2 }));
        }
    }
    best.map(|(_, chosen)| chosen).context("no l2 to try")
}

/// Scales the weights so that both classes have the same sum, and all together the same as before.
fn balance(learned: &mut [Seen<'_>]) {
    let sum = |learned: &[Seen<'_>], high: bool| -> f64 {
        learned.iter().filter(|one| one.high == high).map(|one| one.weight).sum()
    };
    let (high, low) = (sum(learned, true), sum(learned, false));
    for one in learned {
        one.weight *= (high + low) / 2.0 / if one.high { high } else { low };
    }
}

/// The highest score of a text's windows counts, so a harmless text is harmless in each of them, and
/// a harmful one is harmful in that which the head so far finds most harmful. At first, its whole.
fn learn(learned: &[Seen<'_>], l2: f64, start: Linear, steps_max: usize) -> anyhow::Result<Linear> {
    // The longest stands last: that of the whole text.
    let mut harmful: Vec<usize> = learned.iter().map(|one| one.windows.len().saturating_sub(1)).collect();
    let mut head = start;
    for _ in 0..ROUNDS {
        head = fit(&rows(learned, &harmful), l2, head, steps_max)?;
        let now: Vec<usize> = learned.iter().map(|one| most_harmful(&head, one)).collect();
        if now == harmful {
            break;
        }
        harmful = now;
    }
    Ok(head)
}

fn rows<'a>(learned: &[Seen<'a>], harmful: &[usize]) -> Vec<Row<'a>> {
    let mut rows = Vec::with_capacity(learned.len());
    for (one, &harmful) in learned.iter().zip(harmful) {
        // All windows of a harmless text together count as much as one harmful one.
        let weight = if one.high { one.weight } else { one.weight / one.windows.len() as f64 };
        let counted = one.windows.iter().enumerate().filter(|(at, _)| !one.high || *at == harmful);
        rows.extend(counted.map(|(_, features)| Row { features, high: one.high, weight }));
    }
    rows
}

fn most_harmful(head: &Linear, one: &Seen<'_>) -> usize {
    let margins = one.windows.iter().map(|window| head.margin(window)).enumerate();
    margins.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(at, _)| at)
}

fn margins(head: &Linear, texts: &[Seen<'_>]) -> Vec<(f64, bool)> {
    let highest = |one: &Seen<'_>| one.windows.iter().map(|window| head.margin(window)).reduce(f64::max);
    texts.iter().filter_map(|one| Some((highest(one)?, one.high))).collect()
}

fn scores(head: &Linear, texts: &[Seen<'_>]) -> Vec<(f64, bool)> {
    margins(head, texts).into_iter().map(|(margin, high)| (sigmoid(margin), high)).collect()
}
