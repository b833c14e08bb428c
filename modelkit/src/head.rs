//! A head for an encoder, from texts with labels.
//!
//! The same texts, recipe and way to compute give the same bytes. Learned is from `train`, chosen by
//! `dev`; what is marked `test` is left alone.

use std::{collections::BTreeMap, num::NonZeroUsize, sync::Arc};

use agentbus::{
    domain::LEVELS,
    impact::{
        classifier::Classifier,
        model::{Head, Model, Output, Outputs, Precision},
    },
};
use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use self::learning::{Chosen, How, Seen, choose};
use crate::{
    data::{self, HIGH, Labelled, Part, Source},
    evaluate::Figures,
    in_order::{Progress, in_order},
    judge::windows::windows,
    train::{Calibration, Linear},
};

mod learning;

/// Tried unless told: each three times the one before.
const L2: &[f64] = &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// How often the harmful window of a harmful text is looked for anew.
const ROUNDS: usize = 3;
/// As the shipped head counts its levels.
pub const VALUES: [f64; LEVELS] = [0.05, 0.25, 0.76, 0.97];

/// How a head is to be made.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Strengths of the penalty on large weights, to choose from; the usual ones if there are none.
    pub l2: Vec<f64>,
    /// Of Newton's method; it needs about ten.
    pub steps_max: usize,
    /// Whether both classes count the same, however many texts each has.
    pub balance: bool,
    /// As probabilities for a head of levels, else for the best F1, unless it is told.
    pub calibrate: Option<Calibration>,
    /// What levels 0 to 3 count in the score of a head of levels.
    pub values: Vec<f64>,
    pub threads: NonZeroUsize,
}

/// A head, and how good it is on dev.
pub struct Trained {
    pub head: Head,
    /// Texts that it learned from, and that it was chosen by.
    pub train: usize,
    pub dev: usize,
    /// Of each output.
    pub l2: Vec<f64>,
    pub figures: Figures,
}

/// What texts are as the encoder sees them: the pooled state of each of their windows.
type States = Vec<Vec<Vec<f32>>>;

/// Texts of one part, and what the encoder sees of them.
struct Known {
    texts: Vec<Labelled>,
    states: States,
}

/// What a head is made of, and how good it is on dev.
struct Made {
    outputs: Outputs,
    /// Of each output.
    l2: Vec<f64>,
    dev: Figures,
}

pub fn train(
    model: &Arc<Model>,
    texts: Vec<Labelled>,
    sources: &[Source],
    recipe: &Recipe,
    progress: Progress<'_>,
) -> anyhow::Result<Trained> {
    let (train, dev) = parts(texts)?;
    let known = |texts: Vec<Labelled>| {
        anyhow::Ok(Known { states: states(model, &texts, recipe.threads, progress)?, texts })
    };
    let (train, dev) = (known(train)?, known(dev)?);
    let info = model.info();
    let made = made(&train, &dev, info.width, recipe)?;
    let trained_on = facts(recipe, sources, (&train.texts, &dev.texts), &made, model.precision());
    let head = Head {
        encoder_sha256: info.encoder_sha256,
        tokenizer_sha256: info.tokenizer_sha256,
        layer: info.layers,
        pooling: "mean".to_owned(),
        normalize: true,
        hidden: None,
        outputs: made.outputs,
        trained_on,
    };
    let (train, dev) = (train.texts.len(), dev.texts.len());
    Ok(Trained { head, train, dev, l2: made.l2, figures: made.dev })
}

fn parts(texts: Vec<Labelled>) -> anyhow::Result<(Vec<Labelled>, Vec<Labelled>)> {
    let drawn = texts.iter().all(|text| text.part.is_none());
    let (mut train, mut dev) = (Vec::new(), Vec::new());
    for text in texts {
        let part = if drawn { data::drawn_part(&text.text) } else { text.part.unwrap_or(Part::Train) };
        match part {
            Part::Train => train.push(text),
            Part::Dev => dev.push(text),
            Part::Test => {}
        }
    }
    for (name, texts) in [("train", &train), ("dev", &dev)] {
        let high = texts.iter().filter(|text| text.high).count();
        if high == 0 || high == texts.len() {
            bail!(
                "of {} texts of part {name} {high} are high; both kinds are needed, so give more lines, or \
                 mark some with \"part\": \"{name}\"",
                texts.len()
            );
        }
    }
    Ok((train, dev))
}

