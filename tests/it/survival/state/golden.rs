//! Is what stands in Redis written and read as nodes of other versions do? The bytes are in
//! `tests/golden/forms`; what differs each time (tokens, times, seals) is held to be the committed one.

use std::{
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agentbus::{
    domain::{Cause, DecisionId, Encoding, MessageId},
    state::{
        Causes as _, Claim, Count, Counted, Followed, HandedBack, Idempotency as _, Known, Lifetimes, Name,
        Registry as _, Seen, SenderHistoryStore as _, SharedAnswers as _, Trust,
    },
    wire,
};

use super::{DIGEST, Node, Server, agent, capability, forged::quoted, message, sealed_by, tenant};
use crate::survival::golden::{
    check::{read, same},
    verdict,
};

const KEY: &str = "agentbus:{acme}:msg:planner:m-1";
const AGENT: &str = "agentbus:{acme}:agent:worker";
const PAST: &str = "agentbus:{acme}:past:planner";
const LIFE: Lifetimes = Lifetimes {
    agent: Duration::from_secs(30),
    window: Duration::from_secs(600),
    lease: Duration::from_secs(2),
};
/// Where the digest of a claim ends, and its token.
const TOKEN: Range<usize> = 33..41;
/// Milliseconds since 1970, at the end of a claim that a script has made.
const LEASE_END_BYTES: usize = 13;
/// A seal, at the end of what is sealed but for `"}` in JSON.
const SEAL_BYTES: usize = 33;

async fn node(server: &Server, trust: Trust) -> Node {
    let node = Node::start_with(server, |settings| {
        settings.lifetimes = LIFE;
        settings.trust = trust;
    });
    assert!(node.store.ready(super::SOON).await);
    node
}

/// As a node of the last version stored it, believed for as long as the update takes.
fn lenient() -> Trust {
    Trust { unsealed_for: Duration::from_secs(60), ..sealed_by('a') }
}

fn get(server: &Server, key: &str) -> Vec<u8> {
    let answer = server.tell_bytes(&format!("GET {key}"));
    let line = answer.iter().position(|byte| *byte == b'\n').unwrap();
    answer[line + 1..answer.len() - 2].to_vec()
}

fn set(server: &Server, key: &str, value: &[u8]) {
    let told = server.tell(&format!("SET {key} {} PX 600000", quoted(value)));
    assert!(told.starts_with("+OK"), "{told}");
}

/// What is written, but with the committed bytes in these places.
fn but_for(mut written: Vec<u8>, form: &str, places: Range<usize>) -> Vec<u8> {
    let committed = read(form);
    assert_eq!(written.len(), committed.len(), "{}", written.escape_ascii());
    written[places.clone()].copy_from_slice(&committed[places]);
    written
}

#[tokio::test]
async fn a_claim_is_written_and_read_as_ever_with_and_without_the_name_of_a_decision() {
    let server = Server::start();
    let node = node(&server, sealed_by('a')).await;
    let named = DecisionId::new(0x5f3a, 7, 12);
    for (form, decision) in [("redis-claim", None), ("redis-claim-named", Some(&named))] {
        let claim = async || node.store.claim(&message("m-1"), &DIGEST, decision).await.unwrap();
        server.tell(&format!("DEL {KEY}"));
        assert!(matches!(claim().await, Claim::Mine { .. }));
        let (fresh, taken) = (format!("{form}.hex"), format!("{form}-taken-over.hex"));
        let first = same(&fresh, &but_for(get(&server, KEY), &fresh, TOKEN));
        set(&server, KEY, &first);
        assert!(matches!(claim().await, Claim::Pending { lease_left } if lease_left <= LIFE.lease));

        // The lease of this one is over for long.
        let again = read(&taken);
        set(&server, KEY, &again);
        let answer = claim().await;
        assert!(
            matches!(&answer, Claim::TakenOver { first, .. } if first.as_ref() == decision),
            "{answer:?}"
        );
        let (written, digits) = (get(&server, KEY), again.len() - LEASE_END_BYTES..again.len());
        let written = but_for(but_for(written, &taken, TOKEN), &taken, digits);
        same(&taken, &written);
        assert!(matches!(claim().await, Claim::Pending { .. }));
    }
}

#[tokio::test]
async fn a_verdict_is_settled_and_read_as_ever() {
    let server = Server::start();
    let sealing = node(&server, sealed_by('a')).await;
    let told = wire::encode_verdict(&verdict(), Encoding::MessagePack);
    let settled = Claim::Settled { verdict: told.clone() };
    let store = &sealing.store;
    let Claim::Mine { token } = store.claim(&message("m-1"), &DIGEST, None).await.unwrap() else { panic!() };
    store.settle(&message("m-1"), &DIGEST, token, &told, Duration::ZERO).await.unwrap();
    let written = get(&server, KEY);
    let seal = written.len() - SEAL_BYTES..written.len();
    let sealed = same("redis-verdict.hex", &but_for(written, "redis-verdict.hex", seal));
    set(&server, KEY, &sealed);
    assert_eq!(store.claim(&message("m-1"), &DIGEST, None).await.unwrap(), settled);

    set(&server, KEY, &read("redis-verdict-unsealed.hex"));
    assert_eq!(store.claim(&message("m-1"), &DIGEST, None).await.unwrap(), Claim::Doubtful);
    for trust in [lenient(), Trust::default()] {
        let node = node(&server, trust).await;
        assert_eq!(node.store.claim(&message("m-1"), &DIGEST, None).await.unwrap(), settled);
    }
}

#[tokio::test]
async fn a_verdict_on_record_is_settled_by_one_command_in_the_same_bytes_and_for_as_long() {
    let server = Server::start();
    let Node { store, .. } = &node(&server, sealed_by('a')).await;
    let told = wire::encode_verdict(&verdict(), Encoding::MessagePack);
    // Until the fast lane's connection is there, fred is asked.
    super::eventually(async || {
        server.tell(&format!("DEL {KEY}"));
        server.tell("CONFIG RESETSTAT");
        let Claim::Mine { token } = store.claim(&message("m-1"), &DIGEST, None).await.unwrap() else {
            panic!()
        };
        store.settle_recorded(&message("m-1"), &DIGEST, token, &told).await.unwrap();
        !server.tell("INFO commandstats").contains("cmdstat_evalsha")
    })
    .await;
    let written = get(&server, KEY);
    let seal = written.len() - SEAL_BYTES..written.len();
    same("redis-verdict.hex", &but_for(written, "redis-verdict.hex", seal));
    let left: u128 = server.tell(&format!("PTTL {KEY}")).trim()[1..].parse().unwrap();
    assert!(left > 0 && left <= LIFE.window.as_millis(), "{left} ms");
    let settled = Claim::Settled { verdict: told };
    assert_eq!(store.claim(&message("m-1"), &DIGEST, None).await.unwrap(), settled);
}

#[tokio::test]
async fn a_registration_is_written_and_read_as_ever() {
    let server = Server::start();
    let sealing = node(&server, sealed_by('a')).await;
    let mut record = super::record("worker", &["sum", "nlp:summarise-v2"]);
    record.encoding = Some(Encoding::Json);
    record.description = "adds, \"well\"".to_owned();
    sealing.store.register(&tenant("acme"), &record, 10).await.unwrap();
    let written = get(&server, AGENT);
    let end = written.len() - 2;
    let seal = end - SEAL_BYTES..end;
    let sealed = same("redis-agent.json", &but_for(written, "redis-agent.json", seal));
    for (entry, trust) in [
        (sealed.clone(), sealed_by('a')),
        (sealed, Trust::default()),
        (read("redis-agent-unsealed.json"), lenient()),
    ] {
        set(&server, AGENT, &entry);
        let node = node(&server, trust).await;
        let found = node.store.agent(&tenant("acme"), &agent("worker")).await.unwrap();
        assert_eq!(found.as_deref(), Some(&record));
        assert!(node.store.heartbeat(&tenant("acme"), &agent("worker")).await.unwrap());
        let holders = node.store.holders(&tenant("acme"), &capability("sum")).await.unwrap();
        assert_eq!(*holders, [agent("worker")]);
    }
}

/// Seconds of the server's clock are five bytes each.
fn but_for_seconds(written: Vec<u8>, from: u64, to: u64) -> Vec<u8> {
    let second = |seconds: u64| [&[0xce][..], &u32::try_from(seconds).unwrap().to_be_bytes()].concat();
    let mut written = written;
    for at in 0..written.len().saturating_sub(4) {
        if (from..from + 60).any(|seconds| written[at..at + 5] == second(seconds)) {
            written.splice(at..at + 5, second(to));
        }
    }
    written
}

#[tokio::test]
async fn a_senders_past_and_the_names_of_keys_are_written_and_read_as_ever() {
    const COMMITTED: u64 = 1_790_000_000;
    let server = Server::start();
    let node = node(&server, sealed_by('a')).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let seen = Seen {
        teller: 0xabc,
        sequence: 3,
        messages: vec![Count { age: 0, messages: 5 }],
        scores: vec![0.25, 0.7],
        ..Seen::default()
    };
    let told = node.store.share(&tenant("acme"), &agent("planner"), &seen).await.unwrap();
    let past = same("redis-past.hex", &but_for_seconds(get(&server, PAST), now, COMMITTED));
    set(&server, PAST, &but_for_seconds(past, COMMITTED, now));
    let nothing = Seen { teller: 0xabc, ..Seen::default() };
    let read = node.store.share(&tenant("acme"), &agent("planner"), &nothing).await.unwrap();
    assert_eq!((read.applied, &read.scores), (3, &told.scores));
    assert_eq!(read.messages.iter().map(|count| count.messages).collect::<Vec<_>>(), [5]);

    node.store.claim(&message("m-1"), &DIGEST, None).await.unwrap();
    node.store.register(&tenant("acme"), &super::record("worker", &["sum"]), 10).await.unwrap();
    let answer = server.tell("KEYS *");
    // What the probe writes is read by nobody.
    let ours = |line: &&str| line.starts_with("agentbus:") && *line != "agentbus:probe";
    let mut keys: Vec<&str> = answer.lines().filter(ours).collect();
    keys.sort_unstable();
    same("redis-keys.txt", keys.join("\n").as_bytes());
}

#[tokio::test]
async fn what_led_to_a_message_is_written_and_read_as_ever() {
    const KEY: &str = "agentbus:{acme}:cause:worker:message:m-2";
    let server = Server::start();
    let node = node(&server, sealed_by('a')).await;
    let begun: Cause = "1 planner/c-1 worker:5f3a9c0d12e47b68-7-0".parse().unwrap();
    let cause = begun.followed_by(&agent("planner"), &"pXq2vYk0aZr4LfCUqfSf01".parse().unwrap());
    let id: MessageId = "m-2".parse().unwrap();
    let names =
        vec![Name::Message(id.clone()), Name::Decision("d-1".parse().unwrap()), Name::Span("1-2".to_owned())];
    let followed = Followed { recipients: vec![agent("worker")], names, cause: cause.clone() };
    node.store.follow(&tenant("acme"), &followed).await.unwrap();
    let counted =
        Counted { conversation: cause.conversation.clone(), answered: Some((agent("planner"), id.clone())) };
    node.store.count(&tenant("acme"), &counted).await.unwrap();
    set(&server, KEY, &same("redis-cause.txt", &get(&server, KEY)));
    let conversation = "worker/other".parse().unwrap();
    let handed = HandedBack { by: agent("worker"), answered: Some(id), span: None, to: None, conversation };
    let known = node.store.cause(&tenant("acme"), &handed).await.unwrap();
    assert_eq!(known, Known { cause: Some(cause), followers: 0, messages: 1 });
    let answer = server.tell("KEYS *");
    let ours = |line: &&str| line.starts_with("agentbus:{");
    let mut keys: Vec<&str> = answer.lines().filter(ours).collect();
    keys.sort_unstable();
    same("redis-cause-keys.txt", keys.join("\n").as_bytes());
}

#[tokio::test]
async fn an_answer_of_the_policy_is_written_and_read_as_ever() {
    const KEY: &str =
        "agentbus:{acme}:decision:0707070707070707070707070707070707070707070707070707070707070707";
    let server = Server::start();
    let sealing = node(&server, sealed_by('a')).await;
    let json = br#"{"allow":true,"reasons":[],"obligations":{"redact":["iban"]}}"#.to_vec();
    let life = Duration::from_secs(600);
    sealing.store.put(&tenant("acme"), &DIGEST, json.clone(), life).await.unwrap();
    let written = get(&server, KEY);
    // But for the seal and what ends the object.
    same("redis-decision.json", &written[..written.len() - SEAL_BYTES - 2]);
    let left: u128 = server.tell(&format!("PTTL {KEY}")).trim()[1..].parse().unwrap();
    assert!(left > 0 && left <= life.as_millis(), "{left} ms");
    assert_eq!(sealing.store.get(&tenant("acme"), &DIGEST).await.unwrap(), Some(json.clone()));

    // Who seals nothing neither writes nor believes one, and nobody believes one without a seal, however long others are
    // accepted so.
    let trusting = node(&server, Trust::default()).await;
    assert!(trusting.store.put(&tenant("acme"), &DIGEST, json.clone(), life).await.is_err());
    assert_eq!(trusting.store.get(&tenant("acme"), &DIGEST).await.unwrap(), None);
    set(&server, KEY, &json);
    let lenient = node(&server, lenient()).await;
    assert_eq!(lenient.store.get(&tenant("acme"), &DIGEST).await.unwrap(), None);
}
