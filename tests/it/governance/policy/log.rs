//! Is what the policy decides logged as OPA logs it, masked as OPA masks it, and can it be asked again?

use std::{fs, process::Stdio, sync::Arc};

use agentbus::{
    domain::Timestamp,
    policy::{
        DecisionLog, Event, Gate,
        decision_log::{Recorded, Settings, Unreadable, WrittenEvents},
        reads::Fields,
        sources::PolicySources,
    },
};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value as Json, json};

use super::{
    Seen, load, patiently,
    question::{Owned, random},
    with_modules,
};
use crate::support::opa::{self, Opa};

/// A gate that logs, and what it logs.
struct Logged {
    gate: Gate,
    log: Arc<DecisionLog>,
    events: WrittenEvents,
    seen: Seen,
}

fn logged(sources: &PolicySources, settings: &Settings) -> Logged {
    let seen = Seen::default();
    let clock = || Timestamp(1_790_000_000_000);
    let (log, events) = DecisionLog::start(settings, "node-1", Arc::new(seen.clone()), clock).unwrap();
    let log = Arc::new(log);
    Logged { gate: Gate::new(Arc::new(load(sources))).logged(Arc::clone(&log)), log, events, seen }
}

/// All messages, with their texts.
fn all() -> Settings {
    Settings { share: 1.0, content: true, file: None }
}

impl Logged {
    async fn ask(&self, question: &Owned, id: &str) {
        let _ = self.gate.decide_by(&self.gate.in_force(), &question.ask(), id).await;
    }

    async fn next(&self) -> Json {
        serde_json::from_slice(&self.events.next().await.unwrap().event).unwrap()
    }

    /// Of a question, asked again where the processor was busy with other things.
    async fn event(&self, question: &Owned, id: &str) -> Json {
        for _ in 0..100 {
            self.ask(question, id).await;
            let event = self.next().await;
            if event["error"]["code"] != "policy_unavailable" {
                return event;
            }
        }
        panic!("the processor has no time");
    }
}

fn questions(count: usize) -> Vec<Json> {
    let mut rng = StdRng::seed_from_u64(15);
    std::iter::repeat_with(|| random(&mut rng)).take(count).collect()
}

/// One whose answer may be remembered: it is not about an approval.
fn remembered() -> Owned {
    let mut input = questions(1).remove(0);
    input.as_object_mut().unwrap().remove("approval");
    Owned::from_input(&input)
}

const OBLIGES: &str = r#"package agentbus.modules.own

default allow := false

allow if not fails

fails if 1 / count(input.message.tools) > 1

obligations := {"deliberate": true, "min_approvals": 2, "redact": ["a.b"], "lane": "durable", "score": true} if {
	input.message.priority == "high"
}
"#;

#[tokio::test]
async fn what_is_logged_is_asked_again_and_answered_the_same() {
    let sources = with_modules(&[("own.rego", OBLIGES)]);
    let (logged, engine) = (logged(&sources, &all()), load(&sources));
    let mut outcomes = [0; 3];
    for (number, input) in questions(300).iter().enumerate() {
        let question = Owned::from_input(input);
        let event = logged.event(&question, &format!("d-{number}")).await;
        assert_eq!((&event["path"], &event["labels"]["id"]), (&json!("agentbus/decision"), &json!("node-1")));
        assert_eq!(event["bundles"]["agentbus"]["revision"], json!(&*logged.gate.revision()));
        assert_eq!(event["timestamp"], "2026-09-21T14:13:20.000Z");
        assert!(event["metrics"]["timer_rego_query_eval_ns"].as_u64().is_some_and(|ns| ns > 0), "{event}");
        let recorded =
            Recorded::read(event.to_string().as_bytes()).unwrap_or_else(|why| panic!("{why}: {event}"));
        assert_eq!(
            (recorded.decision_id.as_str(), recorded.unknown),
            (&*format!("d-{number}"), Fields::CONVERSATION_LABELS)
        );
        let again = patiently(|| engine.decide_recorded(&recorded.input)).map_err(|error| error.to_string());
        assert_eq!(recorded.answer, again, "{event}");
        assert_eq!(again, patiently(|| engine.decide(&question.ask())).map_err(|error| error.to_string()));
        outcomes[match &event["result"]["allow"] {
            Json::Bool(allow) => usize::from(*allow),
            _ => 2,
        }] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 10), "allowed, denied, failed: {outcomes:?}");
    assert!(logged.log.flush(std::time::Duration::from_secs(60)).await);
}

