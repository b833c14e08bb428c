//! How is it told what another policy would change? One table, whoever has counted.

use agentbus::{
    phrase::counted,
    policy::comparison::{Change, Comparison, Example, Group, Tally},
};
use serde_json::{Map, Value, json};

use crate::printable::{self, safe};

/// Lines of one table; the rest is one line.
const ROWS_MAX: usize = 12;
/// Characters of a name, and of an answer.
const NAME_MAX: usize = 64;
const ANSWER_MAX: usize = 120;

pub(super) fn as_json(comparison: &Comparison) -> Map<String, Value> {
    let all = comparison.all();
    let mut told = Map::from_iter([
        ("all".to_owned(), json!(all)),
        ("changed".to_owned(), all.share().into()),
        ("examples".to_owned(), comparison.examples().map(|example| json!(example)).collect()),
    ]);
    for &group in Group::ALL {
        let rows: Map<String, Value> =
            comparison.rows(group).into_iter().map(|(name, tally)| (name.to_owned(), json!(tally))).collect();
        told.insert(format!("by_{}", group.as_str()), rows.into());
    }
    told
}

pub(super) fn readable(comparison: &Comparison) -> String {
    let all = comparison.all();
    let count = |count: u64, word| counted(usize::try_from(count).unwrap_or(usize::MAX), word);
    let mut out = format!(
        "{}: {} would change ({:.2} %)\n",
        count(all.decisions, "decision"),
        all.changed(),
        100.0 * all.share()
    );
    for &change in Change::ALL {
        if all.of(change) > 0 {
            out += &format!("  {} {}\n", all.of(change), change.as_str());
        }
    }
    if all.changed() + all.other_reasons == 0 {
        return out;
    }
    for &group in Group::ALL {
        out += &table(group, &comparison.rows(group));
    }
    let mut last = None;
    for example in comparison.examples() {
        if last.replace(example.change) != Some(example.change) {
            out += &format!("\n{}:\n", example.change.as_str());
        }
        out += &shown(example);
    }
    out
}

/// Of those alone where something changes.
fn table(group: Group, rows: &[(&str, Tally)]) -> String {
    let rows: Vec<&(&str, Tally)> =
        rows.iter().filter(|(_, tally)| tally.changed() + tally.other_reasons > 0).collect();
    if rows.is_empty() {
        return String::new();
    }
    let header = [group.as_str(), "decisions", "denied", "allowed", "obliged", "failing", "reasons"];
    let mut table = printable::table(header);
    for (name, tally) in rows.iter().take(ROWS_MAX) {
        let mut row = vec![safe(name, NAME_MAX), tally.decisions.to_string()];
        row.extend(Change::ALL.iter().map(|&change| tally.of(change).to_string()));
        table.add_row(row);
    }
    let more = rows.len().saturating_sub(ROWS_MAX);
    let more = if more > 0 { format!("and {more} more\n") } else { String::new() };
    format!("\n{table}\n{more}")
}

fn shown(example: &Example) -> String {
    let name = |text: &str| safe(text, NAME_MAX);
    format!(
        "  {} {}/{} → {}, {}\n    before {}\n    after  {}\n",
        name(&example.decision_id),
        name(&example.tenant),
        name(&example.sender),
        name(&example.recipient),
        name(&example.message_type),
        safe(&example.before, ANSWER_MAX),
        safe(&example.after, ANSWER_MAX),
    )
}
