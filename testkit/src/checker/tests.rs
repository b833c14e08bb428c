//! A checker that never finds anything proves nothing: each kind of fault is planted once.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

fn key(message: &str) -> Key {
    Key { tenant: "acme".into(), sender: "planner".into(), message: message.into() }
}

fn submitting(message: &str, to: To, fate: Fate) -> Seen {
    Seen::Submitting { key: key(message), to, fate }
}

fn stored(message: &str) -> Seen {
    Seen::Submitted { key: key(message), status: Some(STORED.into()), reason: STORED.into() }
}

fn read(message: &str, recipient: &str, sequence: u64) -> Seen {
    let recipient = recipient.to_owned();
    Seen::Read { key: key(message), recipient, sequence, decision: "d".into(), acked: true }
}

fn outcome(message: &str, sequence: u64, status: &str, reason: &str, delivered: Option<u32>) -> Seen {
    Seen::Outcome {
        tenant: "acme".into(),
        reader: "planner".into(),
        message: message.into(),
        sequence,
        status: status.into(),
        reason: reason.into(),
        decision: "d".into(),
        delivered,
    }
}

fn delivered(message: &str, sequence: u64) -> Seen {
    outcome(message, sequence, DELIVERED, DELIVERED, Some(1))
}

fn voting(message: &str, approve: bool) -> Seen {
    Seen::Voting { key: key(message), voter: "judge".into(), approve }
}

fn recorded(message: &str, status: &str) -> Seen {
    let reason = status.to_owned();
    Seen::Recorded { key: key(message), status: status.into(), reason, decision: "d".into() }
}

/// One message of each kind, as it should be.
fn clean() -> Vec<Seen> {
    let told_judge = match delivered("parked", 41) {
        Seen::Outcome { tenant, message, sequence, status, reason, decision, delivered, .. } => {
            let reader = "judge".to_owned();
            Seen::Outcome { tenant, reader, message, sequence, status, reason, decision, delivered }
        }
        other => other,
    };
    vec![
        submitting("plain", To::One, Fate::Delivered),
        stored("plain"),
        read("plain", "worker", 1),
        // A recipient that crashed before its ack reads the same again.
        read("plain", "worker", 1),
        recorded("plain", DELIVERED),
        delivered("plain", 2),
        delivered("plain", 2),
        submitting("denied", To::One, Fate::Denied),
        stored("denied"),
        recorded("denied", "rejected"),
        outcome("denied", 3, "rejected", "policy_denied", None),
        submitting("all", To::Many, Fate::Delivered),
        stored("all"),
        read("all", "worker", 4),
        read("all", "helper", 5),
        recorded("all", DELIVERED),
        outcome("all", 6, DELIVERED, DELIVERED, Some(2)),
        submitting("parked", To::One, Fate::Approved),
        stored("parked"),
        outcome("parked", 7, DELIBERATING, DELIBERATING, None),
        voting("parked", true),
        read("parked", "worker", 8),
        recorded("parked", DELIVERED),
        delivered("parked", 9),
        told_judge,
        submitting("refused", To::One, Fate::Refused),
        stored("refused"),
        outcome("refused", 10, DELIBERATING, DELIBERATING, None),
        voting("refused", false),
        recorded("refused", "rejected"),
        outcome("refused", 11, "rejected", "deliberation_denied", None),
        submitting("dead", To::One, Fate::Delivered),
        stored("dead"),
        recorded("dead", "rejected"),
        outcome("dead", 12, "rejected", "no_capable_agent", None),
        Seen::Left { key: key("dead"), place: Place::DeadLetters },
        // Nobody answered the sender: all may have come of it, or nothing.
        submitting("unheard", To::One, Fate::Delivered),
        Seen::Submitted { key: key("unheard"), status: None, reason: "no answer".into() },
        submitting("refused at once", To::One, Fate::Delivered),
        Seen::Submitted {
            key: key("refused at once"),
            status: Some("rejected".into()),
            reason: "malformed".into(),
        },
    ]
}

/// What is found after `change` has planted something.
fn planted(change: impl FnOnce(&mut Vec<Seen>)) -> Vec<(String, What)> {
    let mut seen = clean();
    change(&mut seen);
    check(&seen, Records::Read).faults.into_iter().map(|fault| (fault.key.message, fault.what)).collect()
}

fn without(seen: &mut Vec<Seen>, line: &Seen) {
    let before = seen.len();
    seen.retain(|other| other != line);
    assert!(seen.len() < before, "not there: {line:?}");
}

fn one(message: &str, what: What) -> Vec<(String, What)> {
    vec![(message.to_owned(), what)]
}

#[test]
fn clean_books_have_no_fault() {
    let findings = check(&clean(), Records::Read);
    assert_eq!(findings.faults, []);
    assert_eq!((findings.acked, findings.lost(), findings.doubled()), (6, 0, 0));
    assert_eq!(findings.ends.get("no_capable_agent, dead letter"), Some(&1));
    assert_eq!(waiting(&clean()), 0);
    assert_eq!(acked(&clean()), 6);
}

