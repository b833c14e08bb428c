//! When do votes approve or deny? Each rule counts in a unit of its own: heads, weight or roles.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{AgentId, Choice, Judgement, Parked, RuleKind, Vote, Voter};

/// Where a deliberation stands, for people: `1 of 2 approvals`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    pub approvals: u32,
    pub rejections: u32,
    /// In the rule's own unit (heads, weight or roles), what approves and what denies.
    pub approves: String,
    pub denies: String,
}

/// What the votes come to, without regard to time. Of an open case only the last vote can have decided.
pub(super) fn judgement(parked: &Parked, votes: &[Vote]) -> Option<Judgement> {
    let (needed, count) = (Needed::of(parked), Count::of(parked, votes));
    if count.units_for >= needed.approves && count.heads_for >= parked.rule.min_approvals {
        Some(Judgement::Approved)
    } else if count.units_against >= needed.denies {
        Some(Judgement::Denied)
    } else {
        None
    }
}

pub(super) fn tally(parked: &Parked, votes: &[Vote]) -> Tally {
    let (needed, count) = (Needed::of(parked), Count::of(parked, votes));
    let approvals =
        format!("{} of {}", count.heads_for, plural(parked.rule.min_approvals.into(), "approval"));
    let besides = match parked.rule.min_approvals {
        0 | 1 => String::new(),
        _ => format!(" and {approvals}"),
    };
    let (approves, denies) = match parked.rule.kind {
        RuleKind::Quorum | RuleKind::Unanimous | RuleKind::SuperMajority => {
            let heads = needed.approves.max(parked.rule.min_approvals.into());
            (
                format!("{} of {}", count.heads_for, plural(heads, "approval")),
                format!("{} of {}", count.heads_against, plural(needed.denies, "rejection")),
            )
        }
        RuleKind::Weighted => (
            format!("weight {} of {} for it{besides}", count.units_for, needed.approves),
            format!("weight {} of {} against it", count.units_against, needed.denies),
        ),
        RuleKind::Roles => (
            format!("{} of {}{besides}", count.units_for, plural(needed.approves, "role")),
            format!("{} of {}", count.heads_against, plural(needed.denies, "rejection")),
        ),
    };
    Tally { approvals: count.heads_for, rejections: count.heads_against, approves, denies }
}

/// Whether the rule can be met if everybody approves.
pub(super) fn can_be_met(parked: &Roll<'_>) -> Result<(), String> {
    let all: Vec<&Voter> = parked.voters.values().chain(parked.stand_ins.values()).collect();
    let Roll { kind, min_approvals, distinct_roles, .. } = *parked;
    let heads = u32::try_from(all.len()).unwrap_or(u32::MAX);
    let found = format!(
        "{} and {}",
        plural(parked.voters.len() as u64, "voter"),
        plural(parked.stand_ins.len() as u64, "stand-in")
    );
    if heads == 0 {
        return Err(format!("{found} may judge it, at least 1 is expected"));
    }
    if heads < min_approvals {
        return Err(format!(
            "{found} may judge it, {} are expected",
            plural(min_approvals.into(), "approval")
        ));
    }
    if kind == RuleKind::Roles {
        let roles = distinct(all.iter().map(|voter| &voter.roles));
        if roles < distinct_roles {
            return Err(format!(
                "{found} can stand for {}, {distinct_roles} are expected",
                plural(roles.into(), "role")
            ));
        }
    }
    Ok(())
}

/// Those who may vote, and what they must come to.
pub(super) struct Roll<'a> {
    pub voters: &'a BTreeMap<AgentId, Voter>,
    pub stand_ins: &'a BTreeMap<AgentId, Voter>,
    pub kind: RuleKind,
    pub min_approvals: u32,
    pub distinct_roles: u32,
}

/// In the rule's unit. Fixed by the voters when it was parked: stand-ins change who may vote, not what
/// is needed.
struct Needed {
    approves: u64,
    denies: u64,
}

