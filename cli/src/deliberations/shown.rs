//! Deliberations as text for a terminal. All that strangers wrote goes through `printable`.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agentbus::domain::impact::NOT_NEEDED;
use comfy_table::ColumnConstraint;
use serde_json::Value;

use super::{
    ID_DIGITS,
    reply::{Counted, Details, Elector, Entry, Listing},
};
use crate::{
    context::{Paint, Tone, Who, safe},
    printable::{self, Page, quoted},
    verdict,
};

/// Digits of an id that a list shows at least.
const SHORT_ID: usize = 8;
/// Names listed in one line.
const NAMES_MAX: usize = 12;
/// Columns of the reason, however narrow the terminal is.
const WHY_MIN: u16 = 20;
/// Whom a message is for, in a row or a line; `show` says the whole.
const TO_MAX: usize = 64;

pub(super) fn listing(listing: &Listing, who: &Who, paint: Paint) -> String {
    listing_at(listing, who, paint, now())
}

fn listing_at(listing: &Listing, who: &Who, paint: Paint, now: u64) -> String {
    let entries = &listing.deliberations;
    if entries.is_empty() {
        return format!("nothing waits for {who}\n");
    }
    let digits = short_id(entries);
    let mut table = printable::table(["id", "message", "why", "votes", "time left"]);
    for (column, constraint) in [
        (0, ColumnConstraint::ContentWidth),
        (2, ColumnConstraint::LowerBoundary(comfy_table::Width::Fixed(WHY_MIN))),
        (4, ColumnConstraint::ContentWidth),
    ] {
        if let Some(column) = table.column_mut(column) {
            column.set_constraint(constraint);
        }
    }
    for entry in entries {
        table.add_row([
            entry.id.chars().take(digits).collect(),
            format!(
                "{}\n→ {}\n{}",
                safe(&entry.sender, 64),
                safe(&entry.to, TO_MAX),
                safe(&entry.message_type, 32)
            ),
            safe(&entry.why, 200),
            format!("{}\n{}", votes(entry), you(entry, who)).trim_end().to_owned(),
            left(entry.deadline, now),
        ]);
    }
    let mut out = format!("{table}\n");
    let more = listing.total.saturating_sub(entries.len() as u64);
    if let Some(last) = entries.last().filter(|_| more > 0) {
        out += &format!("and {more} more, later ones: --after {}\n", safe(&last.id, ID_DIGITS));
    }
    if let Some(entry) = entries.iter().find(|entry| entry.may_vote && entry.voted.is_none()) {
        let id: String = entry.id.chars().take(digits).collect();
        let hint = format!("look at one: agentbus deliberations show --as {who} {id}");
        out += &format!("{}\n", paint.apply(Tone::Quiet, hint));
    }
    out
}

/// One deliberation in one line.
pub(super) fn line(entry: &Entry, who: &Who) -> String {
    format!(
        "{}  {} → {}  {}  {}; {}; {}; {} left",
        entry.id,
        safe(&entry.sender, 64),
        safe(&entry.to, TO_MAX),
        safe(&entry.message_type, 32),
        safe(&entry.why, 200),
        votes(entry),
        match you(entry, who).as_str() {
            "" => "no vote of yours",
            you => you,
        },
        left(entry.deadline, now()),
    )
}

pub(super) fn details(details: &Details, who: &Who, paint: Paint) -> String {
    let mut page = Page::new(paint);
    write_summary(&mut page, details, paint, now());
    let entry = &details.entry;
    page.field("voters", &electors(&details.voters));
    if !details.stand_ins.is_empty() {
        let from = match entry.escalate_at {
            _ if entry.escalated => "may vote since it was escalated".to_owned(),
            Some(at) => format!("may vote from {}", moment(at)),
            None => "are not asked: it is not escalated".to_owned(),
        };
        page.field("stand-ins", &format!("{}, {from}", electors(&details.stand_ins)));
    }
    for cast in &details.votes {
        page.field("vote", &cast_vote(&cast.choice, &cast.voter, cast.at, &cast.comment));
    }
    page.field("parked", &moment(entry.parked_at));
    if let Some(decision) = &details.decision {
        let (judgement, at) = (safe(&decision.judgement, 32), moment(decision.at));
        page.field("decided", &format!("{judgement} at {at}: {}", safe(&decision.detail, 400)));
    }
    if let Some(conclusion) = &details.conclusion {
        let at = conclusion.at.map_or(String::new(), |at| format!(" at {}", moment(at)));
        let (reason, detail) = (safe(&conclusion.reason, 64), safe(&conclusion.detail, 400));
        page.field("came to", &format!("{reason}{at}: {detail}"));
    }
    page.field("digest", &entry.digest);
    if details.decision.is_none() && entry.may_vote && entry.voted.is_none() {
        page.own("\nTo vote, one of:");
        for choice in ["approve", "reject"] {
            for line in typed_vote(who, entry, choice) {
                page.own(&format!("  {line}"));
            }
        }
    }
    page.into_text()
}

