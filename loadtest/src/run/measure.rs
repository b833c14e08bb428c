//! How is one measurement made? Client processes make the load; here it is decided when the warm-up is over and
//! when enough was counted, and what the processes take is read meanwhile.

use std::{
    collections::BTreeMap,
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc::{self, Receiver},
    time::timeout,
};

use super::{
    job::{Job, Sent, Slice, Told, Word},
    profile::Load,
    sheet::Sample,
    shelf::Chosen,
    steady::{self, Point},
    tally::Tally,
    timeline::Timeline,
    usage::{Each, Pids},
    world::{Turn, World},
};
use crate::stages::{self, Stages};

/// Longer than a client process takes to connect, and to tell what arrived.
const TOLD_WAIT: Duration = Duration::from_secs(130);
/// What client processes tell that was not yet read.
const TOLD_MAX: usize = 256;

/// What the person who waits is told.
pub(crate) struct Now<'a> {
    pub(crate) point: Point,
    pub(crate) counted: Option<Duration>,
    pub(crate) cores: &'a Each,
}

/// The client processes of one measurement. Dropping them ends them.
struct Clients {
    children: Vec<(Child, ChildStdin)>,
    told: Receiver<(usize, Told)>,
}

pub(crate) async fn measure(
    world: &World,
    turn: &Turn,
    chosen: &Chosen,
    (round, load): (u32, &Load),
    mut show: impl FnMut(Now<'_>),
) -> anyhow::Result<Sample> {
    let mut clients = Clients::start(world, turn, chosen, load).await?;
    let pids = Pids { nodes: turn.pids.nodes.clone(), clients: clients.pids(), ..turn.pids.clone() };
    clients.all(|told| matches!(told, Told::Ready).then_some(())).await?;
    clients.say(Word::Go).await?;
    let mut course = Course::new(chosen, turn, load, pids);
    while !course.is_over() {
        let (process, told) = clients.next().await?;
        let Told::Slice(slice) = told else { bail!("a client process told {told:?}, expected a slice") };
        if let Some(now) = course.slice(process, slice).await? {
            show(now);
        }
    }
    clients.say(Word::Stop).await?;
    let mut sent = Sent::default();
    let stopped = clients.all(|told| if let Told::Stopped(sent) = told { Some(sent) } else { None }).await?;
    stopped.into_iter().for_each(|one| sent.add(one));
    clients.say(Word::End).await?;
    let arrived =
        clients.all(|told| if let Told::Arrived(count) = told { Some(count) } else { None }).await?;
    let sample = course.sample(round, sent.miscounted(arrived.into_iter().sum()));
    ensure!(
        sample.tally.answered > 0,
        "no answer of the {} at {}: {:?}",
        turn.side.as_str(),
        sample.load,
        sample.tally.failures
    );
    Ok(sample)
}

impl Clients {
    async fn start(world: &World, turn: &Turn, chosen: &Chosen, load: &Load) -> anyhow::Result<Self> {
        let (tell, told) = mpsc::channel(TOLD_MAX);
        let mut children = Vec::new();
        for process in 0..chosen.profile.processes {
            let mut child = Command::new(std::env::current_exe()?)
                .arg("load-client")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .context("a client process")?;
            let mut lines = BufReader::new(child.stdout.take().context("its output")?).lines();
            let mut input = child.stdin.take().context("its input")?;
            let (tell, number) = (tell.clone(), process as usize);
            tokio::spawn(async move {
                while let Ok(Some(line)) = lines.next_line().await {
                    let told =
                        serde_json::from_str(&line).unwrap_or_else(|error| Told::Failed(error.to_string()));
                    let last = matches!(told, Told::Arrived(_) | Told::Failed(_));
                    if tell.send((number, told)).await.is_err() || last {
                        return;
                    }
                }
                let _ = tell.send((number, Told::Failed("it has ended".to_owned()))).await;
            });
            let job = Job {
                nats: turn.nats_url.clone(),
                side: turn.side,
                keys: world.keys().to_owned(),
                process,
                profile: chosen.profile.clone(),
                corpora: chosen.corpora.clone(),
                load: load.clone(),
            };
            write_line(&mut input, &job).await?;
            children.push((child, input));
        }
        Ok(Self { children, told })
    }

    fn pids(&self) -> Vec<u32> {
        self.children.iter().filter_map(|(child, _)| child.id()).collect()
    }

    async fn say(&mut self, word: Word) -> anyhow::Result<()> {
        for (_, input) in &mut self.children {
            write_line(input, &word).await?;
        }
        Ok(())
    }

    async fn next(&mut self) -> anyhow::Result<(usize, Told)> {
        let told = timeout(TOLD_WAIT, self.told.recv()).await.context("the client processes tell nothing")?;
        match told.context("the client processes are gone")? {
            (process, Told::Failed(what)) => bail!("client process {process}: {what}"),
            told => Ok(told),
        }
    }

    /// What each of them tells of one kind. Slices that come meanwhile are of the time after the counting.
    async fn all<T>(&mut self, wanted: impl Fn(Told) -> Option<T>) -> anyhow::Result<Vec<T>> {
        let mut found = Vec::new();
        while found.len() < self.children.len() {
            let (_, told) = self.next().await?;
            found.extend(wanted(told));
        }
        Ok(found)
    }
}

async fn write_line(input: &mut ChildStdin, line: &impl serde::Serialize) -> anyhow::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    input.write_all(&bytes).await.context("a client process does not listen")
}

/// A measurement under way.
struct Course<'a> {
    chosen: &'a Chosen,
    turn: &'a Turn,
    load: &'a Load,
    pids: Pids,
    started: Instant,
    points: Vec<Point>,
    /// Of the slice that is not over for all processes.
    current: Tally,
    timeline: Timeline,
    counting: Option<Counting>,
    over: Option<Over>,
}

