//! What agents and nodes say to each other.

use std::collections::BTreeSet;

use agentbus::{
    domain::{MessageType, Recipient},
    rejection::Rejection,
    wire::{FoundAgent, Limits, RegistryReply, ReviewReply, Stamp},
};
use bytes::Bytes;

use super::*;

/// As an agent writes one with all that there can be.
const MESSAGE: &str = r#"{"schema":1,"message_id":"m-1","tenant_id":"acme","from_agent":"planner","conversation_id":"c-1",
    "in_reply_to":"m-0","message_type":"task_request","to":{"broadcast":{"capability":"sum","role":"implementer"}},
    "priority":"high","constitutional_hash":"cdd01ef066bc6cf2","created_at":1790000000000,
    "expires_at":1790000060000,"tools":["read","transfer"],"metadata":{"b":"2","a":"1"},
    "content":{"text":"Grüße\n","list":[1,-1,1.5,true,null,18446744073709551615],"map":{"z":{},"a":[]}}}"#;

#[test]
fn a_message_is_written_read_and_hashed_as_ever() {
    let (tenant, sender) = ("acme".parse().unwrap(), agent("planner"));
    let read = |bytes: &[u8]| {
        wire::decode(bytes, Stamp { tenant: &tenant, sender: &sender }, &Limits::default()).unwrap()
    };
    let decoded = read(MESSAGE.as_bytes());
    let canonical = same("message.hex", &decoded.canonical);
    assert_eq!(read(&canonical).message, decoded.message);
    let json = wire::encode_message(&decoded.message, &decoded.canonical, Encoding::Json);
    let json = read(&same("message.json", &json));
    assert_eq!(json.message, decoded.message);
    // Who repeats a message after an update says the same.
    same("message-digest.txt", hex::encode(decoded.digest).as_bytes());
    assert_eq!(json.digest, decoded.digest);
}

#[test]
fn registry_requests_are_written_and_read_as_ever() {
    let limits = Limits::default();
    for (encoding, ending) in BOTH {
        let name = |verb: &str| format!("{verb}.{ending}");
        let register = wire::RegisterRequest {
            agent: Some(agent("worker")),
            capabilities: BTreeSet::from(["sum".parse().unwrap(), "nlp:summarise-v2".parse().unwrap()]),
            encoding: Some(Encoding::Json),
            description: "adds, \"well\"".to_owned(),
        };
        let committed = same(&name("register"), &wire::encode_register(&register, encoding));
        let read = wire::decode_register(&committed, &limits).unwrap();
        assert_eq!((read.request, read.encoding), (register, encoding));
        let heartbeat = wire::HeartbeatRequest { agent: Some(agent("worker")) };
        let committed = same(&name("heartbeat"), &wire::encode_heartbeat(&heartbeat, encoding));
        assert_eq!(wire::decode_heartbeat(&committed, &limits).unwrap().request, heartbeat);
        let unregister = wire::UnregisterRequest::default();
        let committed = same(&name("unregister"), &wire::encode_unregister(&unregister, encoding));
        assert_eq!(wire::decode_unregister(&committed, &limits).unwrap().request, unregister);
        let find = wire::FindRequest { capability: "sum".parse().ok(), agent: Some(agent("worker")) };
        let committed = same(&name("find"), &wire::encode_find(&find, encoding));
        assert_eq!(wire::decode_find(&committed, &limits).unwrap().request, find);
    }
}

#[test]
fn registry_replies_are_written_and_read_as_ever() {
    let found = FoundAgent { id: agent("worker"), capabilities: BTreeSet::from(["sum".parse().unwrap()]) };
    for (name, reply) in [
        ("reply-live", RegistryReply::Live { ttl: Duration::from_secs(30) }),
        ("reply-done", RegistryReply::Done),
        ("reply-found", RegistryReply::Found { agents: vec![found], total: 7 }),
        ("reply-refused", RegistryReply::Refused(refused())),
    ] {
        for (encoding, ending) in BOTH {
            let written = wire::encode_registry_reply(&reply, encoding);
            let committed = same(&format!("{name}.{ending}"), &written);
            assert_eq!(wire::decode_registry_reply(&committed).unwrap(), reply);
        }
    }
}

