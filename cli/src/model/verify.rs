//! `agentbus model verify`: do the files belong together, and does this CPU compute what it should?

use std::{process::ExitCode, sync::Arc};

use agentbus::{
    impact::{
        guard::is_guard,
        model::{FILES, Model, ModelError, Precision, Source, Windows, sha256_of},
    },
    phrase::{causes, counted},
};
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use super::{checks::Checks, guard, info::manifest};
use crate::output::OutputError;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus model verify\n  \
agentbus model verify --model-dir model")]
pub struct VerifyArgs {
    /// Folder of a model, instead of the one inside
    #[arg(long, value_name = "DIR")]
    model_dir: Option<std::path::PathBuf>,
}

/// Pooled states of some texts, as the reference implementation in f32 gives them for the model
/// inside. A part of tests/golden/model.
const GOLDEN: &str = include_str!("golden.json");

#[derive(Deserialize)]
struct Golden {
    encoder_sha256: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    pooled: Vec<f32>,
}

/// How far an answer may be from the reference: the cosine of the pooled states.
fn cosine_min(precision: Precision) -> f64 {
    match precision {
        Precision::F32 => 0.999_999,
        Precision::Bf16 => 0.999,
        Precision::Int8 => 0.98,
    }
}

pub(super) fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let source = args.model_dir.clone().map_or(Source::Embedded, Source::Dir);
    if let Source::Dir(folder) = &source
        && is_guard(folder)
    {
        return guard::verify(folder);
    }
    let mut checks = Checks::default();
    // First: a damaged file is told as one, whatever it does to the loading.
    digests(&mut checks, &source)?;
    let reference = match Model::load(&source, Some(Precision::F32)) {
        Ok(model) => Arc::new(model),
        Err(error) => {
            checks.check("the model loads", Err(error.to_string()))?;
            sayln!("failed: the model cannot be used")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    let info = reference.info();
    checks.check("the head is this encoder's and this tokenizer's", Ok(reference.name().to_owned()))?;
    let golden: Golden = serde_json::from_str(GOLDEN)?;
    let known = golden.encoder_sha256 == info.encoder_sha256;
    if !known {
        sayln!(
            "note    no answers of a reference are known for this encoder; precisions are compared with f32"
        )?;
    }
    for precision in Precision::ALL {
        let what = format!("answers in {precision}");
        match Model::load(&source, Some(precision)) {
            Err(ModelError::PrecisionUnavailable { cause, .. }) => {
                sayln!("note    {what}: not on this CPU ({cause})")?;
            }
            Err(error) => checks.check(&what, Err(error.to_string()))?,
            Ok(model) => {
                let found = answers(&Arc::new(model), &reference, &golden, known);
                checks.check(
                    &what,
                    found.map_err(|error| causes(error.as_ref())).and_then(|least| {
                        let needed = cosine_min(precision);
                        let fact = format!(
                            "{}, least cosine {least:.7} to {}, needed {needed}",
                            counted(golden.cases.len(), "text"),
                            if known { "the reference" } else { "f32" }
                        );
                        if least >= needed { Ok(fact) } else { Err(fact) }
                    }),
                )?;
            }
        }
    }
    checks.conclude(reference.name())
}

/// What the manifest says of each file, held against the file.
fn digests(checks: &mut Checks, source: &Source) -> Result<(), OutputError> {
    let manifest = manifest(source);
    let said = |file: &str| {
        let table = manifest.get("sha256").and_then(Value::as_object);
        table.and_then(|table| table.get(file)).and_then(Value::as_str).map(str::to_owned)
    };
    if manifest.get("sha256").is_none() {
        sayln!("note    no manifest.toml with digests: nothing says what the files should be")?;
        return Ok(());
    }
    for file in FILES {
        let Some(expected) = said(file) else { continue };
        let found = match sha256_of(source, file) {
            Ok(Some(found)) if found == expected => Ok(found),
            Ok(Some(found)) => Err(format!(
                "its SHA-256 is {found}, expected {expected}; it is damaged or of another model: take the files \
                 of one model together"
            )),
            Ok(None) => Err("it is missing".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        checks.check(&format!("{file} is as the manifest says"), found)?;
    }
    Ok(())
}

/// The least cosine over the texts, of a model to the reference.
fn answers(model: &Arc<Model>, f32: &Arc<Model>, golden: &Golden, known: bool) -> anyhow::Result<f64> {
    let (mut session, mut other) = (model.session(), f32.session());
    let mut least: f64 = 1.0;
    for case in &golden.cases {
        let windows = model.windows(&case.text, &Windows::default())?;
        let windows: Vec<&[u32]> = windows.iter().take(1).map(Vec::as_slice).collect();
        let pooled = session.pooled(&windows)?;
        let expected = if known { vec![case.pooled.clone()] } else { other.pooled(&windows)? };
        for (pooled, expected) in pooled.iter().zip(&expected) {
            // NaN is no answer, and `min` would pass over it.
            let cosine = cosine(pooled, expected);
            least = if cosine.is_nan() { f64::NEG_INFINITY } else { least.min(cosine) };
        }
    }
    Ok(least)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    if a.len() == b.len() { dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() } else { f64::NAN }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn the_known_answers_are_unit_vectors_of_the_model_inside() {
        let golden: Golden = serde_json::from_str(GOLDEN).unwrap();
        assert!(golden.cases.len() >= 4);
        let manifest = manifest(&Source::Embedded);
        let encoder = manifest.pointer("/sha256/model.safetensors").and_then(Value::as_str);
        assert_eq!(
            encoder,
            Some(golden.encoder_sha256.as_str()),
            "the encoder changed: make golden.json anew"
        );
        for case in &golden.cases {
            assert_eq!(case.pooled.len(), 384);
            let length: f64 = case.pooled.iter().map(|it| f64::from(*it).powi(2)).sum();
            assert!((length - 1.0).abs() < 1e-4, "{length}");
        }
    }

    #[test]
    fn cosines_are_of_equal_widths() {
        assert!((cosine(&[1.0, 0.0], &[2.0, 0.0]) - 1.0).abs() < 1e-12);
        assert!(cosine(&[1.0], &[1.0, 0.0]).is_nan());
    }
}
