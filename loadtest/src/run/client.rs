//! What does a client process do? Connects as the agents of its job, makes load until it is told to stop, and
//! tells what it saw, slice by slice.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin, Stdout},
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    job::{Job, Slice, Told, Word},
    profile::Profile,
    steady::SLICE,
};

mod agents;
mod answers;
mod arrivals;
mod pace;
mod stream;

/// Bytes of a job.
const JOB_MAX: usize = 64 * 1024 * 1024;
/// From the job until everybody is connected and registered.
const READY_WAIT: Duration = Duration::from_secs(120);
/// Nothing arrives for so long: nothing is on its way.
const SETTLED: Duration = Duration::from_millis(500);
const SETTLED_MAX: Duration = Duration::from_secs(60);
/// Beyond what a measurement takes: whoever started this has forgotten it.
const FORGOTTEN: Duration = Duration::from_secs(300);

/// `loadtest load-client`: the job is the first line of the standard input.
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut talk = Talk { words: BufReader::new(tokio::io::stdin()).lines(), told: tokio::io::stdout() };
    let job = talk.job().await?;
    let lasts_max = lasts_max(&job.profile);
    match timeout(lasts_max, work(&mut talk, job)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => talk.tell(&Told::Failed(format!("{error:#}"))).await,
        Err(_) => bail!("nobody has ended this client process within {lasts_max:?}"),
    }
}

fn lasts_max(profile: &Profile) -> Duration {
    profile.measure + profile.warm_up_max + READY_WAIT + SETTLED_MAX + FORGOTTEN
}

async fn work(talk: &mut Talk, job: Job) -> anyhow::Result<()> {
    let connected = timeout(READY_WAIT, agents::connect(&job)).await;
    let agents = connected.with_context(|| format!("not connected within {READY_WAIT:?}"))??;
    let streams = stream::build(&job, &agents)?;
    talk.tell(&Told::Ready).await?;
    talk.expect(Word::Go).await?;

    let running = pace::start(&streams, &job, pace::WAITING_MAX);
    let mut slices = interval(SLICE);
    slices.set_missed_tick_behavior(MissedTickBehavior::Delay);
    slices.tick().await;
    let mut since = Instant::now();
    loop {
        tokio::select! {
            word = talk.word() => match word? {
                Word::Stop => break,
                other => bail!("found {other:?}, expected stop"),
            },
            _ = slices.tick() => {
                let (took, parts) = (since.elapsed(), stream::taken(&streams));
                since += took;
                talk.tell(&Told::Slice(Slice { took, parts })).await?;
            }
        }
    }
    running.stop().await?;
    talk.tell(&Told::Stopped(stream::sent(&streams))).await?;

    talk.expect(Word::End).await?;
    let arrived = settled(&agents.arrivals).await;
    agents.leave().await?;
    talk.tell(&Told::Arrived(arrived)).await
}

/// Waits until nothing arrives any more.
async fn settled(arrivals: &Arc<arrivals::Arrivals>) -> u64 {
    let started = Instant::now();
    loop {
        let before = arrivals.count();
        tokio::time::sleep(SETTLED).await;
        if arrivals.count() == before || started.elapsed() >= SETTLED_MAX {
            return arrivals.count();
        }
    }
}

struct Talk {
    words: Lines<BufReader<Stdin>>,
    told: Stdout,
}

impl Talk {
    async fn job(&mut self) -> anyhow::Result<Job> {
        let line = self.words.next_line().await?.context("no job on the standard input")?;
        anyhow::ensure!(line.len() <= JOB_MAX, "found a job of {} bytes", line.len());
        serde_json::from_str(&line).context("the job")
    }

    /// Cancel safe.
    async fn word(&mut self) -> anyhow::Result<Word> {
        let line = self.words.next_line().await?.context("whoever started this is gone")?;
        Ok(serde_json::from_str(&line)?)
    }

    async fn expect(&mut self, expected: Word) -> anyhow::Result<()> {
        let found = self.word().await?;
        anyhow::ensure!(found == expected, "found {found:?}, expected {expected:?}");
        Ok(())
    }

    async fn tell(&mut self, told: &Told) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(told)?;
        line.push(b'\n');
        self.told.write_all(&line).await?;
        Ok(self.told.flush().await?)
    }
}

#[cfg(test)]
mod tests;
