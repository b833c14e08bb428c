//! What breaks, and how does it come back? Processes are ended by their own process id, one at a time,
//! and started again before the next one.

use std::{
    fs,
    io::ErrorKind,
    time::{Duration, Instant},
};

use agentbus::servers::Stack;
use agentbus_testkit::books::{Books, Seen};
use anyhow::{Context as _, ensure};
use rand::{Rng as _, rngs::StdRng};

/// A graceful stop takes no longer; a promise, and so a failure if it does.
const EXIT_MAX: Duration = Duration::from_secs(10);
/// One restart in three of Redis finds its memory gone.
const FORGETS_ONE_IN: u32 = 3;
/// A machine that compiles beside may make a start miss its time.
const STARTS_MAX: usize = 3;

/// What may be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Break {
    /// SIGKILL to a node.
    Node,
    /// SIGKILL to nats-server.
    Nats,
    /// SIGKILL to redis-server; one time in three its append-only file goes too.
    Redis,
    /// SIGTERM to a node, which must end by itself within ten seconds.
    Stop,
}

/// Breaks something, and brings it back.
pub(crate) async fn strike(
    stack: &mut Stack,
    what: Break,
    rng: &mut StdRng,
    books: &Books,
) -> anyhow::Result<()> {
    ended_by_itself(stack)?;
    let started = Instant::now();
    let (process, how) = match what {
        Break::Node => (node(stack, rng, false, books).await?, "SIGKILL"),
        Break::Stop => (node(stack, rng, true, books).await?, "SIGTERM"),
        Break::Nats => {
            let nats = stack.nats_mut();
            nats.child_mut().kill().await;
            ended(books, "nats", "SIGKILL", started);
            nats.restart().await?;
            ("nats".to_owned(), "SIGKILL")
        }
        Break::Redis => {
            let folder = stack.dir().join("redis").join("appendonlydir");
            let redis = stack.redis_mut().context("there is a Redis")?;
            redis.child_mut().kill().await;
            let how = match rng.random_ratio(1, FORGETS_ONE_IN) {
                true => "SIGKILL, its data deleted",
                false => "SIGKILL",
            };
            if how != "SIGKILL" {
                fs::remove_dir_all(&folder)
                    .or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
                    .with_context(|| folder.display().to_string())?;
            }
            ended(books, "redis", how, started);
            redis.restart().await?;
            ("redis".to_owned(), how)
        }
    };
    eprintln!("chaos: {process}: {how}, back after {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

async fn node(stack: &mut Stack, rng: &mut StdRng, gently: bool, books: &Books) -> anyhow::Result<String> {
    let index = rng.random_range(0..stack.nodes().len().max(1));
    let node = stack.node_mut(index).context("there is a node")?;
    let (name, started) = (node.name().to_owned(), Instant::now());
    if gently {
        let exit = node.stop().await;
        let took = started.elapsed();
        ended(books, &name, "SIGTERM", started);
        ensure!(exit.0.success(), "{name} did not stop well ({exit}):\n{}", node.child().tail());
        ensure!(took <= EXIT_MAX, "{name} took {took:?} to stop, expected at most {EXIT_MAX:?}");
    } else {
        node.child_mut().kill().await;
        ended(books, &name, "SIGKILL", started);
    }
    let mut starts = 1;
    while let Err(error) = node.restart().await {
        ensure!(starts < STARTS_MAX, "{name} does not start again: {error}");
        starts += 1;
    }
    Ok(name)
}

fn ended(books: &Books, process: &str, how: &str, started: Instant) {
    let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    books.write(Seen::Ended { process: process.to_owned(), how: how.to_owned(), millis });
}

/// Nothing may end but by these hands.
pub(crate) fn ended_by_itself(stack: &mut Stack) -> anyhow::Result<()> {
    for index in 0..stack.nodes().len() {
        let Some(node) = stack.node_mut(index) else { continue };
        if let Some(exit) = node.child_mut().try_exited() {
            anyhow::bail!("{} ended by itself ({exit}):\n{}", node.name(), node.child().tail());
        }
    }
    Ok(())
}
