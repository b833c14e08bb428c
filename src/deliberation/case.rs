//! What the events of a deliberation add up to, and which may come next.

use std::time::{Duration, SystemTime};

use super::rules::{self, Tally};
use crate::domain::{
    AgentId, Approval, Approver, Choice, Event, Judgement, Parked, Reason, Timestamp, Vote, id::shown,
};

/// Bytes of a vote's comment.
pub const COMMENT_BYTES_MAX: usize = 512;
/// Voters that a decision's sentence names.
const NAMES_MAX: usize = 8;

/// A deliberation as its log says it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    pub parked: Parked,
    /// Those that counted, in order.
    pub votes: Vec<Vote>,
    pub escalated_at: Option<Timestamp>,
    pub decision: Option<Decision>,
    pub conclusion: Option<Conclusion>,
    /// The stream's sequence of the last event: what an append must find.
    pub version: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    pub judgement: Judgement,
    pub at: Timestamp,
    pub detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conclusion {
    pub at: Timestamp,
    pub reason: String,
    pub decision_id: String,
    pub detail: String,
}

/// A log that no run of the rules can have written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("event {position} of the log, {kind}: {why}")]
pub struct ReplayError {
    /// From 1.
    pub position: usize,
    pub kind: &'static str,
    pub why: &'static str,
}

/// Why a vote does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VoteRefused {
    #[error("it is decided: {}", .0.as_str())]
    Closed(Judgement),
    #[error("its time was over at {}", moment(*.0))]
    Late(Timestamp),
    #[error("the sender does not judge their own message")]
    Own,
    #[error("not among its voters{}", if *later { " until it is escalated" } else { "" })]
    /// `later`: a stand-in, who may vote once it is escalated.
    NotAVoter { later: bool },
    #[error("voted before: {}", word(*.0))]
    Again(Choice),
    #[error("the vote names content {found}, and what was parked is {parked}")]
    OtherContent { found: String, parked: String },
}

impl VoteRefused {
    pub fn reason(&self) -> Reason {
        match self {
            VoteRefused::Closed(_) | VoteRefused::Late(_) => Reason::DeliberationClosed,
            VoteRefused::Own => Reason::SelfVote,
            VoteRefused::NotAVoter { .. } => Reason::NotAVoter,
            VoteRefused::Again(_) => Reason::AlreadyVoted,
            VoteRefused::OtherContent { .. } => Reason::DigestMismatch,
        }
    }
}

impl Case {
    /// Adds up a log: sequence and event, in order. `None` for an empty one.
    pub fn replay(events: impl IntoIterator<Item = (u64, Event)>) -> Result<Option<Case>, ReplayError> {
        let mut case: Option<Case> = None;
        for (position, (sequence, event)) in (1..).zip(events) {
            let kind = event.kind();
            let added = match (&mut case, event) {
                (None, Event::Parked(parked)) => {
                    case = Some(Case::begin(*parked, sequence));
                    Ok(())
                }
                (None, _) => Err("nothing is parked yet"),
                (Some(case), event) => case.add(sequence, event),
            };
            added.map_err(|why| ReplayError { position, kind, why })?;
        }
        Ok(case)
    }

    fn begin(parked: Parked, version: u64) -> Case {
        Case { parked, votes: Vec::new(), escalated_at: None, decision: None, conclusion: None, version }
    }