impl Needed {
    fn of(parked: &Parked) -> Needed {
        // Without any voter the stand-ins judge as one voter would.
        let heads = (parked.voters.len() as u64).max(1);
        let (all, approves) = match parked.rule.kind {
            RuleKind::Quorum => (heads, heads / 2 + 1),
            RuleKind::Unanimous => (heads, heads),
            RuleKind::SuperMajority => (heads, (2 * heads).div_ceil(3)),
            RuleKind::Weighted => {
                let weight = parked.voters.values().map(|voter| u64::from(voter.weight)).sum::<u64>().max(1);
                (weight, weight / 2 + 1)
            }
            RuleKind::Roles => {
                return Needed { approves: parked.rule.distinct_roles.into(), denies: 1 };
            }
        };
        // As many as leave too few for an approval, were all of them voters.
        Needed { approves, denies: all - approves + 1 }
    }
}

struct Count {
    heads_for: u32,
    heads_against: u32,
    /// In the rule's unit.
    units_for: u64,
    units_against: u64,
}

impl Count {
    fn of(parked: &Parked, votes: &[Vote]) -> Count {
        let mut count = Count { heads_for: 0, heads_against: 0, units_for: 0, units_against: 0 };
        for vote in votes {
            let unit = match parked.rule.kind {
                RuleKind::Weighted => voter(parked, &vote.voter).map_or(0, |voter| u64::from(voter.weight)),
                RuleKind::Quorum | RuleKind::Unanimous | RuleKind::SuperMajority | RuleKind::Roles => 1,
            };
            match vote.choice {
                Choice::Approve => {
                    count.heads_for += 1;
                    count.units_for += unit;
                }
                Choice::Reject => {
                    count.heads_against += 1;
                    count.units_against += unit;
                }
            }
        }
        if parked.rule.kind == RuleKind::Roles {
            let approvers = votes.iter().filter(|vote| vote.choice == Choice::Approve);
            let roles = approvers.filter_map(|vote| voter(parked, &vote.voter)).map(|voter| &voter.roles);
            count.units_for = distinct(roles).into();
        }
        count
    }
}

/// Somebody who may vote, from the beginning or later.
pub(super) fn voter<'a>(parked: &'a Parked, id: &AgentId) -> Option<&'a Voter> {
    parked.voters.get(id).or_else(|| parked.stand_ins.get(id))
}

/// The most roles that can be stood for, each by another person: a maximum bipartite matching, by
/// augmenting paths (Kuhn). People are told apart by their place.
fn distinct<'a>(people: impl Iterator<Item = &'a BTreeSet<String>>) -> u32 {
    let people: Vec<&BTreeSet<String>> = people.collect();
    let mut holders: BTreeMap<&str, usize> = BTreeMap::new();
    let mut matched = 0;
    for person in 0..people.len() {
        matched += u32::from(seat(person, &people, &mut holders, &mut BTreeSet::new()));
    }
    matched
}

/// Finds `person` a role, moving others to another of theirs. At most as deep as there are people.
fn seat<'a>(
    person: usize,
    people: &[&'a BTreeSet<String>],
    holders: &mut BTreeMap<&'a str, usize>,
    tried: &mut BTreeSet<&'a str>,
) -> bool {
    for role in people.get(person).into_iter().copied().flatten() {
        if !tried.insert(role) {
            continue;
        }
        let free = match holders.get(role.as_str()).copied() {
            None => true,
            Some(holder) => seat(holder, people, holders, tried),
        };
        if free {
            holders.insert(role, person);
            return true;
        }
    }
    false
}

/// `1 approval`, `2 approvals`.
pub(super) fn plural(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn stands(people: &[&[&str]], expected: u32) {
        let people: Vec<BTreeSet<String>> =
            people.iter().map(|roles| roles.iter().map(|role| (*role).to_owned()).collect()).collect();
        assert_eq!(distinct(people.iter()), expected, "{people:?}");
    }

    #[test]
    fn everybody_stands_for_one_role_at_most() {
        stands(&[], 0);
        stands(&[&[]], 0);
        stands(&[&["a", "b", "c"]], 1);
        stands(&[&["a"], &["a"]], 1);
        stands(&[&["a"], &["b"]], 2);
        // The first takes `a`, and must leave it to the second.
        stands(&[&["a", "b"], &["a"]], 2);
        stands(&[&["a", "b"], &["a", "c"], &["a"]], 3);
        stands(&[&["a", "b"], &["a", "b"], &["a", "b"]], 2);
    }
}
