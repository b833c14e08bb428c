//! `agentbus health`: how is the node that runs here? For the health checks of containers, and for people.

use std::process::ExitCode;

use agentbus::admin;
use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::Value;

use super::{
    context::{Paint, Tone, say},
    node::Settings,
    printable::Page,
};

const OK: u16 = 200;
const UNAVAILABLE: u16 = 503;

#[derive(Debug, Args)]
#[command(after_help = "\
Reads the same sources as the node, for where it listens (http.listen), and asks there.\n\n\
Exit codes: 0 it is ready, or with --live alive; 1 it is not, or does not answer; 2 usage.\n\n\
Examples:\n  \
agentbus health --config node.toml\n  \
agentbus health --http 127.0.0.1:8080 --live")]
pub(super) struct HealthArgs {
    #[command(flatten)]
    settings: Settings,
    /// Ask only whether it should be left alone (/livez), not whether it takes requests (/readyz)
    #[arg(long)]
    live: bool,
}

pub(super) async fn run(args: HealthArgs) -> anyhow::Result<ExitCode> {
    let http = args.settings.load()?.http;
    let listen = http.listen;
    let page = if args.live { "/livez" } else { "/readyz" };
    let answer = admin::ask(&http, page).await;
    let answer = answer.with_context(|| format!("the node at {listen} (http.listen)"))?;
    let well = match answer.status {
        OK => true,
        UNAVAILABLE => false,
        status => bail!("{page} at {listen}: found status {status}, expected {OK} or {UNAVAILABLE}"),
    };
    let told = if args.live { lively(well) } else { readiness(well, &answer.body)? };
    say(&told)?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn lively(well: bool) -> String {
    let mut page = Page::new(Paint::stdout());
    match well {
        true => page.headed("alive", Tone::Good, ""),
        false => page.headed("not alive", Tone::Bad, "nothing comes back over its connections: restart it"),
    }
    page.into_text()
}

/// The node, and each part of it that is not up.
fn readiness(well: bool, body: &str) -> anyhow::Result<String> {
    let report: Value = serde_json::from_str(body).context("the answer of /readyz is not a node's")?;
    let text = |value: &Value, key| value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut page = Page::new(Paint::stdout());
    let (word, tone) = match (well, text(&report, "status") == "degraded") {
        (true, false) => ("ready", Tone::Good),
        (true, true) => ("degraded", Tone::Careful),
        (false, _) => ("not ready", Tone::Bad),
    };
    page.headed(word, tone, &text(&report, "node"));
    let parts = report.get("parts").and_then(Value::as_object);
    for (name, part) in parts.context("the answer of /readyz names no parts")? {
        let state = text(part, "state");
        if state != "up" {
            page.field(name, &format!("{state}: {}", text(part, "note")));
        }
    }
    Ok(page.into_text())
}
