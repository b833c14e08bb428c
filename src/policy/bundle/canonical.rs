//! Over which bytes of a JSON file does OPA's signature go? Over the value, not the text: keys in order, no blanks,
//! strings as Go writes them and numbers as they stand there.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

/// Deeper than any data of a policy; a stack has an end.
const DEPTH_MAX: usize = 64;

/// The value as one line. `None`: no JSON, or nested too deeply.
pub(super) fn canonical(text: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    write(serde_json::from_slice::<&RawValue>(text).ok()?, 0, &mut out)?;
    Some(out)
}

fn write(value: &RawValue, depth: usize, out: &mut String) -> Option<()> {
    if depth > DEPTH_MAX {
        return None;
    }
    let text = value.get();
    match text.as_bytes().first()? {
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            out.push('{');
            for (number, (key, value)) in fields.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                string(&key, out)?;
                out.push(':');
                write(value, depth + 1, out)?;
            }
            out.push('}');
        }
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            out.push('[');
            for (number, value) in items.into_iter().enumerate() {
                if number > 0 {
                    out.push(',');
                }
                write(value, depth + 1, out)?;
            }
            out.push(']');
        }
        b'"' => string(&serde_json::from_str::<String>(text).ok()?, out)?,
        _ => out.push_str(text),
    }
    Some(())
}

/// Go escapes the two line separators that JavaScript knows, serde does not.
fn string(text: &str, out: &mut String) -> Option<()> {
    let quoted = serde_json::to_string(text).ok()?;
    out.push_str(&quoted.replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029"));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_order_and_numbers_as_they_stand() {
        let of = |text: &str| canonical(text.as_bytes());
        assert_eq!(
            of(" { \"b\" : [1.50, 1e3, -0] , \"a\" : null } ").as_deref(),
            Some(r#"{"a":null,"b":[1.50,1e3,-0]}"#)
        );
        assert_eq!(of("\"\\u003c\\u2028\\n\\u00e9\"").as_deref(), Some("\"<\\u2028\\n\u{e9}\""));
        for bad in ["", "{", "{\"a\":}", "[1,]", "1 2"] {
            assert_eq!(of(bad), None, "{bad}");
        }
        assert_eq!(of(&("[".repeat(100) + &"]".repeat(100))), None, "too deep");
    }
}
