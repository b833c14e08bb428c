//! `agentbus model train-head`: a head for an encoder, from texts with labels.
//!
//! The same files, flags and way to compute give the same bytes. Learned is from `train`, chosen by
//! `dev`; what is marked `test` is left alone.

use std::{collections::BTreeMap, fs, path::PathBuf, process::ExitCode, sync::Arc};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::{
    data::{self, Labelled, Part, Source},
    evaluate::name,
    score_texts::in_order,
};
use crate::{
    cli::judge::{ModelArgs, ThreadArgs, windows},
    impact::{
        classifier::Classifier,
        evaluate::Figures,
        model::{Head, Model, Output, Outputs, Precision},
        train::{Calibration, Linear, Row, calibrate, fit, loss_of, sigmoid},
    },
};

/// Tried unless told: each three times the one before.
const L2: &[f64] = &[0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];
/// How often the harmful window of a harmful text is looked for anew.
const ROUNDS: usize = 3;

#[derive(Debug, Args)]
#[command(
    after_help = "Each line of data is {\"text\": …, \"high\": 0 or 1} or {\"text\": …, \"level\": 0 to 3} \
    (2 and 3 are high), with \"part\" (train, dev; test is left alone) and \"weight\" if you like. Without any \
    \"part\", a fifth is drawn for choosing.\n\n\
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
    /// How scores are spread over 0 to 1
    #[arg(long, value_enum, default_value = "best-f1")]
    calibrate: Calibration,
    /// Folder of the encoder (config.json, model.safetensors, tokenizer.json), instead of the one inside
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// How to compute; f32 is exact
    #[arg(long, value_enum, default_value = "f32")]
    precision: crate::impact::Precision,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Print the figures as one object of JSON
    #[arg(long)]
    json: bool,
}

/// A text as the encoder sees it: the pooled state of each of its windows.
struct Seen {
    windows: Vec<Vec<f32>>,
    high: bool,
    weight: f64,
}

/// What a head was chosen for.
struct Chosen {
    head: Linear,
    l2: f64,
    dev: Figures,
}

pub(super) fn run(args: &TrainHeadArgs) -> anyhow::Result<ExitCode> {
    let (texts, sources) = data::read(&args.data)?;
    let source =
        ModelArgs { model_dir: args.model_dir.clone(), precision: args.precision, head: None }.source();
    let model = Arc::new(Model::load_encoder(&source, args.precision.asked())?);
    let (train, dev) = parts(texts)?;
    let mut learned = seen(&model, &train, args)?;
    let asked = seen(&model, &dev, args)?;
    if args.balance {
        balance(&mut learned);
    }
    let width = model.info().width;
    let chosen = choose(&learned, &asked, width, args)?;
    let facts = facts(args, &sources, (&train, &dev), &chosen, model.precision());
    let info = model.info();
    let head = Head {
        encoder_sha256: info.encoder_sha256,
        tokenizer_sha256: info.tokenizer_sha256,
        layer: info.layers,
        pooling: "mean".to_owned(),
        normalize: true,
        hidden: None,
        outputs: Outputs::High(Output { weights: chosen.head.weights.clone(), bias: chosen.head.bias }),
        trained_on: facts.clone(),
    };
    let mut written = head.to_json()?;
    written.push('\n');
    fs::write(&args.out, written).with_context(|| args.out.display().to_string())?;
    if args.json {
        sayln!("{facts}")?;
    } else {
        let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        sayln!("{} to learn from, {} to choose by", crate::phrase::counted(train.len(), "text"), dev.len())?;
        sayln!(
            "  l2 {}: on dev AUC {}, F1 at 0.5 {}, log loss {}",
            chosen.l2,
            number(chosen.dev.auc),
            number(chosen.dev.f1),
            number(chosen.dev.log_loss)
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

fn seen(model: &Arc<Model>, texts: &[Labelled], args: &TrainHeadArgs) -> anyhow::Result<Vec<Seen>> {
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
            let seen = chunk.iter().zip(&ids).map(|(one, ids)| Seen {
                windows: pooled.by_ref().take(ids.len()).collect(),
                high: one.high,
                weight: one.weight,
            });
            Ok(seen.collect())
        },
    )
}

/// Scales the weights so that both classes have the same sum, and all together the same as before.
fn balance(learned: &mut [Seen]) {
    let sum = |learned: &[Seen], high: bool| -> f64 {
        learned.iter().filter(|one| one.high == high).map(|one| one.weight).sum()
    };
    let (high, low) = (sum(learned, true), sum(learned, false));
    for one in learned {
        one.weight *= (high + low) / 2.0 / if one.high { high } else { low };
    }
}

fn choose(learned: &[Seen], asked: &[Seen], width: usize, args: &TrainHeadArgs) -> anyhow::Result<Chosen> {
    let tried = if args.l2.is_empty() { L2 } else { &args.l2 };
    let mut best: Option<(f64, Chosen)> = None;
    let mut start = Linear::zero(width);
    for &l2 in tried {
        let raw = learn(learned, l2, start.clone(), args.epochs.into())?;
        start = raw.clone();
        let margins = margins(&raw, asked);
        // As probabilities: whatever the calibration, a head is better if it knows more.
        let probable = calibrate(&raw, &margins, Calibration::Probability)?;
        let loss = loss_of(&scores(&probable, asked));
        if best.as_ref().is_none_or(|(least, _)| loss < *least) {
            let head = calibrate(&raw, &margins, args.calibrate)?;
            let dev = Figures::of_pairs(&scores(&head, asked), 0.5);
            best = Some((loss, Chosen { head, l2, dev }));
        }
    }
    best.map(|(_, chosen)| chosen).context("no l2 to try")
}

/// The highest score of a text's windows counts, so a harmless text is harmless in each of them, and
/// a harmful one is harmful in that which the head so far finds most harmful. At first, its whole.
fn learn(learned: &[Seen], l2: f64, start: Linear, steps_max: usize) -> anyhow::Result<Linear> {
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

fn rows<'a>(learned: &'a [Seen], harmful: &[usize]) -> Vec<Row<'a>> {
    let mut rows = Vec::with_capacity(learned.len());
    for (one, &harmful) in learned.iter().zip(harmful) {
        // All windows of a harmless text together count as much as one harmful one.
        let weight = if one.high { one.weight } else { one.weight / one.windows.len() as f64 };
        let counted = one.windows.iter().enumerate().filter(|(at, _)| !one.high || *at == harmful);
        rows.extend(counted.map(|(_, features)| Row { features, high: one.high, weight }));
    }
    rows
}

