//! What reading, hashing and scoring one 512-byte message costs: `cargo bench --bench message`.
//!
//! After it, what the worst known message of each kind costs to read at the largest size, and the worst mix of them
//! that a search of half a minute finds; only these with `-- worst`.
//!
//! Prints the median and the range of several rounds in nanoseconds of the thread per message; the rounds of all
//! measurements alternate, so that a slow moment of the machine does not fall on one of them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may stop at the first surprise")]
#![allow(clippy::print_stdout, reason = "its output is a table")]

use std::{
    borrow::Cow,
    collections::BTreeSet,
    hint::black_box,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use agentbus::{
    audit::{self, Body, Decision, Facts, Party, Record},
    domain::{AgentId, Encoding, Reach, Reason, Status, Tenant, TenantId, Timestamp, Verdict},
    impact::{Assessor, Keywords, Need, Patience, Senders, Settings},
    wire::{Decoded, Limits, Stamp, decode, encode_message, encode_verdict},
};
use hmac::{Hmac, Mac as _};
use sha2::{Digest as _, Sha256};

#[path = "message/search.rs"]
mod search;
#[path = "message/worst.rs"]
mod worst;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// One measured piece of work.
type Work<'a> = Box<dyn FnMut() + 'a>;

const ROUNDS: usize = 15;
const ROUND: usize = 20_000;
const BYTES: usize = 512;

fn main() {
    if !std::env::args().any(|argument| argument == "worst") {
        of_512_bytes();
    }
    worst::print();
    search::print();
}

fn of_512_bytes() {
    let tenant: TenantId = "acme".parse().unwrap();
    let sender: AgentId = "planner".parse().unwrap();
    let stamp = Stamp { tenant: &tenant, sender: &sender };
    let limits = Limits::default();
    let msgpack = sample(stamp, Encoding::MessagePack);
    let json = sample(stamp, Encoding::Json);
    let decoded = decode(&msgpack, stamp, &limits).unwrap();
    let verdict = verdict();
    let stored = encode_verdict(&verdict, Encoding::MessagePack);
    // As `state/seal.rs` does it: the key is worked in already.
    let seal = Hmac::<Sha256>::new_from_slice(&[7; 44]).unwrap();
    let bound = [7; 2 + 8 + 48 + 8 + 32];
    let assessor =
        Assessor::new(Arc::new(Keywords), Settings::default(), Arc::new(Senders::unshared(65_536))).unwrap();
    let directory = Tenant::new(tenant.clone());
    let now = Timestamp(1_767_268_800_000);
    let keywords = || {
        let observation = ready(assessor.observe(&decoded.message, &directory, now));
        let past = observation.past();
        let impact = ready(assessor.assess(
            &decoded.message,
            &directory,
            past,
            (Need::IfItMatters, Patience::RoundTrip),
            now,
        ))
        .unwrap();
        observation.count(impact.parts.semantic);
        impact
    };

    let mut table: Vec<(&str, Work<'_>)> = vec![
        (
            "decode + canonical + hash, msgpack",
            Box::new(|| {
                black_box(decode(black_box(&msgpack), stamp, &limits).unwrap());
            }),
        ),
        (
            "decode + canonical + hash, json",
            Box::new(|| {
                black_box(decode(black_box(&json), stamp, &limits).unwrap());
            }),
        ),
        (
            "of that: sha-256 of the canonical form",
            Box::new(|| {
                black_box(Sha256::digest(black_box(&decoded.canonical)));
            }),
        ),
        (
            "encode the delivery as json",
            Box::new(|| {
                black_box(encode_message(&decoded.message, &decoded.canonical, Encoding::Json));
            }),
        ),
        (
            "encode the verdict, msgpack",
            Box::new(|| {
                black_box(encode_verdict(black_box(&verdict), Encoding::MessagePack));
            }),
        ),
        (
            "seal the verdict, hmac-sha256",
            Box::new(|| {
                let mut mac = seal.clone();
                mac.update(black_box(&bound));
                mac.update(black_box(&stored));
                black_box(mac.finalize());
            }),
        ),
        (
            "write the record, json",
            Box::new(|| {
                black_box(audit::encode(&record(&decoded, black_box(&verdict)), Encoding::Json));
            }),
        ),
        (
            "write the record, msgpack",
            Box::new(|| {
                black_box(audit::encode(&record(&decoded, black_box(&verdict)), Encoding::MessagePack));
            }),
        ),
        (
            "impact with keywords",
            Box::new(|| {
                black_box(keywords());
            }),
        ),
    ];
    let mut rounds: Vec<Vec<f64>> = table.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, run), times) in table.iter_mut().zip(&mut rounds) {
            let start = worst::on_this_thread();
            for _ in 0..ROUND {
                run();
            }
            times.push((worst::on_this_thread() - start) * 1e3 / ROUND as f64);
        }
    }
    println!("bytes: msgpack {}, json {}, canonical {}", msgpack.len(), json.len(), decoded.canonical.len());
    println!("{:<42} {:>8} {:>8} {:>8}", "ns per message", "median", "least", "most");
    for ((name, _), times) in table.iter().zip(&mut rounds) {
        times.sort_by(f64::total_cmp);
        let at = |place: usize| times.get(place).copied().unwrap_or(f64::NAN);
        println!("{name:<42} {:>8.0} {:>8.0} {:>8.0}", at(ROUNDS / 2), at(0), at(ROUNDS - 1));
    }
}