/// What votes on this content and on no other, in lines that a shell reads as one.
fn typed_vote(who: &Who, entry: &Entry, choice: &str) -> [String; 3] {
    let (id, digest) = (safe(&entry.id, 24), safe(&entry.digest, 64));
    [
        format!("agentbus deliberations vote --as {who} \\"),
        format!("  {id} --{choice} \\"),
        format!("  --digest {digest}"),
    ]
}

/// What is voted on: who says what to whom, why it waits, and what decides.
pub(super) fn summary(details: &Details, paint: Paint) -> String {
    let mut page = Page::new(paint);
    write_summary(&mut page, details, paint, now());
    page.into_text()
}

/// All that the recipient would get is in it.
fn write_summary(page: &mut Page, details: &Details, paint: Paint, now: u64) {
    let (entry, message) = (&details.entry, &details.message);
    page.own(&format!(
        "deliberation {}  {}",
        paint.apply(Tone::Strong, safe(&entry.id, 24)),
        state(details, paint, now)
    ));
    if details.decision.is_none() {
        page.field("until", &format!("{}; then it is denied", moment(entry.deadline)));
    }
    page.field("message", &entry.message_id);
    page.field("from", &format!("{} → {}", entry.sender, entry.to));
    let word = |name: &str| message.get(name).and_then(Value::as_str).map(|text| safe(text, 64));
    let priority = word("priority").unwrap_or_else(|| "normal".to_owned());
    page.field("type", &format!("{}, priority {priority}", entry.message_type));
    page.field("tools", &tools(message));
    page.field("why", &safe(&entry.why, 400));
    entry.notes.iter().for_each(|note| page.field("note", &safe(note, 400)));
    if let Some(impact) = &details.impact {
        page.field("impact", &impact_line(impact));
    }
    page.field("rule", &format!("{}: {}, {}", entry.rule, entry.approves, entry.denies));
    let time = |name: &str| message.get(name).and_then(Value::as_u64).map(moment);
    page.field("created", &time("created_at").unwrap_or_else(|| "not said".to_owned()));
    page.field("expires", &time("expires_at").unwrap_or_else(|| "never".to_owned()));
    for (name, field) in
        [("part of", "conversation_id"), ("answers", "in_reply_to"), ("under", "constitutional_hash")]
    {
        if let Some(id) = word(field) {
            page.field(name, &id);
        }
    }
    for (name, value) in message.as_object().into_iter().flatten().filter(|(name, _)| !told(name)) {
        page.field("has", &format!("{} {}", safe(name, 64), quoted_value(value)));
    }
    for name in ["metadata", "content"] {
        match message.get(name) {
            Some(value) => {
                page.own(&format!("  {}", paint.apply(Tone::Quiet, name)));
                // All of it: who votes names the whole.
                page.value(value);
            }
            None => page.field(name, "none"),
        }
    }
}

/// Fields of a message that have a place of their own on the page; others, of a newer node, are listed.
fn told(field: &str) -> bool {
    const TOLD: &[&str] = &[
        "message_id",
        "message_type",
        "to",
        "priority",
        "tools",
        "created_at",
        "expires_at",
        "conversation_id",
        "in_reply_to",
        "constitutional_hash",
        "metadata",
        "content",
        "tenant_id",
        "from_agent",
        "schema",
    ];
    TOLD.contains(&field)
}

fn state(details: &Details, paint: Paint, now: u64) -> String {
    match &details.decision {
        Some(decision) => {
            let tone = if decision.judgement == "approved" { Tone::Good } else { Tone::Bad };
            paint.apply(tone, safe(&decision.judgement, 32))
        }
        None => format!("{}  {} left", paint.apply(Tone::Careful, "open"), left(details.entry.deadline, now)),
    }
}

/// What is asked about, once more below all that was shown: of a long message its beginning is out of sight.
pub(super) fn question(details: &Details, choice: &str) -> String {
    let Details { entry, message, .. } = details;
    let characters = message.get("content").map_or(0, |content| content.to_string().chars().count());
    let (sender, to) = (safe(&entry.sender, 64), safe(&entry.to, TO_MAX));
    let (kind, id) = (safe(&entry.message_type, 32), safe(&entry.id, 24));
    let mut page = Page::new(Paint::stdout());
    let about = format!("{id}: {kind}, {sender} → {to}, its content above has {characters} characters");
    page.headed(choice, Tone::Careful, &about);
    page.into_text()
}

