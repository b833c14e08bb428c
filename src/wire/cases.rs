//! Which bodies are refused, and with which reason: the cases of `tests/cases/wire/`, as data.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::{fs, path::PathBuf};

use super::{Limits, Stamp, decode};
use crate::domain::{AgentId, Encoding, TenantId};

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    case: Vec<Case>,
}

/// One body and what it gets. Without `json` and `hex`, the body is a good message, less the fields
/// `without`, plus `with` (JSON members; tried in both encodings where both can say them) or
/// `with_hex` (entries of a MessagePack map).
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// The reason word, or `accepted`.
    reason: String,
    /// The message id that the answer can name, `none` if it cannot.
    #[serde(default)]
    message_id: Option<String>,
    #[serde(default)]
    json: Option<String>,
    /// Hexadecimal digits; text in single quotes stands for itself; `<hex>*<count>` repeats.
    #[serde(default)]
    hex: Option<String>,
    #[serde(default)]
    without: Vec<String>,
    #[serde(default)]
    with: Option<String>,
    #[serde(default)]
    with_hex: Option<String>,
    /// Entries in `with_hex`.
    #[serde(default = "one")]
    entries: usize,
    /// Repeats the letter x this often where `with` says `%X%`.
    #[serde(default)]
    times: usize,
}

fn one() -> usize {
    1
}

const GOOD: &[(&str, &str)] = &[
    ("message_id", r#""m-1""#),
    ("message_type", r#""command""#),
    ("to", r#"{"agent":"worker"}"#),
    ("constitutional_hash", r#""cdd01ef066bc6cf2""#),
    ("content", r#"{"text":"hello"}"#),
    ("created_at", "1767225600000"),
];

#[test]
fn every_bad_body_gets_its_own_reason() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/cases/wire");
    let mut checked = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let file: File = toml::from_str(&fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for case in file.case {
            for (encoding, body) in bodies(&case) {
                check(&case, encoding, &body);
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "only {checked} bodies were checked");
}

fn check(case: &Case, encoding: Encoding, body: &[u8]) {
    let tenant: TenantId = "acme".parse().unwrap();
    let sender: AgentId = "planner".parse().unwrap();
    let answer = decode(body, Stamp { tenant: &tenant, sender: &sender }, &Limits::default());
    let name = format!("{} ({encoding:?})", case.name);
    match answer {
        Ok(decoded) => {
            assert_eq!("accepted", case.reason, "{name}");
            assert_eq!(decoded.encoding, encoding, "{name}");
        }
        Err(failure) => {
            assert_eq!(failure.error.reason().as_str(), case.reason, "{name}: {failure}");
            assert_eq!(failure.encoding, encoding, "{name}");
            let detail = failure.error.detail();
            assert!(detail.is_ascii() && detail.len() < 400, "{name}: {detail}");
            if let Some(expected) = &case.message_id {
                let found = failure.message_id.map_or("none".to_owned(), |id| id.to_string());
                assert_eq!(&found, expected, "{name}");
            }
        }
    }
}

fn bodies(case: &Case) -> Vec<(Encoding, Vec<u8>)> {
    if let Some(json) = &case.json {
        return vec![(Encoding::Json, json.replace("%X%", &"x".repeat(case.times)).into_bytes())];
    }
    if let Some(hex) = &case.hex {
        return vec![(super::encoding_of(&bytes(hex)), bytes(hex))];
    }
    let kept: Vec<String> = GOOD
        .iter()
        .filter(|(name, _)| !case.without.iter().any(|without| without == name))
        .map(|(name, value)| format!("\"{name}\":{value}"))
        .collect();
    if let Some(with_hex) = &case.with_hex {
        let kept_count = kept.len();
        let good = format!("{{{}}}", kept.join(","));
        let mut body = repacked(&good).unwrap();
        // Both counts are below 16, so the header is one byte.
        *body.first_mut().unwrap() = 0x80 | u8::try_from(kept_count + case.entries).unwrap();
        body.extend(bytes(with_hex));
        return vec![(Encoding::MessagePack, body)];
    }
    let with = case.with.as_ref().map(|with| with.replace("%X%", &"x".repeat(case.times)));
    let members: Vec<String> = kept.into_iter().chain(with).collect();
    let json = format!("{{{}}}", members.join(","));
    let msgpack = repacked(&json).map(|body| (Encoding::MessagePack, body));
    msgpack.into_iter().chain([(Encoding::Json, json.into_bytes())]).collect()
}

/// The same body in MessagePack, by another implementation; nothing if that cannot say the same.
fn repacked(json: &str) -> Option<Vec<u8>> {
    let value: serde_json::Value = serde_json::from_str(json).ok()?;
    // What serde_json made of a key that occurs twice is another body.
    let same = serde_json::to_string(&value).ok()?.len() == json.replace(": ", ":").replace(", ", ",").len();
    same.then(|| rmp_serde::to_vec_named(&value).unwrap())
}

fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for (place, piece) in text.split('\'').enumerate() {
        if place % 2 == 1 {
            out.extend_from_slice(piece.as_bytes());
            continue;
        }
        for word in piece.split_whitespace() {
            let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
            out.extend(hex::decode(digits).unwrap().repeat(times.parse().unwrap()));
        }
    }
    out
}
