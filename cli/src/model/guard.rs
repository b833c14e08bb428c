//! `agentbus model` on the folder of a guard: what it is, whether it answers as its reference.

use std::{path::Path, process::ExitCode, sync::Arc};

use agentbus::{
    impact::guard::{Guard, GuardSession},
    phrase::{causes, counted},
};
use anyhow::ensure;
use serde::Deserialize;
use serde_json::json;

use super::checks::Checks;
use crate::{context::Paint, output::say, printable::Page};

/// How far a logit may be from the reference: sums in another order, over many layers.
const LOGIT_APART_MAX: f32 = 1e-3;

/// A line of `golden.json`, as models/golden_guards.py writes it.
#[derive(Deserialize)]
struct Case {
    ids: Vec<u32>,
    logits: Vec<f32>,
}

pub(super) fn info(guard: &Arc<Guard>, as_json: bool) -> anyhow::Result<ExitCode> {
    let info = guard.info();
    let took = guard.measure()?.as_secs_f64() * 1e3;
    if as_json {
        let mut all = serde_json::to_value(&info)?;
        if let Some(fields) = all.as_object_mut() {
            fields.insert("model".to_owned(), json!(info.name));
            fields.insert("window_ms".to_owned(), json!(took));
        }
        sayln!("{all}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut page = Page::new(Paint::stdout());
    page.field("guard", &info.name);
    page.field("digest", &info.digest);
    page.field("files", &info.source);
    page.field("network", &format!("{} of {} layers, {} wide", info.model_type, info.layers, info.width));
    page.field("tokenizer", &format!("{} tokens, up to {} at once", info.vocabulary, info.positions));
    page.field("window", &format!("{} tokens, {took:.1} ms on one thread", info.window_tokens));
    page.field("computes", &format!("in {} by {}", info.precision, info.engine));
    for (at, (label, level)) in info.labels.iter().enumerate() {
        page.field(if at == 0 { "labels" } else { "" }, &format!("{label}: level {level}"));
    }
    say(&page.into_text())?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn verify(folder: &Path) -> anyhow::Result<ExitCode> {
    let mut checks = Checks::default();
    let guard = match Guard::load(folder) {
        Ok(guard) => Arc::new(guard),
        Err(error) => {
            checks.check("the guard loads", Err(error.to_string()))?;
            sayln!("failed: the guard cannot be used")?;
            return Ok(ExitCode::FAILURE);
        }
    };
    checks.check("the guard loads", Ok(guard.name().to_owned()))?;
    let measured = guard.measure();
    let window = measured.map(|took| format!("{} tokens in {took:.1?}", guard.window_tokens()));
    checks.check("a full window has an answer", window.map_err(|error| error.to_string()))?;
    match std::fs::read(folder.join("golden.json")) {
        Err(_) => sayln!(
            "note    no golden.json beside it: nothing says what it should answer; \
             models/golden_guards.py writes one"
        )?,
        Ok(golden) => {
            let found = answers(&mut guard.session(), &golden);
            checks.check("answers are the reference's", found.map_err(|error| causes(error.as_ref())))?;
        }
    }
    checks.conclude(guard.name())
}

fn answers(session: &mut GuardSession, golden: &[u8]) -> anyhow::Result<String> {
    let cases: Vec<Case> = serde_json::from_slice(golden)?;
    ensure!(!cases.is_empty(), "golden.json has no texts");
    let mut furthest: f32 = 0.0;
    for case in &cases {
        let found = session.logits(&[&case.ids])?.concat();
        ensure!(
            found.len() == case.logits.len(),
            "{} logits, golden.json has {}",
            found.len(),
            case.logits.len()
        );
        let apart = found.iter().zip(&case.logits).map(|(a, b)| (a - b).abs());
        furthest = apart.fold(furthest, f32::max);
    }
    let fact = format!(
        "{}, logits at most {furthest:.1e} apart, needed {LOGIT_APART_MAX:.0e}",
        counted(cases.len(), "text")
    );
    ensure!(furthest <= LOGIT_APART_MAX, "{fact}");
    Ok(fact)
}
