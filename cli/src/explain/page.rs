//! All that is known, for people.

use agentbus::{
    audit::{Body, Decision, Remembered},
    deliberation::Case,
    domain::{AgentId, Cause, Link, Status, Timestamp, Verdict},
    nats::StoredRecord,
    phrase::counted,
    policy::rego::{ModuleOutcome, TracedModule, TracedRule},
    telemetry::Stage,
};

use super::{
    found::Explained,
    rules::{Asked, Rules},
};
use crate::{
    context::Paint,
    deliberations::{cast_vote, impact_line, moment},
    printable::{Page, safe},
    verdict,
};

/// Recipients whose rules are shown; `--json` has all.
const RECIPIENTS_MAX: usize = 4;
/// Records that are listed beside the one that was asked for.
const RECORDS_MAX: usize = 20;

pub(super) fn of(explained: &Explained, paint: Paint) -> String {
    let Explained { decision_id, found, records, rules, deliberation, dead_letter } = explained;
    let mut out = String::new();
    let mut page = Page::new(paint);
    if let Some(decision) = explained.decision() {
        out += &verdict::readable_as("", &decision.verdict, paint);
        if decision.submitted_as.as_deref() == Some(decision_id) {
            page.field("queued", &format!("by {decision_id}, which is what `submit` was answered"));
        }
        told(&mut page, decision);
        self::rules(&mut page, rules);
    }
    page.field("record", &place(found));
    match deliberation {
        Some(Ok(case)) => self::deliberation(&mut page, case),
        Some(Err(why)) => page.field("votes", &format!("not known: {why}")),
        None => {}
    }
    let others: Vec<&StoredRecord> = records.iter().filter(|it| it.sequence != found.sequence).collect();
    for other in others.iter().take(RECORDS_MAX) {
        page.field("also", &format!("{}; {}", summary(other), place(other)));
    }
    if others.len() > RECORDS_MAX {
        page.field("also", &format!("{} more", others.len() - RECORDS_MAX));
    }
    page.field("became", &became(explained));
    match dead_letter {
        Ok(Some(letter)) => {
            let (reason, attempts) = (safe(&letter.reason, 64), counted(letter.attempts, "attempt"));
            page.field("given up", &format!("{reason} after {attempts}: a dead letter, {}", letter.address));
        }
        Ok(None) => {}
        Err(why) => page.field("given up", &format!("not known: {}", safe(why, 200))),
    }
    out + &page.into_text()
}

/// What stands in a decision's record beside the verdict.
fn told(page: &mut Page, decision: &Decision<'_>) {
    let names: Vec<&str> = decision.recipients.iter().map(AgentId::as_str).collect();
    let to = if names.is_empty() { String::new() } else { format!(" → {}", names.join(", ")) };
    let kind = decision.message_type.map_or(String::new(), |kind| format!(", {}", kind.as_str()));
    page.field("from", &format!("{}{to}{kind}", decision.sender));
    if let Some(cause) = &decision.cause {
        self::cause(page, cause, &decision.sender);
    }
    page.field("stages", &stages(decision));
    if let Some(facts) = &decision.facts {
        // A verdict names it where the policy allowed.
        if decision.verdict.policy_revision.is_none() {
            page.field("policy", &format!("revision {}", safe(&facts.policy_revision, 40)));
        }
        page.field("answers", &answers(facts.remembered, facts.recipients_total));
    }
    if let Some(impact) = decision.verdict.impact.as_ref().and_then(|it| serde_json::to_value(it).ok()) {
        page.field("parts", &impact_line(&impact));
    }
}

/// What led to the message, and whether it has come round.
fn cause(page: &mut Page, cause: &Cause, sender: &AgentId) {
    let Cause { conversation, hops, chain } = cause;
    page.field("follows", &format!("{}, in conversation {conversation}", counted(*hops, "message")));
    for Link { sender, decision } in chain {
        page.field("after", &format!("{sender}'s, by {decision}"));
    }
    if let Some(ring) = cause.ring(sender) {
        let names: Vec<&str> = ring.into_iter().map(AgentId::as_str).collect();
        page.field("ring", &names.join(" → "));
    }
}

fn stages(decision: &Decision<'_>) -> String {
    if decision.stages_us.is_empty() {
        return "not in its record, which is of an earlier version".to_owned();
    }
    let of = |(stage, micros): (&Stage, &u64)| match micros {
        0 => format!("{} <1", stage.as_str()),
        micros => format!("{} {micros}", stage.as_str()),
    };
    let stages: Vec<String> = Stage::ALL.iter().zip(decision.stages_us.iter()).map(of).collect();
    format!("{} µs, up to the record", stages.join(", "))
}

/// Whether the policy's answers were remembered.
fn answers(remembered: Option<Remembered>, total: u64) -> String {
    let Some(Remembered { cached, shared }) = remembered else {
        return "whether its answers were remembered is not in the record".to_owned();
    };
    let of = counted(total, "recipient");
    match (cached, shared) {
        (0, 0) => format!("asked about {of}, nothing was remembered"),
        (cached, 0) => format!("about {of}, {cached} remembered by the node"),
        (cached, shared) => format!("about {of}, {cached} remembered by the node, {shared} by another"),
    }
}

