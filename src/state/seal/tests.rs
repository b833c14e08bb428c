//! What is believed, what is not, and what do nodes without seals make of it?
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use super::*;

const LIFE: Duration = Duration::from_secs(600);
const DIGEST: [u8; 32] = [7; 32];
const KEY: &str = "agentbus:{acme}:msg:planner:m-1";
/// A map of one field, as a verdict is one of more: `{"a": 1}`.
const VERDICT: &[u8] = b"\x81\xa1a\x01";
const ENTRY: &[u8] = br#"{"id":"writer","capabilities":["nlp"]}"#;

fn seals(keys: &str) -> Seals {
    Seals::new(Trust { keys: Some(SealKeys::parse(keys).unwrap()), unsealed_for: Duration::ZERO })
}

fn key(letter: char) -> String {
    std::iter::repeat_n(letter, KEY_MIN).collect()
}

fn verdict() -> Subject<'static> {
    Subject::verdict(KEY, &DIGEST)
}

fn good(judged: Judged) -> bool {
    matches!(judged, Judged::Good { .. })
}

#[test]
fn a_verdict_is_believed_under_its_own_key_for_its_own_content_only() {
    let seals = seals(&key('a'));
    let sealed = seal_verdict(&seals, verdict(), VERDICT, LIFE).unwrap();
    assert_eq!(sealed.len(), VERDICT.len() + VERDICT_GROWS);
    let (opened, judged) = open_verdict(&seals, verdict(), &sealed);
    assert!(good(judged));
    assert_eq!(opened, VERDICT);
    for other in [
        Subject::verdict("agentbus:{acme}:msg:planner:m-2", &DIGEST),
        Subject::verdict("agentbus:{acme2}:msg:planner:m-1", &DIGEST),
        Subject::verdict(KEY, &[8; 32]),
        Subject::registration(KEY),
    ] {
        assert_eq!(open_verdict(&seals, other, &sealed).1, Judged::Forged, "{other:?}");
    }
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut bad = sealed.clone();
            bad[at] ^= 1 << bit;
            assert_eq!(open_verdict(&seals, verdict(), &bad).1, Judged::Forged, "bit {bit} of byte {at}");
        }
    }
    for end in 0..sealed.len() {
        assert_eq!(open_verdict(&seals, verdict(), &sealed[..end]).1, Judged::Forged);
    }
    assert_eq!(open_verdict(&seals, verdict(), VERDICT).1, Judged::Forged, "without any");
}

#[test]
fn a_registration_is_believed_of_its_own_agent_only() {
    let seals = seals(&key('a'));
    let of = Subject::registration("agentbus:{acme}:agent:writer");
    let sealed = seal_json(&seals, of, ENTRY.to_vec(), LIFE);
    let (opened, judged) = open_json(&seals, of, &sealed);
    assert!(good(judged));
    assert_eq!(opened, ENTRY);
    let other = Subject::registration("agentbus:{acme}:agent:editor");
    assert_eq!(open_json(&seals, other, &sealed).1, Judged::Forged);
    for at in 0..sealed.len() {
        let mut bad = sealed.clone();
        bad[at] ^= 1;
        assert_eq!(open_json(&seals, of, &bad).1, Judged::Forged, "byte {at}");
    }
}

#[test]
fn what_is_kept_beyond_its_time_is_not_believed() {
    let seals = seals(&key('a'));
    let key = seals.keys.as_ref().and_then(|keys| keys.keys.first()).unwrap();
    let sealed_until = |until: u64| {
        let mac = mac(key, verdict(), &[VERDICT], until).finalize().into_bytes();
        let inner = [&until.to_be_bytes()[..], &mac[..MAC_BYTES]].concat();
        let text = format!("1{}", URL_SAFE_NO_PAD.encode(inner));
        [b"\x82\xa1a\x01".as_slice(), FIELD, text.as_bytes()].concat()
    };
    let now = wall_clock();
    assert!(good(open_verdict(&seals, verdict(), &sealed_until(now + 5_000)).1));
    assert_eq!(open_verdict(&seals, verdict(), &sealed_until(now - 1)).1, Judged::Forged);
}

#[test]
fn while_keys_are_changed_both_are_known_and_the_first_seals() {
    let (old, new) = (seals(&key('a')), seals(&key('b')));
    let both = seals(&format!("# since monday\n{}\n\n{}\n", key('b'), key('a')));
    let of_old = seal_verdict(&old, verdict(), VERDICT, LIFE).unwrap();
    let of_both = seal_verdict(&both, verdict(), VERDICT, LIFE).unwrap();
    assert!(good(open_verdict(&both, verdict(), &of_old).1));
    assert!(good(open_verdict(&both, verdict(), &of_both).1));
    assert!(good(open_verdict(&new, verdict(), &of_both).1));
    assert_eq!(open_verdict(&old, verdict(), &of_both).1, Judged::Forged);
}