fn states(
    model: &Arc<Model>,
    texts: &[Labelled],
    threads: NonZeroUsize,
    progress: Progress<'_>,
) -> anyhow::Result<States> {
    let classifier = Classifier::Model(Arc::clone(model));
    in_order(
        texts,
        threads,
        progress,
        || model.session(),
        |session, chunk| {
            let mut ids = Vec::new();
            for one in chunk {
                let start: String = one.text.chars().take(60).collect();
                let message = one.spoken()?;
                let read = windows(&classifier, &message);
                ids.push(read.with_context(|| format!("the text that begins {start:?}"))?);
            }
            let all: Vec<&[u32]> = ids.iter().flatten().map(Vec::as_slice).collect();
            let mut pooled = session.pooled(&all)?.into_iter();
            Ok(ids.iter().map(|ids| pooled.by_ref().take(ids.len()).collect()).collect())
        },
    )
}

/// A head of levels where the labels tell them all apart, else one that tells high from low.
fn made(train: &Known, dev: &Known, width: usize, recipe: &Recipe) -> anyhow::Result<Made> {
    let graded = (1..LEVELS).all(|level| [train, dev].iter().all(|known| known.tells(level)));
    let boundaries = if graded { 1..LEVELS } else { HIGH..HIGH + 1 };
    let calibrate =
        recipe.calibrate.unwrap_or(if graded { Calibration::Probability } else { Calibration::BestF1 });
    let how = How { l2: &recipe.l2, steps_max: recipe.steps_max, balance: recipe.balance, calibrate };
    let chosen = boundaries
        .map(|level| choose(train.seen(level), &dev.seen(level), width, how))
        .collect::<anyhow::Result<Vec<Chosen>>>()?;
    let l2 = chosen.iter().map(|one| one.l2).collect();
    let mut outputs: Vec<Output> = chosen
        .into_iter()
        .map(|Chosen { output: Linear { weights, bias }, .. }| Output { weights, bias })
        .collect();
    let outputs = match (graded, outputs.pop()) {
        (false, Some(output)) => Outputs::High(output),
        (_, last) => Outputs::levels(outputs.into_iter().chain(last).collect(), &recipe.values)?,
    };
    let dev = Figures::of_pairs(&dev.scores(&outputs), 0.5);
    Ok(Made { outputs, l2, dev })
}

impl Known {
    /// The texts whose labels say whether they are of this level or above.
    fn seen(&self, level: usize) -> Vec<Seen<'_>> {
        let all = self.texts.iter().zip(&self.states);
        all.filter_map(|(text, windows)| {
            Some(Seen { windows, high: text.at_least(level)?, weight: text.weight })
        })
        .collect()
    }

    /// Whether there are texts on both sides of this level.
    fn tells(&self, level: usize) -> bool {
        let is = |wanted| self.texts.iter().any(|text| text.at_least(level) == Some(wanted));
        is(true) && is(false)
    }

    fn scores(&self, outputs: &Outputs) -> Vec<(f64, bool)> {
        let score = |windows: &Vec<Vec<f32>>| {
            let said = windows
                .iter()
                .map(|window| outputs.say(&window.iter().copied().map(f64::from).collect::<Vec<_>>()));
            said.map(|said| said.score).reduce(f64::max)
        };
        let all = self.texts.iter().zip(&self.states);
        all.filter_map(|(text, windows)| Some((score(windows)?, text.high))).collect()
    }
}

/// What stands in the head for people: no paths and no time, so that it can be made again.
fn facts(
    recipe: &Recipe,
    sources: &[Source],
    (train, dev): (&[Labelled], &[Labelled]),
    made: &Made,
    precision: Precision,
) -> Value {
    let data: Vec<Value> = sources
        .iter()
        .map(|source| json!({ "file": source.name(), "sha256": source.sha256, "lines": source.lines }))
        .collect();
    let counts = |texts: &[Labelled]| -> BTreeMap<&'static str, usize> { data::counts(texts) };
    let graded = made.l2.len() > 1;
    let calibrated = match recipe.calibrate {
        None if graded => "as probabilities on dev",
        None | Some(Calibration::BestF1) => "best F1 on dev at 0.5",
        Some(Calibration::Probability) => "as probabilities on dev",
        Some(Calibration::None) => "not",
    };
    let rounded = |value: Option<f64>| value.map(|value| (value * 1e4).round() / 1e4);
    json!({
        "method": if graded { "logistic regression for each level or above" } else { "logistic regression" },
        "made_by": concat!("agentbus model train-head ", env!("CARGO_PKG_VERSION")),
        "data": data,
        "train": counts(train),
        "dev": counts(dev),
        "l2": if graded { json!(made.l2) } else { json!(made.l2.first()) },
        "balanced": recipe.balance,
        "calibrated": calibrated,
        "precision": precision.to_string(),
        "dev_figures": {
            "auc": rounded(made.dev.auc),
            "average_precision": rounded(made.dev.average_precision),
            "f1": rounded(made.dev.f1),
            "recall_at_5_percent": rounded(made.dev.recall_at_5_percent),
            "false_positive_rate": rounded(made.dev.false_positive_rate),
            "log_loss": rounded(made.dev.log_loss),
        },
    })
}
