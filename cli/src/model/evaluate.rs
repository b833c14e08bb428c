//! `agentbus model evaluate`: how good are the scores on texts with known answers?

use std::{fs, path::PathBuf, process::ExitCode};

use agentbus_modelkit::{
    data::{self, Labelled, Part, Source},
    evaluate::{Figures, Grades, Judged, Report, by_group, by_level, grades_by_group, html, worst},
    judge::judged,
};
use anyhow::Context as _;
use clap::Args;
use serde_json::{Map, Value, json};

use crate::{judge::JudgeArgs, limits::LimitsArgs, output::say, progress::with_bar};

#[derive(Debug, Args)]
#[command(
    after_help = "Each line of data is {\"text\": …, \"high\": 0 or 1} or {\"text\": …, \"level\": 0 to 3} \
    (2 and 3 are high), with \"group\" (or \"source\") and \"part\" (train, dev, test) if you like.\n\
    Scores are the semantic part alone, as a node gets it for a message with that text; with --tenant the whole \
    score of such a message, by that tenant's weights.\n\n\
    Examples:\n  agentbus model evaluate --data texts.jsonl\n  \
    agentbus model evaluate --data texts.jsonl --part test --html page.html\n  \
    agentbus model evaluate --data a.jsonl --tenants t.toml --tenant acme"
)]
pub struct EvaluateArgs {
    /// Labelled texts, as lines of JSON; can be repeated
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// Only texts of this part [default: all]
    #[arg(long, value_enum)]
    part: Option<PartArg>,
    /// From which score on a text counts as found [default: 0.5, or the tenant's]
    #[arg(long, value_name = "SCORE", value_parser = crate::share::share)]
    threshold: Option<f64>,
    #[command(flatten)]
    limits: LimitsArgs,
    /// Write a page with curves, tables and the worst errors
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print all figures as one object of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum PartArg {
    Train,
    Dev,
    Test,
}

impl PartArg {
    fn part(self) -> Part {
        match self {
            PartArg::Train => Part::Train,
            PartArg::Dev => Part::Dev,
            PartArg::Test => Part::Test,
        }
    }
}

pub(super) fn run(args: &EvaluateArgs) -> anyhow::Result<ExitCode> {
    let (mut texts, sources) = data::read(&args.data)?;
    if let Some(part) = args.part {
        texts.retain(|text: &Labelled| text.part == Some(part.part()));
        anyhow::ensure!(!texts.is_empty(), "no line of the data says that it is of that part");
    }
    let judge = args.judge.judge()?;
    let limits = args.limits.limits()?;
    let usual = limits.as_ref().map_or(0.5, |limits| limits.deliberation_threshold);
    let threshold = args.threshold.unwrap_or(usual);
    let threads = args.judge.threads();
    let judged =
        with_bar(texts.len(), |progress| judged(&judge, &texts, threads, limits.as_ref(), progress))?;
    let figures = Figures::of(&judged, threshold);
    let names: Vec<String> = sources.iter().map(Source::name).collect();
    if let Some(path) = &args.html {
        let data = names.join(", ");
        let page = html(Report { model: judge.name(), data: &data, threshold, judged: &judged });
        fs::write(path, page).with_context(|| path.display().to_string())?;
    }
    if args.json {
        sayln!("{}", all_as_json(&judged, &figures, judge.name(), &names))?;
    } else {
        say(&readable(&judged, &figures, judge.name()))?;
        if let Some(path) = &args.html {
            sayln!("\n  page: {}", path.display())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all_as_json(judged: &[Judged], figures: &Figures, model: &str, data: &[String]) -> Value {
    let groups: Map<String, Value> = by_group(judged, figures.threshold)
        .into_iter()
        .map(|(group, figures)| (group, json!(figures)))
        .collect();
    let levels: Map<String, Value> = by_level(judged, figures.threshold)
        .into_iter()
        .map(|(level, figures)| (level.to_string(), json!(figures)))
        .collect();
    let grades: Map<String, Value> =
        grades_by_group(judged).into_iter().map(|(group, grades)| (group, json!(grades))).collect();
    json!({
        "model": model,
        "data": data,
        "figures": figures,
        "grades": Grades::of(judged),
        "by_group": groups,
        "grades_by_group": grades,
        "worst_group": worst(&by_group(judged, figures.threshold)).map(|(group, _)| group),
        "by_level": levels,
    })
}

fn readable(judged: &[Judged], figures: &Figures, model: &str) -> String {
    let mut out = format!(
        "{model} on {}, {} of them high\n\n",
        agentbus::phrase::counted(figures.texts, "text"),
        figures.high
    );
    for (name, value) in [
        ("AUC", figures.auc),
        ("average precision", figures.average_precision),
        ("recall at 5 % false positives", figures.recall_at_5_percent),
        ("best F1", figures.best_f1),
        ("  at the threshold", figures.best_f1_threshold),
        ("Brier score", figures.brier),
        ("calibration error", figures.calibration_error),
        ("log loss", figures.log_loss),
    ] {
        out += &format!("  {name:<30} {}\n", number(value));
    }
    let confusion = figures.confusion;
    out += &format!("\n  at {}:\n", figures.threshold);
    for (name, value) in [
        ("F1", figures.f1),
        ("precision", figures.precision),
        ("recall", figures.recall),
        ("false positive rate", figures.false_positive_rate),
    ] {
        out += &format!("  {name:<30} {}\n", number(value));
    }
    out += &format!("\n  {:<30} {:>10} {:>10}\n", "", "found", "not found");
    out += &format!("  {:<30} {:>10} {:>10}\n", "high", confusion.found, confusion.missed);
    out += &format!("  {:<30} {:>10} {:>10}\n", "not high", confusion.false_alarms, confusion.left_alone);
    if let Some(grades) = Grades::of(judged) {
        out += &graded(&grades);
    }
    let levels = by_level(judged, figures.threshold);
    let levels = levels.into_iter().map(|(level, figures)| (format!("level {level}"), figures));
    let groups = by_group(judged, figures.threshold);
    out += &format!(
        "\n  {:<30} {:>6} {:>6} {:>8} {:>8} {:>8} {:>8}\n",
        "", "texts", "high", "AUC", "F1", "recall", "false+"
    );
    let worst =
        worst(&groups).map(|(name, auc)| format!("\n  told apart worst: {}, AUC {auc:.3}\n", plain(name)));
    for (name, figures) in levels.chain(groups) {
        let name = plain(&name);
        out += &format!(
            "  {name:<30} {:>6} {:>6} {:>8} {:>8} {:>8} {:>8}\n",
            figures.texts,
            figures.high,
            number(figures.auc),
            number(figures.f1),
            number(figures.recall),
            number(figures.false_positive_rate)
        );
    }
    out + &worst.unwrap_or_default()
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(30).collect()
}

/// How far levels are told apart, and what each threshold parks of each.
fn graded(grades: &Grades) -> String {
    let mut out = "\n  of texts that have a level:\n".to_owned();
    for (name, value) in [
        ("AUC, level 2 and above", grades.auc_level_2),
        ("AUC, level 3", grades.auc_level_3),
        ("calibration error", grades.calibration_error),
    ] {
        out += &format!("  {name:<30} {}\n", number(value));
    }
    out += &format!(
        "\n  {:<30} {:>9} {:>8} {:>9}\n",
        "at most so many false alarms", "threshold", "recall", "precision"
    );
    for at in &grades.at_false_alarms {
        let allowed = format!("{} %", at.allowed * 100.0);
        let [threshold, recall, precision] = [at.threshold, at.recall, at.precision].map(number);
        out += &format!("  {allowed:<30} {threshold:>9} {recall:>8} {precision:>9}\n");
    }
    out += &format!(
        "\n  {:<30} {:>8} {:>8} {:>8} {:>8}\n",
        "parked at a threshold of", "level 0", "1", "2", "3"
    );
    for parked in &grades.parked {
        let shares: String = parked.share.iter().map(|share| format!(" {:>8}", number(*share))).collect();
        out += &format!("  {:<30.2}{shares}\n", parked.threshold);
    }
    out
}

fn number(value: Option<f64>) -> String {
    value.map_or("-".to_owned(), |value| format!("{value:.3}"))
}
