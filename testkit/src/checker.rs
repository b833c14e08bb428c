//! Do the books agree? A function over what senders, recipients, reviewers and the audit have seen.
//!
//! Knows nothing of the run: it takes lines and says which promises were broken, and for which message.

use std::collections::{BTreeMap, BTreeSet};

use super::books::{Fate, Key, Place, Seen, To};

/// A promise that was broken, and the message it was broken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) key: Key,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// The bus has said that it keeps it, and nothing came of it.
    Lost,
    /// It waits on the durable lane although all is over.
    Stuck,
    /// Said to be delivered, and in nobody's inbox.
    NotDelivered { told: u32, read: usize },
    /// Several times in one inbox, or in the inboxes of several although it was for one.
    Doubled { copies: Vec<String> },
    /// Said not to be delivered, and in an inbox.
    Rejected { reason: String, recipients: Vec<String> },
    /// The policy denies such messages, and it is in an inbox.
    PolicyBypassed { recipients: Vec<String> },
    /// Parked messages need an approval, and it is in an inbox without one.
    Unapproved { recipients: Vec<String> },
    /// In an inbox, and its sender was never told.
    Untold { recipients: Vec<String> },
    /// Its sender was told two different things.
    Contradicted { told: Vec<String> },
    /// In an inbox or told to its sender, and no record says so.
    Unrecorded { status: String },
    /// In an inbox or told of, and nobody has sent it.
    Unsent,
    /// A broadcast that went to others than its outcome says.
    Partly { told: u32, read: usize },
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: ", self.key)?;
        match &self.what {
            What::Lost => write!(f, "lost: acknowledged, and nothing came of it"),
            What::Stuck => write!(f, "stuck: it still waits to be governed"),
            What::NotDelivered { told, read } => {
                write!(f, "lost: said to be delivered to {told}, and read by {read}")
            }
            What::Doubled { copies } => write!(f, "doubled: {}", copies.join(", ")),
            What::Rejected { reason, recipients } => {
                write!(f, "rejected ({reason}), and delivered to {}", recipients.join(", "))
            }
            What::PolicyBypassed { recipients } => {
                write!(f, "the policy denies it, and it was delivered to {}", recipients.join(", "))
            }
            What::Unapproved { recipients } => {
                write!(f, "nobody approved it, and it was delivered to {}", recipients.join(", "))
            }
            What::Untold { recipients } => {
                write!(f, "delivered to {}, and its sender has no outcome", recipients.join(", "))
            }
            What::Contradicted { told } => write!(f, "its sender was told {}", told.join(" and ")),
            What::Unrecorded { status } => write!(f, "{status}, and no record says so"),
            What::Unsent => write!(f, "seen, and never sent"),
            What::Partly { told, read } => {
                write!(f, "a broadcast that was said to reach {told} and was read by {read}")
            }
        }
    }
}

/// What the books come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Messages that the bus has said it keeps.
    pub(crate) acked: usize,
    pub(crate) faults: Vec<Fault>,
    /// How many messages had which end.
    pub(crate) ends: BTreeMap<String, usize>,
}

impl Findings {
    pub(crate) fn lost(&self) -> usize {
        self.count(|what| matches!(what, What::Lost | What::Stuck | What::NotDelivered { .. }))
    }

    pub(crate) fn doubled(&self) -> usize {
        self.count(|what| matches!(what, What::Doubled { .. }))
    }

    fn count(&self, which: impl Fn(&What) -> bool) -> usize {
        self.faults.iter().filter(|fault| which(&fault.what)).count()
    }
}