#[test]
fn a_repeat_is_told_the_same_again_and_nothing_else() {
    let same = planted(|seen| seen.push(outcome("denied", 13, "rejected", "policy_denied", None)));
    assert_eq!(same, []);
    let told = planted(|seen| seen.push(outcome("denied", 14, "rejected", "no_reviewers", None)));
    let both = ["rejected (no_reviewers)", "rejected (policy_denied)"].map(str::to_owned);
    assert_eq!(told, one("denied", What::Contradicted { told: both.to_vec() }));
}

#[test]
fn what_was_told_in_answer_to_a_repeat_was_kept() {
    let answered = |seen: &mut Vec<Seen>| {
        without(seen, &stored("plain"));
        let status = Some(DELIVERED.to_owned());
        seen.push(Seen::Submitted { key: key("plain"), status, reason: DELIVERED.into() });
    };
    assert_eq!(planted(answered), []);
    let lost = planted(|seen| {
        answered(seen);
        without(seen, &read("plain", "worker", 1));
        without(seen, &delivered("plain", 2));
        without(seen, &recorded("plain", DELIVERED));
    });
    assert_eq!(lost, one("plain", What::Lost));
}

#[test]
fn a_message_that_came_to_nothing_is_lost() {
    let lost = planted(|seen| {
        without(seen, &read("plain", "worker", 1));
        without(seen, &delivered("plain", 2));
    });
    assert_eq!(lost, one("plain", What::Lost));
    // The outcome alone is no delivery.
    let lost = planted(|seen| without(seen, &read("plain", "worker", 1)));
    assert_eq!(lost, one("plain", What::NotDelivered { told: 1, read: 0 }));
    let unjudged = planted(|seen| {
        without(seen, &outcome("refused", 11, "rejected", "deliberation_denied", None));
    });
    assert_eq!(unjudged, one("refused", What::Lost));
    let stuck = planted(|seen| {
        without(seen, &outcome("denied", 3, "rejected", "policy_denied", None));
        seen.push(Seen::Left { key: key("denied"), place: Place::Inbound });
    });
    assert_eq!(stuck, one("denied", What::Stuck));
}

#[test]
fn a_second_copy_is_found_in_one_inbox_and_in_anothers() {
    for second in [read("plain", "worker", 99), read("plain", "helper", 99)] {
        let found = planted(|seen| seen.push(second));
        assert!(
            matches!(found.as_slice(), [(id, What::Doubled { copies })] if id == "plain" && copies.len() == 2),
            "{found:?}"
        );
    }
    let mut seen = clean();
    seen.push(read("all", "helper", 99));
    let findings = check(&seen, Records::Read);
    assert_eq!((findings.doubled(), findings.lost()), (1, 0), "{:?}", findings.faults);
    // Nobody acknowledged it, and it must not be there twice all the same.
    let unheard = planted(|seen| {
        seen.extend([read("unheard", "worker", 20), read("unheard", "worker", 21)]);
        seen.extend([recorded("unheard", DELIVERED), delivered("unheard", 22)]);
    });
    assert!(matches!(unheard.as_slice(), [(_, What::Doubled { .. })]), "{unheard:?}");
}

#[test]
fn what_was_rejected_must_not_be_delivered() {
    let found = planted(|seen| {
        seen.extend([read("dead", "worker", 30), recorded("dead", DELIVERED)]);
    });
    let recipients = vec!["worker".to_owned()];
    let rejected = |reason: &str| What::Rejected { reason: reason.into(), recipients: recipients.clone() };
    assert_eq!(found, one("dead", rejected("no_capable_agent")));
    let at_once = planted(|seen| {
        seen.extend([read("refused at once", "worker", 31), recorded("refused at once", DELIVERED)]);
    });
    assert_eq!(at_once, one("refused at once", rejected("malformed")));
}

#[test]
fn the_policy_and_the_reviewers_cannot_be_passed_by() {
    let recipients = vec!["worker".to_owned()];
    let bypassed = planted(|seen| {
        without(seen, &outcome("denied", 3, "rejected", "policy_denied", None));
        seen.extend([read("denied", "worker", 32), recorded("denied", DELIVERED), delivered("denied", 33)]);
    });
    assert_eq!(bypassed, one("denied", What::PolicyBypassed { recipients: recipients.clone() }));
    let unapproved = planted(|seen| without(seen, &voting("parked", true)));
    // Without a vote the judge's outcome is about a message that nobody has sent.
    assert!(unapproved.contains(&("parked".to_owned(), What::Unapproved { recipients })), "{unapproved:?}");
}

#[test]
fn its_sender_is_told_one_thing() {
    let untold = planted(|seen| without(seen, &delivered("plain", 2)));
    assert_eq!(untold, one("plain", What::Untold { recipients: vec!["worker".into()] }));
    let contradicted = planted(|seen| {
        seen.push(outcome("plain", 40, "rejected", "recipient_unknown", None));
        seen.push(recorded("plain", "rejected"));
    });
    let told = vec!["delivered (delivered)".into(), "rejected (recipient_unknown)".into()];
    assert_eq!(contradicted, one("plain", What::Contradicted { told }));
}

