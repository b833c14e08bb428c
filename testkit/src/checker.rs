//! Do the books agree, of the live lane and of the durable one? A function over what senders, recipients, reviewers
//! and the audit have seen.
//!
//! Knows nothing of the run: it takes lines and says which promises were broken, and for which message.

use std::collections::{BTreeMap, BTreeSet};

use crate::books::{Fate, Key, Place, Seen, To};

/// A promise that was broken, and the message it was broken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub key: Key,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
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
    /// In an inbox or sent to a waiting node, and its sender was never told what came of it.
    Untold { recipients: Vec<String> },
    /// Its sender was told two different things.
    Contradicted { told: Vec<String> },
    /// In an inbox under another decision than its sender was told of.
    OtherDecision { told: String, received: String },
    /// In an inbox of another tenant.
    OtherTenant { recipients: Vec<String> },
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
            What::Untold { recipients } if recipients.is_empty() => write!(f, "its sender has no verdict"),
            What::Untold { recipients } => {
                write!(f, "delivered to {}, and its sender has no outcome", recipients.join(", "))
            }
            What::OtherDecision { told, received } => {
                write!(f, "its sender was told of decision {told}, and it was delivered under {received}")
            }
            What::OtherTenant { recipients } => {
                write!(f, "delivered to another tenant: {}", recipients.join(", "))
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
pub struct Findings {
    /// Messages that the bus has said it keeps.
    pub acked: usize,
    pub faults: Vec<Fault>,
    /// How many messages had which end.
    pub ends: BTreeMap<String, usize>,
}

impl Findings {
    pub fn lost(&self) -> usize {
        self.count(|what| matches!(what, What::Lost | What::Stuck | What::NotDelivered { .. }))
    }

    pub fn doubled(&self) -> usize {
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
    /// Its sender waits for its verdict.
    live: bool,
    /// The verdicts that it got.
    answered: Vec<Told>,
    acked: bool,
    /// Its sender heard a final no.
    refused: Option<String>,
    /// What of it is in each inbox.
    read: BTreeMap<String, BTreeSet<Copy>>,
    /// The decisions that it was received under.
    decisions: BTreeSet<String>,
    /// Who has it although it is another tenant's.
    astray: BTreeSet<String>,
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
    /// Of a verdict that was waited for; asked again it is the same one.
    decision: Option<String>,
    delivered: Option<u32>,
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { status, reason, decision, delivered: _ } = self;
        match decision {
            Some(decision) => write!(f, "{status} ({reason}) by decision {decision}"),
            None => write!(f, "{status} ({reason})"),
        }
    }
}

/// A message in an inbox: at a sequence of a durable one, or so many others of it before. The same sequence read
/// again is the same copy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Copy {
    At(u64),
    After(usize),
}

impl Known {
    /// Verdicts and outcomes that nothing follows.
    fn finals(&self) -> impl Iterator<Item = &Told> {
        let told = self.answered.iter().chain(self.told.values());
        told.filter(|told| ![STORED, DELIBERATING].contains(&told.status.as_str()))
    }

    /// One more in an inbox that is not durable.
    fn receive(&mut self, recipient: String, decision: String) {
        let copies = self.read.entry(recipient).or_default();
        copies.insert(Copy::After(copies.len()));
        self.decisions.insert(decision);
    }
}

const STORED: &str = "stored";
const DELIVERED: &str = "delivered";
const DELIBERATING: &str = "deliberating";
/// Stands in a record for the id of a message that was not read.
const UNREADABLE: &str = "~";

/// Whether the books have the bus's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Records {
    /// All of them, so that what came of each message is among them.
    Read,
    Unread,
}

/// Compares the books.
pub fn check(seen: &[Seen], records: Records) -> Findings {
    let mut findings = Findings::default();
    for (key, known) in ledger(seen) {
        findings.acked += usize::from(known.acked);
        *findings.ends.entry(end(&known)).or_default() += 1;
        findings
            .faults
            .extend(faults(&known, records).into_iter().map(|what| Fault { key: key.clone(), what }));
    }
    findings
}

/// Messages that were acknowledged and whose senders wait for a last outcome.
pub fn waiting(seen: &[Seen]) -> usize {
    ledger(seen).values().filter(|known| known.acked && known.finals().next().is_none()).count()
}

/// Messages acknowledged so far.
pub fn acked(seen: &[Seen]) -> usize {
    let stored = |line: &&Seen| matches!(line, Seen::Submitted { status: Some(status), .. } if kept(status));
    seen.iter().filter(stored).count()
}

/// The bus has said that it has the message: now, or, asked again, by what came of it.
fn kept(status: &str) -> bool {
    [STORED, DELIVERED, DELIBERATING].contains(&status)
}

