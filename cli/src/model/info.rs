//! `agentbus model info`: which model is it, where from, and how does it compute here?

use std::process::ExitCode;

use agentbus::impact::{
    classifier::Classifier,
    model::{Info, Model, ModelError, Precision, Source},
};
use clap::Args;
use serde_json::{Value, json};

use super::guard;
use crate::{context::Paint, judge::ModelArgs, output::say, printable::Page};

/// What says where the model inside comes from; written when it was converted.
const MANIFEST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../models/impact/manifest.toml"));

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus model info\n  \
agentbus model info --precision f32 --json")]
pub struct InfoArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Print one object of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &InfoArgs) -> anyhow::Result<ExitCode> {
    let model = match args.model.load()? {
        Classifier::Guard(guard) => return guard::info(&guard, args.json),
        Classifier::Model(model) => model,
    };
    let info = model.info();
    let manifest = manifest(&args.model.source());
    let available = precisions(&args.model.source());
    if args.json {
        let mut all = serde_json::to_value(&info)?;
        if let Value::Object(fields) = &mut all {
            fields.insert("model".to_owned(), json!(model.name()));
            fields.insert("manifest".to_owned(), manifest);
            fields.insert(
                "precisions".to_owned(),
                available.iter().map(|(precision, missing)| (precision.to_string(), json!({
                    "available": missing.is_none(), "why_not": missing.as_ref().map(ToString::to_string)
                }))).collect::<serde_json::Map<_, _>>().into(),
            );
        }
        sayln!("{all}")?;
    } else {
        say(&readable(&info, model.name(), &manifest, &available, args.model.precision.asked()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The manifest of a model, empty if it has none or one that cannot be read: it is for people.
pub(super) fn manifest(source: &Source) -> Value {
    let text = match source {
        Source::Embedded => Some(MANIFEST.to_owned()),
        Source::Dir(folder) => std::fs::read_to_string(folder.join("manifest.toml")).ok(),
    };
    text.and_then(|text| toml::from_str(&text).ok()).unwrap_or_else(|| json!({}))
}

/// Each precision, and why it cannot be had here, if so.
fn precisions(source: &Source) -> Vec<(Precision, Option<ModelError>)> {
    Precision::ALL
        .into_iter()
        .map(|precision| (precision, Model::load(source, Some(precision)).err()))
        .collect()
}

fn readable(
    info: &Info,
    name: &str,
    manifest: &Value,
    available: &[(Precision, Option<ModelError>)],
    asked: Option<Precision>,
) -> String {
    let mut page = Page::new(Paint::stdout());
    let mut line = |name: &str, text: String| page.field(name, &text);
    let said = |pointer: &str| manifest.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
    line("model", name.to_owned());
    line("digest", info.digest.clone());
    line(
        "files",
        if info.source == "embedded" { "inside this program".to_owned() } else { info.source.clone() },
    );
    if let Some(origin) = said("/source/model") {
        line("made from", format!("{origin}, {}", said("/source/package").unwrap_or_default()));
    }
    line("licence", said("/source/license").unwrap_or_else(|| "not said".to_owned()));
    line(
        "encoder",
        format!(
            "{} of {} layers, {} wide, {} heads, {:.1} M parameters",
            info.layers,
            info.layers_in_file,
            info.width,
            info.heads,
            info.parameters as f64 / 1e6
        ),
    );
    line("tokenizer", format!("{} tokens, up to {} at once", info.vocabulary, info.positions));
    let why = if asked.is_some() { "as asked for" } else { "the fastest that this CPU has" };
    line("computes", format!("in {} by {}, {why}", info.precision, info.engine));
    for (precision, missing) in available {
        if let Some(missing) = missing {
            line("", format!("not in {precision}: {missing}"));
        }
    }
    match &info.trained_on {
        Some(Value::Object(facts)) if !facts.is_empty() => {
            for (at, (name, fact)) in facts.iter().enumerate() {
                line(if at == 0 { "head" } else { "" }, format!("{name}: {}", short(fact)));
            }
        }
        _ => line("head", "says nothing of how it was trained".to_owned()),
    }
    page.into_text()
}

/// A fact of a head on one line.
fn short(fact: &Value) -> String {
    const SHOWN_MAX: usize = 160;
    let text = match fact {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() <= SHOWN_MAX {
        return text;
    }
    text.chars().take(SHOWN_MAX).chain(['…']).collect()
}