    /// Adds the next event, if a run of the rules can have written it.
    pub(super) fn add(&mut self, sequence: u64, event: Event) -> Result<(), &'static str> {
        if sequence <= self.version {
            return Err("its sequence is not above that of the event before");
        }
        if self.conclusion.is_some() {
            return Err("it was concluded before");
        }
        if self.decision.is_some() && !matches!(event, Event::Concluded { .. }) {
            return Err("it was decided before");
        }
        match event {
            Event::Parked(_) => return Err("it was parked before"),
            Event::Vote(vote) => {
                self.count(vote)?;
                if rules::judgement(&self.parked, &self.votes).is_some() {
                    return Err("the vote decides, and the event does not");
                }
            }
            Event::Escalated { at } => {
                let early = self.escalates_at().is_none_or(|due| at < due);
                if early || at >= self.parked.deadline {
                    return Err("it was not to be escalated then");
                }
                self.escalated_at = Some(at);
            }
            Event::Decided { judgement, at, detail, vote } => {
                match (judgement, vote) {
                    (Judgement::Expired, None) if at >= self.parked.deadline => {}
                    (Judgement::Expired, None) => return Err("its time was not over"),
                    (Judgement::Expired, Some(_)) => return Err("it expires by a vote"),
                    (Judgement::Approved | Judgement::Denied, None) => return Err("no vote decides it"),
                    (Judgement::Approved | Judgement::Denied, Some(vote)) => {
                        if at != vote.at {
                            return Err("it was decided at another time than its vote");
                        }
                        self.count(vote)?;
                        if rules::judgement(&self.parked, &self.votes) != Some(judgement) {
                            return Err("the votes do not bear it out");
                        }
                    }
                }
                self.decision = Some(Decision { judgement, at, detail });
            }
            Event::Concluded { at, reason, decision_id, detail } => {
                if self.decision.is_none() {
                    return Err("it is not decided yet");
                }
                self.conclusion = Some(Conclusion { at, reason, decision_id, detail });
            }
        }
        self.version = sequence;
        Ok(())
    }

    fn count(&mut self, vote: Vote) -> Result<(), &'static str> {
        if vote.comment.len() > COMMENT_BYTES_MAX {
            return Err("its comment is longer than a comment may be");
        }
        self.may_vote(&vote.voter, vote.at).map_err(|refused| match refused {
            VoteRefused::Closed(_) => "it was decided before",
            VoteRefused::Late(_) => "the vote is late",
            VoteRefused::Own => "the sender votes",
            VoteRefused::NotAVoter { .. } => "the voter may not vote",
            VoteRefused::Again(_) => "the voter voted before",
            VoteRefused::OtherContent { .. } => "the vote is for other content",
        })?;
        self.votes.push(vote);
        Ok(())
    }

    /// Whether a vote of theirs would count now.
    pub fn may_vote(&self, voter: &AgentId, now: Timestamp) -> Result<(), VoteRefused> {
        if let Some(decision) = &self.decision {
            return Err(VoteRefused::Closed(decision.judgement));
        }
        if now >= self.parked.deadline {
            return Err(VoteRefused::Late(self.parked.deadline));
        }
        if *voter == self.parked.sender {
            return Err(VoteRefused::Own);
        }
        if !self.parked.voters.contains_key(voter) {
            let stands_in = self.parked.stand_ins.contains_key(voter);
            if !stands_in || self.escalated_at.is_none() {
                return Err(VoteRefused::NotAVoter { later: stands_in });
            }
        }
        match self.votes.iter().find(|vote| vote.voter == *voter) {
            Some(before) => Err(VoteRefused::Again(before.choice)),
            None => Ok(()),
        }
    }

    /// The event of this vote: a vote, or with it the decision. `digest` is what the voter names. A
    /// comment is cut to [`COMMENT_BYTES_MAX`].
    pub fn vote(
        &self,
        voter: &AgentId,
        choice: Choice,
        digest: &str,
        comment: &str,
        now: Timestamp,
    ) -> Result<Event, VoteRefused> {
        self.may_vote(voter, now)?;
        if digest != self.parked.digest {
            return Err(VoteRefused::OtherContent {
                found: shown(digest),
                parked: self.parked.digest.clone(),
            });
        }
        let vote = Vote { voter: voter.clone(), choice, comment: cut(comment).to_owned(), at: now };
        let mut votes = self.votes.clone();
        votes.push(vote.clone());
        Ok(match rules::judgement(&self.parked, &votes) {
            None => Event::Vote(vote),
            Some(judgement) => Event::Decided {
                judgement,
                at: now,
                detail: match judgement {
                    Judgement::Approved => format!("approved by {}", names(&votes, Choice::Approve)),
                    Judgement::Denied | Judgement::Expired => {
                        format!("denied: {} rejected it", names(&votes, Choice::Reject))
                    }
                },
                vote: Some(vote),
            },
        })
    }

    /// The event that time brings: expired, or escalated. `None`: nothing yet.
    pub fn tick(&self, now: Timestamp) -> Option<Event> {
        if self.decision.is_some() {
            return None;
        }
        if now >= self.parked.deadline {
            return Some(Event::Decided {
                judgement: Judgement::Expired,
                at: now,
                detail: format!(
                    "nobody decided within {}: {}",
                    span(self.parked.deadline.0.saturating_sub(self.parked.parked_at.0)),
                    self.tally().approves
                ),
                vote: None,
            });
        }
        self.escalates_at().filter(|due| now >= *due).map(|_| Event::Escalated { at: now })
    }

    /// When [`Case::tick`] will bring something. `None`: it is decided.
    pub fn due(&self) -> Option<Timestamp> {
        let deadline = self.decision.is_none().then_some(self.parked.deadline)?;
        Some(self.escalates_at().map_or(deadline, |due| due.min(deadline)))
    }

    /// At once if there is nobody else to judge it. `None`: never, or it is already.
    fn escalates_at(&self) -> Option<Timestamp> {
        if self.escalated_at.is_some() || self.parked.stand_ins.is_empty() {
            return None;
        }
        match self.parked.voters.is_empty() {
            true => Some(self.parked.parked_at),
            false => self.parked.escalate_at,
        }
    }

    /// What the policy is told, once it is approved.
    pub fn approval(&self) -> Option<Approval> {
        let decision = self.decision.as_ref()?;
        if decision.judgement != Judgement::Approved {
            return None;
        }
        let approvals = self.votes.iter().filter(|vote| vote.choice == Choice::Approve);
        Some(Approval {
            deliberation: self.parked.id.clone(),
            rule: self.parked.rule.kind,
            approvals: approvals
                .filter_map(|vote| {
                    let roles = rules::voter(&self.parked, &vote.voter)?.roles.clone();
                    Some(Approver { id: vote.voter.clone(), roles })
                })
                .collect(),
            escalated: self.escalated_at.is_some(),
        })
    }

    pub fn tally(&self) -> Tally {
        rules::tally(&self.parked, &self.votes)
    }
}

