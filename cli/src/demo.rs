//! `agentbus demo`: the whole bus on this machine for some seconds, with agents that use and abuse it.

use std::{path::Path, process::ExitCode, time::Duration};

use agentbus::{
    domain::Tenant,
    servers::{Stack, StackOptions},
    shutdown::Shutdown,
    tenants::Plan,
};
use anyhow::{Context as _, bail};
use clap::Args;

mod attacks;
mod cast;
mod corpus;
mod ledger;
mod letter;
mod people;
mod refusals;
mod report;
mod scenes;
mod screen;
mod script;

use cast::Cast;
use screen::Screen;

/// The tenants that play.
const TENANTS: &str = include_str!("../../examples/demo/tenants.toml");
/// For deliveries that verdicts promised.
const SETTLE: Duration = Duration::from_secs(3);
/// Time for a machine that has other work: what a sender waits for its verdict, with what must be shorter and longer.
const PATIENT: &str = "limits.deadline = \"2500ms\"\nimpact.deadline = \"2s\"\nidempotency.lease = \"4s\"";
/// As a shell says it of a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[derive(Debug, Args)]
#[command(after_help = "\
Starts nats-server, redis-server and two nodes on free ports in a temporary folder, ends all of them at \
the end, and deletes the folder.\n\n\
Exit codes: 0 all adds up, 1 something does not or could not be started, 2 usage, 130 interrupted.\n\n\
Examples:\n  \
agentbus demo\n  \
agentbus demo --messages 60 --keep")]
pub(super) struct DemoArgs {
    /// Messages of the traffic; the refusals, attacks and repeats come on top
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(60..=10_000))]
    messages: u32,
    /// Keep the folder with keys, configurations, logs and records, and say where it is
    #[arg(long)]
    keep: bool,
}

pub(super) async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let shutdown = Shutdown::default();
    shutdown.on_terminal_signals()?;
    let screen = Screen::new();
    screen.line("agentbus demo: NATS, Redis, two nodes, three tenants");
    let folder = tempfile::Builder::new().prefix("agentbus-demo-").tempdir()?;

    let played = play(&args, folder.path(), &screen, &shutdown).await;
    screen.finish();
    if args.keep {
        screen.line(&format!("kept: {}", folder.keep().display()));
    }
    let code = match played? {
        Some(true) => ExitCode::SUCCESS,
        Some(false) => ExitCode::FAILURE,
        None => {
            screen.line("interrupted; everything is stopped");
            ExitCode::from(INTERRUPTED)
        }
    };
    screen.written()?;
    Ok(code)
}

/// Whether everything adds up; nothing when interrupted.
async fn play(
    args: &DemoArgs,
    folder: &Path,
    screen: &Screen,
    shutdown: &Shutdown,
) -> anyhow::Result<Option<bool>> {
    let plan = Plan::parse(TENANTS).context("the demo's tenants")?;
    let tenants: Vec<Tenant> = plan.tenants().to_vec();
    let executable = std::env::current_exe().context("the path of this program")?;
    let node_overrides = PATIENT.parse().context("the demo's settings of a node")?;
    let options =
        StackOptions { nodes: 2, node_overrides, ..StackOptions::new(folder.join("bus"), plan, executable) };
    let mut stack = tokio::select! {
        started = Stack::start(options) => started?,
        // What has started by then is ended with the stack that does not come about.
        () = shutdown.requested() => return Ok(None),
    };
    let nodes: Vec<String> = stack.nodes().iter().map(|node| node.http()).collect();
    screen.note(&format!(
        "up in {:.1} s: {}, {}, nodes at {}",
        stack.took().as_secs_f64(),
        stack.nats_url(),
        stack.redis_url().unwrap_or_else(|| "no Redis".to_owned()),
        nodes.join(" and ")
    ));

    // Its own shutdown, so that the agents leave before their servers do.
    let agents = Shutdown::default();
    let scene = tokio::select! {
        scene = scene(args, &mut stack, &tenants, screen, &agents) => Some(scene),
        () = shutdown.requested() => None,
    };
    agents.request();
    agents.finished_within(Duration::from_secs(2)).await;
    let ends = stack.stop().await;
    screen.finish();
    let Some(scene) = scene else { return Ok(None) };
    let (text, right) = scene?;
    screen.line(&text);
    let ended: Vec<&str> = ends.iter().map(|(name, _)| name.as_str()).collect();
    screen.note(&format!("stopped: {}", ended.join(", ")));
    Ok(Some(right))
}

async fn scene(
    args: &DemoArgs,
    stack: &mut Stack,
    tenants: &[Tenant],
    screen: &Screen,
    agents: &Shutdown,
) -> anyhow::Result<(String, bool)> {
    let (url, dir) = (stack.nats_url(), stack.dir().to_path_buf());
    let texts = corpus::texts().context("the demo's corpus")?;
    let cast = Cast::gather(&url, &dir, tenants, agents).await?;
    screen
        .note(&format!("{} agents connected with their own keys; they say texts of the corpus", cast.size()));

    // Half at a pace that can be followed, the rest in bursts.
    let total = args.messages as usize;
    let (paced, twins, killed) = (total / 2, total / 30, total / 5);
    let letters = script::letters(tenants, &texts, 0..total)?;
    let (paced, rest) = letters.split_at(paced);
    let (twins, rest) = rest.split_at(twins);
    let (killed, fast) = rest.split_at(killed);
    if fast.is_empty() {
        bail!("too few messages to play");
    }

    people::decide(&cast, screen).await?;
    people::away(&cast, screen).await?;
    scenes::work(&cast, screen, paced).await?;
    scenes::refused(&cast, screen).await?;
    attacks::play(&cast, screen, &url, &dir).await?;
    let again: Vec<letter::Letter> = paced.iter().step_by(6).cloned().collect();
    scenes::repeats(&cast, screen, &again, twins).await?;
    let burst = scenes::burst(&cast, screen, fast).await?;
    scenes::death(&cast, screen, killed, stack).await?;

    cast.ledger.settle(SETTLE).await;
    let books = cast.ledger.close();
    Ok((report::render(&books, &burst, cast.violations(), screen.paint), books.wrong_total == 0))
}
