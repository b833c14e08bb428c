//! What is taken out of an event, or replaced, before anybody sees it: `data.system.log.mask`, as OPA defines it.

use serde_json::{Map, Value};

use super::event::note;

/// Of one event.
const MASKS_MAX: usize = 1_000;
/// What may be masked.
const ROOTS: [&str; 2] = ["input", "result"];

enum Operation<'a> {
    Remove,
    Upsert(&'a Value),
}

struct Mask<'a> {
    pointer: &'a str,
    path: Vec<&'a str>,
    operation: Operation<'a>,
}

/// Applies all of them, or says which one is none; then nothing of the event may be shown.
pub(super) fn apply(masks: &Value, event: &mut Value) -> Result<(), String> {
    let masks = masks.as_array().ok_or_else(|| format!("mask: found {masks}, expected a set"))?;
    if masks.len() > MASKS_MAX {
        return Err(format!("mask: found {} masks, at most {MASKS_MAX}", masks.len()));
    }
    let masks: Vec<Mask<'_>> = masks.iter().map(Mask::read).collect::<Result<_, _>>()?;
    masks.iter().for_each(|mask| mask.apply(event));
    Ok(())
}

impl<'a> Mask<'a> {
    fn read(value: &'a Value) -> Result<Self, String> {
        let (pointer, operation) = match value {
            Value::String(pointer) => (pointer.as_str(), Operation::Remove),
            Value::Object(fields) => {
                let text = |name: &str| fields.get(name).and_then(Value::as_str).unwrap_or_default();
                let operation = match text("op") {
                    "remove" => Operation::Remove,
                    "upsert" => Operation::Upsert(fields.get("value").unwrap_or(&Value::Null)),
                    _ => {
                        return Err(format!(
                            "mask: found {value}, expected \"op\": \"remove\" or \"upsert\""
                        ));
                    }
                };
                (text("path"), operation)
            }
            _ => return Err(format!("mask: found {value}, expected a path or an object")),
        };
        let path: Vec<&str> =
            pointer.strip_prefix('/').map(|path| path.split('/').collect()).unwrap_or_default();
        match path.first() {
            Some(root) if ROOTS.contains(root) => Ok(Self { pointer, path, operation }),
            _ => Err(format!("mask: found the path {pointer:?}, expected /input/… or /result/…")),
        }
    }

    /// What is not there is passed over.
    fn apply(&self, event: &mut Value) {
        let Some((last, parents)) = self.path.split_last() else { return };
        let (list, done) = match self.operation {
            Operation::Remove => {
                ("erased", within(event, parents).is_some_and(|parent| remove(parent, last)))
            }
            Operation::Upsert(value) => {
                // What could not be decided has no result to put anything into.
                let (root, below) = parents.split_at(parents.len().min(1));
                let parent =
                    within(event, root).and_then(|root| below.iter().try_fold(root, |at, key| made(at, key)));
                ("masked", parent.is_some_and(|parent| upsert(parent, last, value)))
            }
        };
        if done {
            note(event, list, self.pointer);
        }
    }
}

fn within<'a>(event: &'a mut Value, path: &[&str]) -> Option<&'a mut Value> {
    path.iter().try_fold(event, |at, key| child(at, key))
}

fn child<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(fields) => fields.get_mut(key),
        Value::Array(items) => items.get_mut(key.parse::<usize>().ok()?),
        _ => None,
    }
}

/// The same, and an empty object where an object has nothing.
fn made<'a>(value: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    match value {
        Value::Object(fields) => Some(fields.entry(key).or_insert_with(|| Value::Object(Map::new()))),
        other => child(other, key),
    }
}

fn remove(parent: &mut Value, key: &str) -> bool {
    match parent {
        Value::Object(fields) => fields.shift_remove(key).is_some(),
        Value::Array(items) => match key.parse::<usize>() {
            Ok(at) if at < items.len() => {
                items.remove(at);
                true
            }
            _ => false,
        },
        _ => false,
    }
}

fn upsert(parent: &mut Value, key: &str, value: &Value) -> bool {
    match parent {
        Value::Object(fields) => {
            fields.insert(key.to_owned(), value.clone());
            true
        }
        Value::Array(_) => child(parent, key).map(|at| *at = value.clone()).is_some(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn masked(masks: Value) -> Result<Value, String> {
        let mut event = json!({
            "decision_id": "d-1",
            "input": { "message": { "tools": ["a", "b"], "content": { "iban": "DE1", "sum": 7 } } },
            "result": { "allow": true },
        });
        apply(&masks, &mut event)?;
        Ok(event)
    }

    #[test]
    fn values_are_taken_out_and_replaced_and_the_event_says_which() {
        let event = masked(json!([
            "/input/message/content/iban",
            "/input/message/content/absent",
            "/input/message/tools/0",
            { "op": "upsert", "path": "/input/message/content/sum", "value": "some" },
            { "op": "upsert", "path": "/input/message/note/why", "value": 1 },
            { "op": "upsert", "path": "/input/message/tools/9", "value": 1 },
            { "op": "remove", "path": "/result" },
        ]));
        let expected = json!({
            "decision_id": "d-1",
            "input": {
                "message": { "tools": ["b"], "content": { "sum": "some" }, "note": { "why": 1 } }
            },
            "erased": ["/input/message/content/iban", "/input/message/tools/0", "/result"],
            "masked": ["/input/message/content/sum", "/input/message/note/why"],
        });
        assert_eq!(event.unwrap(), expected);
    }

    #[test]
    fn what_is_no_mask_is_an_error_and_nothing_is_changed() {
        for (masks, told) in [
            (json!("/input"), "expected a set"),
            (json!([7]), "expected a path"),
            (json!(["/labels/id"]), "expected /input/"),
            (json!(["input/message"]), "expected /input/"),
            (json!([""]), "expected /input/"),
            (json!([{ "op": "hide", "path": "/input" }]), "\"remove\" or \"upsert\""),
            (json!([{ "path": "/input" }]), "\"remove\" or \"upsert\""),
            (json!([{ "op": "remove" }]), "expected /input/"),
            (Value::Array(vec![json!("/input"); MASKS_MAX + 1]), "at most 1000"),
        ] {
            let error = masked(masks.clone()).unwrap_err();
            assert!(error.contains(told), "{masks}: {error}");
        }
    }
}