#[tokio::test]
async fn an_answer_that_was_remembered_is_logged_as_such_and_who_has_no_decision_id_is_not() {
    let logged = logged(&PolicySources::shipped(), &all());
    let question = remembered();
    let _ = logged.gate.decide(&question.ask()).await;
    logged.event(&question, "d-1").await;
    assert_eq!(logged.event(&question, "d-2").await["metrics"]["counter_server_query_cache_hit"], 1);
    assert_eq!((logged.seen.count(Event::LogLost), logged.events.kept()), (0, ()));
    assert_eq!(logged.seen.count(Event::Logged), 1);
}

#[tokio::test]
async fn a_tenants_texts_are_logged_only_where_that_is_wanted_and_never_without_a_bound() {
    let mut input = questions(1).remove(0);
    input["message"]["content"] = json!({ "iban": "DE1" });
    let texts = json!(["/input/message/content", "/input/message/metadata"]);
    let without = logged(&PolicySources::shipped(), &Settings { content: false, ..all() });
    let event = without.event(&Owned::from_input(&input), "d-1").await;
    assert_eq!((&event["erased"], event["input"]["message"].get("content")), (&texts, None));
    let unknown = Recorded::read(event.to_string().as_bytes()).unwrap().unknown;
    assert_eq!(unknown, Fields::CONTENT.with(Fields::METADATA).with(Fields::CONVERSATION_LABELS));

    let with = logged(&PolicySources::shipped(), &all());
    input["message"]["content"]["long"] = "x".repeat(200 * 1024).into();
    let event = with.event(&Owned::from_input(&input), "d-2").await;
    assert_eq!((&event["erased"], event["decision_id"].as_str()), (&texts, Some("d-2")));
    input["tenant"]["labels"]["long"] = "x".repeat(200 * 1024).into();
    let event = with.event(&Owned::from_input(&input), "d-3").await;
    assert!(event["erased"].as_array().unwrap().contains(&json!("/input")) && event.get("input").is_none());
    assert!(event["result"]["allow"].is_boolean() && event.to_string().len() < 2_000, "{event}");
}

const MASKS: &str = r#"package system.log

mask contains "/input/message/content/iban"

mask contains "/input/message/tools/0"

mask contains "/input/absent/path"

mask contains {"op": "upsert", "path": "/input/message/metadata/who", "value": {"hidden": true}}

mask contains {"op": "upsert", "path": "/input/made/of/nothing", "value": 7}

mask contains {"op": "remove", "path": "/result/reasons"} if not input.result.allow

mask contains {"op": "upsert", "path": "/input/sender/id", "value": "somebody"} if {
	input.input.message.priority == "high"
}
"#;

/// A real OPA logs the same questions with the same policy.
#[tokio::test]
async fn masks_take_out_of_an_event_what_they_take_out_of_opas() {
    let Some(program) = opa::program() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (mask, log) = (folder.path().join("log.rego"), folder.path().join("opa.log"));
    fs::write(&mask, MASKS).unwrap();
    let events = || Stdio::from(fs::File::options().create(true).append(true).open(&log).unwrap());
    let server =
        Opa::start_with(&program, Some(&mask), &["--set", "decision_logs.console=true"], events).await;
    let logged = logged(&with_modules(&[("log.rego", MASKS)]), &all());
    let mut ours = Vec::new();
    for mut input in questions(40) {
        input["message"]["content"] = json!({ "iban": "DE1", "amount": 7 });
        // No policy sees of a recipient whether it is registered.
        input["recipient"].as_object_mut().unwrap().remove("registered");
        server.decide(&input).await.unwrap();
        ours.push(logged.event(&Owned::from_input(&input), "d").await);
    }
    drop(server);
    let text = fs::read_to_string(&log).unwrap();
    let theirs: Vec<Json> = text
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|event: &Json| event["msg"] == "Decision Log")
        .collect();
    assert_eq!(theirs.len(), ours.len(), "{text}");
    let mut erased = 0;
    for (theirs, ours) in theirs.iter().zip(&ours) {
        for field in ["erased", "masked", "input", "result", "path"] {
            assert_eq!(sorted(&ours[field]), sorted(&theirs[field]), "{field}:\n{ours}\n{theirs}");
        }
        erased += ours["erased"].as_array().map_or(0, Vec::len);
        // What a real OPA has logged is replayed as well, but where its result was masked.
        let read = Recorded::read(theirs.to_string().as_bytes());
        assert_eq!(read.is_ok(), theirs["result"]["allow"] == true, "{theirs}");
        assert!(
            read.is_ok_and(|it| it.unknown.overlaps(Fields::CONTENT)) || theirs["result"]["allow"] == false
        );
    }
    assert!(erased > 60, "{erased}");
}

