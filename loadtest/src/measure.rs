//! `loadtest measure`: every figure that was to be beaten, each by its name.
//!
//! - [`catalogue`]: what is run for which of them. [`over_nats`]: the targets of what a profile says.
//! - [`stages`], [`registry`], [`reading`], [`decisions`]: what is measured in this process.
//! - [`report`]: all of it, as JSON, as one page to look at, and in `docs/benchmarks.md`.

use anyhow::Context as _;

use crate::{
    html,
    options::MeasureOptions,
    run::{self, sheet::Report, shelf, shown, world::World},
    targets::{self, Target},
};
use catalogue::{Cut, How, PARTS, Part};
use report::{Outcome, Whole};

pub(crate) mod catalogue;
mod decisions;
mod metering;
mod over_nats;
mod reading;
mod registry;
pub(crate) mod report;
mod server;
mod stages;

pub(crate) async fn run(options: &MeasureOptions) -> anyhow::Result<()> {
    let page = options.page.as_deref().map(report::Page::open).transpose()?;
    let mut outcomes = Vec::new();
    for part in chosen(&options.figures) {
        let outcome = one(part, options).await.with_context(|| part.what.to_owned())?;
        println!("## {}\n\n{}\n\n{}\n", outcome.title, outcome.text, targets::shown(&outcome.targets));
        outcomes.push(outcome);
    }
    let whole = Whole::new(outcomes);
    println!("## All of them\n\n{}", targets::shown(&whole.targets));
    if let Some(path) = &options.output.json {
        whole.write(path)?;
    }
    if let Some(path) = &options.output.html {
        html::write_whole(&whole, path)?;
    }
    page.map_or(Ok(()), |page| page.write(&whole))
}

/// Those that give one of these figures; all but the long ones when none is named.
fn chosen(figures: &[String]) -> impl Iterator<Item = &'static Part> {
    let named =
        |part: &Part| figures.iter().any(|name| part.figures.iter().any(|it| it.eq_ignore_ascii_case(name)));
    PARTS.iter().filter(move |part| if figures.is_empty() { !part.long } else { named(part) })
}

async fn one(part: &'static Part, options: &MeasureOptions) -> anyhow::Result<Outcome> {
    let title = part.what.to_owned();
    let (text, targets, report) = match &part.how {
        How::Profile(cut) => {
            let report = profile(cut, options).await?;
            let told = shown::figures(&report);
            (told, (cut.targets)(&report), Some(report))
        }
        How::Stages => in_process(stages::run).await?,
        How::Metering => in_process(metering::run).await?,
        How::Reading => in_process(|| Ok(reading::run())).await?,
        How::Registry => {
            let (text, targets) = registry::run().await?;
            (text, targets, None)
        }
        How::Decisions => {
            let (text, targets) = decisions::run().await?;
            (text, targets, None)
        }
        How::Program => stages::program(&options.program.path()?)?,
    };
    Ok(Outcome { title, text, targets, report })
}

/// On a thread of its own, on which nothing waits.
async fn in_process(
    measure: impl FnOnce() -> anyhow::Result<(String, Vec<Target>)> + Send + 'static,
) -> anyhow::Result<(String, Vec<Target>, Option<Report>)> {
    let (text, targets) = tokio::task::spawn_blocking(measure).await??;
    Ok((text, targets, None))
}

async fn profile(cut: &Cut, options: &MeasureOptions) -> anyhow::Result<Report> {
    let mut chosen = shelf::find(cut.profile)?;
    cut.apply(&mut chosen.profile, options.rounds);
    let world = World::start(&chosen.profile, options.program.path()?).await?;
    let report = run::measured(&chosen, world, false).await?;
    run::conclude(&report)?;
    Ok(report)
}