#[test]
fn the_old_form_is_believed_only_for_as_long_as_is_said() {
    let keys = Some(SealKeys::parse(&key('a')).unwrap());
    let lenient = Seals::new(Trust { keys: keys.clone(), unsealed_for: LIFE });
    assert_eq!(open_verdict(&lenient, verdict(), VERDICT), (VERDICT.to_vec(), Judged::Unsealed));
    let forged = seal_verdict(&seals(&key('b')), verdict(), VERDICT, LIFE).unwrap();
    assert_eq!(open_verdict(&lenient, verdict(), &forged).1, Judged::Forged, "a bad seal is worse than none");
    assert!(lenient.leniency().is_some());
    let soon = Seals::new(Trust { keys, unsealed_for: Duration::from_secs(1) });
    assert_eq!(open_verdict(&soon, verdict(), VERDICT).1, Judged::Unsealed);
    std::thread::sleep(Duration::from_millis(1_050));
    assert_eq!(open_verdict(&soon, verdict(), VERDICT).1, Judged::Forged);
    assert_eq!(soon.leniency(), None);
}

#[test]
fn a_node_without_keys_reads_what_has_a_seal() {
    let none = Seals::new(Trust::default());
    let sealed = seal_verdict(&seals(&key('a')), verdict(), VERDICT, LIFE).unwrap();
    assert_eq!(open_verdict(&none, verdict(), &sealed), (VERDICT.to_vec(), Judged::Unsealed));
    assert_eq!(seal_verdict(&none, verdict(), VERDICT, LIFE).unwrap(), VERDICT);
    assert!(none.leniency().is_some());
}

#[test]
fn what_is_no_map_keeps_its_bytes_and_a_full_map_is_refused() {
    let seals = seals(&key('a'));
    for value in [b"".as_slice(), b"verdict", b"\xde\x00\x01\xa1a\x01", b"{}"] {
        let sealed = seal_verdict(&seals, verdict(), value, LIFE).unwrap();
        let (opened, judged) = open_verdict(&seals, verdict(), &sealed);
        assert!(good(judged));
        assert_eq!(opened, value);
    }
    assert_eq!(seal_verdict(&seals, verdict(), &[MAP_FULL, 1, 1], LIFE), None);
}

/// What is stored must be read by the next version, and what this one reads was written by the last.
#[test]
fn the_stored_forms_are_these() {
    let seals = seals(&key('a'));
    let until = 4_000_000_000_000;
    let first = seals.keys.as_ref().and_then(|keys| keys.keys.first()).unwrap();
    let text = |of: Subject<'_>, value: &[u8]| {
        let mac = mac(first, of, &[value], until).finalize().into_bytes();
        format!("1{}", URL_SAFE_NO_PAD.encode([&until.to_be_bytes()[..], &mac[..MAC_BYTES]].concat()))
    };
    let registration = Subject::registration("agentbus:{acme}:agent:writer");
    assert_eq!(text(verdict(), VERDICT), GOLDEN_VERDICT);
    assert_eq!(text(registration, ENTRY), GOLDEN_REGISTRATION);
    let stored = [b"\x82\xa1a\x01\xa4seal\xd9\x21".as_slice(), GOLDEN_VERDICT.as_bytes()].concat();
    assert_eq!(open_verdict(&seals, verdict(), &stored), (VERDICT.to_vec(), Judged::Good { until }));
    let stored = format!(r#"{{"id":"writer","capabilities":["nlp"],"seal":"{GOLDEN_REGISTRATION}"}}"#);
    assert_eq!(open_json(&seals, registration, stored.as_bytes()), (ENTRY.to_vec(), Judged::Good { until }));
}

/// Made by another implementation of HMAC-SHA256.
const GOLDEN_VERDICT: &str = "1AAADo1KUQAA-f81dyUxv9de5OhxPFvtC";
const GOLDEN_REGISTRATION: &str = "1AAADo1KUQABw0a2LAawVVy2dED1yI8YR";

#[test]
fn what_is_wrong_with_keys_is_told_without_them() {
    let good = key('h');
    for (text, problem) in [
        (String::new(), "found no key"),
        ("# nothing\n".to_owned(), "found no key"),
        ("hunter2".to_owned(), "line 1 has 7 characters"),
        (format!("\n{good} {good}"), "line 2 has a character"),
        ("h".repeat(257), "line 1 has 257 characters"),
        (format!("{good}\n").repeat(4), "found 4 keys"),
    ] {
        let told = SealKeys::parse(&text).unwrap_err();
        assert!(told.contains(problem), "{text:?}: {told}");
        assert!(!told.contains('h') || !told.contains("hunter2"), "{told}");
    }
    assert_eq!(format!("{:?}", SealKeys::parse(&good).unwrap()), "SealKeys { keys: 1, .. }");
}
