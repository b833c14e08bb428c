//! `agentbus impact replay`: known messages through another head, other weights or another threshold.

use std::{path::PathBuf, process::ExitCode};

use agentbus::{impact::LIFT_ALL, phrase::counted};
use agentbus_modelkit::{
    judge::Judge,
    replay::{self, By, ByName, Changes, Example, Tally, WORDS_MAX},
};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    judge::JudgeArgs, known::known, limits::LimitsArgs, output::say, printable, progress::with_bar,
    share::share,
};

#[derive(Debug, Args)]
#[command(
    after_help = "Lines are records as `agentbus records` prints them, judgements as `agentbus deliberations export` writes \
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
    #[arg(long, value_name = "SCORE", value_parser = share)]
    threshold: Option<f64>,
    /// From which score on a message counts as parked before where the line does not say
    #[arg(long, value_name = "SCORE", default_value_t = 0.8, value_parser = share)]
    threshold_before: f64,
    /// Examples of each change
    #[arg(long, value_name = "N", default_value_t = 5)]
    examples: usize,
    /// Fail where the fate of more than this share of the messages would be another, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = share)]
    fail_above: Option<f64>,
    /// Print all figures as one object of JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    judge: JudgeArgs,
}

pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let by = args.by()?;
    let lines = known(&args.file)?;
    let judge = args.judge.judge()?;
    // What another model says of what the bus has not said anything of; mostly it is the same one.
    let inside = Judge::inside()?;
    let threads = args.judge.threads();
    let fates =
        with_bar(lines.len(), |progress| replay::fates(&lines, &by, [&judge, &inside], threads, progress))?;
    let changes = Changes::of(&lines, &fates, args.examples);
    let told = Told { changes: &changes, model: judge.name(), threshold: by.threshold };
    if args.json {
        sayln!("{}", told.as_json())?;
    } else {
        say(&told.readable())?;
    }
    let too_much = args.fail_above.is_some_and(|share| changes.all.changed() > share);
    Ok(if too_much { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

impl ReplayArgs {
    fn by(&self) -> anyhow::Result<By> {
        let limits = self.limits.limits()?.unwrap_or_default();
        Ok(By {
            weights: limits.weights.unwrap_or_default(),
            report_lift_max: limits.report_lift_max.unwrap_or(LIFT_ALL),
            threshold: self.threshold.unwrap_or(limits.deliberation_threshold),
            threshold_before: self.threshold_before,
        })
    }
}

/// What is told at the end.
struct Told<'a> {
    changes: &'a Changes<'a>,
    model: &'a str,
    threshold: f64,
}

impl Told<'_> {
    fn groups(&self) -> [(&'static str, &ByName); 3] {
        let Changes { levels, types, senders, .. } = self.changes;
        [("level", levels), ("type", types), ("sender", senders)]
    }

    fn as_json(&self) -> Value {
        let groups =
            self.groups().into_iter().filter(|(_, names)| !names.is_empty()).map(|(group, names)| {
                let rows: serde_json::Map<String, Value> =
                    names.rows().into_iter().map(|(name, tally)| (name, json!(tally))).collect();
                (format!("by_{group}"), Value::Object(rows))
            });
        let mut all = json!({
            "model": self.model,
            "threshold": self.threshold,
            "all": self.changes.all,
            "changed": self.changes.all.changed(),
            "unknown": self.changes.unknown,
            "not_read": self.changes.spared,
            "newly": self.changes.newly.iter().map(example_as_json).collect::<Vec<_>>(),
            "no_longer": self.changes.no_longer.iter().map(example_as_json).collect::<Vec<_>>(),
        });
        if let Some(fields) = all.as_object_mut() {
            fields.extend(groups);
        }
        all
    }

    fn readable(&self) -> String {
        let Tally { messages, parked_before, parked_after, newly, no_longer } = self.changes.all;
        let share = |count: usize| 100.0 * count as f64 / messages.max(1) as f64;
        let mut out = format!(
            "{}: {parked_before} parked before ({:.1} %), {parked_after} would be ({:.1} %) with {} at {}\n  \
             {newly} newly, {no_longer} no longer; {:.1} % change\n",
            counted(messages, "message"),
            share(parked_before),
            share(parked_after),
            self.model,
            self.threshold,
            100.0 * self.changes.all.changed(),
        );
        out += &format!(
            "  {} would not be read ({:.1} %): no words could change their fate\n",
            self.changes.spared,
            share(self.changes.spared)
        );
        if self.changes.unknown > 0 {
            out += &format!(
                "  {} left out: the words were not read then, and are not in the line\n",
                counted(self.changes.unknown, "message")
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
        for (what, examples) in
            [("newly parked", &self.changes.newly), ("no longer parked", &self.changes.no_longer)]
        {
            if !examples.is_empty() {
                out += &format!("\n{what}:\n");
            }
            for example in examples {
                out += &format!("  {}\n", example_line(example));
            }
        }
        out
    }
}

fn example_line(example: &Example<'_>) -> String {
    let before =
        example.known.before.as_ref().and_then(|before| before.parts.as_ref().map(|_| before.score.0));
    let before = before.map_or("   -".to_owned(), |score| format!("{score:.2}"));
    let words = example.words().unwrap_or_else(|| "(its words are not in the line)".to_owned());
    let sender = printable::safe(&example.known.sender, 64);
    format!("{before} → {:.2}  {sender}: {}", example.score, printable::safe(&words, WORDS_MAX))
}

fn example_as_json(example: &Example<'_>) -> Value {
    json!({
        "sender": example.known.sender,
        "type": example.known.message_type.map(|it| it.as_str()),
        "score": example.score,
        "words": example.words(),
        "level": example.known.level,
        "id": example.known.decision,
    })
}