/// What is known of one message.
#[derive(Debug, Default)]
struct Known {
    sent: Option<(To, Fate)>,
    acked: bool,
    /// Its sender heard a final no.
    refused: Option<String>,
    /// Sequences of it in each inbox.
    read: BTreeMap<String, BTreeSet<u64>>,
    /// What its sender was told, by the sequence in its inbox.
    told: BTreeMap<u64, Told>,
    approvals: usize,
    /// What records say of it.
    recorded: BTreeSet<String>,
    inbound: bool,
    dead: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Told {
    status: String,
    reason: String,
    delivered: Option<u32>,
}

impl Known {
    /// Outcomes that nothing follows.
    fn finals(&self) -> impl Iterator<Item = &Told> {
        self.told.values().filter(|told| told.status != DELIBERATING)
    }
}

const STORED: &str = "stored";
const DELIVERED: &str = "delivered";
const DELIBERATING: &str = "deliberating";
/// Stands in a record for the id of a message that was not read.
const UNREADABLE: &str = "~";

/// Compares the books.
pub(crate) fn check(seen: &[Seen]) -> Findings {
    let mut findings = Findings::default();
    for (key, known) in ledger(seen) {
        findings.acked += usize::from(known.acked);
        *findings.ends.entry(end(&known)).or_default() += 1;
        findings.faults.extend(faults(&known).into_iter().map(|what| Fault { key: key.clone(), what }));
    }
    findings
}

/// Messages that were acknowledged and whose senders wait for a last outcome.
pub(crate) fn waiting(seen: &[Seen]) -> usize {
    ledger(seen).values().filter(|known| known.acked && known.finals().next().is_none()).count()
}

/// Messages acknowledged so far.
pub(crate) fn acked(seen: &[Seen]) -> usize {
    let stored = |line: &&Seen| matches!(line, Seen::Submitted { status: Some(status), .. } if kept(status));
    seen.iter().filter(stored).count()
}

/// The bus has said that it has the message: now, or, asked again, by what came of it.
fn kept(status: &str) -> bool {
    [STORED, DELIVERED, DELIBERATING].contains(&status)
}

fn ledger(seen: &[Seen]) -> BTreeMap<Key, Known> {
    let mut ledger: BTreeMap<Key, Known> = BTreeMap::new();
    for line in seen {
        match line {
            Seen::Submitting { key, to, fate } => {
                ledger.entry(key.clone()).or_default().sent = Some((*to, *fate));
            }
            Seen::Submitted { key, status, reason } => {
                let known = ledger.entry(key.clone()).or_default();
                match status.as_deref() {
                    Some(status) if kept(status) => known.acked = true,
                    Some("rejected") => known.refused = Some(reason.clone()),
                    _ => {}
                }
            }
            Seen::Read { key, recipient, sequence, .. } => {
                let read = &mut ledger.entry(key.clone()).or_default().read;
                read.entry(recipient.clone()).or_default().insert(*sequence);
            }
            Seen::Outcome { tenant, reader, message, sequence, status, reason, delivered, .. } => {
                // Voters are told as well, and of other agents' messages; a message's sender is told of its own.
                let key = Key { tenant: tenant.clone(), sender: reader.clone(), message: message.clone() };
                let told = Told { status: status.clone(), reason: reason.clone(), delivered: *delivered };
                ledger.entry(key).or_default().told.insert(*sequence, told);
            }
            Seen::Voting { key, approve, .. } => {
                ledger.entry(key.clone()).or_default().approvals += usize::from(*approve);
            }
            // Of what was refused unread no message is known.
            Seen::Recorded { key, .. } if key.message == UNREADABLE => {}
            Seen::Recorded { key, status, .. } => {
                ledger.entry(key.clone()).or_default().recorded.insert(status.clone());
            }
            Seen::Left { key, place } => {
                let known = ledger.entry(key.clone()).or_default();
                match place {
                    Place::Inbound => known.inbound = true,
                    Place::DeadLetters => known.dead = true,
                }
            }
            Seen::Voted { .. } | Seen::Ended { .. } => {}
        }
    }
    // Of whom only verdicts were read: a voter, who was told of another's message.
    let voters: BTreeSet<Key> = voters(seen);
    ledger.retain(|key, known| known.sent.is_some() || !known.read.is_empty() || !voters.contains(key));
    ledger
}

/// What voters were told, as if it were about messages of their own.
fn voters(seen: &[Seen]) -> BTreeSet<Key> {
    let voter = |line: &Seen| match line {
        Seen::Voting { key, voter, .. } => {
            Some(Key { tenant: key.tenant.clone(), sender: voter.clone(), message: key.message.clone() })
        }
        _ => None,
    };
    seen.iter().filter_map(voter).collect()
}

fn end(known: &Known) -> String {
    if !known.acked {
        return "not acknowledged".to_owned();
    }
    let told = known.finals().last().map_or("no outcome", |told| told.reason.as_str());
    match known.dead {
        true => format!("{told}, dead letter"),
        false => told.to_owned(),
    }
}

fn faults(known: &Known) -> Vec<What> {
    let mut faults = Vec::new();
    let recipients: Vec<String> = known.read.keys().cloned().collect();
    let delivered = !recipients.is_empty();
    let Some((to, fate)) = known.sent else { return vec![What::Unsent] };

    if let Some(doubled) = doubled(known, to) {
        faults.push(doubled);
    }
    if delivered {
        match fate {
            Fate::Denied => faults.push(What::PolicyBypassed { recipients: recipients.clone() }),
            Fate::Approved | Fate::Refused if known.approvals == 0 => {
                faults.push(What::Unapproved { recipients: recipients.clone() });
            }
            Fate::Delivered | Fate::Approved | Fate::Refused => {}
        }
    }
    let finals: Vec<&Told> = known.finals().collect();
    let told = finals.iter().map(|told| told.status.as_str());
    let to_record: BTreeSet<&str> = told.chain(delivered.then_some(DELIVERED)).collect();
    for status in to_record.into_iter().filter(|status| !known.recorded.contains(*status)) {
        faults.push(What::Unrecorded { status: status.to_owned() });
    }
    let mut different: Vec<String> =
        finals.iter().map(|told| format!("{} ({})", told.status, told.reason)).collect();
    different.sort();
    different.dedup();
    if different.len() > 1 {
        faults.push(What::Contradicted { told: different });
        return faults;
    }
    match (finals.first(), &known.refused) {
        (Some(told), _) if told.status == DELIVERED => {
            let said = told.delivered.unwrap_or(1);
            let read = recipients.len();
            let agree = usize::try_from(said).is_ok_and(|said| said == read);
            match to {
                _ if read == 0 => faults.push(What::NotDelivered { told: said, read }),
                To::Many if !agree => faults.push(What::Partly { told: said, read }),
                To::One | To::Many => {}
            }
        }
        (Some(told), _) if delivered => {
            faults.push(What::Rejected { reason: told.reason.clone(), recipients });
        }
        (None, Some(reason)) if delivered && !known.acked => {
            faults.push(What::Rejected { reason: reason.clone(), recipients });
        }
        (None, _) if delivered => faults.push(What::Untold { recipients }),
        (None, _) if known.inbound => faults.push(What::Stuck),
        (None, _) if known.acked && !known.dead => faults.push(What::Lost),
        _ => {}
    }
    faults
}

fn doubled(known: &Known, to: To) -> Option<What> {
    let several = known.read.values().any(|sequences| sequences.len() > 1);
    let astray = to == To::One && known.read.len() > 1;
    (several || astray).then(|| {
        let copy = |(recipient, sequences): (&String, &BTreeSet<u64>)| {
            sequences.iter().map(|sequence| format!("{recipient} at {sequence}")).collect::<Vec<_>>()
        };
        What::Doubled { copies: known.read.iter().flat_map(copy).collect() }
    })
}

#[cfg(test)]
mod tests;
