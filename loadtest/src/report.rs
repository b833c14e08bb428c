//! Where do the figures of the benchmark page come from? From one run, put between two marks; what
//! people wrote around them stays.

use std::fs;

use anyhow::Context as _;
use serde::Serialize;

use crate::{
    durable,
    figures::Run,
    impact, micro,
    options::{DurableOptions, ImpactOptions, LoadOptions, MicroOptions, ReportOptions},
    rounds,
    targets::{self, Target},
};

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

pub(crate) async fn run(options: &ReportOptions) -> anyhow::Result<()> {
    let page = fs::read_to_string(&options.page).with_context(|| options.page.display().to_string())?;
    // Found before minutes are spent on figures that could not be written.
    let (before, after) = around(&page).with_context(|| {
        format!("{} needs a line {BEGIN} and after it a line {END}", options.page.display())
    })?;
    let micro =
        MicroOptions { rounds: std::num::NonZeroU32::MIN.saturating_add(10), millis: 200, json: None };
    // Its figures go into the whole file, not into one of their own.
    let load = LoadOptions { json: None, ..options.load.clone() };
    let (single, micro) = tokio::task::spawn_blocking(move || micro::run(&micro)).await??;
    let send = rounds::send(&load).await?;
    let (model, impact) = impact::run(&ImpactOptions::beside(&load)).await?;
    let (lane, durable) = durable::run(&DurableOptions::beside(&load)).await?;
    let text = format!(
        "{before}{BEGIN}\n\n### Over NATS\n\n{}\n\n### The durable lane\n\n{lane}\n\n### Single stages, in process\n\n{single}\n\n\
         ### Beside a saturated model\n\n{model}\n\n{END}{after}",
        crate::tables::all(&send)
    );
    fs::write(&options.page, text).with_context(|| options.page.display().to_string())?;
    println!("written to {}", options.page.display());
    if let Some(path) = &options.load.json {
        let targets = [targets::of_send(&send), micro, impact.into_iter().collect(), durable].concat();
        let json = serde_json::to_vec_pretty(&Whole { targets, send })?;
        fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// `--json`: every target that is measured, and the measurements of `send` with command, machine and versions.
#[derive(Serialize)]
struct Whole {
    targets: Vec<Target>,
    send: Run,
}

fn around(page: &str) -> Option<(&str, &str)> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before, after))
}
