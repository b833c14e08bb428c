//! `agentbus impact replay`: known messages through another head, other weights or another threshold.

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead as _, BufReader, Read},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use agentbus::{
    domain::{Message, Weights},
    impact::{LIFT_ALL, Semantic, alone, for_each_text, needs_no_words, rescored},
    phrase::counted,
    text_file,
};
use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::{Value, json};

use super::{
    line::{self, Known},
    tally::{ByName, Tally},
};
use crate::{
    input,
    judge::{Judge, JudgeArgs},
    limits::LimitsArgs,
    model::in_order,
    output::say,
    printable,
};

const LINE_BYTES_MAX: u64 = 1024 * 1024;
const LINES_MAX: usize = 1_000_000;
/// Characters of a message's words in an example.
const WORDS_MAX: usize = 72;
/// Errors that are told one by one.
const ERRORS_MAX: usize = 5;

#[derive(Debug, Args)]
#[command(
    after_help = "Lines are records of the stream RECORDS, judgements as `agentbus deliberations export` writes \
    them, messages as agents send them, or {\"text\": …, \"level\": 0 to 3}. What the bus made of a message \
    stands in records and judgements; of the others it is what the model inside makes of them, by the default \
    weights and --threshold-before.\n\
    A line without the message's words keeps its semantic part, and is tried with the weights and the \
    threshold alone. A line's volume, context and drift stay as they were.\n\n\
    Exit codes: 0 done, 1 failure, or more changed than --fail-above, 2 usage.\n\n\
    Examples:\n  agentbus impact replay --file judged.jsonl --threshold 0.85\n  \
    agentbus impact replay --file judged.jsonl --head acme.json"
)]
pub(super) struct ReplayArgs {
    /// Lines of JSON; - is standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    limits: LimitsArgs,
    /// From which score on a message would be parked [default: the tenant's, or 0.8]
    #[arg(long, value_name = "SCORE", value_parser = score)]
    threshold: Option<f64>,
    /// From which score on a message counts as parked before where the line does not say
    #[arg(long, value_name = "SCORE", default_value_t = 0.8, value_parser = score)]
    threshold_before: f64,
    /// Examples of each change
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: usize,
    /// Fail where the fate of more than this share of the messages would be another, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = score)]
    fail_above: Option<f64>,
    /// Print all figures as one object of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

fn score(text: &str) -> Result<f64, String> {
    let score: f64 = text.parse().map_err(|_| "expected a number".to_owned())?;
    if (0.0..=1.0).contains(&score) { Ok(score) } else { Err("expected 0 to 1".to_owned()) }
}

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let by = args.by()?;
    let lines = read(args)?;
    let judge = args.judge.judge()?;
    // What another model says of what the bus has not said anything of; mostly it is the same one.
    let inside = Judge::inside()?;
    let fates = in_order(
        &lines,
        args.judge.threads(),
        || (judge.seat(), inside.seat()),
        |(seat, inside), chunk| {
            let words: Vec<Arc<Message>> = chunk.iter().filter_map(|known| known.message.clone()).collect();
            let said = seat.semantics(&words);
            let silent = |known: &&Known| known.before.is_none();
            let unknown: Vec<Arc<Message>> =
                chunk.iter().filter(silent).filter_map(|known| known.message.clone()).collect();
            let mut said_inside = inside.semantics(&unknown).into_iter();
            let mut said = said.into_iter();
            chunk
                .iter()
                .map(|known| {
                    let read = known.message.as_ref().map(|_| said.next()).map(|it| it.context("no answer"));
                    // Without a score a message is parked.
                    let semantic = read.transpose()?.map(|it| it.ok().map(|it| it.semantic));
                    let before = match (&known.before, &known.message) {
                        (Some(before), _) => Some(before.parked),
                        (None, Some(message)) => {
                            let said = said_inside.next().context("no answer")?;
                            Some(said.map_or(true, |said| {
                                args.before(message, said.semantic, known) >= args.threshold_before
                            }))
                        }
                        (None, None) => None,
                    };
                    Ok(Fate { before, after: by.after(known, semantic), spared: by.spares(known) })
                })
                .collect()
        },
    )?;
    let told = Told::of(&lines, &fates, args.examples);
    if args.json {
        sayln!("{}", told.as_json(judge.name(), &by))?;
    } else {
        say(&told.readable(judge.name(), &by))?;
    }
    let too_much = args.fail_above.is_some_and(|share| told.all.changed() > share);
    Ok(if too_much { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What is tried.
struct By {
    weights: Weights,
    report_lift_max: f64,
    threshold: f64,
}

/// Whether a message was parked, and whether it would be; nothing where nobody knows.
struct Fate {
    before: Option<bool>,
    after: Option<(f64, bool)>,
    /// A node would not read its words.
    spared: bool,
}

impl ReplayArgs {
    fn by(&self) -> anyhow::Result<By> {
        let limits = self.limits.limits()?.unwrap_or_default();
        Ok(By {
            weights: limits.weights.unwrap_or_default(),
            report_lift_max: limits.report_lift_max.unwrap_or(LIFT_ALL),
            threshold: self.threshold.unwrap_or(limits.deliberation_threshold),
        })
    }

    fn before(&self, message: &Message, semantic: Semantic, known: &Known) -> f64 {
        alone(message, semantic, "", &Weights::default(), known.at).score
    }
}

impl By {
    fn spares(&self, known: &Known) -> bool {
        let fresh =
            |message: &Arc<Message>| alone(message, Semantic::from(0.0), "", &self.weights, known.at).parts;
        let before = known.before.as_ref().and_then(|before| before.parts);
        before.or_else(|| known.message.as_ref().map(fresh)).is_some_and(|parts| {
            needs_no_words(&parts, known.message_type, &self.weights, self.report_lift_max, self.threshold)
        })
    }

    /// `semantic`: of the words, if there are any; inside it, what was found.
    fn after(&self, known: &Known, semantic: Option<Option<Semantic>>) -> Option<(f64, bool)> {
        let before = known.before.as_ref();
        let parts = before.and_then(|before| before.parts.as_ref());
        let semantic = match semantic {
            Some(None) => return Some((1.0, true)),
            Some(Some(found)) => Some(found.score),
            None => None,
        };
        let score = match (parts, &known.message, semantic) {
            (Some(parts), _, found) => match found.or(parts.semantic) {
                Some(semantic) => {
                    rescored(parts, known.message_type, semantic, &self.weights, self.report_lift_max)
                }
                // Its words were not read: both ends are on one side, or nobody knows.
                None => {
                    let [low, high] = [0.0, 1.0].map(|semantic| {
                        rescored(parts, known.message_type, semantic, &self.weights, self.report_lift_max)
                    });
                    return ((low >= self.threshold) == (high >= self.threshold))
                        .then_some((low, low >= self.threshold));
                }
            },
            (None, Some(message), Some(found)) => {
                let alone = alone(message, Semantic::from(found), "", &self.weights, known.at);
                rescored(&alone.parts, known.message_type, found, &self.weights, self.report_lift_max)
            }
            // Decided without an impact, as it would be again.
            (None, _, _) => return before.map(|before| (before.score.0, before.parked)),
        };
        Some((score, score >= self.threshold))
    }
}

fn read(args: &ReplayArgs) -> anyhow::Result<Vec<Known>> {
    let input: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(input::stdin("lines of JSON, such as records or messages,"))
    } else {
        let file = File::open(&args.file).with_context(|| args.file.display().to_string())?;
        Box::new(text_file::over_mark(file).with_context(|| args.file.display().to_string())?)
    };
    let mut input = BufReader::new(input);
    let (mut all, mut errors, mut number) = (Vec::new(), 0, 0);
    let mut places: HashMap<String, usize> = HashMap::new();
    loop {
        let mut line = Vec::new();
        number += 1;
        let bytes = input.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
        if bytes == 0 {
            break;
        }
        ensure!((bytes as u64) < LINE_BYTES_MAX, "line {number} has more than {LINE_BYTES_MAX} bytes");
        if line.trim_ascii().is_empty() {
            continue;
        }
        match line::read(&line, number) {
            Ok(known) => match known.decision.as_ref().and_then(|id| places.get(id)) {
                // An intent, and the verdict after it.
                Some(&place) => {
                    if let Some(earlier) = all.get_mut(place) {
                        *earlier = known;
                    }
                }
                None => {
                    if let Some(id) = &known.decision {
                        places.insert(id.clone(), all.len());
                    }
                    all.push(known);
                }
            },
            Err(error) => {
                errors += 1;
                if errors <= ERRORS_MAX {
                    eprintln!("agentbus: line {number} is left out: {error}");
                }
            }
        }
        ensure!(all.len() <= LINES_MAX, "more than {LINES_MAX} messages; give fewer");
    }
    if errors > ERRORS_MAX {
        eprintln!("agentbus: {} left out in all", counted(errors, "line"));
    }
    if all.is_empty() {
        bail!("no message to replay in {}", args.file.display());
    }
    Ok(all)
}

/// One change.
struct Example<'a> {
    known: &'a Known,
    score: f64,
}

/// What is told at the end.
struct Told<'a> {
    all: Tally,
    /// Nobody knows what became of them, or what would.
    unknown: usize,
    /// Their words would not be read.
    spared: usize,
    types: ByName,
    senders: ByName,
    levels: ByName,
    newly: Vec<Example<'a>>,
    no_longer: Vec<Example<'a>>,
}

