//! `agentbus score`: how harmful do lines of text or messages sound, one line of JSON for each?

use std::{
    fs::File,
    io::{self, BufReader, IsTerminal as _, Read},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use agentbus::text_file;
use anyhow::{Context as _, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::{
    input,
    judge::JudgeArgs,
    output::{self, Reader, offer},
};

mod split;
mod work;

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
    Examples:\n  agentbus score 'Delete all customer records'\n  \
    echo '{\"text\": \"Delete all customer records\"}' | agentbus score\n  \
    agentbus score --file texts.jsonl"
)]
pub struct ScoreArgs {
    /// A text to score; or a file with lines of JSON, if there is one of that name
    #[arg(value_name = "TEXT|FILE", conflicts_with = "file")]
    text: Option<String>,
    /// Lines of JSON; - is standard input, which is read unless there is something else
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
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
        Told { unread: true, .. } | Told { failed: 0, .. } => Ok(ExitCode::SUCCESS),
        Told { failed, lines, .. } => {
            eprintln!("agentbus: {failed} of {} without a score", agentbus::phrase::counted(lines, "line"));
            Ok(ExitCode::FAILURE)
        }
    }
}

fn open(args: &ScoreArgs) -> anyhow::Result<(Box<dyn Read + Send>, Option<u64>)> {
    let path = match (&args.text, &args.file) {
        (Some(text), _) if !names_a_file(text) => return Ok((Box::new(one_line(text)), None)),
        (Some(path), _) => Path::new(path),
        (None, file) => file.as_deref().unwrap_or(Path::new("-")),
    };
    if path.as_os_str() == "-" {
        return Ok((Box::new(input::stdin("lines of JSON, such as {\"text\": \"hello\"},")), None));
    }
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let size = file.metadata().ok().filter(std::fs::Metadata::is_file).map(|metadata| metadata.len());
    let text = text_file::over_mark(file).with_context(|| path.display().to_string())?;
    Ok((Box::new(text), size))
}

/// A mistyped name of a file is no text to score, either.
fn names_a_file(text: &str) -> bool {
    let path = Path::new(text);
    text == "-" || path.is_file() || path.extension().is_some_and(|end| end == "json" || end == "jsonl")
}

fn one_line(text: &str) -> io::Cursor<String> {
    io::Cursor::new(format!("{}\n", json!({ "text": text })))
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
    /// Nobody reads on.
    unread: bool,
}

/// Writes the answers as they come, in order.
fn tell(ordered: &Receiver<Ordered>, bar: &ProgressBar) -> anyhow::Result<Told> {
    let mut told = Told::default();
    for next in ordered {
        let (bytes, answers) = next.context("reading the input")?;
        let answers =
            answers.recv().map_err(|_| anyhow!("a scoring thread stopped; nothing further was scored"))?;
        told.lines += answers.lines;
        told.failed += answers.failed;
        match offer(&answers.text)? {
            Reader::There => bar.inc(bytes),
            Reader::Gone => return Ok(Told { unread: true, ..told }),
        }
    }
    Ok(told)
}

/// On stderr, and only if it is a terminal that the scores do not go to.
fn progress(size: Option<u64>) -> ProgressBar {
    if output::is_terminal() || !io::stderr().is_terminal() {
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
