//! What is tried: calls of `tests/cases/conformance`, on their own arguments and on whatever else may stand there.

use std::fs;

use serde_json::{Map, Value as Json, json};

use crate::support::root;

/// Large numbers would make these compute for ever.
const EXPAND: &[&str] = &["bits.lsh", "bits.rsh", "numbers.range", "numbers.range_step", "time.add_date"];

/// One call, and a value for each of its arguments.
pub(super) struct Case {
    pub(super) name: String,
    /// Of the language: it is known to differ.
    pub(super) differs: bool,
    pub(super) call: String,
    /// Of the message, as a node sends it.
    pub(super) content: Json,
}

pub(super) fn table(file: &str) -> Map<String, Json> {
    let path = root().join("tests/cases/conformance").join(file);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Each call on the arguments that are written there; `full`: on others in the place of each, too.
pub(super) fn cases(full: bool) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, calls) in table("builtins.json").into_iter().chain(table("language.json")) {
        let calls = match calls {
            Json::Array(calls) => calls,
            one => vec![one],
        };
        for call in &calls {
            for row in call["with"].as_array().unwrap() {
                let row = row.as_array().unwrap();
                let rows = if full { around(&name, row) } else { vec![row.clone()] };
                cases.extend(rows.iter().map(|row| Case {
                    name: name.clone(),
                    differs: call["differs"] == true,
                    call: call["call"].as_str().unwrap().to_owned(),
                    content: as_sent(
                        &["a", "b", "c", "d"].into_iter().map(str::to_owned).zip(row.clone()).collect(),
                    ),
                }));
            }
        }
    }
    cases
}

/// The row, and with each argument replaced by something of each kind, and by what is at the ends.
fn around(name: &str, row: &[Json]) -> Vec<Vec<Json>> {
    let others = json!([
        null, true, -1, 0, 2, 1.5, 1e100, 9_007_199_254_740_993_i64, u64::MAX, "", "a", "1", "ä\u{1F600}",
        [], [1, "a"], ["a", "b"], {}, {"a": 1},
    ]);
    let small = |other: &&Json| other.as_f64().is_none_or(|number| number.abs() < 1_000.0);
    let fits = |other: &&Json| !EXPAND.contains(&name) || small(other);
    let mut rows = vec![row.to_vec()];
    for at in 0..row.len() {
        rows.extend(others.as_array().unwrap().iter().filter(fits).map(|other| {
            let mut row = row.to_vec();
            row[at] = other.clone();
            row
        }));
    }
    rows
}

/// A node sends a whole number without a point.
fn as_sent(value: &Json) -> Json {
    match value {
        Json::Number(number) if number.is_f64() => match number.as_f64().unwrap() {
            float if float.fract() == 0.0 && float.abs() < 1e18 => json!(float as i64),
            float => json!(float),
        },
        Json::Array(items) => items.iter().map(as_sent).collect(),
        Json::Object(entries) => {
            Json::Object(entries.iter().map(|(key, value)| (key.clone(), as_sent(value))).collect())
        }
        _ => value.clone(),
    }
}