impl<'a> Told<'a> {
    fn of(lines: &'a [Known], fates: &[Fate], examples: usize) -> Self {
        let mut told = Self {
            all: Tally::default(),
            unknown: 0,
            spared: 0,
            types: ByName::default(),
            senders: ByName::default(),
            levels: ByName::default(),
            newly: Vec::new(),
            no_longer: Vec::new(),
        };
        for (known, fate) in lines.iter().zip(fates) {
            let (Some(before), Some((score, after))) = (fate.before, fate.after) else {
                told.unknown += 1;
                continue;
            };
            told.all.add(before, after);
            told.spared += usize::from(fate.spared);
            told.types.add(known.message_type.map_or("unknown", |it| it.as_str()), before, after);
            told.senders.add(&known.sender, before, after);
            if let Some(level) = known.level {
                told.levels.add(&format!("level {level}"), before, after);
            }
            let changed = match (before, after) {
                (false, true) => &mut told.newly,
                (true, false) => &mut told.no_longer,
                _ => continue,
            };
            changed.push(Example { known, score });
        }
        // The clearest first.
        told.newly.sort_by(|a, b| b.score.total_cmp(&a.score));
        told.no_longer.sort_by(|a, b| a.score.total_cmp(&b.score));
        told.newly.truncate(examples);
        told.no_longer.truncate(examples);
        told
    }

