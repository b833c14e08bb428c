//! What goes to an OPA server, and what may come back: `policies/agentbus/batch.rego` has the other side.
//!
//! A server is believed to the letter or not at all.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::policy::{Decision, Obligations};

/// As `policies/agentbus/batch.rego` has them.
const REASONS_MAX: usize = 16;
const REASON_CHARS_MAX: usize = 256;
/// Of what a server says of an error, for the log.
const ERROR_CHARS_MAX: usize = 300;

#[derive(Serialize)]
struct Request<'a> {
    input: Input<'a>,
}

#[derive(Serialize)]
struct Input<'a> {
    questions: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Deserialize)]
struct Answer {
    result: Answers,
}

#[derive(Deserialize)]
struct Answers {
    revision: Arc<str>,
    answers: BTreeMap<String, One>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    allow: bool,
    reasons: Vec<String>,
    /// As `policies/agentbus/decision.rego` joins them.
    obligations: Obligations,
}

/// What a server has answered.
#[derive(Debug)]
pub(super) struct Answered {
    /// The policy that it has.
    pub(super) revision: Arc<str>,
    /// In the order of the keys that were asked for.
    pub(super) decisions: Vec<Decision>,
}

/// A question, and what its answer is found by.
pub(super) type Keyed<'a> = (String, &'a RawValue);

/// Under a key that nobody can guess, so that no other answer is taken for its own.
pub(super) fn keyed(question: &RawValue) -> Keyed<'_> {
    (format!("{:016x}", rand::random::<u64>()), question)
}