#[test]
fn every_delivery_has_a_record_and_a_sender() {
    let unrecorded = |status: &str| What::Unrecorded { status: status.into() };
    let found = planted(|seen| without(seen, &recorded("plain", DELIVERED)));
    assert_eq!(found, one("plain", unrecorded(DELIVERED)));
    let found = planted(|seen| without(seen, &recorded("refused", "rejected")));
    assert_eq!(found, one("refused", unrecorded("rejected")));
    assert_eq!(planted(|seen| seen.push(read("forged", "worker", 50))), one("forged", What::Unsent));
}

#[test]
fn a_broadcast_reaches_as_many_as_its_outcome_says() {
    let partly = planted(|seen| without(seen, &read("all", "helper", 5)));
    assert_eq!(partly, one("all", What::Partly { told: 2, read: 1 }));
    let more = planted(|seen| seen.push(read("all", "third", 51)));
    assert_eq!(more, one("all", What::Partly { told: 2, read: 3 }));
}

fn sending(message: &str, to: To) -> Seen {
    Seen::Sending { key: key(message), to, fate: Fate::Delivered }
}

fn answered(message: &str, status: &str, decision: &str, delivered: Option<u32>) -> Seen {
    let (status, decision) = (status.to_owned(), decision.to_owned());
    Seen::Answered { key: key(message), reason: status.clone(), status, decision, delivered }
}

fn received(message: &str, recipient: &str, decision: &str) -> Seen {
    let (recipient, decision) = (recipient.to_owned(), decision.to_owned());
    Seen::Received { key: key(message), tenant: "acme".into(), recipient, decision }
}

/// What is found of a message that its sender waits for.
fn live(to: To, seen: impl IntoIterator<Item = Seen>) -> Vec<What> {
    let seen: Vec<Seen> = std::iter::once(sending("m", to)).chain(seen).collect();
    check(&seen, Records::Unread).faults.into_iter().map(|fault| fault.what).collect()
}

#[test]
fn of_the_live_lane_a_clean_ledger_has_no_fault() {
    let twice = [answered("m", DELIVERED, "d", Some(1)), answered("m", DELIVERED, "d", Some(1))];
    assert_eq!(live(To::One, twice.into_iter().chain([received("m", "worker", "d")])), []);
    assert_eq!(live(To::One, [answered("m", "rejected", "d", None)]), []);
    assert_eq!(live(To::One, [answered("m", DELIBERATING, "d", None)]), [], "it waits for its reviewers");
    let all =
        [answered("m", DELIVERED, "d", Some(2)), received("m", "worker", "d"), received("m", "helper", "d")];
    assert_eq!(due(&all[..2]), 1);
    assert_eq!(due(&all), 0);
    assert_eq!(live(To::Many, all), []);
}

#[test]
fn of_the_live_lane_every_planted_fault_is_found() {
    let told = || answered("m", DELIVERED, "d", Some(1));
    let come = |decision: &str| received("m", "worker", decision);
    assert_eq!(live(To::One, [told()]), [What::NotDelivered { told: 1, read: 0 }]);
    let copies = vec!["worker for the 1. time".into(), "worker for the 2. time".into()];
    assert_eq!(live(To::One, [told(), come("d"), come("d")]), [What::Doubled { copies }]);
    assert_eq!(live(To::One, []), [What::Untold { recipients: vec![] }]);
    assert_eq!(live(To::One, [come("d")]), [What::Untold { recipients: vec!["worker".into()] }]);
    let rejected = What::Rejected { reason: "rejected".into(), recipients: vec!["worker".into()] };
    assert_eq!(live(To::One, [answered("m", "rejected", "d", None), come("d")]), [rejected]);
    let both = ["d", "e"].map(|decision| format!("delivered (delivered) by decision {decision}"));
    let differ = live(To::One, [told(), answered("m", DELIVERED, "e", Some(1)), come("d")]);
    assert_eq!(differ, [What::Contradicted { told: both.to_vec() }]);
    let other = What::OtherDecision { told: "d".into(), received: "e".into() };
    assert_eq!(live(To::One, [told(), come("e")]), [other]);
    let astray = Seen::Received {
        key: key("m"),
        tenant: "globex".into(),
        recipient: "builder".into(),
        decision: "d".into(),
    };
    let recipients = vec!["globex/builder".to_owned()];
    assert_eq!(live(To::One, [told(), astray]), [What::OtherTenant { recipients }]);
    assert_eq!(
        live(To::Many, [answered("m", DELIVERED, "d", Some(2)), come("d")]),
        [What::Partly { told: 2, read: 1 }]
    );
    assert_eq!(check(&[come("d")], Records::Unread).faults.len(), 1, "received, and never sent");
}
