//! `agentbus model train-head`: a head for an encoder, from texts with labels.
//!
//! The same files, flags and way to compute give the same bytes. Learned is from `train`, chosen by
//! `dev`; what is marked `test` is left alone.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode, sync::Arc};

use agentbus::{
    domain::LEVELS,
    impact::{
        classifier::Classifier,
        evaluate::Figures,
        model::{Head, Model, Output, Outputs, Precision},
        train::{Calibration, Linear},
    },
};
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use self::learning::{Chosen, How, Seen, choose};
use super::{
    data::{self, HIGH, Labelled, Part, Source},
    evaluate::name,
    score_texts::in_order,
};
use crate::judge::{ModelArgs, ThreadArgs, windows};

mod learning;

/// Tried unless told: each three times the one before.
const L2: &[f64] = &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// How often the harmful window of a harmful text is looked for anew.
const ROUNDS: usize = 3;
/// As the shipped head counts its levels.
const VALUES: [f64; LEVELS] = [0.05, 0.25, 0.76, 0.97];

#[derive(Debug, Args)]
#[command(
    after_help = "Each line of data is {\"text\": …, \"high\": 0 or 1} or {\"text\": …, \"level\": 0 to 3} \
    (2 and 3 are high), with \"part\" (train, dev; test is left alone) and \"weight\" if you like. Without any \
    \"part\", a fifth is drawn for choosing. Where train and dev have texts of all levels the head tells levels; \
    lines that have only \"high\" teach what they say.\n\n\
    Examples:\n  agentbus model train-head --data texts.jsonl --out head.json\n  \
    agentbus model train-head --data texts.jsonl --out head.json --balance"
)]
pub struct TrainHeadArgs {
    /// Labelled texts, as lines of JSON; can be repeated
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Where to write the head
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Strength of the penalty on large weights; several: the best on dev [default: 0.01 to 10]
    #[arg(long, value_name = "NUMBER", num_args = 1.., value_delimiter = ',')]
    l2: Vec<f64>,
    /// Most steps of Newton's method; it needs about ten
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..))]
    epochs: u16,
    /// Let both classes count the same in training, however many texts each has
    #[arg(long)]
    balance: bool,
    /// How scores are spread over 0 to 1 [default: best-f1, and probability for a head of levels]
    #[arg(long, value_enum)]
    calibrate: Option<Calibration>,
    /// What levels 0 to 3 count in the score of a head of levels
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = VALUES)]
    values: Vec<f64>,
    /// Folder of the encoder (config.json, model.safetensors, tokenizer.json), instead of the one inside
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// How to compute; f32 is exact
    #[arg(long, value_enum, default_value = "f32")]
    precision: agentbus::impact::Precision,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Print the figures as one object of JSON
    #[arg(long)]
    json: bool,
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

pub(super) fn run(args: &TrainHeadArgs) -> anyhow::Result<ExitCode> {
    let (texts, sources) = data::read(&args.data)?;
    let source =
        ModelArgs { model_dir: args.model_dir.clone(), precision: args.precision, head: None }.source();
    let model = Arc::new(Model::load_encoder(&source, args.precision.asked())?);
    let (train, dev) = parts(texts)?;
    let known = |texts: Vec<Labelled>| anyhow::Ok(Known { states: states(&model, &texts, args)?, texts });
    let (train, dev) = (known(train)?, known(dev)?);
    let made = made(&train, &dev, model.info().width, args)?;
    let facts = facts(args, &sources, (&train.texts, &dev.texts), &made, model.precision());
    let info = model.info();
    let head = Head {
        encoder_sha256: info.encoder_sha256,
        tokenizer_sha256: info.tokenizer_sha256,
        layer: info.layers,
        pooling: "mean".to_owned(),
        normalize: true,
        hidden: None,
        outputs: made.outputs,
        trained_on: facts.clone(),
    };
    let mut written = head.to_json()?;
    written.push('\n');
    fs::write(&args.out, written).with_context(|| args.out.display().to_string())?;
    if args.json {
        sayln!("{facts}")?;
    } else {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let l2: Vec<String> = made.l2.iter().map(ToString::to_string).collect();
        sayln!(
            "{} to learn from, {} to choose by",
            agentbus::phrase::counted(train.texts.len(), "text"),
            dev.texts.len()
        )?;
        if l2.len() == 1 {
            sayln!("  tells high from low; to tell levels, train and dev need texts of all four")?;
        } else {
            sayln!("  tells four levels")?;
        }
        sayln!(
            "  l2 {}: on dev AUC {}, F1 at 0.5 {}, log loss {}",
            l2.join(", "),
            number(made.dev.auc),
            number(made.dev.f1),
            number(made.dev.log_loss)
        )?;
        sayln!("  {}", args.out.display())?;
    }
    Ok(ExitCode::SUCCESS)
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

fn states(model: &Arc<Model>, texts: &[Labelled], args: &TrainHeadArgs) -> anyhow::Result<States> {
    let classifier = Classifier::Model(Arc::clone(model));
    in_order(
        texts,
        args.threads.count(),
        || model.session(),
        |session, chunk| {
            let mut ids = Vec::new();
            for one in chunk {
                let start: String = one.text.chars().take(60).collect();
                let message = one.spoken()?;
                let read = windows::windows(&classifier, &message);
                ids.push(read.with_context(|| format!("the text that begins {start:?}"))?);
            }
            let all: Vec<&[u32]> = ids.iter().flatten().map(Vec::as_slice).collect();
            let mut pooled = session.pooled(&all)?.into_iter();
            Ok(ids.iter().map(|ids| pooled.by_ref().take(ids.len()).collect()).collect())
        },
    )
}

/// A head of levels where the labels tell them all apart, else one that tells high from low.
fn made(train: &Known, dev: &Known, width: usize, args: &TrainHeadArgs) -> anyhow::Result<Made> {
    let graded = (1..LEVELS).all(|level| [train, dev].iter().all(|known| known.tells(level)));
    let boundaries = if graded { 1..LEVELS } else { HIGH..HIGH + 1 };
    let calibrate =
        args.calibrate.unwrap_or(if graded { Calibration::Probability } else { Calibration::BestF1 });
    let how = How { l2: &args.l2, steps_max: args.epochs.into(), balance: args.balance, calibrate };
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
        (_, last) => Outputs::levels(outputs.into_iter().chain(last).collect(), &args.values)?,
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
    args: &TrainHeadArgs,
    sources: &[Source],
    (train, dev): (&[Labelled], &[Labelled]),
    made: &Made,
    precision: Precision,
) -> Value {
    let data: Vec<Value> = sources
        .iter()
        .map(|source| json!({ "file": name(&source.path), "sha256": source.sha256, "lines": source.lines }))
        .collect();
    let counts = |texts: &[Labelled]| -> BTreeMap<&'static str, usize> { data::counts(texts) };
    let graded = made.l2.len() > 1;
    let calibrated = match args.calibrate {
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
        "balanced": args.balance,
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