/// The body of a request.
pub(super) fn request(questions: &[Keyed<'_>]) -> Result<Bytes, serde_json::Error> {
    let questions = questions.iter().map(|(key, question)| (key.as_str(), *question)).collect();
    Ok(serde_json::to_vec(&Request { input: Input { questions } })?.into())
}

/// Reads an answer to exactly these keys. The error says what was found and what was expected.
pub(super) fn read(body: &[u8], questions: &[Keyed<'_>]) -> Result<Answered, String> {
    let Answer { result: Answers { revision, mut answers } } = serde_json::from_slice(body)
        .map_err(|error| format!("expected a decision for each question and the revision: {error}"))?;
    let decisions = questions.iter().map(|(key, _)| {
        let one = answers.remove(key).ok_or("a question has no answer, expected one for each")?;
        decision(one)
    });
    let decisions = decisions.collect::<Result<Vec<_>, String>>()?;
    match answers.len() {
        0 => Ok(Answered { revision, decisions }),
        more => Err(format!("found {more} answers that nobody has asked for, expected none")),
    }
}

fn decision(one: One) -> Result<Decision, String> {
    let One { allow, reasons, obligations } = one;
    if !allow {
        let short = |reason: &String| reason.chars().count() <= REASON_CHARS_MAX;
        return match reasons.len() <= REASONS_MAX && reasons.iter().all(short) {
            true => Ok(Decision::Denied { reasons }),
            false => Err(format!(
                "expected at most {REASONS_MAX} reasons of at most {REASON_CHARS_MAX} characters"
            )),
        };
    }
    if !reasons.is_empty() {
        return Err("found reasons to deny beside allow = true, expected none".to_owned());
    }
    Ok(Decision::Allowed(obligations))
}

/// What OPA says where a rule fails on one of the questions; `None` for another error.
pub(super) fn failed_rule(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Failure {
        errors: Vec<Error>,
    }
    #[derive(Deserialize)]
    struct Error {
        code: String,
        message: String,
        location: Option<Place>,
    }
    #[derive(Deserialize)]
    struct Place {
        file: String,
        row: u32,
    }
    let Failure { errors } = serde_json::from_slice(body).ok()?;
    let Error { code, message, location } = errors.into_iter().next()?;
    if !code.starts_with("eval_") {
        return None;
    }
    let place = location.map(|Place { file, row }| format!("{file}:{row}: ")).unwrap_or_default();
    Some(format!("{place}{message}").chars().take(ERROR_CHARS_MAX).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::collections::BTreeSet;

    use super::*;
    use crate::policy::{Lane, Rate};

    fn asked(keys: &[&str]) -> Vec<Keyed<'static>> {
        keys.iter().map(|key| ((*key).to_owned(), RawValue::NULL)).collect()
    }

    fn answer(answers: &str) -> Result<Answered, String> {
        read(
            format!(r#"{{"result": {{"revision": "r", "answers": {{{answers}}}}}}}"#).as_bytes(),
            &asked(&["a", "b"]),
        )
    }

    const ALLOW: &str = r#"{"allow": true, "reasons": [], "obligations": {}}"#;
    const DENY: &str = r#"{"allow": false, "reasons": ["own: no"], "obligations": {}}"#;

    #[test]
    fn answers_are_found_by_their_keys_in_whatever_order_they_come() {
        let allowed = Decision::Allowed(Obligations::default());
        let denied = Decision::Denied { reasons: vec!["own: no".to_owned()] };
        for answers in [format!(r#""a": {DENY}, "b": {ALLOW}"#), format!(r#""b": {ALLOW}, "a": {DENY}"#)] {
            assert_eq!(answer(&answers).unwrap().decisions, [denied.clone(), allowed.clone()]);
        }
    }

    #[test]
    fn all_that_decision_rego_can_demand_is_read() {
        let demands = r#"{"deliberate": true, "min_approvals": 2.0, "redact": ["a.b"], "lane": "durable", "score": true,
            "rate": {"own": {"messages": 3, "seconds": 60}}, "note": {"own": "why"},
            "freeze": {"own": "too much"}, "label": ["pii"]}"#;
        let full = ALLOW.replace("{}", demands);
        let Answered { decisions, .. } = answer(&format!(r#""a": {full}, "b": {ALLOW}"#)).unwrap();
        let expected = Obligations {
            deliberate: true,
            min_approvals: Some(2),
            redact: BTreeSet::from(["a.b".to_owned()]),
            lane: Some(Lane::Durable),
            score: true,
            rates: BTreeMap::from([("own".to_owned(), Rate::new(3, 60).unwrap())]),
            notes: BTreeMap::from([("own".to_owned(), "why".to_owned())]),
            freezes: BTreeMap::from([("own".to_owned(), "too much".to_owned())]),
            labels: BTreeSet::from(["pii".parse().unwrap()]),
        };
        assert_eq!(decisions.first(), Some(&Decision::Allowed(expected)));
    }

    #[test]
    fn what_is_not_to_the_letter_is_no_answer() {
        let long = format!(r#"{{"allow": false, "reasons": ["{}"], "obligations": {{}}}}"#, "x".repeat(257));
        for bad in [
            r#"{"allow": "true", "reasons": [], "obligations": {}}"#,
            r#"{"allow": 1, "reasons": [], "obligations": {}}"#,
            r#"{"reasons": [], "obligations": {}}"#,
            r#"{"allow": true}"#,
            r#"{"allow": true, "reasons": ["own: no"], "obligations": {}}"#,
            r#"{"allow": true, "reasons": [], "obligations": null}"#,
            r#"{"allow": true, "reasons": [], "obligations": {"encrypt": true}}"#,
            r#"{"allow": true, "reasons": [], "obligations": {"min_approvals": 0}}"#,
            r#"{"allow": true, "reasons": [], "obligations": {"min_approvals": 1.5}}"#,
            r#"{"allow": true, "reasons": [], "obligations": {"lane": "fast"}}"#,
            r#"{"allow": true, "reasons": [], "obligations": {}, "more": 1}"#,
            "true",
            "null",
            &long,
        ] {
            assert!(answer(&format!(r#""a": {bad}, "b": {ALLOW}"#)).is_err(), "{bad}");
        }
        for keys in [
            format!(r#""a": {ALLOW}"#),
            format!(r#""a": {ALLOW}, "c": {ALLOW}"#),
            format!(r#""a": {ALLOW}, "b": {ALLOW}, "c": {ALLOW}"#),
        ] {
            assert!(answer(&keys).is_err(), "{keys}");
        }
        for body in
            ["", "{}", "[]", r#"{"result": {}}"#, r#"{"result": {"answers": {}}}"#, r#"{"result": true}"#]
        {
            assert!(read(body.as_bytes(), &[]).is_err(), "{body}");
        }
    }

    #[test]
    fn a_rule_that_fails_is_told_from_other_errors() {
        let body = br#"{"code": "internal_error", "message": "m", "errors": [{"code": "eval_builtin_error",
            "message": "div: divide by zero", "location": {"file": "own.rego", "row": 2, "col": 10}}]}"#;
        assert_eq!(failed_rule(body).unwrap(), "own.rego:2: div: divide by zero");
        for other in [
            "",
            "{}",
            r#"{"code": "internal_error", "errors": []}"#,
            r#"{"code": "x", "errors": [{"code": "rego_parse_error", "message": "m"}]}"#,
        ] {
            assert_eq!(failed_rule(other.as_bytes()), None, "{other}");
        }
    }
}