/// What a vote came to.
pub(super) fn counted(choice: &str, counted: &Counted, paint: Paint) -> String {
    let Counted { judgement, approves, denies } = counted;
    let (tone, told) = match judgement.as_str() {
        "approved" => (Tone::Good, "the message goes to its recipient"),
        "denied" => (Tone::Bad, "the message goes nowhere"),
        _ => (Tone::Careful, "others decide"),
    };
    let mut page = Page::new(paint);
    page.headed(
        &safe(judgement, 32),
        tone,
        &format!("your vote counts: {choice}; {approves}, {denies}; {told}"),
    );
    page.into_text()
}

/// How near it is, as `1 of 2 approvals`; rejections where there are some.
fn votes(entry: &Entry) -> String {
    match entry.rejections {
        0 => safe(&entry.approves, 100),
        _ => format!("{}, {}", safe(&entry.approves, 100), safe(&entry.denies, 100)),
    }
}

fn you(entry: &Entry, who: &Who) -> String {
    match &entry.voted {
        Some(choice) => format!("voted {}", safe(choice, 16)),
        None if entry.sender == who.agent.as_str() => "your message".to_owned(),
        None if entry.may_vote => "may vote".to_owned(),
        None if !entry.escalated => "stand in later".to_owned(),
        None => String::new(),
    }
}

fn electors(electors: &[Elector]) -> String {
    if electors.is_empty() {
        return "none".to_owned();
    }
    let name = |elector: &Elector| {
        let roles: Vec<String> = elector.roles.iter().map(|role| safe(role, 64)).collect();
        let weight = if elector.weight > 1 { format!(", weight {}", elector.weight) } else { String::new() };
        format!("{} ({}{weight})", safe(&elector.id, 64), roles.join(" "))
    };
    let shown: Vec<String> = electors.iter().take(NAMES_MAX).map(name).collect();
    let more = electors.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

/// Its comment is what somebody says, quoted: nothing that the bus says, and nothing to be done.
pub(crate) fn cast_vote(choice: &str, voter: &str, at: u64, comment: &str) -> String {
    let comment = if comment.is_empty() { String::new() } else { format!(": {}", quoted(comment, 512)) };
    format!("{} by {} at {}{comment}", safe(choice, 16), safe(voter, 64), moment(at))
}

/// Each quoted unless it is a plain word: a blank could make one of two.
fn tools(message: &Value) -> String {
    let plain = |tool: &str| {
        !tool.is_empty() && tool.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-:.".contains(&b))
    };
    let tools: Vec<String> = message
        .get("tools")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|tool| match tool.as_str() {
            Some(tool) if plain(tool) => safe(tool, 64),
            Some(tool) => quoted(tool, 64),
            None => quoted_value(tool),
        })
        .collect();
    if tools.is_empty() { "none".to_owned() } else { tools.join(", ") }
}

fn quoted_value(value: &Value) -> String {
    printable::json(&value.to_string())
}

pub(crate) fn impact_line(impact: &Value) -> String {
    let number = |value: Option<&Value>| value.and_then(Value::as_f64).map(|n| format!("{n:.2}"));
    let word = |name: &str| impact.get(name).and_then(Value::as_str).map(|text| safe(text, 64));
    let score = |name: &str| impact.get(name).and_then(Value::as_f64);
    let mut out = match (score("score"), score("score_max")) {
        (Some(from), Some(to)) => verdict::range(from, to),
        (Some(score), None) => format!("{score:.2}"),
        (None, _) => "not known".to_owned(),
    };
    if let Some(level) = word("level") {
        let _ = write!(out, " {level}");
    }
    let parts: Vec<String> = impact
        .get("parts")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(name, value)| Some(format!("{} {}", safe(name, 32), number(Some(value))?)))
        .collect();
    if !parts.is_empty() {
        let _ = write!(out, ": {}", parts.join(", "));
    }
    match (word("unscored"), word("model")) {
        (Some(why), _) => out + &format!(" (not scored: {why})"),
        (None, Some(model)) if model == NOT_NEEDED => out + " (whatever the words say)",
        (None, Some(model)) => out + &format!(" (by {model})"),
        (None, None) => out,
    }
}

/// So many digits tell these apart.
fn short_id(entries: &[Entry]) -> usize {
    let mut digits = SHORT_ID;
    let mut ids: Vec<&str> = entries.iter().map(|entry| entry.id.as_str()).collect();
    ids.sort_unstable();
    for pair in ids.windows(2) {
        if let [one, other] = pair {
            let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
            digits = digits.max(same + 1);
        }
    }
    digits
}

