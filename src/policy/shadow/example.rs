//! What of a change may be shown? No more than the decision log would: what its rules take out or drop, nobody sees.

use serde_json::Value;

use crate::policy::{
    comparison::{Answer, Change, Compared, Example, shown},
    decided::Decided,
    decision_log::{
        event::{self, Labels},
        visible::leave_visible,
    },
    rego::LogPolicy,
};

/// Characters of an answer.
const ANSWER_CHARS: usize = 400;
const MASKED: &str = "(masked)";

/// `None`: one of both policies wants it not to be seen.
pub(super) fn of(
    compared: &Compared<'_>,
    change: Change,
    decided: &Decided,
    candidates: Option<&LogPolicy>,
) -> Option<Example> {
    let &Compared { number, decision_id, tenant, sender, recipient, message_type, before, after } = compared;
    let policies = [decided.log_policy.as_deref(), candidates];
    let mut event = event::of(decided, &Labels::of(""));
    event::erase_content(&mut event);
    let [before, after] = [before, after].map(|answer| {
        let whole = event::answered(event.clone(), answer);
        let mut left = whole.clone();
        let seen = policies.iter().flatten().all(|policy| leave_visible(policy, &mut left, |_| {}));
        seen.then(|| (told(&whole, &left, answer), left))
    });
    let (before, after) = (before?, after?);
    let field = |pointer: &str, text: &str| {
        let is_there = |event: &Value| event.pointer(pointer).and_then(Value::as_str) == Some(text);
        if is_there(&before.1) && is_there(&after.1) { text } else { MASKED }.to_owned()
    };
    Some(Example {
        number,
        change,
        decision_id: decision_id.to_owned(),
        tenant: field("/input/tenant/id", tenant),
        sender: field("/input/sender/id", sender),
        recipient: field("/input/recipient/id", recipient),
        message_type: field("/input/message/type", message_type),
        before: before.0,
        after: after.0,
    })
}

/// An answer in a line, or what is left of it.
fn told(whole: &Value, left: &Value, answer: &Answer) -> String {
    let text = match (left.get("result"), whole.get("result") == left.get("result")) {
        (_, true) => shown(answer),
        (None, false) => return MASKED.to_owned(),
        (Some(left), false) => format!("{MASKED} {left}"),
    };
    match text.char_indices().nth(ANSWER_CHARS) {
        None => text,
        Some(_) => text.chars().take(ANSWER_CHARS).chain(['…']).collect(),
    }
}