fn most_harmful(head: &Linear, one: &Seen) -> usize {
    let margins = one.windows.iter().map(|window| head.margin(window)).enumerate();
    margins.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0))).map_or(0, |(at, _)| at)
}

fn margins(head: &Linear, texts: &[Seen]) -> Vec<(f64, bool)> {
    let highest = |one: &Seen| one.windows.iter().map(|window| head.margin(window)).reduce(f64::max);
    texts.iter().filter_map(|one| Some((highest(one)?, one.high))).collect()
}

fn scores(head: &Linear, texts: &[Seen]) -> Vec<(f64, bool)> {
    margins(head, texts).into_iter().map(|(margin, high)| (sigmoid(margin), high)).collect()
}

/// What stands in the head for people: no paths and no time, so that it can be made again.
fn facts(
    args: &TrainHeadArgs,
    sources: &[Source],
    (train, dev): (&[Labelled], &[Labelled]),
    chosen: &Chosen,
    precision: Precision,
) -> Value {
    let data: Vec<Value> = sources
        .iter()
        .map(|source| json!({ "file": name(&source.path), "sha256": source.sha256, "lines": source.lines }))
        .collect();
    let counts = |texts: &[Labelled]| -> BTreeMap<&'static str, usize> { data::counts(texts) };
    let calibrated = match args.calibrate {
        Calibration::BestF1 => "best F1 on dev at 0.5",
        Calibration::Probability => "as probabilities on dev",
        Calibration::None => "not",
    };
    let rounded = |value: Option<f64>| value.map(|value| (value * 1e4).round() / 1e4);
    json!({
        "method": "logistic regression",
        "made_by": concat!("agentbus model train-head ", env!("CARGO_PKG_VERSION")),
        "data": data,
        "train": counts(train),
        "dev": counts(dev),
        "l2": chosen.l2,
        "balanced": args.balance,
        "calibrated": calibrated,
        "precision": precision.to_string(),
        "dev_figures": {
            "auc": rounded(chosen.dev.auc),
            "average_precision": rounded(chosen.dev.average_precision),
            "f1": rounded(chosen.dev.f1),
            "recall_at_5_percent": rounded(chosen.dev.recall_at_5_percent),
            "false_positive_rate": rounded(chosen.dev.false_positive_rate),
            "log_loss": rounded(chosen.dev.log_loss),
        },
    })
}