/// `judge`, `judge and steward`, `a, b and c`, at most [`NAMES_MAX`] of them by name.
fn names(votes: &[Vote], choice: Choice) -> String {
    let mut names: Vec<String> =
        votes.iter().filter(|vote| vote.choice == choice).map(|vote| vote.voter.to_string()).collect();
    if names.len() > NAMES_MAX {
        let more = names.len() - NAMES_MAX;
        names.truncate(NAMES_MAX);
        names.push(format!("{more} more"));
    }
    match names.split_last() {
        Some((last, others)) if !others.is_empty() => format!("{} and {last}", others.join(", ")),
        Some((only, _)) => only.clone(),
        None => "nobody".to_owned(),
    }
}

/// `24 h`, `1 h 30 min`, `2 s`; milliseconds only where there are some.
fn span(millis: u64) -> String {
    let units = [
        (millis / 3_600_000, "h"),
        (millis / 60_000 % 60, "min"),
        (millis / 1_000 % 60, "s"),
        (millis % 1_000, "ms"),
    ];
    let parts: Vec<String> =
        units.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count} {unit}")).collect();
    match parts.is_empty() {
        true => "0 s".to_owned(),
        false => parts.join(" "),
    }
}

/// RFC 3339 in UTC, to the second.
fn moment(at: Timestamp) -> String {
    /// The last one that the format has, in the year 9999.
    const LAST_MILLIS: u64 = 253_402_300_799_000;
    let since = Duration::from_millis(at.0.min(LAST_MILLIS));
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}

/// At the last character that fits.
fn cut(comment: &str) -> &str {
    let mut end = comment.len().min(COMMENT_BYTES_MAX);
    while !comment.is_char_boundary(end) {
        end -= 1;
    }
    comment.get(..end).unwrap_or_default()
}

fn word(choice: Choice) -> &'static str {
    match choice {
        Choice::Approve => "approve",
        Choice::Reject => "reject",
    }
}

#[cfg(test)]
mod tests;
