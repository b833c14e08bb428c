//! What is kept as evidence: `docs/records.md` shows these bytes.

use std::{borrow::Cow, collections::BTreeSet, fs};

use agentbus::{
    audit::{
        self, Act, Body, Change, DeadLetter, Decision, Facts, Link, Mending, Party, Record, Recovery,
        Registration, Remembered, Step, Threshold, Vote,
    },
    domain::{ConstitutionHash, DeliberationId, MessageType, TenantId},
};

use super::{check::read, *};

const ID: &str = "kwgBtD6dd5f4LfCUqfSfEk";

/// With the envelope of schema 2.
fn record(body: Body<'static>) -> Record<'static> {
    Record {
        id: Some(Cow::Borrowed(ID)),
        at: AT,
        tenant: Cow::Owned("acme".parse::<TenantId>().unwrap()),
        node: Cow::Borrowed("node-1"),
        link: None,
        body,
    }
}

/// Without what schema 1 has not.
fn of_schema_1(record: Record<'static>) -> Record<'static> {
    let without = |decision: Decision<'static>| Decision { facts: None, ..decision };
    let body = match record.body {
        Body::Intent(decision) => Body::Intent(without(decision)),
        Body::Verdict(decision) => Body::Verdict(without(decision)),
        other => other,
    };
    Record { id: None, body, ..record }
}

fn intent() -> Decision<'static> {
    Decision {
        sender: Cow::Owned(agent("planner")),
        message_type: Some(MessageType::Command),
        digest: Some(DIGEST),
        recipients: Cow::Owned(vec![agent("worker")]),
        verdict: Cow::Owned(verdict()),
        facts: Some(facts()),
        submitted_as: None,
        cause: None,
        stages_us: Cow::default(),
    }
}

/// With all that is told since.
fn timed() -> Decision<'static> {
    let remembered = Some(Remembered { cached: 1, shared: 1 });
    Decision {
        facts: Some(Facts { remembered, ..facts() }),
        submitted_as: Some(Cow::Borrowed("pXq2vYk0aZr4LfCUqfSf01")),
        cause: None,
        stages_us: Cow::Borrowed(&[1, 12, 0, 0, 5, 2, 1, 103]),
        ..intent()
    }
}

/// Of a message that answers one that has answered another.
fn caused() -> Decision<'static> {
    let text = "2 planner/c-1 worker:5f3a9c0d12e47b68-7-0 planner:pXq2vYk0aZr4LfCUqfSf01";
    let cause: agentbus::domain::Cause = text.parse().unwrap();
    Decision { cause: Some(Cow::Owned(cause)), ..intent() }
}

/// Of a message that could not be read.
fn unreadable() -> Decision<'static> {
    Decision { message_type: None, digest: None, facts: None, ..intent() }
}

/// The policy said no: then the verdict names no revision.
fn denied() -> Decision<'static> {
    let stranger = Party { registered: false, capabilities: Cow::default(), ..facts().sender };
    let facts = Facts { sender: stranger, recipients_total: 40, ..facts() };
    Decision { recipients: Cow::default(), verdict: Cow::Owned(least()), facts: Some(facts), ..intent() }
}

fn facts() -> Facts<'static> {
    let party = |id: &str, role: &str, capabilities: &[&str]| Party {
        id: Cow::Owned(agent(id)),
        roles: Cow::Owned(BTreeSet::from([role.to_owned()])),
        capabilities: Cow::Owned(capabilities.iter().map(|it| it.parse().unwrap()).collect()),
        registered: true,
    };
    Facts {
        constitution: "cdd01ef066bc6cf2".parse::<ConstitutionHash>().unwrap(),
        policy_revision: Cow::Borrowed("r-1"),
        sender: party("planner", "executive", &["plan"]),
        recipients: vec![party("worker", "implementer", &["sort", "sum"])],
        recipients_total: 1,
        remembered: None,
    }
}

fn vote() -> Vote<'static> {
    Vote {
        voter: Cow::Owned(agent("planner")),
        deliberation: Cow::Owned(deliberation()),
        choice: Choice::Approve,
        digest: Cow::Owned(hex::encode(DIGEST)),
        comment: Cow::Borrowed("well"),
        result: Cow::Borrowed("counted"),
        judgement: Some(Judgement::Approved),
        detail: Cow::Borrowed("1 of 1"),
    }
}

fn threshold() -> Threshold<'static> {
    let (deliberation, reason) = (Cow::Owned(deliberation()), Cow::Borrowed("denied below it"));
    Threshold { deliberation, from: 0.8, to: 0.75, reason }
}

fn registration() -> Registration<'static> {
    let capabilities = ["sort", "sum"].iter().map(|it| it.parse().unwrap()).collect();
    Registration {
        agent: Cow::Owned(agent("worker")),
        change: Change::Changed,
        capabilities: Cow::Owned(capabilities),
        changes: 3,
    }
}

/// The least that a registration says.
fn left() -> Registration<'static> {
    Registration { change: Change::Left, capabilities: Cow::default(), changes: 1, ..registration() }
}

fn dead_letter() -> DeadLetter<'static> {
    DeadLetter {
        sender: Some(Cow::Owned(agent("planner"))),
        message: Some(Cow::Owned("m-1".parse().unwrap())),
        digest: Some(DIGEST),
        act: Act::Resubmit,
        reason: Cow::Borrowed("no_capable_agent"),
        by: Cow::Borrowed("operator"),
        login: Some(Cow::Borrowed("ada")),
    }
}

/// Nobody could read whose it is.
fn nobodys() -> DeadLetter<'static> {
    DeadLetter { sender: None, message: None, digest: None, act: Act::Discard, login: None, ..dead_letter() }
}

fn deliberation() -> DeliberationId {
    "0123456789abcdef01234567".parse().unwrap()
}

