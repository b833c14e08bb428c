//! How are experiments and what they found shown?

use comfy_table::{CellAlignment, ColumnConstraint};

use super::{experiment::Experiment, findings::Findings};
use crate::printable::{self, safe, table as lines};

const TEXT_MAX: usize = 300;

pub(super) fn list(all: &[Experiment]) -> String {
    let mut table = lines(["experiment", "what is done", "what should hold"]);
    for Experiment { name, hypothesis, fault, lasts, .. } in all {
        let done = format!("{fault} for {}", humantime::format_duration(*lasts));
        table.add_row([name.clone(), done, hypothesis.clone()]);
    }
    format!("{table}\n")
}

pub(super) fn list_json(all: &[Experiment]) -> String {
    all.iter().map(|experiment| format!("{}\n", serde_json::json!(experiment))).collect()
}

pub(super) fn json(findings: &Findings) -> String {
    format!("{}\n", printable::json(&serde_json::json!(findings).to_string()))
}

/// What was found, why what did not hold did not, and the score. What was made several times is one line, by the worst of it.
pub(super) fn table(all: &[Findings]) -> String {
    let mut table =
        lines(["experiment", "held", "served", "told", "well", "lost", "twice", "wrong", "no record"]);
    for alike in all.chunk_by(|a, b| a.experiment == b.experiment) {
        table.add_row(row(alike));
    }
    if let Some(name) = table.column_mut(0) {
        name.set_constraint(ColumnConstraint::ContentWidth);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let why = all.iter().flat_map(|found| {
        found
            .failed
            .iter()
            .map(|why| format!("{}: {}\n", safe(&found.experiment, TEXT_MAX), safe(why, TEXT_MAX)))
    });
    let held = all.iter().filter(|found| found.held()).count();
    let messages: usize = all.iter().map(|found| found.messages).sum();
    let score = if all.is_empty() { 0.0 } else { held as f64 / all.len() as f64 };
    format!(
        "{table}\n{}antifragility: {held} of {} experiments held ({score:.2}), {messages} messages\n",
        why.collect::<String>(),
        all.len()
    )
}

fn row(alike: &[Findings]) -> [String; 9] {
    let held = match (alike.iter().filter(|found| found.held()).count(), alike.len()) {
        (0, 1) => "NO".to_owned(),
        (1, 1) => "yes".to_owned(),
        (held, times) => format!("{held} of {times}"),
    };
    let slowest = |ms: fn(&Findings) -> Option<u128>| {
        let ms = alike.iter().filter_map(ms).max();
        ms.map_or_else(|| "-".to_owned(), |ms| format!("{:.1} s", ms as f64 / 1e3))
    };
    let sum = |count: fn(&Findings) -> usize| alike.iter().map(count).sum::<usize>().to_string();
    let served = alike.iter().map(|found| found.served).fold(1.0, f64::min);
    [
        safe(alike.first().map_or("", |found| &found.experiment), TEXT_MAX),
        held,
        format!("{:.0} %", served * 100.0),
        slowest(|found| found.told_after_ms),
        slowest(|found| found.healthy_after_ms),
        sum(|found| found.lost),
        sum(|found| found.doubled),
        sum(|found| found.wrong),
        sum(|found| found.unrecorded),
    ]
}
