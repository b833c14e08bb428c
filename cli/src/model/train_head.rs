//! `agentbus model train-head`: a head for an encoder, from texts with labels.

use std::{fs, path::PathBuf, process::ExitCode, sync::Arc};

use agentbus::{impact::model::Model, phrase::counted};
use agentbus_modelkit::{
    data,
    head::{Recipe, Trained, VALUES, train},
    train::Calibration,
};
use anyhow::Context as _;
use clap::{Args, ValueEnum};

use crate::{
    judge::{ModelArgs, PrecisionArg, ThreadArgs},
    progress::with_bar,
};

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
    calibrate: Option<CalibrationArg>,
    /// What levels 0 to 3 count in the score of a head of levels
    #[arg(long, value_name = "NUMBERS", value_delimiter = ',', default_values_t = VALUES)]
    values: Vec<f64>,
    /// Folder of the encoder (config.json, model.safetensors, tokenizer.json), instead of the one inside
    #[arg(long, value_name = "DIR")]
    model_dir: Option<PathBuf>,
    /// How to compute; f32 is exact
    #[arg(long, value_enum, default_value = "f32")]
    precision: PrecisionArg,
    #[command(flatten)]
    threads: ThreadArgs,
    /// Print the figures as one object of JSON
    #[arg(long)]
    json: bool,
}

/// The words of [`Calibration`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CalibrationArg {
    /// As probabilities on dev, then moved so that the best F1 on dev is at 0.5
    BestF1,
    /// As probabilities on dev
    Probability,
    /// As they come from training
    None,
}

impl From<CalibrationArg> for Calibration {
    fn from(arg: CalibrationArg) -> Self {
        match arg {
            CalibrationArg::BestF1 => Self::BestF1,
            CalibrationArg::Probability => Self::Probability,
            CalibrationArg::None => Self::None,
        }
    }
}

impl TrainHeadArgs {
    fn recipe(&self) -> Recipe {
        Recipe {
            l2: self.l2.clone(),
            steps_max: self.epochs.into(),
            balance: self.balance,
            calibrate: self.calibrate.map(Into::into),
            values: self.values.clone(),
            threads: self.threads.count(),
        }
    }
}

pub(super) fn run(args: &TrainHeadArgs) -> anyhow::Result<ExitCode> {
    let (texts, sources) = data::read(&args.data)?;
    let source =
        ModelArgs { model_dir: args.model_dir.clone(), precision: args.precision, head: None }.source();
    let model = Arc::new(Model::load_encoder(&source, args.precision.asked())?);
    let trained = with_bar(texts.len(), |progress| train(&model, texts, &sources, &args.recipe(), progress))?;
    let mut written = trained.head.to_json()?;
    written.push('\n');
    fs::write(&args.out, written).with_context(|| args.out.display().to_string())?;
    if args.json {
        sayln!("{}", trained.head.trained_on)?;
    } else {
        tell(&trained)?;
        sayln!("  {}", args.out.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(trained: &Trained) -> anyhow::Result<()> {
    let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
    let l2: Vec<String> = trained.l2.iter().map(ToString::to_string).collect();
    sayln!("{} to learn from, {} to choose by", counted(trained.train, "text"), trained.dev)?;
    if l2.len() == 1 {
        sayln!("  tells high from low; to tell levels, train and dev need texts of all four")?;
    } else {
        sayln!("  tells four levels")?;
    }
    sayln!(
        "  l2 {}: on dev AUC {}, F1 at 0.5 {}, log loss {}",
        l2.join(", "),
        number(trained.figures.auc),
        number(trained.figures.f1),
        number(trained.figures.log_loss)
    )?;
    Ok(())
}
