//! `agentbus policy check`: what compiles, and still cannot be meant.

use std::{path::PathBuf, process::ExitCode};

use agentbus::{
    phrase::counted,
    policy::{Finding, check},
    tenants::Plan,
};
use clap::Args;
use serde_json::json;

use super::local::Source;
use crate::{
    context::{Paint, Tone, safe, say},
    printable::{self, Page},
};

/// Characters of one finding.
const FINDING_MAX: usize = 400;

#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    source: Source,
    /// With these tenants: roles, agents and tenants that they do not have are found too
    #[arg(long, value_name = "FILE")]
    tenants: Option<PathBuf>,
    /// Find what an OPA server may answer otherwise, too
    #[arg(long)]
    opa: bool,
    /// Print each finding as one line of JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let plan = args.tenants.as_deref().map(Plan::load).transpose()?;
    // What does not compile is told first, and alone.
    let sources = args.source.tested(None)?.sources;
    let found = check(&sources, plan.as_ref().map(Plan::tenants), args.opa);
    say(&if args.json { lines(&found) } else { readable(&found, sources.modules.len()) })?;
    let wrong = found.iter().any(|finding| !finding.note);
    Ok(if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(found: &[Finding]) -> String {
    let line = |Finding { file, line, what, meant, note }: &Finding| {
        let found = json!({ "file": file, "line": line, "what": what, "meant": meant, "note": note });
        format!("{}\n", printable::json(&found.to_string()))
    };
    found.iter().map(line).collect()
}

fn readable(found: &[Finding], modules: usize) -> String {
    let mut page = Page::new(Paint::stdout());
    for finding in found {
        let (mark, tone) = if finding.note { ("note", Tone::Quiet) } else { ("wrong", Tone::Bad) };
        page.headed(mark, tone, &safe(&finding.to_string(), FINDING_MAX));
    }
    let wrong = found.iter().filter(|finding| !finding.note).count();
    page.own(&match wrong {
        0 => format!("{}: nothing that cannot be meant", counted(modules, "module")),
        _ => format!("{}: {} cannot be meant", counted(modules, "module"), counted(wrong, "thing")),
    });
    page.into_text()
}
