//! What do the values mean that a module's `reasons` and `obligations` have? The same in Rego:
//! `policies/agentbus/decision.rego` and `shape.rego`.

use regorus::Value;

use crate::policy::{Lane, Obligations, Rate};

/// Reasons kept of one decision, and bytes of each.
const REASONS_MAX: usize = 16;
const REASON_BYTES_MAX: usize = 256;

/// An obligation that cannot be read, and so cannot be honoured.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Why a message is denied for them.
pub(super) fn malformed(module: &str) -> String {
    format!("{module}: its obligations are malformed")
}

/// Adds a denying module's reasons, or its name alone.
pub(super) fn reasons(module: &str, given: &Value, out: &mut Vec<String>) {
    let texts = texts(given);
    if texts.is_empty() {
        push(out, format!("{module}: denied"));
    }
    for text in texts {
        push(out, format!("{module}: {text}"));
    }
}

fn push(out: &mut Vec<String>, mut reason: String) {
    if out.len() < REASONS_MAX {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        out.push(reason);
    }
}

/// The strings in a list, set or object; anything else holds none.
fn texts(given: &Value) -> Vec<&str> {
    match given {
        Value::Array(items) => items.iter().filter_map(text).collect(),
        Value::Set(items) => items.iter_sorted().filter_map(text).collect(),
        Value::Object(items) => items.iter_sorted().filter_map(|(_, value)| text(value)).collect(),
        _ => Vec::new(),
    }
}

fn text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Adds what one module demands.
pub(super) fn oblige(joined: &mut Obligations, module: &str, given: &Value) -> Result<(), Malformed> {
    let object = match given {
        Value::Undefined => return Ok(()),
        Value::Object(object) => object,
        _ => return Err(Malformed),
    };
    for (word, value) in object.iter_sorted() {
        let Value::String(word) = word else { return Err(Malformed) };
        match (&**word, value) {
            ("deliberate", Value::Bool(deliberate)) => joined.deliberate |= deliberate,
            ("score", Value::Bool(score)) => joined.score |= score,
            ("min_approvals", Value::Number(_)) => {
                let approvals = number(value)?;
                if !(1..=Obligations::APPROVALS_MAX).contains(&approvals) {
                    return Err(Malformed);
                }
                joined.min_approvals = joined.min_approvals.max(Some(approvals));
            }
            ("redact", Value::Array(paths)) => redact(joined, paths.len(), paths.iter())?,
            ("redact", Value::Set(paths)) => redact(joined, paths.len(), paths.iter_sorted())?,
            ("lane", Value::String(lane)) if &**lane == "durable" => joined.lane = Some(Lane::Durable),
            ("rate", Value::Object(_)) => {
                joined.rates.insert(module.to_owned(), rate(value)?);
            }
            ("note", Value::String(note)) if Obligations::is_note(note) => {
                joined.notes.insert(module.to_owned(), (**note).to_owned());
            }
            ("freeze", Value::String(why)) if Obligations::is_note(why) => {
                joined.freezes.insert(module.to_owned(), (**why).to_owned());
            }
            ("label", Value::Array(labels)) => label(joined, labels.len(), labels.iter())?,
            ("label", Value::Set(labels)) => label(joined, labels.len(), labels.iter_sorted())?,
            _ => return Err(Malformed),
        }
    }
    Ok(())
}

fn number(value: &Value) -> Result<u32, Malformed> {
    value.as_u32().map_err(|_| Malformed)
}

/// `messages` and `seconds`, and nothing else.
fn rate(value: &Value) -> Result<Rate, Malformed> {
    let Value::Object(fields) = value else { return Err(Malformed) };
    let field = |name: &str| fields.get(&Value::from(name)).ok_or(Malformed).and_then(number);
    let rate = Rate::new(field("messages")?, field("seconds")?).ok_or(Malformed)?;
    if fields.len() == 2 { Ok(rate) } else { Err(Malformed) }
}

fn label<'a>(
    joined: &mut Obligations,
    count: usize,
    labels: impl Iterator<Item = &'a Value>,
) -> Result<(), Malformed> {
    if count > Obligations::LABELS_MAX {
        return Err(Malformed);
    }
    for label in labels {
        let Value::String(label) = label else { return Err(Malformed) };
        joined.labels.insert(label.parse().map_err(|_| Malformed)?);
    }
    Ok(())
}

fn redact<'a>(
    joined: &mut Obligations,
    count: usize,
    paths: impl Iterator<Item = &'a Value>,
) -> Result<(), Malformed> {
    if count > Obligations::REDACT_MAX {
        return Err(Malformed);
    }
    for path in paths {
        let Value::String(path) = path else { return Err(Malformed) };
        joined.redact.insert((**path).to_owned());
    }
    Ok(())
}
