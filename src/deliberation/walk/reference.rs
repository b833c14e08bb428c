//! What a log should come to, counted in another way than the rules do.

use std::collections::BTreeSet;

use super::{DEADLINE, DIGEST, Fault, PEOPLE, World};
use crate::{
    deliberation::VoteRefused,
    domain::{Choice, Event, Judgement, RuleKind, Timestamp, Vote, Voter},
};

/// What the log should come to: people are bits, voters first, then stand-ins.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Reference {
    approved: u32,
    rejected: u32,
    escalated: bool,
    decided: Option<Judgement>,
    concluded: bool,
}

impl Reference {
    fn bit(person: usize) -> u32 {
        1 << person
    }

    /// Whether the votes end it, each rule in its own words.
    pub(super) fn judgement(&self, world: &World<'_>) -> Option<Judgement> {
        let rule = &world.parked.rule;
        let voter = |person: usize| {
            let id = &world.people[person];
            world.parked.voters.get(id).or_else(|| world.parked.stand_ins.get(id)).unwrap()
        };
        let weight = |person: usize| match rule.kind {
            RuleKind::Weighted => u64::from(voter(person).weight),
            _ => 1,
        };
        let bits = |mask: u32| (0..PEOPLE).filter(move |person| mask & Self::bit(*person) != 0);
        let sum = |mask: u32| bits(mask).map(weight).sum::<u64>();
        let (yes, no) = (sum(self.approved), sum(self.rejected));
        let all = (0..world.voters).map(weight).sum::<u64>().max(1);
        let (approves, denies) = match rule.kind {
            RuleKind::Quorum | RuleKind::Weighted => (2 * yes > all, 2 * all.saturating_sub(no) <= all),
            RuleKind::Unanimous => (yes >= all, no > 0),
            RuleKind::SuperMajority => (3 * yes >= 2 * all, 3 * no > all),
            RuleKind::Roles => {
                let approvers: Vec<&Voter> = bits(self.approved).map(voter).collect();
                (most_roles(&approvers, &mut BTreeSet::new()) >= rule.distinct_roles as usize, no > 0)
            }
        };
        if approves && self.approved.count_ones() >= rule.min_approvals {
            Some(Judgement::Approved)
        } else {
            denies.then_some(Judgement::Denied)
        }
    }

    pub(super) fn with(mut self, person: usize, choice: Choice) -> Reference {
        match choice {
            Choice::Approve => self.approved |= Self::bit(person),
            Choice::Reject => self.rejected |= Self::bit(person),
        }
        self
    }

    pub(super) fn refusal(
        &self,
        world: &World<'_>,
        person: usize,
        digest: &str,
        now: u64,
    ) -> Option<VoteRefused> {
        let stands_in = (world.voters..world.voters + world.stand_ins).contains(&person);
        if let Some(judgement) = self.decided {
            Some(VoteRefused::Closed(judgement))
        } else if now >= DEADLINE {
            Some(VoteRefused::Late(Timestamp(DEADLINE)))
        } else if person == world.sender() {
            Some(VoteRefused::Own)
        } else if person >= world.voters && !(stands_in && self.escalated) {
            Some(VoteRefused::NotAVoter { later: stands_in })
        } else if self.approved & Self::bit(person) != 0 {
            Some(VoteRefused::Again(Choice::Approve))
        } else if self.rejected & Self::bit(person) != 0 {
            Some(VoteRefused::Again(Choice::Reject))
        } else if digest != DIGEST {
            let (found, parked) = (format!("{digest:?}"), DIGEST.to_owned());
            Some(VoteRefused::OtherContent { found, parked })
        } else {
            None
        }
    }

    /// What time brings: the kind of the event.
    pub(super) fn due(&self, world: &World<'_>, now: u64) -> Option<&'static str> {
        if self.decided.is_some() {
            None
        } else if now >= DEADLINE {
            Some("decided")
        } else {
            world.escalates(now, self.escalated).then_some("escalated")
        }
    }

    /// The next state of the log, or what must never be in it.
    pub(super) fn admit(
        mut self,
        world: &World<'_>,
        event: &Event,
        digest: &str,
    ) -> Result<Reference, Fault> {
        if self.concluded {
            return Err("after the conclusion".to_owned());
        }
        let voted = |state: Reference, vote: &Vote| {
            let person = world.people.iter().position(|id| *id == vote.voter).unwrap();
            match state.refusal(world, person, digest, vote.at.0) {
                Some(refusal) => Err(format!("counted, although {refusal}")),
                None => Ok(state.with(person, vote.choice)),
            }
        };
        match event {
            Event::Parked(_) => return Err("parked twice".to_owned()),
            Event::Vote(vote) => {
                self = voted(self, vote)?;
                if let Some(missed) = self.judgement(world) {
                    return Err(format!("not decided, although {}", missed.as_str()));
                }
            }
            Event::Escalated { at } => {
                if self.due(world, at.0) != Some("escalated") {
                    return Err("escalated out of time".to_owned());
                }
                self.escalated = true;
            }
            Event::Decided { judgement, at, vote, .. } => {
                if self.decided.is_some() {
                    return Err("decided twice".to_owned());
                }
                let expected = match vote {
                    Some(vote) => {
                        self = voted(self, vote)?;
                        self.judgement(world)
                    }
                    None => (at.0 >= DEADLINE).then_some(Judgement::Expired),
                };
                if expected != Some(*judgement) {
                    return Err(format!("decided {}, expected {expected:?}", judgement.as_str()));
                }
                self.decided = expected;
            }
            Event::Concluded { .. } => {
                if self.decided.is_none() {
                    return Err("concluded undecided".to_owned());
                }
                self.concluded = true;
            }
        }
        Ok(self)
    }
}

/// By trying every role of everybody, and none.
fn most_roles<'a>(people: &[&'a Voter], taken: &mut BTreeSet<&'a str>) -> usize {
    let Some((first, others)) = people.split_first() else { return taken.len() };
    let mut most = most_roles(others, taken);
    for role in &first.roles {
        if taken.insert(role) {
            most = most.max(most_roles(others, taken));
            taken.remove(role.as_str());
        }
    }
    most
}
