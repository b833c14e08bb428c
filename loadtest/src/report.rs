//! Where do the figures of the benchmark page come from? From one run, put between two marks; what
//! people wrote around them stays.

use std::fs;

use anyhow::Context as _;

use crate::{
    durable, impact, micro,
    options::{DurableOptions, ImpactOptions, MicroOptions, ReportOptions},
    rounds,
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
    let single = tokio::task::spawn_blocking(move || micro::run(&micro)).await??;
    let run = rounds::send(&options.load).await?;
    let model = impact::run(&ImpactOptions::beside(&options.load)).await?;
    let lane = durable::run(&DurableOptions::beside(&options.load)).await?;
    let text = format!(
        "{before}{BEGIN}\n\n### Over NATS\n\n{}\n\n### The durable lane\n\n{lane}\n\n### Single stages, in process\n\n{single}\n\n\
         ### Beside a saturated model\n\n{model}\n\n{END}{after}",
        crate::tables::all(&run)
    );
    fs::write(&options.page, text).with_context(|| options.page.display().to_string())?;
    println!("written to {}", options.page.display());
    Ok(())
}

fn around(page: &str) -> Option<(&str, &str)> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some((before, after))
}
