//! All that is known, for programs.

use std::time::{SystemTime, UNIX_EPOCH};

use agentbus::{audit, deliberation::Case, domain::Encoding, nats::StoredRecord, review::Letter};
use serde_json::{Value, json};

use super::{
    found::Explained,
    rules::{Asked, Rules},
};

pub(super) fn of(explained: &Explained) -> anyhow::Result<Value> {
    let Explained { decision_id, found, records, rules, deliberation, dead_letter } = explained;
    Ok(json!({
        "decision_id": decision_id,
        "record": record(found)?,
        "message_records": records.iter().map(record).collect::<Result<Vec<_>, _>>()?,
        "rules": match rules {
            Rules::Known(asked) => asked.iter().map(self::asked).collect(),
            Rules::Unknown(why) => unknown(why),
        },
        "deliberation": match deliberation {
            Some(Ok(case)) => self::deliberation(case),
            Some(Err(why)) => unknown(why),
            None => Value::Null,
        },
        "dead_letter": match dead_letter {
            Ok(letter) => letter.as_ref().map_or(Value::Null, self::dead_letter),
            Err(why) => unknown(why),
        },
    }))
}

fn unknown(why: &str) -> Value {
    json!({ "unknown": why })
}

fn record(stored: &StoredRecord) -> serde_json::Result<Value> {
    let StoredRecord { stream, sequence, at, subject, record } = stored;
    let record: Value = serde_json::from_slice(&audit::encode(record, Encoding::Json))?;
    Ok(
        json!({ "stream": stream, "sequence": sequence, "kept_at": millis(*at), "subject": subject, "record": record }),
    )
}

fn millis(at: SystemTime) -> u64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn asked(Asked { recipient, modules, same }: &Asked) -> Value {
    json!({ "recipient": recipient, "modules": modules, "decides_the_same_now": same })
}

fn deliberation(case: &Case) -> Value {
    let decided = case
        .decision
        .as_ref()
        .map(|it| json!({ "judgement": it.judgement.as_str(), "at": it.at.0, "detail": it.detail }));
    let concluded = case.conclusion.as_ref().map(|it| {
        json!({ "at": it.at.0, "reason": it.reason, "decision_id": it.decision_id, "detail": it.detail })
    });
    json!({
        "id": case.parked.id.as_str(),
        "parked_at": case.parked.parked_at.0,
        "why": case.parked.why.to_string(),
        "votes": case.votes,
        "decision": decided,
        "conclusion": concluded,
    })
}

fn dead_letter(letter: &Letter) -> Value {
    json!({
        "reason": letter.reason,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "redriven": letter.redriven,
        "died_at": letter.died_at,
    })
}
