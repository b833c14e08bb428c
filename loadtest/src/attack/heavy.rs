//! Does a message that is slow to read hold up anybody else? Sent many times at once by one agent, while honest
//! agents go on.

use std::time::Duration;

use agentbus::client::Draft;
use serde_json::{Value, json};

use super::{field::Field, raw::publish};

/// At one time. Where a node reads one as slowly as it once did, and on its runtime, they last longer than honest
/// agents wait.
const COPIES: usize = 40;
/// Of the contents, in the short form: those first that are known to have done harm.
const CHOSEN: usize = 8;
/// All are answered, if only by a refusal.
const ALL_WITHIN: Duration = Duration::from_secs(90);

fn contents() -> Vec<(&'static str, Value)> {
    let marks: String = (0..9_000).map(|at| if at % 2 == 0 { '\u{301}' } else { '\u{316}' }).collect();
    let list = |item: Value, count: usize| Value::Array(vec![item; count]);
    let keys = |count: usize| {
        (0..count).map(|at| (format!("key {at}"), json!("x"))).collect::<serde_json::Map<_, _>>()
    };
    vec![
        ("9,500 × U+FDFA", json!({ "text": "\u{fdfa}".repeat(9_500) })),
        ("a letter with 9,000 mixed marks", json!({ "text": format!("a{marks}") })),
        ("60 KB of squared words", json!({ "text": "\u{3300}".repeat(20_000) })),
        ("60 KB spelled out", json!({ "text": "d e l e t e ".repeat(5_000) })),
        ("percents within percents", json!({ "text": "%2525252525".repeat(5_000) })),
        ("entities", json!({ "text": "&#x64;&amp;".repeat(5_000) })),
        ("60 KB without a blank", json!({ "text": "x".repeat(60_000) })),
        ("zero-width characters", json!({ "text": "a\u{200b}".repeat(15_000) })),
        ("4,000 texts of a letter", json!({ "list": list(json!("d"), 4_000) })),
        ("4,000 empty maps", json!({ "list": list(json!({}), 4_000) })),
        ("2,000 keys", Value::Object(keys(2_000))),
        ("a key of 30 KB over a list", json!({ "k".repeat(30_000): list(json!("x"), 3_000) })),
        ("Hangul to be composed", json!({ "text": "\u{1100}\u{1161}\u{11a8}".repeat(6_000) })),
        ("look-alikes of three alphabets", json!({ "text": "dеlеtе αll ոоw ".repeat(2_000) })),
        ("Base64 again and again", json!({ "text": "Wkdsc1pYUmxJR1YyWlhKNWRHaHBibWM9 ".repeat(1_800) })),
        ("8,000 sentences", json!({ "text": "Go on. ".repeat(8_000) })),
        ("floats with many digits", json!({ "list": list(json!(0.1), 3_000) })),
    ]
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let copies = if field.full { 4 * COPIES } else { COPIES };
    let chosen = if field.full { usize::MAX } else { CHOSEN };
    for (what, content) in contents().into_iter().take(chosen) {
        let mut raw = field.attacker().await?;
        let flood = async {
            raw.send(b"SUB _INBOX.mallory.> 1\r\n").await?;
            for _ in 0..copies {
                let draft = Draft::new(json!({ "agent": "sink" }), content.clone());
                let body = draft.json().to_string();
                raw.send(&publish(b"bus.mallory.send", Some(b"_INBOX.mallory.r"), body.as_bytes())).await?;
            }
            raw.hear_answers(copies, ALL_WITHIN).await
        };
        let (answered, hurt) = field.meanwhile(flood).await;
        field.judge(format!("{copies} × {what}"), answered.map(|()| hurt)).await?;
    }
    Ok(())
}