/// Deliveries that senders were told of and that are in nobody's inbox yet.
pub fn due(seen: &[Seen]) -> u64 {
    let due = |known: Known| {
        let told = known.finals().find(|told| told.status == DELIVERED)?;
        let read = u64::try_from(known.read.len()).unwrap_or(u64::MAX);
        Some(u64::from(told.delivered.unwrap_or(1)).saturating_sub(read))
    };
    ledger(seen).into_values().filter_map(due).sum()
}

fn ledger(seen: &[Seen]) -> BTreeMap<Key, Known> {
    let mut ledger: BTreeMap<Key, Known> = BTreeMap::new();
    for line in seen {
        match line {
            Seen::Sending { key, to, fate } => {
                let known = ledger.entry(key.clone()).or_default();
                (known.sent, known.live) = (Some((*to, *fate)), true);
            }
            Seen::Answered { key, status, reason, decision, delivered } => {
                let (status, reason, decision) = (status.clone(), reason.clone(), Some(decision.clone()));
                let told = Told { status, reason, decision, delivered: *delivered };
                ledger.entry(key.clone()).or_default().answered.push(told);
            }
            Seen::Received { key, tenant, recipient, decision } => {
                let known = ledger.entry(key.clone()).or_default();
                let recipient = match *tenant == key.tenant {
                    true => recipient.clone(),
                    false => format!("{tenant}/{recipient}"),
                };
                if *tenant != key.tenant {
                    known.astray.insert(recipient.clone());
                }
                known.receive(recipient, decision.clone());
            }
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
                read.entry(recipient.clone()).or_default().insert(Copy::At(*sequence));
            }
            Seen::Outcome { tenant, reader, message, sequence, status, reason, delivered, .. } => {
                // Voters are told as well, and of other agents' messages; a message's sender is told of its own.
                let key = Key { tenant: tenant.clone(), sender: reader.clone(), message: message.clone() };
                let (status, reason) = (status.clone(), reason.clone());
                let told = Told { status, reason, decision: None, delivered: *delivered };
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
    if !known.acked && known.answered.is_empty() {
        return "not acknowledged".to_owned();
    }
    let told = known.finals().last().map_or("no outcome", |told| told.reason.as_str());
    match known.dead {
        true => format!("{told}, dead letter"),
        false => told.to_owned(),
    }
}

fn faults(known: &Known, records: Records) -> Vec<What> {
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
    if records == Records::Read {
        faults.extend(unrecorded(known, &finals));
    }
    if !known.astray.is_empty() {
        faults.push(What::OtherTenant { recipients: known.astray.iter().cloned().collect() });
    }
    let mut different: Vec<String> = finals.iter().map(ToString::to_string).collect();
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
                _ if read == 0 && said > 0 => faults.push(What::NotDelivered { told: said, read }),
                To::Many if !agree => faults.push(What::Partly { told: said, read }),
                To::One | To::Many => {}
            }
            faults.extend(other_decision(known, told));
        }
        (Some(told), _) if delivered => {
            faults.push(What::Rejected { reason: told.reason.clone(), recipients });
        }
        (None, Some(reason)) if delivered && !known.acked => {
            faults.push(What::Rejected { reason: reason.clone(), recipients });
        }
        (None, _) if delivered || known.live && known.answered.is_empty() => {
            faults.push(What::Untold { recipients });
        }
        (None, _) if known.inbound => faults.push(What::Stuck),
        (None, _) if known.acked && !known.dead => faults.push(What::Lost),
        _ => {}
    }
    faults
}

fn unrecorded(known: &Known, finals: &[&Told]) -> Vec<What> {
    let told = finals.iter().map(|told| told.status.as_str());
    let delivered = (!known.read.is_empty()).then_some(DELIVERED);
    let to_record: BTreeSet<&str> = told.chain(delivered).collect();
    let missing = to_record.into_iter().filter(|status| !known.recorded.contains(*status));
    missing.map(|status| What::Unrecorded { status: status.to_owned() }).collect()
}

fn other_decision(known: &Known, told: &Told) -> Option<What> {
    let told = told.decision.clone()?;
    let received = known.decisions.iter().find(|decision| **decision != told)?.clone();
    Some(What::OtherDecision { told, received })
}

fn doubled(known: &Known, to: To) -> Option<What> {
    let several = known.read.values().any(|copies| copies.len() > 1);
    let astray = to == To::One && known.read.len() > 1;
    (several || astray).then(|| {
        let copy = |(recipient, copies): (&String, &BTreeSet<Copy>)| {
            let told = |copy: &Copy| match copy {
                Copy::At(sequence) => format!("{recipient} at {sequence}"),
                Copy::After(before) => format!("{recipient} for the {}. time", before + 1),
            };
            copies.iter().map(told).collect::<Vec<_>>()
        };
        What::Doubled { copies: known.read.iter().flat_map(copy).collect() }
    })
}

#[cfg(test)]
mod tests;
