//! How is a report looked at? As one page that needs nothing else: no script, no font, no picture from elsewhere.
//!
//! - [`page`]: what stands on it. [`charts`]: curves and bars, as SVG in place.

use std::{fs, path::Path};

use anyhow::Context as _;

use crate::{measure::report::Whole, run::sheet::Report};

mod charts;
mod page;

pub(crate) fn write(report: &Report, path: &Path) -> anyhow::Result<()> {
    fs::write(path, page::page(report)?.into_string()).with_context(|| path.display().to_string())
}

/// All that `loadtest measure` found.
pub(crate) fn write_whole(whole: &Whole, path: &Path) -> anyhow::Result<()> {
    fs::write(path, page::whole(whole)?.into_string()).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests;
