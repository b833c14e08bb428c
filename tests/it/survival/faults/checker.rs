//! Does what senders heard agree with what recipients got? An offline check of both ledgers.

use std::collections::BTreeMap;

use agentbus::domain::{Status, Verdict};

/// What is known of one message in the end.
#[derive(Debug, Default, Clone)]
pub(super) struct Entry {
    /// Final verdicts its sender heard; several if it asked again. None: unknown outcome.
    pub(super) verdicts: Vec<Verdict>,
    /// The decision id of each delivery its recipient got.
    pub(super) receipts: Vec<String>,
}

/// By message id.
pub(super) type Ledger = BTreeMap<String, Entry>;

/// A promise that was broken, with the message it was broken for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// The sender never learned what became of it.
    Unknown { id: String },
    /// The sender heard two different stories.
    VerdictsDiffer { id: String, decisions: Vec<String> },
    /// Said to be delivered, and not received.
    Lost { id: String, decision: String },
    /// Received more than once.
    Doubled { id: String, receipts: Vec<String> },
    /// Said not to be delivered, and received.
    Denied { id: String, reason: &'static str },
    /// Received under another decision than the one the sender heard.
    OtherDecision { id: String, heard: String, received: String },
    /// Received, though nobody sent it.
    Unsent { id: String },
}

pub(super) fn check(sent: &[String], ledger: &Ledger) -> Vec<Fault> {
    let mut faults = Vec::new();
    for id in sent {
        let entry = ledger.get(id).cloned().unwrap_or_default();
        faults.extend(check_one(id, &entry));
    }
    let known: std::collections::BTreeSet<&String> = sent.iter().collect();
    let unsent = ledger.keys().filter(|id| !known.contains(id));
    faults.extend(unsent.map(|id| Fault::Unsent { id: id.clone() }));
    faults.sort();
    faults
}

fn check_one(id: &str, entry: &Entry) -> Vec<Fault> {
    let id = id.to_owned();
    let mut faults = Vec::new();
    if entry.receipts.len() > 1 {
        faults.push(Fault::Doubled { id: id.clone(), receipts: entry.receipts.clone() });
    }
    let Some(verdict) = entry.verdicts.first() else {
        faults.push(Fault::Unknown { id });
        return faults;
    };
    let differs =
        |other: &Verdict| (other.status, &other.decision_id) != (verdict.status, &verdict.decision_id);
    if entry.verdicts.iter().any(differs) {
        let decisions = entry.verdicts.iter().map(|v| v.decision_id.clone()).collect();
        faults.push(Fault::VerdictsDiffer { id: id.clone(), decisions });
    }
    match (verdict.status, entry.receipts.first()) {
        (Status::Delivered, None) => faults.push(Fault::Lost { id, decision: verdict.decision_id.clone() }),
        (Status::Delivered, Some(received)) if *received != verdict.decision_id => {
            let (heard, received) = (verdict.decision_id.clone(), received.clone());
            faults.push(Fault::OtherDecision { id, heard, received });
        }
        (Status::Rejected | Status::Shed, Some(_)) => {
            faults.push(Fault::Denied { id, reason: verdict.reason.as_str() });
        }
        _ => {}
    }
    faults
}

/// A checker that never finds anything proves nothing: each kind of fault is planted once.
mod planted {
    use agentbus::domain::Reason;

    use super::*;

    fn verdict(decision: &str, status: Status, reason: Reason) -> Verdict {
        Verdict {
            message_id: None,
            status,
            reason,
            detail: String::new(),
            retryable: reason.retryable(),
            retry_after: None,
            decision_id: decision.to_owned(),
            policy_revision: None,
            impact: None,
            reach: None,
            deliberation_id: None,
            node: "n".to_owned(),
            elapsed: std::time::Duration::ZERO,
        }
    }

    fn delivered(decision: &str) -> Verdict {
        verdict(decision, Status::Delivered, Reason::Delivered)
    }

    fn faults_of(verdicts: Vec<Verdict>, receipts: &[&str]) -> Vec<Fault> {
        let receipts = receipts.iter().map(|r| (*r).to_owned()).collect();
        let ledger = Ledger::from([("m".to_owned(), Entry { verdicts, receipts })]);
        check(&["m".to_owned()], &ledger)
    }

    #[test]
    fn the_checker_finds_every_planted_fault_and_passes_a_clean_ledger() {
        let id = || "m".to_owned();
        let rejected = || verdict("d", Status::Rejected, Reason::PolicyDenied);

        assert_eq!(faults_of(vec![delivered("d"), delivered("d")], &["d"]), []);
        assert_eq!(faults_of(vec![rejected()], &[]), []);

        let doubled = faults_of(vec![delivered("d")], &["d", "e"]);
        assert_eq!(doubled, [Fault::Doubled { id: id(), receipts: vec!["d".into(), "e".into()] }]);
        let lost = faults_of(vec![delivered("d")], &[]);
        assert_eq!(lost, [Fault::Lost { id: id(), decision: "d".into() }]);
        assert_eq!(faults_of(vec![], &[]), [Fault::Unknown { id: id() }]);
        assert_eq!(
            faults_of(vec![rejected()], &["d"]),
            [Fault::Denied { id: id(), reason: "policy_denied" }]
        );
        let differ = faults_of(vec![delivered("d"), delivered("e")], &["d"]);
        assert_eq!(differ, [Fault::VerdictsDiffer { id: id(), decisions: vec!["d".into(), "e".into()] }]);
        let other = faults_of(vec![delivered("d")], &["e"]);
        assert_eq!(other, [Fault::OtherDecision { id: id(), heard: "d".into(), received: "e".into() }]);

        let unsent = Ledger::from([("x".to_owned(), Entry { verdicts: vec![], receipts: vec!["d".into()] })]);
        assert_eq!(check(&[], &unsent), [Fault::Unsent { id: "x".into() }]);
    }
}
