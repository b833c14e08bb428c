//! What do the scores look like along the threshold: steps, bins and histograms.

/// What is found at or above one score. One step for each different score, the highest first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    pub score: f64,
    pub found: usize,
    pub false_alarms: usize,
}

/// Texts whose scores lie close together. Empty bins are left out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bin {
    pub texts: usize,
    pub mean_score: f64,
    pub share_high: f64,
}

pub fn steps(pairs: &[(f64, bool)]) -> Vec<Step> {
    let mut sorted = pairs.to_vec();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let mut steps: Vec<Step> = Vec::new();
    let (mut found, mut false_alarms) = (0, 0);
    for (score, high) in sorted {
        if high {
            found += 1;
        } else {
            false_alarms += 1;
        }
        let step = Step { score, found, false_alarms };
        match steps.last_mut() {
            // Equal scores cannot be told apart by any threshold.
            Some(last) if last.score.total_cmp(&score).is_eq() => *last = step,
            Some(_) | None => steps.push(step),
        }
    }
    steps
}

/// `bins` of equal width over 0 to 1.
pub fn reliability(pairs: &[(f64, bool)], bins: usize) -> Vec<Bin> {
    let mut sums = vec![(0_usize, 0.0, 0_usize); bins];
    for &(score, high) in pairs {
        if let Some((texts, scores, highs)) = sums.get_mut(place(score, bins)) {
            *texts += 1;
            *scores += score;
            *highs += usize::from(high);
        }
    }
    sums.into_iter()
        .filter(|(texts, ..)| *texts > 0)
        .map(|(texts, scores, highs)| Bin {
            texts,
            mean_score: scores / texts as f64,
            share_high: highs as f64 / texts as f64,
        })
        .collect()
}

/// How many scores fall into each of `bins` of equal width: of harmless texts, and of harmful ones.
pub fn histogram(pairs: &[(f64, bool)], bins: usize) -> Vec<(usize, usize)> {
    let mut counts = vec![(0, 0); bins];
    for &(score, high) in pairs {
        if let Some((harmless, harmful)) = counts.get_mut(place(score, bins)) {
            *(if high { harmful } else { harmless }) += 1;
        }
    }
    counts
}

/// The bin of a score; 1 belongs to the last.
fn place(score: f64, bins: usize) -> usize {
    let place = (score.clamp(0.0, 1.0) * bins as f64).floor();
    // Within 0..=bins, so it fits.
    (place as usize).min(bins.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scores_make_one_step() {
        let steps = steps(&[(0.5, true), (0.2, false), (0.5, false)]);
        let expected =
            [Step { score: 0.5, found: 1, false_alarms: 1 }, Step { score: 0.2, found: 1, false_alarms: 2 }];
        assert_eq!(steps, expected);
    }

    #[test]
    fn the_ends_of_the_scale_have_bins() {
        assert_eq!(
            histogram(&[(0.0, false), (1.0, true), (0.999, true)], 4),
            [(1, 0), (0, 0), (0, 0), (0, 2)]
        );
        let bins = reliability(&[(1.0, true), (0.9, false), (0.05, false)], 10);
        assert_eq!(bins.len(), 2);
        let last = bins.last().copied();
        assert!(last.is_some_and(|bin| bin.texts == 2 && (bin.share_high - 0.5).abs() < 1e-12), "{last:?}");
    }
}