/// Agents alone read it.
#[test]
fn what_must_be_known_before_a_message_is_sent_is_told_as_ever() {
    let [old, new] = ["cdd01ef066bc6cf2", "0123456789abcdef"].map(|hash| hash.parse().unwrap());
    let about = wire::About {
        node: "node-1".to_owned(),
        time: AT,
        constitutions: vec![old, new],
        preferred: Some(new),
        limits: vec![("content_bytes", 65_536), ("deadline_ms", 1_000)],
    };
    let reply = RegistryReply::About(Box::new(about));
    for (encoding, ending) in BOTH {
        same(&format!("reply-about.{ending}"), &wire::encode_registry_reply(&reply, encoding));
    }
}

fn refused() -> Rejection {
    let retry_after = Some(Duration::from_millis(250));
    Rejection { retry_after, ..Rejection::new(Reason::RegistryUnavailable, "no answer") }
}

/// Reviewers' requests are written by agents alone, and replies are read by them alone.
#[test]
fn reviewers_ask_and_are_answered_as_ever() {
    let limits = Limits::default();
    let vote = wire::VoteRequest {
        id: parked().id,
        choice: Choice::Reject,
        digest: parked().digest,
        comment: "not so".to_owned(),
    };
    for (_, ending) in BOTH {
        let committed = check::read(&format!("vote.{ending}"));
        assert_eq!(wire::decode_vote(&committed, &limits).unwrap().request, vote);
        let committed = check::read(&format!("deliberations.{ending}"));
        assert_eq!(wire::decode_deliberations(&committed, &limits).unwrap().request.id, Some(parked().id));
    }
    for (encoding, ending) in BOTH {
        for (name, reply) in replies() {
            same(&format!("{name}.{ending}"), &wire::encode_review_reply(&reply, encoding));
        }
    }
}

fn replies() -> [(&'static str, ReviewReply); 4] {
    let count = wire::Count {
        approvals: 1,
        rejections: 0,
        approves: "2 of 3".to_owned(),
        denies: "2 of 3".to_owned(),
    };
    let about = wire::Docketed {
        id: parked().id,
        sender: agent("planner"),
        message_id: parked().message_id,
        message_type: MessageType::TaskRequest,
        to: Recipient::Agent(agent("worker")),
        why: parked().why,
        notes: parked().notes,
        score: Some((0.875, Level::Critical)),
        rule: RuleKind::SuperMajority,
        count: count.clone(),
        escalated: true,
        parked_at: AT,
        escalate_at: parked().escalate_at,
        deadline: parked().deadline,
        digest: parked().digest,
        voted: Some(Choice::Approve),
        may_vote: false,
    };
    let (tenant, sender) = ("acme".parse().unwrap(), agent("planner"));
    let stamp = Stamp { tenant: &tenant, sender: &sender };
    let docket = wire::Docket {
        about: about.clone(),
        message: wire::decode(Bytes::from(MESSAGE).as_ref(), stamp, &Limits::default()).unwrap(),
        impact: parked().impact,
        voters: parked().voters,
        stand_ins: parked().stand_ins,
        votes: vec![Vote {
            voter: agent("judge"),
            choice: Choice::Approve,
            comment: "yes".to_owned(),
            at: AT,
        }],
        decision: Some(wire::Decided {
            judgement: Judgement::Approved,
            at: AT,
            detail: "approved".to_owned(),
        }),
        conclusion: Some(wire::Concluded {
            reason: "delivered".to_owned(),
            at: AT,
            detail: "handed to worker".to_owned(),
        }),
    };
    [
        ("review-list", ReviewReply::List { listed: vec![about], total: 9 }),
        ("review-show", ReviewReply::Show(Box::new(docket))),
        ("review-voted", ReviewReply::Voted { judgement: Some(Judgement::Denied), count }),
        ("review-refused", ReviewReply::Refused(refused())),
    ]
}