/// A task request of all usual fields, its text as long as it takes to fill 512 bytes.
fn sample(stamp: Stamp<'_>, encoding: Encoding) -> Vec<u8> {
    let body = |text: &str| {
        format!(
            r#"{{"message_id":"01JGF3Z8Q4-0001","conversation_id":"01JGF3Z8Q4","message_type":"task_request",
            "to":{{"agent":"worker"}},"priority":"normal","constitutional_hash":"cdd01ef066bc6cf2",
            "content":{{"task":"summarise","text":"{text}","pages":[1,2,3],"options":{{"length":120,"quality":0.8}}}},
            "tools":["read"],"created_at":1767268800000,"expires_at":1767268860000}}"#
        )
    };
    let words = "Please read the minutes of the last meeting and say what was agreed upon by whom. ";
    let written = |length: usize| {
        let text: String = words.chars().cycle().take(length).collect();
        let decoded = decode(body(&text).as_bytes(), stamp, &Limits::default()).unwrap();
        encode_message(&decoded.message, &decoded.canonical, encoding).to_vec()
    };
    (0..BYTES).map(written).find(|bytes| bytes.len() >= BYTES).unwrap_or_else(|| written(BYTES))
}

/// Of its delivery, with what judging saw.
fn record<'a>(decoded: &'a Decoded, verdict: &'a Verdict) -> Record<'a> {
    let message = &decoded.message;
    let party = |id: &'a AgentId, role: &str| Party {
        id: Cow::Borrowed(id),
        roles: Cow::Owned(BTreeSet::from([role.to_owned()])),
        capabilities: Cow::default(),
        registered: true,
    };
    let facts = Facts {
        constitution: message.constitution,
        policy_revision: Cow::Borrowed("0123456789abcdef"),
        sender: party(&message.sender, "executive"),
        recipients: vec![party(&message.sender, "implementer")],
        recipients_total: 1,
    };
    let decision = Decision {
        sender: Cow::Borrowed(&message.sender),
        message_type: Some(message.message_type),
        digest: Some(decoded.digest),
        recipients: Cow::Borrowed(std::slice::from_ref(&message.sender)),
        verdict: Cow::Borrowed(verdict),
        facts: Some(facts),
    };
    Record::new(Timestamp(1_767_268_800_000), &message.tenant, "node-1", Body::Intent(decision))
}

fn verdict() -> Verdict {
    Verdict {
        message_id: "01JGF3Z8Q4-0001".parse().ok(),
        status: Status::Delivered,
        reason: Reason::Delivered,
        detail: "delivered to worker".to_owned(),
        retryable: false,
        retry_after: None,
        decision_id: "0123456789abcdef0123456789abcdef".to_owned(),
        policy_revision: Some("0123456789abcdef".to_owned()),
        impact: None,
        reach: Some(Reach {
            delivered: 1,
            agent: "worker".parse().ok(),
            missed: Vec::new(),
            missed_total: 0,
            durable: false,
        }),
        deliberation_id: None,
        node: "node-1".to_owned(),
        elapsed: Duration::from_micros(87),
    }
}

/// Scoring by keywords never waits, so its future is ready at once.
fn ready<T>(future: impl Future<Output = T>) -> T {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("keywords do not wait"),
    }
}