    fn groups(&self) -> [(&'static str, &ByName); 3] {
        [("level", &self.levels), ("type", &self.types), ("sender", &self.senders)]
    }

    fn as_json(&self, model: &str, by: &By) -> Value {
        let groups =
            self.groups().into_iter().filter(|(_, names)| !names.is_empty()).map(|(group, names)| {
                let rows: serde_json::Map<String, Value> =
                    names.rows().into_iter().map(|(name, tally)| (name, json!(tally))).collect();
                (format!("by_{group}"), Value::Object(rows))
            });
        let mut all = json!({
            "model": model,
            "threshold": by.threshold,
            "all": self.all,
            "changed": self.all.changed(),
            "unknown": self.unknown,
            "not_read": self.spared,
            "newly": self.newly.iter().map(Example::as_json).collect::<Vec<_>>(),
            "no_longer": self.no_longer.iter().map(Example::as_json).collect::<Vec<_>>(),
        });
        if let Some(fields) = all.as_object_mut() {
            fields.extend(groups);
        }
        all
    }

    fn readable(&self, model: &str, by: &By) -> String {
        let Tally { messages, parked_before, parked_after, newly, no_longer } = self.all;
        let share = |count: usize| 100.0 * count as f64 / messages.max(1) as f64;
        let mut out = format!(
            "{}: {parked_before} parked before ({:.1} %), {parked_after} would be ({:.1} %) with {model} at {}\n  \
             {newly} newly, {no_longer} no longer; {:.1} % change\n",
            counted(messages, "message"),
            share(parked_before),
            share(parked_after),
            by.threshold,
            100.0 * self.all.changed(),
        );
        out += &format!(
            "  {} would not be read ({:.1} %): no words could change their fate\n",
            self.spared,
            share(self.spared)
        );
        if self.unknown > 0 {
            out += &format!(
                "  {} left out: the words were not read then, and are not in the line\n",
                counted(self.unknown, "message")
            );
        }
        for (group, names) in self.groups().into_iter().filter(|(_, names)| !names.is_empty()) {
            let mut table = printable::table([group, "messages", "before", "after", "newly", "no longer"]);
            for (name, tally) in names.rows() {
                let counts =
                    [tally.messages, tally.parked_before, tally.parked_after, tally.newly, tally.no_longer];
                let mut row = vec![printable::safe(&name, 64)];
                row.extend(counts.map(|count| count.to_string()));
                table.add_row(row);
            }
            out += &format!("\n{table}\n");
        }
        for (what, examples) in [("newly parked", &self.newly), ("no longer parked", &self.no_longer)] {
            if !examples.is_empty() {
                out += &format!("\n{what}:\n");
            }
            for example in examples {
                out += &format!("  {}\n", example.line());
            }
        }
        out
    }
}

impl Example<'_> {
    fn words(&self) -> Option<String> {
        let message = self.known.message.as_ref()?;
        let mut words = String::new();
        for_each_text(message, &mut |text| {
            if words.chars().count() <= WORDS_MAX {
                words = format!("{words} {text}");
            }
        });
        Some(words.trim_start().chars().take(WORDS_MAX).collect())
    }

    fn line(&self) -> String {
        let before =
            self.known.before.as_ref().and_then(|before| before.parts.as_ref().map(|_| before.score.0));
        let before = before.map_or("   -".to_owned(), |score| format!("{score:.2}"));
        let words = self.words().unwrap_or_else(|| "(its words are not in the line)".to_owned());
        let sender = printable::safe(&self.known.sender, 64);
        format!("{before} → {:.2}  {sender}: {}", self.score, printable::safe(&words, WORDS_MAX))
    }

    fn as_json(&self) -> Value {
        json!({
            "sender": self.known.sender,
            "type": self.known.message_type.map(|it| it.as_str()),
            "score": self.score,
            "words": self.words(),
            "level": self.known.level,
            "id": self.known.decision,
        })
    }
}
