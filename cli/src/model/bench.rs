//! `agentbus model bench`: how fast is the model on this machine, on one thread and on two?

use std::{
    fs,
    io::{BufWriter, Write as _},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use agentbus::impact::{
    guard::{GUARD_FILE, Guard},
    model::{Choice, Engine, Model, ModelError, Options, Part, Session, Source, Windows},
    text::normalized,
};
use agentbus_modelkit::speed::{Row, Throughput, measure, row, window_of};
use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use crate::judge::ModelArgs;

const TEXTS_MAX: usize = 100_000;
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:\n  \
agentbus model bench --tokens 16\n  \
agentbus model bench --tokens 0 --texts texts.jsonl --json")]
pub struct BenchArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// What computes; candle runs f32 only
    #[arg(long, value_enum, default_value_t)]
    engine: EngineArg,
    /// Lengths to measure, one text at a time; none with 0
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "16,32,64,128",
        value_parser = clap::value_parser!(u16).range(0..=512))]
    tokens: Vec<u16>,
    /// Times to measure each length; the median of the medians counts
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    rounds: u16,
    /// Also measure texts per second: lines of {"text": …}, each cut to one window
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Instances to compare with one, each on its own thread (with --texts)
    #[arg(long, value_name = "N", default_value = "2")]
    threads: NonZeroUsize,
    /// Write the pooled state of each of --texts, as lines of JSON
    #[arg(long, value_name = "FILE", requires = "texts")]
    pooled_out: Option<PathBuf>,
    /// Print one object of JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum EngineArg {
    /// Kernels where the CPU has what they need, else candle
    #[default]
    Auto,
    /// candle's tensors, on any CPU
    Candle,
    /// The kernels, or nothing
    Kernels,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.threads.get() <= 256, "--threads is {}, at most 256 make sense", args.threads);
    if let Source::Dir(folder) = args.model.source()
        && folder.join(GUARD_FILE).exists()
    {
        return run_guard(&Arc::new(Guard::load(&folder)?), args);
    }
    let model = load(args)?;
    let mut session = model.session();
    let ends = model.windows("", &Windows::default()).unwrap_or_default().concat();
    let mut rows = Vec::new();
    for tokens in args.lengths() {
        let window = window_of(&ends, model.info().vocabulary, tokens);
        rows.push(row(&window, args.rounds, &mut |window| {
            std::hint::black_box(session.pooled(&[window])?);
            Ok(())
        })?);
    }
    let mut throughput = None;
    if let Some(path) = &args.texts {
        let windows = texts(&model, path)?;
        throughput = Some(measure(&model, &windows, args.threads)?);
        if let Some(out) = &args.pooled_out {
            write_pooled(&mut session, &windows, out)?;
        }
    }
    let info = model.info();
    if args.json {
        sayln!("{}", as_json(args, &model, info.layers, &rows, throughput.as_ref()))?;
    } else {
        sayln!("{}, {} layers, in {} by {}", model.name(), info.layers, info.precision, info.engine)?;
        say_rows(&rows)?;
        if let Some(Throughput { texts, tokens, batch1, batch8, threads, batch8_threads, threads_ratio }) =
            throughput
        {
            sayln!("\n  {texts} texts of {:.1} tokens, texts per second:", tokens as f64 / texts as f64)?;
            sayln!("    one at a time        {batch1:>9.0}")?;
            sayln!("    eight at a time      {batch8:>9.0}")?;
            sayln!("    {threads} instances          {batch8_threads:>9.0}   {threads_ratio:.2} of one")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn run_guard(guard: &Arc<Guard>, args: &BenchArgs) -> anyhow::Result<ExitCode> {
    ensure!(args.texts.is_none(), "a guard is measured by lengths; leave --texts out");
    let mut session = guard.session();
    let ends = guard.windows("", &Windows::default())?.concat();
    let longest = guard.info().positions;
    let mut rows = Vec::new();
    for tokens in args.lengths() {
        ensure!(usize::from(tokens) <= longest, "--tokens has {tokens}, this guard reads {longest} at once");
        let window = window_of(&ends, guard.info().vocabulary, tokens);
        rows.push(row(&window, args.rounds, &mut |window| {
            std::hint::black_box(session.logits(&[window])?);
            Ok(())
        })?);
    }
    if args.json {
        let info = guard.info();
        sayln!(
            "{}",
            json!({"model": info.name, "precision": info.precision, "engine": info.engine,
                "layers": info.layers, "threads": 1, "rows": rows})
        )?;
    } else {
        sayln!("{}, in f32 by {}", guard.name(), guard.engine())?;
        say_rows(&rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl BenchArgs {
    fn lengths(&self) -> impl Iterator<Item = u16> {
        self.tokens.iter().copied().filter(|tokens| *tokens > 0)
    }
}

fn say_rows(rows: &[Row]) -> anyhow::Result<()> {
    sayln!("\n  {:>6} {:>12} {:>12} {:>12}", "tokens", "median", "p10", "p90")?;
    for Row { tokens, median_us, p10_us, p90_us } in rows {
        sayln!("  {tokens:>6} {median_us:>9.0} us {p10_us:>9.0} us {p90_us:>9.0} us")?;
    }
    Ok(())
}

/// With its head, which says how many layers run; an encoder without one runs all of them.
fn load(args: &BenchArgs) -> Result<Arc<Model>, Box<ModelError>> {
    let engine = match args.engine {
        EngineArg::Auto => None,
        EngineArg::Candle => Some(Engine::Candle),
        EngineArg::Kernels => Some(Engine::Kernels),
    };
    let choice = Choice { precision: args.model.precision.asked(), engine };
    let source = args.model.source();
    match Model::load_with(&source, Options { choice, part: Part::Scorer }) {
        Err(ModelError::Missing { .. }) => {
            Model::load_with(&source, Options { choice, part: Part::Encoder { layers: None } })
        }
        loaded => loaded,
    }
    .map(Arc::new)
    .map_err(Box::new)
}

fn as_json(
    args: &BenchArgs,
    model: &Model,
    layers: usize,
    rows: &[Row],
    throughput: Option<&Throughput>,
) -> Value {
    let mut all = json!({
        "model": model.name(),
        "precision": model.precision().to_string(),
        "engine": model.engine().to_string(),
        "layers": layers,
        "threads": 1,
        "rows": rows,
    });
    if let (Value::Object(fields), Some(throughput)) = (&mut all, throughput) {
        let mut per_second = json!(throughput);
        if let (Value::Object(per_second), 2) = (&mut per_second, throughput.threads) {
            per_second.insert("threads2_ratio".to_owned(), json!(throughput.threads_ratio));
        }
        fields.insert("texts_per_s".to_owned(), per_second);
        if let Some(path) = &args.pooled_out {
            fields.insert("pooled".to_owned(), json!(path));
        }
    }
    all
}

#[derive(serde::Deserialize)]
struct TextLine {
    text: String,
}

/// The first window of each text: so every engine that is compared reads the same tokens.
fn texts(model: &Model, path: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    let content = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let mut windows = Vec::new();
    for (number, line) in content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        ensure!(windows.len() < TEXTS_MAX, "{} has more than {TEXTS_MAX} texts", path.display());
        let at = || format!("{}, line {}", path.display(), number + 1);
        let line: TextLine = serde_json::from_str(line).with_context(at)?;
        let read = model.windows(&normalized(&line.text), &Windows::default()).with_context(at)?;
        windows.extend(read.into_iter().next());
    }
    ensure!(!windows.is_empty(), "{} has no texts", path.display());
    Ok(windows)
}

fn write_pooled(session: &mut Session, windows: &[Vec<u32>], out: &Path) -> anyhow::Result<()> {
    let at = || out.display().to_string();
    let mut file = BufWriter::new(fs::File::create(out).with_context(at)?);
    for some in windows.chunks(8) {
        let ids: Vec<&[u32]> = some.iter().map(Vec::as_slice).collect();
        for pooled in session.pooled(&ids)? {
            serde_json::to_writer(&mut file, &pooled)?;
            file.write_all(b"\n").with_context(at)?;
        }
    }
    file.flush().with_context(at)
}