/// In the two largest units, such as `3 h 59 min`.
fn left(deadline: u64, now: u64) -> String {
    let seconds = deadline.saturating_sub(now).div_ceil(1000);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

pub(crate) fn moment(millis: u64) -> String {
    // What no clock of today reaches would not be written out.
    const YEAR_9999: u64 = 253_402_300_799_000;
    let at = UNIX_EPOCH + Duration::from_millis(millis.min(YEAR_9999));
    humantime::format_rfc3339_seconds(at).to_string()
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use serde_json::json;

    use super::*;

    pub(in super::super) fn entry(id: &str) -> Value {
        json!({
            "id": id, "sender": "planner", "message_id": "m1", "message_type": "command", "to": "worker",
            "why": "its impact is 0.90, at or above 0.80", "score": 0.9, "level": "critical",
            "rule": "quorum", "approvals": 0, "rejections": 0, "approves": "0 of 1 approvals",
            "denies": "0 of 1 rejections", "escalated": false, "parked_at": 1_000_000, "deadline": 15_400_000,
            "digest": "ab".repeat(32), "may_vote": true,
        })
    }

    fn judge() -> Who {
        "acme/judge".parse().unwrap()
    }

    #[test]
    fn a_list_shows_ids_that_differ_and_what_to_type_next() {
        let ids = ["0123456789aa000000000000", "0123456789ab000000000000"];
        let list: Listing = serde_json::from_value(
            json!({ "total": 3, "deliberations": [entry(ids[0]), entry(ids[1])], "new_field": 1 }),
        )
        .unwrap();
        let text = listing_at(&list, &judge(), Paint::never(), 1_000_000);
        for part in ["0123456789aa", "0123456789ab", "→ worker", "may vote", "4 h 0 min", "and 1 more"] {
            assert!(text.contains(part), "{part:?} is missing in:\n{text}");
        }
        assert!(!text.contains("0123456789aa0"), "more digits than are needed:\n{text}");
        assert!(text.contains("agentbus deliberations show --as acme/judge 0123456789aa"), "{text}");
        let none = Listing { total: 0, deliberations: Vec::new() };
        assert_eq!(listing_at(&none, &judge(), Paint::never(), 0), "nothing waits for acme/judge\n");
    }

    #[test]
    fn a_shown_message_is_whole_and_cannot_steer_the_terminal() {
        let text = "wipe \u{1b}[2J \u{202e} disks ".repeat(200);
        let mut whole = entry("0123456789aa000000000000");
        let more = json!({
            "message": { "priority": "critical", "tools": ["delete", "send keys"],
                "content": { "text": text, "n": [1] }, "metadata": { "note": "hid\u{200b}den" },
                "expires_at": 9_000, "in_reply_to": "m0", "later": [1] },
            "impact": { "score": 0.9, "level": "critical", "parts": { "permission": 0.9 }, "model": "m" },
            "notes": ["own: above the\u{1b} usual"],
            "voters": [{ "id": "judge", "roles": ["judicial"], "weight": 2 }],
            "votes": [{ "voter": "other", "choice": "reject", "comment": "no\n", "at": 1 }],
        });
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let shown: Details = serde_json::from_value(whole).unwrap();
        let told = details(&shown, &judge(), Paint::never());
        for part in [
            "command, priority critical",
            "tools      delete, \"send keys\"",
            "note       own: above the",
            "expires    1970-01-01T00:00:09Z",
            "answers    m0",
            "\"note\": \"hid\\u200bden\"",
            "has        later [1]",
            "0.90 critical: permission 0.90 (by m)",
            "judge (judicial, weight 2)",
            "reject by other at 1970-01-01T00:00:00Z: \"no\\n\"",
            "vote --as acme/judge \\\n    0123456789aa000000000000 --approve \\\n    --digest abababababab",
        ] {
            assert!(told.contains(part), "{part:?} is missing in:\n{told}");
        }
        assert!(!told.contains('\u{1b}') && !told.contains('\u{202e}'), "{told}");
        assert!(told.contains(&format!("--digest {}\n", "ab".repeat(32))), "all digits: {told}");
        assert!(told.lines().all(|line| line.chars().count() <= 80), "{told}");
        assert_eq!(told.matches("disks").count(), 200, "nothing of what is voted on is left out");
    }

    #[test]
    fn time_left_is_told_in_its_two_largest_units() {
        for (seconds, told) in
            [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (3 * 3600, "3 h 0 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(left(seconds * 1000, 0), told);
        }
        assert_eq!(left(5, 10), "0 s");
        assert!(moment(u64::MAX).starts_with("9999"));
    }
}