fn rules(page: &mut Page, rules: &Rules) {
    match rules {
        Rules::Unknown(why) => page.field("rules", &format!("not known: {}", safe(why, 400))),
        Rules::Known(all) => {
            for asked in all.iter().take(RECIPIENTS_MAX) {
                recipient(page, asked);
            }
            if all.len() > RECIPIENTS_MAX {
                page.field("rules", &format!("of {} more recipients: --json", all.len() - RECIPIENTS_MAX));
            }
        }
    }
}

fn recipient(page: &mut Page, Asked { recipient, modules, same }: &Asked) {
    let by = |wanted: fn(&ModuleOutcome) -> bool| -> Vec<&TracedModule> {
        modules.iter().filter(|module| wanted(&module.outcome)).collect()
    };
    let names = |modules: &[&TracedModule]| {
        modules.iter().map(|module| safe(&module.name, 64)).collect::<Vec<_>>().join(", ")
    };
    let denying = by(|outcome| matches!(outcome, ModuleOutcome::Denied(_)));
    let allowing = by(|outcome| !matches!(outcome, ModuleOutcome::Denied(_)));
    let to = safe(recipient, 64);
    page.field(
        "rules",
        &match denying.is_empty() {
            true => format!("all allow it to {to}: {}", names(&allowing)),
            false => format!("{} denied it to {to}; allowed by {}", names(&denying), names(&allowing)),
        },
    );
    for module in denying.into_iter().chain(by(|outcome| *outcome == ModuleOutcome::Obliged)) {
        if let ModuleOutcome::Denied(reasons) = &module.outcome {
            reasons.iter().for_each(|reason| page.field("", &safe(reason, 300)));
        } else {
            page.field("", &format!("{}: demands something besides", safe(&module.name, 64)));
        }
        module.rules.iter().for_each(|rule| page.field("", &rule_line(rule)));
    }
    if !same {
        page.field("", "what it says now is not what it said then: it uses time or chance");
    }
}

/// `file:line name, lines 3, 5-7`.
fn rule_line(TracedRule { file, line, name, evaluated }: &TracedRule) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for &line in evaluated {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == line => *last = line,
            _ => ranges.push((line, line)),
        }
    }
    let ranges: Vec<String> = ranges
        .into_iter()
        .map(|(first, last)| if first == last { first.to_string() } else { format!("{first}-{last}") })
        .collect();
    format!("{}:{line} {}, evaluated {}", safe(file, 200), safe(name, 64), ranges.join(", "))
}

fn place(StoredRecord { stream, sequence, at, subject, .. }: &StoredRecord) -> String {
    format!("{stream} {sequence} at {}, {}", humantime::format_rfc3339_millis(*at), safe(subject, 400))
}

/// A record in a few words.
fn summary(stored: &StoredRecord) -> String {
    match &stored.record.body {
        Body::Intent(it) => format!("about to be {}", said(&it.verdict)),
        Body::Verdict(it) => said(&it.verdict),
        Body::DeadLetter(it) => {
            format!("{} by {}: {}", it.act.as_str(), safe(&it.by, 64), safe(&it.reason, 64))
        }
        other => other.kind().as_str().to_owned(),
    }
}

fn said(verdict: &Verdict) -> String {
    let (status, id) = (verdict.status.as_str(), safe(&verdict.decision_id, 40));
    match verdict.status {
        Status::Rejected => format!("{status} ({}) by {id}", verdict.reason.as_str()),
        _ => format!("{status} by {id}"),
    }
}

fn deliberation(page: &mut Page, case: &Case) {
    let at = |Timestamp(millis)| moment(millis);
    let (since, why) = (at(case.parked.parked_at), safe(&case.parked.why.to_string(), 200));
    page.field("waited", &format!("since {since}: {why}"));
    for vote in &case.votes {
        let told = cast_vote(vote.choice.as_str(), vote.voter.as_str(), vote.at.0, &vote.comment);
        page.field("vote", &told);
    }
    match &case.decision {
        None => page.field("decided", "not yet"),
        Some(it) => {
            let (judgement, detail) = (it.judgement.as_str(), safe(&it.detail, 400));
            page.field("decided", &format!("{judgement} at {}: {detail}", at(it.at)));
        }
    }
    if let Some(it) = &case.conclusion {
        let (reason, id) = (safe(&it.reason, 64), safe(&it.decision_id, 40));
        page.field("came to", &format!("{reason} at {}, by {id}: {}", at(it.at), safe(&it.detail, 400)));
    }
}

/// The last word, in one sentence.
fn became(explained: &Explained) -> String {
    let Some((last, stored)) = explained.last() else { return "not on record".to_owned() };
    let delivered = last.verdict.status == Status::Delivered;
    let concluded = matches!(&explained.deliberation, Some(Ok(case)) if case.conclusion.is_some());
    let by = if delivered && concluded { "released by reviewers and " } else { "" };
    let told = match last.verdict.status {
        // Where a live delivery comes to nothing, that is written over its intent.
        Status::Delivered if stored.is_of_live_delivery() => "handed to live inboxes".to_owned(),
        Status::Delivered => "stored in durable inboxes".to_owned(),
        Status::Stored => "queued".to_owned(),
        Status::Deliberating => "parked for reviewers".to_owned(),
        Status::Rejected | Status::Shed => format!("refused: {}", last.verdict.reason.as_str()),
    };
    let acts = explained.records.iter().filter(|it| matches!(it.record.body, Body::DeadLetter(_))).count();
    let after = if acts > 0 { ", with an operator's act on its dead letter" } else { "" };
    format!("{by}{told}{after}")
}