/// From the end of the warm-up on.
struct Counting {
    steady: bool,
    since: Instant,
    stages: Stages,
    processor: Each,
    /// By group and entry.
    tallies: BTreeMap<(usize, usize), Tally>,
    /// What each process has counted, and for how long.
    counted: BTreeMap<usize, (u64, Duration)>,
}

struct Over {
    elapsed: Duration,
    stages: BTreeMap<String, f64>,
    processor: Each,
}

impl<'a> Course<'a> {
    fn new(chosen: &'a Chosen, turn: &'a Turn, load: &'a Load, pids: Pids) -> Self {
        let timeline = Timeline::new(&pids);
        Self {
            chosen,
            turn,
            load,
            pids,
            started: Instant::now(),
            points: Vec::new(),
            current: Tally::default(),
            timeline,
            counting: None,
            over: None,
        }
    }

    fn is_over(&self) -> bool {
        self.over.is_some()
    }

    fn measured(&self) -> Option<usize> {
        let name = &self.chosen.profile.measured(self.load)?.name;
        self.chosen.profile.group.iter().position(|group| group.name == *name)
    }

    /// Adds what a process saw. The slices of the first one are the clock.
    async fn slice(&mut self, process: usize, slice: Slice) -> anyhow::Result<Option<Now<'_>>> {
        let measured = self.measured();
        let mut answered = 0;
        for part in &slice.parts {
            if Some(part.group) == measured {
                answered += part.tally.answered;
                self.current.add(&part.tally);
            }
            if let Some(counting) = &mut self.counting {
                counting.tallies.entry((part.group, part.entry)).or_default().add(&part.tally);
            }
        }
        if let Some(counting) = &mut self.counting {
            let of = counting.counted.entry(process).or_default();
            *of = (of.0 + answered, of.1 + slice.took);
        }
        if process != 0 {
            return Ok(None);
        }
        let slice = std::mem::take(&mut self.current);
        let point = Point { answered: slice.answered, p50_us: slice.latency.at(0.5) };
        self.points.push(point);
        self.timeline.add(self.started.elapsed(), &slice, self.counting.is_some(), &self.pids);
        self.step().await?;
        let counted = self.counting.as_ref().map(|counting| counting.since.elapsed());
        Ok(Some(Now { point, counted, cores: self.timeline.cores() }))
    }

    /// From warm-up to counting, from counting to over.
    async fn step(&mut self) -> anyhow::Result<()> {
        let profile = &self.chosen.profile;
        match &self.counting {
            None => {
                let warm = self.started.elapsed();
                // A ramp begins where its warm-up ends.
                let steady = steady::is_steady(&self.points);
                let enough = self.load.ramp.is_some() || steady || warm >= profile.warm_up_max;
                if warm >= profile.warm_up && enough {
                    self.counting = Some(Counting {
                        steady,
                        since: Instant::now(),
                        stages: self.stages().await?,
                        processor: self.pids.processor_seconds(),
                        tallies: BTreeMap::new(),
                        counted: BTreeMap::new(),
                    });
                }
            }
            Some(counting) if counting.since.elapsed() >= profile.measure => {
                let elapsed = counting.since.elapsed();
                let processor =
                    self.pids.processor_seconds().with(counting.processor, |now, then| now - then);
                let stages = stages::means(&counting.stages, &self.stages().await?);
                self.over = Some(Over { elapsed, stages, processor });
            }
            Some(_) => {}
        }
        Ok(())
    }

    /// Of all nodes together.
    async fn stages(&self) -> anyhow::Result<Stages> {
        let mut all = Stages::new();
        for address in &self.turn.http {
            for (stage, (sum, count)) in stages::read(address).await? {
                let of = all.entry(stage).or_default();
                *of = (of.0 + sum, of.1 + count);
            }
        }
        Ok(all)
    }

    fn sample(self, round: u32, miscounted: u64) -> Sample {
        let measured = self.measured();
        let warm_up = self.counting.as_ref().map(|counting| counting.since.duration_since(self.started));
        let (steady, tallies, counted) = match self.counting {
            Some(Counting { steady, tallies, counted, .. }) => (steady, tallies, counted),
            None => Default::default(),
        };
        let (mut tally, mut entries, mut beside) = (Tally::default(), BTreeMap::new(), BTreeMap::new());
        let mut answers = 0;
        for ((group, entry), seen) in &tallies {
            answers += seen.answered;
            let Some(of) = self.chosen.profile.group.get(*group) else { continue };
            let into = if Some(*group) == measured {
                tally.add(seen);
                let label = of.mix.get(*entry).map(|of| of.label()).unwrap_or_default();
                entries.entry(label).or_insert_with(Tally::default)
            } else {
                beside.entry(of.name.clone()).or_insert_with(Tally::default)
            };
            into.add(seen);
        }
        let rate = |&(answered, took): &(u64, Duration)| answered as f64 / took.as_secs_f64().max(1e-6);
        let over = self.over.unwrap_or(Over {
            elapsed: Duration::ZERO,
            stages: BTreeMap::new(),
            processor: Each::default(),
        });
        Sample {
            round,
            side: self.turn.side,
            load: self.load.label(),
            steady,
            warm_up_s: warm_up.unwrap_or_default().as_secs_f64(),
            elapsed_s: over.elapsed.as_secs_f64(),
            rate: counted.values().map(rate).sum(),
            tally,
            entries,
            beside,
            processor_us: over.processor.map(|seconds| seconds * 1e6 / answers.max(1) as f64),
            memory_mib: self.timeline.memory_most(),
            stages: over.stages,
            miscounted,
            seconds: self.timeline.seconds(),
        }
    }
}
