//! `agentbus score`: how harmful do lines of text or messages sound, one line of JSON for each?

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal as _, Read, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use anyhow::{Context as _, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use super::judge::JudgeArgs;
use crate::text_file;

mod line;
mod once;
mod split;
mod work;

#[cfg(feature = "model")]
pub(super) use line::bare_message;
use split::{Batch, Lines};
use work::{Answers, Work};

/// Batches that wait for each thread, so that none is ever without work, and few are in memory.
const BATCHES_WAITING: usize = 4;

#[derive(Debug, Args)]
#[command(
    after_help = "Each line of input is {\"text\": …}, with an \"id\" if you like and any other fields, \
    or a whole message as an agent sends it. What a message does not say is filled in: a command of \
    normal priority to one agent, in working hours, the first of its sender. \"semantic\" is what the \
    model says of the words, \"score\" the whole formula (docs/impact.md); a text has its words alone, \
    so that its score is what they say.\n\n\
    A line that cannot be scored gives {\"line\": N, \"error\": …} in its place, and exit code 1 at the end.\n\n\
    Example:\n  echo '{\"text\": \"Delete all customer records\"}' | agentbus score"
)]
pub struct ScoreArgs {
    /// Lines of JSON; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    input: PathBuf,
    #[command(flatten)]
    judge: JudgeArgs,
}

pub(super) fn run(args: &ScoreArgs) -> anyhow::Result<ExitCode> {
    let judge = args.judge.judge()?;
    let threads = args.judge.threads();
    let (input, size) = open(args)?;
    let bar = progress(size);
    let (order, ordered) = sync_channel(threads.get() * BATCHES_WAITING);
    let work = Work::start(&judge, threads, BATCHES_WAITING)?;
    // Not joined: it may wait for a terminal for ever, and ends with the process or its input.
    thread::Builder::new()
        .name("score-reader".to_owned())
        .spawn(move || read(input, &work, &order))
        .context("a thread to read with")?;
    let told = tell(&ordered, &bar);
    bar.finish_and_clear();
    match told? {
        Told { broken_pipe: true, .. } | Told { failed: 0, .. } => Ok(ExitCode::SUCCESS),
        Told { failed, lines, .. } => {
            eprintln!("agentbus: {failed} of {lines} lines have no score");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn open(args: &ScoreArgs) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    if args.input.as_os_str() == "-" {
        return Ok((Box::new(io::stdin()), None));
    }
    let file = File::open(&args.input).with_context(|| args.input.display().to_string())?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let text = text_file::over_mark(file).with_context(|| args.input.display().to_string())?;
    Ok((Box::new(text), size))
}

/// One batch after the other, and where its answers will be, in the order of the input.
type Ordered = Result<(u64, Receiver<Answers>), io::Error>;

fn read(input: Box<dyn Read + Send>, work: &Work, order: &SyncSender<Ordered>) {
    for batch in Lines::new(BufReader::with_capacity(128 * 1024, input)) {
        let next = batch.map(|batch: Batch| {
            let bytes = batch.bytes;
            (bytes, work.give(batch))
        });
        let stop = next.is_err();
        // Both fail only when nobody listens any more.
        if order.send(next).is_err() || stop {
            return;
        }
    }
}

#[derive(Default)]
struct Told {
    lines: u64,
    failed: u64,
    broken_pipe: bool,
}

/// Writes the answers as they come, in order.
fn tell(ordered: &Receiver<Ordered>, bar: &ProgressBar) -> anyhow::Result<Told> {
    let mut told = Told::default();
    let mut out = io::stdout().lock();
    for next in ordered {
        let (bytes, answers) = next.context("reading the input")?;
        let answers =
            answers.recv().map_err(|_| anyhow!("a scoring thread stopped; nothing further was scored"))?;
        told.lines += answers.lines;
        told.failed += answers.failed;
        match out.write_all(&answers.text).and_then(|()| out.flush()) {
            Ok(()) => bar.inc(bytes),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                return Ok(Told { broken_pipe: true, ..told });
            }
            Err(error) => return Err(error).context("writing the scores"),
        }
    }
    Ok(told)
}

/// On stderr, and only if it is a terminal that the scores do not go to.
fn progress(size: Option<u64>) -> ProgressBar {
    if io::stdout().is_terminal() || !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => (
            ProgressBar::new(size),
            "{elapsed_precise} {wide_bar} {bytes}/{total_bytes} ({bytes_per_sec}, {eta})",
        ),
        None => (ProgressBar::new_spinner(), "{elapsed_precise} {spinner} {bytes} ({bytes_per_sec})"),
    };
    match ProgressStyle::with_template(template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