/// Of no tenant.
fn recovery() -> Record<'static> {
    let step = |what, of: &str, times| Step { what, of: of.to_owned(), times };
    let steps = vec![
        step(Mending::BreakerOpened, "records", 3),
        step(Mending::BreakerClosed, "records", 3),
        step(Mending::Reconnected, "", 1),
    ];
    let body = Body::Recovery(Recovery { over_ms: 10_000, steps: Cow::Owned(steps) });
    Record { tenant: Cow::Owned(Record::OF_THE_BUS.parse().unwrap()), ..record(body) }
}

#[test]
fn a_step_that_this_version_does_not_know_is_passed_over() {
    let newer = String::from_utf8(read("record2-recovery.json")).unwrap().replace("breaker_opened", "sang");
    let Body::Recovery(Recovery { steps, .. }) = audit::decode(newer.as_bytes()).unwrap().body else {
        panic!("another kind")
    };
    assert_eq!(
        steps.iter().map(|step| step.what).collect::<Vec<_>>(),
        [Mending::BreakerClosed, Mending::Reconnected]
    );
}

#[test]
fn records_are_written_and_read_as_ever_in_either_encoding() {
    let linked = Record {
        link: Some(Link { seq: 42, prev: DIGEST }),
        ..record(Body::Batch(vec![record(Body::Intent(intent())), record(Body::Vote(vote()))]))
    };
    for (form, record) in [
        ("record2-intent", record(Body::Intent(intent()))),
        ("record2-timed", record(Body::Intent(timed()))),
        ("record2-caused", record(Body::Intent(caused()))),
        ("record2-verdict", record(Body::Verdict(denied()))),
        ("record2-unreadable", record(Body::Verdict(unreadable()))),
        ("record2-vote", record(Body::Vote(vote()))),
        ("record2-threshold", record(Body::Threshold(threshold()))),
        ("record2-registration", record(Body::Registration(registration()))),
        ("record2-left", record(Body::Registration(left()))),
        ("record2-dead-letter", record(Body::DeadLetter(dead_letter()))),
        ("record2-dead-letter-least", record(Body::DeadLetter(nobodys()))),
        ("record2-recovery", recovery()),
        ("record2-batch", linked),
    ] {
        for (encoding, ending) in BOTH {
            let committed = same(&format!("{form}.{ending}"), &audit::encode(&record, encoding));
            assert_eq!(audit::decode(&committed).unwrap(), record, "{form}.{ending}");
            for end in 0..committed.len() {
                assert!(audit::decode(&committed[..end]).is_err(), "{form}.{ending} up to {end}");
            }
        }
    }
}

/// They are kept for as long as an operator has said.
#[test]
fn records_of_schema_1_are_read_as_ever() {
    for (form, body) in [
        ("record-intent.json", Body::Intent(intent())),
        ("record-verdict.json", Body::Verdict(unreadable())),
        ("record-vote.json", Body::Vote(vote())),
        ("record-threshold.json", Body::Threshold(threshold())),
    ] {
        assert_eq!(audit::decode(&read(form)).unwrap(), of_schema_1(record(body)), "{form}");
    }
}

/// So that a node of the last version goes on with what one of this began, and the other way round.
#[test]
fn what_schema_1_had_is_in_schema_2_under_the_same_names() {
    let fields = |form: &str| -> serde_json::Map<String, serde_json::Value> {
        serde_json::from_slice(&read(form)).unwrap()
    };
    for kind in ["intent", "vote", "threshold"] {
        let (old, mut new) =
            (fields(&format!("record-{kind}.json")), fields(&format!("record2-{kind}.json")));
        new.insert("schema".to_owned(), 1.into());
        for (name, value) in old {
            assert_eq!(new.get(&name), Some(&value), "{kind}: {name}");
        }
    }
}

/// A message of NATS has 256 KiB, and a broadcast's recipients are all named besides.
#[test]
fn what_a_broadcast_saw_takes_a_few_kilobytes_of_its_record_and_says_how_many_they_were() {
    let capabilities: BTreeSet<_> = (0..64).map(|at| format!("{at:064}").parse().unwrap()).collect();
    let recipients: Vec<Party<'_>> = (0..32)
        .map(|at| Party {
            id: Cow::Owned(agent(&format!("worker-{at}"))),
            capabilities: Cow::Owned(if at == 0 { BTreeSet::new() } else { capabilities.clone() }),
            ..facts().sender
        })
        .collect();
    let without = audit::encode(&record(Body::Intent(Decision { facts: None, ..intent() })), Encoding::Json);
    let facts = Facts { recipients, recipients_total: 1_000, ..facts() };
    let written =
        audit::encode(&record(Body::Intent(Decision { facts: Some(facts), ..intent() })), Encoding::Json);
    assert!(written.len() - without.len() < 5 * 1024, "{} bytes", written.len() - without.len());
    let Body::Intent(Decision { facts: Some(read), .. }) = audit::decode(&written).unwrap().body else {
        panic!("no facts")
    };
    assert_eq!((read.recipients.len(), read.recipients_total), (1, 1_000));
}

#[test]
fn the_examples_in_the_docs_are_the_bytes_that_are_written() {
    let docs = fs::read_to_string(crate::support::root().join("docs/records.md")).unwrap();
    let shown: Vec<&str> = docs.lines().filter(|line| line.starts_with("{\"schema\"")).collect();
    for kind in ["timed", "verdict", "vote", "threshold", "registration", "dead-letter", "recovery", "batch"]
    {
        let form = String::from_utf8(read(&format!("record2-{kind}.json"))).unwrap();
        assert!(shown.contains(&form.as_str()), "docs/records.md does not show {form}");
    }
    assert_eq!(shown.len(), 8, "each example is one of the committed forms");
}
