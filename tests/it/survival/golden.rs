//! Are the forms that nodes of other versions read and write still these? `tests/golden/forms` has the bytes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use agentbus::{
    deliberation::Case,
    domain::{
        AgentId, Choice, Encoding, Event, Impact, Judgement, Level, Missed, Parked, Parts, Reach, Reason,
        Rule, RuleKind, Status, Timestamp, Verdict, Vote, Voter, Why,
    },
    tenants::Plan,
    wire,
};
use serde::{Serialize, de::DeserializeOwned};

#[path = "../../golden/check.rs"]
pub(crate) mod check;
mod deliveries;
mod kept;
mod records;
mod requests;

use check::same;

const BOTH: [(Encoding, &str); 2] = [(Encoding::Json, "json"), (Encoding::MessagePack, "hex")];
pub(crate) const DIGEST: [u8; 32] = [7; 32];
const AT: Timestamp = Timestamp(1_790_000_000_000);

/// With every field there is.
pub(crate) fn verdict() -> Verdict {
    Verdict {
        message_id: "m-1".parse().ok(),
        status: Status::Delivered,
        reason: Reason::Delivered,
        detail: "handed to worker, \"ü\"".to_owned(),
        retryable: false,
        retry_after: Some(Duration::from_millis(1_500)),
        decision_id: "d-1".to_owned(),
        policy_revision: Some("r-1".to_owned()),
        impact: Some(impact()),
        reach: Some(Reach {
            delivered: 2,
            agent: "worker".parse().ok(),
            missed: vec![Missed { agent: agent("helper"), reason: Reason::RecipientOffline }],
            missed_total: 1,
            durable: false,
        }),
        deliberation_id: "0123456789abcdef01234567".parse().ok(),
        node: "node-1".to_owned(),
        elapsed: Duration::from_micros(1_234),
    }
}

/// With none that need not be there.
pub(crate) fn least() -> Verdict {
    Verdict {
        message_id: None,
        status: Status::Rejected,
        reason: Reason::PolicyDenied,
        detail: "no".to_owned(),
        retry_after: None,
        policy_revision: None,
        impact: None,
        reach: None,
        deliberation_id: None,
        ..verdict()
    }
}

fn impact() -> Impact {
    Impact {
        score: 0.25,
        score_max: Some(0.5),
        level: Level::Medium,
        parts: Parts {
            semantic: Some(0.125),
            permission: 0.2,
            volume: 0.0,
            context: 0.3,
            drift: Some(1.0),
            priority: 0.7,
            message_type: 0.1,
        },
        levels: None,
        model: "keywords".to_owned(),
        unscored: Some("slow".to_owned()),
        tokens: 0,
    }
}

fn agent(id: &str) -> AgentId {
    id.parse().unwrap()
}

#[test]
fn verdicts_are_written_and_read_as_ever() {
    for (name, verdict) in
        [("verdict-full", verdict()), ("verdict-graded", graded()), ("verdict-least", least())]
    {
        for (encoding, ending) in BOTH {
            let written = wire::encode_verdict(&verdict, encoding);
            let committed = same(&format!("{name}.{ending}"), &written);
            assert_eq!(wire::decode_verdict(&committed).unwrap(), verdict);
        }
    }
    for (encoding, ending) in BOTH {
        let answer = if encoding == Encoding::Json { &b"{\"sum\":4}"[..] } else { b"\x81\xa3sum\x04" };
        let committed =
            same(&format!("asked.{ending}"), &wire::encode_asked(&least(), Some(answer), encoding));
        assert_eq!(wire::decode_verdict(&committed).unwrap(), least());
    }
}

/// Of a model that knows levels.
fn graded() -> Verdict {
    let levels = Some([0.05, 0.125, 0.7, 0.125]);
    Verdict { impact: Some(Impact { levels, score_max: None, unscored: None, ..impact() }), ..verdict() }
}