/// Roles and capabilities are sets, which come in any order.
fn sorted(value: &Json) -> Json {
    match value {
        Json::Array(items) => {
            let mut items: Vec<Json> = items.iter().map(sorted).collect();
            items.sort_by_key(Json::to_string);
            items.into()
        }
        Json::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), sorted(value))).collect();
            fields.sort_by(|(a, _), (b, _)| a.cmp(b));
            Json::Object(fields.into_iter().collect())
        }
        other => other.clone(),
    }
}

#[tokio::test]
async fn a_mask_that_fails_shows_nothing_and_what_is_dropped_is_not_logged() {
    let question = Owned::from_input(&questions(1)[0]);
    for rule in [
        "mask contains \"/labels/id\"",
        "mask contains sprintf(\"/input/%d\", [1 / 0])",
        "mask := 7",
        "drop := 1 / 0",
    ] {
        let logged =
            logged(&with_modules(&[("log.rego", &format!("package system.log\n\n{rule}\n"))]), &all());
        let event = logged.event(&question, "d-1").await;
        assert_eq!(event["erased"], json!(["/input", "/result"]), "{rule}: {event}");
        assert!(event.get("input").is_none() && event.get("result").is_none(), "{rule}: {event}");
        assert!(logged.log.trouble().is_some(), "{rule}");
    }
    let drops = "package system.log\n\ndrop if input.decision_id == \"d-1\"\n";
    let logged = logged(&with_modules(&[("log.rego", drops)]), &all());
    logged.ask(&question, "d-1").await;
    logged.ask(&question, "d-2").await;
    assert_eq!(logged.next().await["decision_id"], "d-2");
    assert_eq!(logged.seen.count(Event::LogLost), 0);
}

/// The log is no part of what decides: a folder with a mask alone is as quick as one without.
#[test]
fn a_policy_of_the_log_alone_costs_decisions_nothing() {
    let engine = load(&with_modules(&[("log.rego", MASKS)]));
    assert!(engine.is_quick(&Owned::from_input(&questions(1)[0]).ask()));
    assert!(engine.modules().all(|module| !module.contains("log")));
}

#[tokio::test]
async fn a_log_that_nobody_keeps_holds_up_no_message_and_counts_each_that_it_loses() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("decisions.jsonl");
    let logged =
        logged(&PolicySources::shipped(), &Settings { content: false, file: Some(file.clone()), ..all() });
    let question = remembered();
    let asked = 12_000;
    for number in 0..asked {
        logged.ask(&question, &format!("d-{number}")).await;
    }
    let lost = logged.seen.count(Event::LogLost);
    assert!(lost > 0 && logged.log.trouble().is_some(), "{lost} lost");
    let mut kept = 0;
    while kept + lost < asked {
        let _ = logged.events.next().await.unwrap();
        logged.events.kept();
        kept += 1;
    }
    assert!(logged.log.flush(std::time::Duration::from_secs(60)).await, "nothing waits any more");
    assert_eq!(logged.seen.count(Event::Logged) + lost, asked);
    let lines = fs::read_to_string(file).unwrap();
    assert_eq!(lines.lines().count(), kept, "the file has each that was written");
    let read = |line: &str| Recorded::read(line.as_bytes());
    assert!(lines.lines().all(|line| !matches!(read(line), Err(Unreadable::NoEvent(_)))));
}

#[test]
fn what_is_no_event_about_this_policy_says_so() {
    for (line, told) in [
        ("{", "no event"),
        ("[]", "no event"),
        ("{}", "it has no path"),
        (r#"{"path":"system/main","input":{}}"#, "about \"system/main\""),
        (r#"{"path":"agentbus/decision","result":{"allow":true}}"#, "its input was taken out"),
        (r#"{"path":"agentbus/decision","input":{}}"#, "its result was taken out"),
        (r#"{"path":"agentbus/decision","input":7,"result":{"allow":true}}"#, "input is no object"),
        (r#"{"path":"agentbus/decision","input":{},"result":{"allow":"yes"}}"#, "its result: "),
        (
            r#"{"path":"agentbus/decision","input":{},"result":{"allow":true,"obligations":{"x":1}}}"#,
            "field `x`",
        ),
        (
            r#"{"path":"agentbus/decision","input":{},"error":{"code":"policy_unavailable","message":"m"}}"#,
            "too busy: m",
        ),
    ] {
        let why = Recorded::read(line.as_bytes()).err().unwrap().to_string();
        assert!(why.contains(told), "{line}: {why}");
    }
}
