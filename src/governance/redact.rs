//! What the policy obliges the bus to hide from a recipient.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Message, Value};

/// What stands where a value was.
const REDACTED: &str = "[redacted]";

/// The message with the values at `paths` (below `content`, such as `payment.iban`) replaced. A path
/// that leads through a list applies to each of its items; one that leads nowhere changes nothing.
pub fn redact(message: &Message, paths: &BTreeSet<String>) -> Message {
    let mut redacted = message.clone();
    for path in paths {
        let path = path.strip_prefix("content.").unwrap_or(path);
        let steps: Vec<&str> = path.split('.').collect();
        hide_in_map(&mut redacted.content, &steps);
    }
    redacted
}

fn hide_in_map(map: &mut BTreeMap<String, Value>, steps: &[&str]) {
    // A key may hold dots itself: `{"payment.iban": …}` must not slip past the path `payment.iban`.
    for taken in 1..=steps.len() {
        let (key, rest) = steps.split_at(taken);
        if let Some(value) = map.get_mut(&key.join(".")) {
            hide(value, rest);
        }
    }
}

fn hide(value: &mut Value, steps: &[&str]) {
    if steps.is_empty() {
        *value = Value::Text(REDACTED.to_owned());
        return;
    }
    match value {
        Value::Map(map) => hide_in_map(map, steps),
        Value::List(items) => items.iter_mut().for_each(|item| hide(item, steps)),
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::Text(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, Value)]) -> BTreeMap<String, Value> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    #[test]
    fn a_path_finds_its_value_through_maps_lists_and_keys_with_dots() {
        let secret = || Value::Text("DE02".to_owned());
        let hidden = || Value::Text(REDACTED.to_owned());
        let content = |secret: Value| {
            map(&[
                ("payment", Value::Map(map(&[("iban", secret.clone()), ("note", Value::Int(1))]))),
                ("payment.iban", secret.clone()),
                ("payments", Value::List(vec![Value::Map(map(&[("iban", secret)]))])),
            ])
        };
        let mut found = content(secret());
        hide_in_map(&mut found, &["payment", "iban"]);
        hide_in_map(&mut found, &["payments", "iban"]);
        hide_in_map(&mut found, &["nowhere", "iban"]);
        assert_eq!(found, content(hidden()));
    }
}