fn parked() -> Parked {
    let voter = |role: &str| Voter { roles: [role.to_owned()].into(), weight: 2 };
    Parked {
        id: "0123456789abcdef01234567".parse().unwrap(),
        tenant: "acme".parse().unwrap(),
        sender: agent("planner"),
        message_id: "m-1".parse().unwrap(),
        message: "{\"content\":{\"text\":\"hi\"}}".to_owned(),
        digest: hex::encode(DIGEST),
        why: Why::Impact { score: 0.875, threshold: 0.8 },
        notes: Default::default(),
        impact: Some(impact()),
        policy_revision: "r-1".to_owned(),
        decision_id: "d-1".to_owned(),
        node: "node-1".to_owned(),
        rule: Rule { kind: RuleKind::SuperMajority, min_approvals: 1, distinct_roles: 2 },
        voters: BTreeMap::from([(agent("judge"), voter("judicial"))]),
        stand_ins: BTreeMap::from([(agent("steward"), voter("controller"))]),
        parked_at: AT,
        escalate_at: Some(AT.plus(Duration::from_secs(1))),
        deadline: AT.plus(Duration::from_secs(60)),
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
    }
}

fn stored<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(form: &str, value: &T) -> T {
    let committed = same(form, &serde_json::to_vec(value).unwrap());
    let read: T = serde_json::from_slice(&committed).unwrap();
    assert_eq!(&read, value, "{form}");
    read
}

#[test]
fn the_log_of_a_deliberation_is_written_and_read_as_ever() {
    let after = |seconds| AT.plus(Duration::from_secs(seconds));
    let vote = |voter: &str, seconds, comment: &str| Vote {
        voter: agent(voter),
        choice: Choice::Approve,
        comment: comment.to_owned(),
        at: after(seconds),
    };
    let mut two = parked();
    two.rule.min_approvals = 2;
    let decided = Event::Decided {
        judgement: Judgement::Approved,
        at: after(3),
        detail: "approved".to_owned(),
        vote: Some(vote("judge", 3, "")),
    };
    let concluded = Event::Concluded {
        at: after(4),
        reason: "delivered".to_owned(),
        decision_id: "d-2".to_owned(),
        detail: "handed to worker".to_owned(),
    };
    let log = [
        ("event-parked.json", Event::Parked(Box::new(two))),
        ("event-escalated.json", Event::Escalated { at: after(1) }),
        ("event-vote.json", Event::Vote(vote("steward", 2, "it is well"))),
        ("event-decided.json", decided),
        ("event-concluded.json", concluded),
    ];
    let read = (1..).zip(log.iter().map(|(form, event)| stored(form, event)));
    let case = Case::replay(read).unwrap().unwrap();
    assert!(case.conclusion.is_some());
    let denied = Event::Decided {
        judgement: Judgement::Expired,
        at: after(60),
        detail: "nobody decided".to_owned(),
        vote: None,
    };
    stored("event-expired.json", &denied);
    let others = [
        ("event-parked-policy.json", Why::Policy),
        ("event-parked-unscored.json", Why::Unscored { why: "broken".to_owned() }),
        (
            "event-parked-chain.json",
            Why::Chain { why: "found too many".to_owned(), conversation: "planner/c-1".to_owned() },
        ),
    ];
    for (form, why) in others {
        let least = Parked { why, impact: None, escalate_at: None, traceparent: None, ..parked() };
        stored(form, &Event::Parked(Box::new(least)));
    }
    let notes = BTreeSet::from(["own: above the usual".to_owned()]);
    stored("event-parked-noted.json", &Event::Parked(Box::new(Parked { notes, ..parked() })));
}

/// What nodes learn of a tenant from the directory.
#[test]
fn a_tenant_is_published_and_read_as_ever() {
    let plan = |more: &str| {
        let text = format!(
            "[tenants.acme]\nlabels = {{ tier = \"gold\" }}\n[tenants.acme.agents]\n\
             planner = {{ roles = [\"executive\"] }}\n{more}"
        );
        Plan::parse(&text).unwrap().tenants().first().unwrap().clone()
    };
    stored("tenant.json", &plan(""));
    let all = plan(
        "[tenants.acme.limits]\nmessages_per_minute = 30\ncapabilities = [\"sum\"]\n\
         [tenants.acme.deliberation]\nopen_max = 9\n[tenants.acme.deliberation.weights]\nplanner = 3\n\
         [tenants.acme.deliberation.terms_by_type.governance_request]\nrule = \"unanimous\"\n\
         [tenants.acme.deliberation.adaptive]\nenabled = true\n",
    );
    stored("tenant-full.json", &all);
    stored("tenant-lift.json", &plan("[tenants.acme.limits]\nreport_lift_max = 0.7\n"));
    let chain = "messages_per_agent_hour = 100\nchain = { hops = 9, inherit_within = \"5s\", at_limit = \"deliberate\" }";
    stored("tenant-chain.json", &plan(&format!("[tenants.acme.limits]\n{chain}\n")));
}
