//! Who may vote on a message, frozen when it is parked, and by which rule.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{self, Roll};
use crate::domain::{AgentId, Electors, MessageType, Rule, RuleKind, Tenant, Voter};

/// Voters of one message, and stand-ins.
pub const VOTERS_MAX: usize = 200;

/// What is written into the record of a parked message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Electorate {
    pub voters: BTreeMap<AgentId, Voter>,
    pub stand_ins: BTreeMap<AgentId, Voter>,
    pub rule: Rule,
}

/// The rule can never be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoReviewers(pub String);

/// The reviewers of a message of `sender` by the tenant's terms. `min_approvals` is what the policy
/// demands: it can raise the tenant's number, never lower it.
///
/// Where nothing is ever escalated there are no stand-ins.
pub fn electorate(
    tenant: &Tenant,
    sender: &AgentId,
    message_type: MessageType,
    min_approvals: Option<u32>,
) -> Result<Electorate, NoReviewers> {
    let settings = &tenant.deliberation;
    let terms = settings.terms(message_type);
    let rule = Rule {
        kind: terms.rule,
        min_approvals: terms.min_approvals.max(min_approvals.unwrap_or(0)),
        distinct_roles: terms.distinct_roles,
    };
    let voters = elected(tenant, sender, &settings.voters, rule.kind);
    let escalates = terms.escalate_after.is_some_and(|after| after < terms.timeout);
    let mut stand_ins = match escalates {
        true => elected(tenant, sender, &settings.stand_ins, rule.kind),
        false => BTreeMap::new(),
    };
    stand_ins.retain(|agent, _| !voters.contains_key(agent));
    for (what, found) in [("voters", voters.len()), ("stand-ins", stand_ins.len())] {
        if found > VOTERS_MAX {
            return Err(NoReviewers(format!(
                "its reviewers should decide: {found} {what} may judge it, at most {VOTERS_MAX} are expected"
            )));
        }
    }
    let roll = Roll {
        voters: &voters,
        stand_ins: &stand_ins,
        kind: rule.kind,
        min_approvals: rule.min_approvals,
        distinct_roles: rule.distinct_roles,
    };
    rules::can_be_met(&roll)
        .map_err(|why| NoReviewers(format!("its reviewers should decide, and never could: {why}")))?;
    Ok(Electorate { voters, stand_ins, rule })
}

/// Those of the directory who are named or have one of the roles, and may judge this sender.
fn elected(
    tenant: &Tenant,
    sender: &AgentId,
    electors: &Electors,
    kind: RuleKind,
) -> BTreeMap<AgentId, Voter> {
    let none = BTreeSet::new();
    let own = match tenant.deliberation.separate_roles {
        true => tenant.agents.get(sender).map_or(&none, |grant| &grant.roles),
        false => &none,
    };
    let weight = |agent: &AgentId| match kind {
        RuleKind::Weighted => tenant.deliberation.weights.get(agent).copied().unwrap_or(1),
        RuleKind::Quorum | RuleKind::Unanimous | RuleKind::SuperMajority | RuleKind::Roles => 1,
    };
    tenant
        .agents
        .iter()
        .filter(|(agent, _)| *agent != sender)
        .filter(|(agent, grant)| electors.include(agent, &grant.roles))
        .filter(|(_, grant)| own.is_disjoint(&grant.roles))
        .map(|(agent, grant)| (agent.clone(), Voter { roles: grant.roles.clone(), weight: weight(agent) }))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

    use super::*;
    use crate::{
        deliberation::Case,
        domain::{AgentGrant, Choice, Event, Judgement, Parked, Terms, Timestamp, Why},
    };

    fn id(agent: &str) -> AgentId {
        agent.parse().unwrap()
    }

    /// `planner` of role `executive` sends; `judge` and `judge2` are judicial, `boss` is a controller.
    fn acme() -> Tenant {
        let mut tenant = Tenant::new("acme".parse().unwrap());
        for (agent, roles) in [
            ("planner", &["executive"][..]),
            ("judge", &["judicial"]),
            ("judge2", &["judicial", "monitor"]),
            ("boss", &["controller"]),
            ("worker", &[]),
        ] {
            let roles = roles.iter().map(|role| (*role).to_owned()).collect();
            tenant.agents.insert(id(agent), AgentGrant { roles, ..AgentGrant::default() });
        }
        tenant
    }

    fn of(tenant: &Tenant, sender: &str, demanded: Option<u32>) -> Result<Electorate, NoReviewers> {
        electorate(tenant, &id(sender), MessageType::Command, demanded)
    }

    fn names(voters: &BTreeMap<AgentId, Voter>) -> Vec<&str> {
        voters.keys().map(AgentId::as_str).collect()
    }

    #[track_caller]
    fn nobody(tenant: &Tenant, sender: &str, demanded: Option<u32>, facts: &[&str]) {
        let NoReviewers(text) = of(tenant, sender, demanded).expect_err("has reviewers");
        for fact in facts {
            assert!(text.contains(fact), "{text:?} does not say {fact:?}");
        }
    }

    #[test]
    fn voters_have_one_of_the_roles_or_are_named() {
        let mut tenant = acme();
        let found = of(&tenant, "planner", None).unwrap();
        assert_eq!((names(&found.voters), names(&found.stand_ins)), (vec!["judge", "judge2"], vec!["boss"]));
        assert_eq!(found.rule, Rule { kind: RuleKind::Quorum, min_approvals: 1, distinct_roles: 2 });
        tenant.deliberation.voters.agents = [id("worker"), id("nobody-of-this-name")].into();
        assert_eq!(names(&of(&tenant, "planner", None).unwrap().voters), ["judge", "judge2", "worker"]);
    }

    #[test]
    fn nobody_judges_their_own_message_even_when_named() {
        let mut tenant = acme();
        tenant.deliberation.separate_roles = false;
        tenant.deliberation.voters.agents = [id("planner")].into();
        assert_eq!(names(&of(&tenant, "planner", None).unwrap().voters), ["judge", "judge2"]);
        assert_eq!(names(&of(&tenant, "judge", None).unwrap().voters), ["judge2", "planner"]);
    }

    #[test]
    fn nobody_judges_what_their_own_role_proposed() {
        let mut tenant = acme();
        nobody(&tenant, "boss", Some(3), &["2 voters and 0 stand-ins", "3 approvals"]);
        // Both judges have the sender's role: only the stand-in is left.
        let found = of(&tenant, "judge", None).unwrap();
        assert_eq!((names(&found.voters), names(&found.stand_ins)), (vec![], vec!["boss"]));
        tenant.deliberation.voters.agents = [id("judge2")].into();
        assert!(names(&of(&tenant, "judge", None).unwrap().voters).is_empty(), "named, but of its role");
        tenant.deliberation.separate_roles = false;
        assert_eq!(names(&of(&tenant, "judge", None).unwrap().voters), ["judge2"]);
    }

    #[test]
    fn a_voter_is_no_stand_in_as_well() {
        let mut tenant = acme();
        tenant.deliberation.stand_ins.agents = [id("judge"), id("worker")].into();
        assert_eq!(names(&of(&tenant, "planner", None).unwrap().stand_ins), ["boss", "worker"]);
    }

    #[test]
    fn a_policy_can_demand_more_and_never_less() {
        let mut tenant = acme();
        tenant.deliberation.terms.min_approvals = 2;
        assert_eq!(of(&tenant, "planner", Some(1)).unwrap().rule.min_approvals, 2);
        assert_eq!(of(&tenant, "planner", Some(3)).unwrap().rule.min_approvals, 3);
        nobody(&tenant, "planner", Some(4), &["2 voters and 1 stand-in ", "4 approvals"]);
    }

    #[test]
    fn weights_count_under_their_rule_only() {
        let mut tenant = acme();
        tenant.deliberation.weights = [(id("judge"), 7)].into();
        let weights = |tenant: &Tenant| -> Vec<u32> {
            of(tenant, "planner", None).unwrap().voters.values().map(|voter| voter.weight).collect()
        };
        assert_eq!(weights(&tenant), [1, 1]);
        tenant.deliberation.terms.rule = RuleKind::Weighted;
        assert_eq!(weights(&tenant), [7, 1]);
    }

    #[test]
    fn a_type_has_terms_of_its_own() {
        let mut tenant = acme();
        let terms = Terms { rule: RuleKind::Unanimous, ..Terms::default() };
        tenant.deliberation.terms_by_type = [(MessageType::Command, terms)].into();
        assert_eq!(of(&tenant, "planner", None).unwrap().rule.kind, RuleKind::Unanimous);
        let other = electorate(&tenant, &id("planner"), MessageType::Query, None).unwrap();
        assert_eq!(other.rule.kind, RuleKind::Quorum);
    }

    #[test]
    fn a_rule_that_can_never_be_met_is_told_at_once() {
        let mut tenant = acme();
        tenant.deliberation.terms.rule = RuleKind::Roles;
        tenant.deliberation.terms.distinct_roles = 3;
        assert!(of(&tenant, "planner", None).is_ok(), "judicial, monitor and controller");
        tenant.deliberation.terms.distinct_roles = 4;
        nobody(&tenant, "planner", None, &["2 voters and 1 stand-in ", "3 roles", "4 are expected"]);
        tenant.deliberation.voters = Electors::default();
        tenant.deliberation.stand_ins = Electors::default();
        nobody(&tenant, "planner", None, &["0 voters and 0 stand-ins", "at least 1"]);
    }

    #[test]
    fn where_nothing_is_escalated_nobody_stands_in() {
        let mut tenant = acme();
        for after in [None, Some(Duration::from_secs(24 * 3600))] {
            tenant.deliberation.terms.escalate_after = after;
            assert!(of(&tenant, "planner", None).unwrap().stand_ins.is_empty());
            nobody(&tenant, "judge", None, &["0 voters and 0 stand-ins"]);
        }
    }

    #[test]
    fn the_number_of_voters_is_bounded() {
        let mut tenant = acme();
        for number in 0..199 {
            let grant = AgentGrant { roles: ["judicial".to_owned()].into(), ..AgentGrant::default() };
            tenant.agents.insert(id(&format!("voter-{number}")), grant);
        }
        nobody(&tenant, "planner", None, &["201 voters", "at most 200"]);
        tenant.agents.remove(&id("judge"));
        assert_eq!(of(&tenant, "planner", None).unwrap().voters.len(), VOTERS_MAX);
    }

    /// Everybody approves, the stand-ins after the escalation. Whether that is enough.
    fn all_approve(electorate: Electorate) -> bool {
        let Electorate { voters, stand_ins, rule } = electorate;
        let people: Vec<AgentId> = voters.keys().chain(stand_ins.keys()).cloned().collect();
        let parked = Parked {
            id: "0123456789abcdef01234567".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            sender: id("sender"),
            message_id: "m".parse().unwrap(),
            message: String::new(),
            digest: String::new(),
            why: Why::Policy,
            notes: Default::default(),
            impact: None,
            policy_revision: String::new(),
            decision_id: String::new(),
            node: String::new(),
            rule,
            voters,
            stand_ins,
            parked_at: Timestamp(0),
            escalate_at: Some(Timestamp(10)),
            deadline: Timestamp(20),
            traceparent: None,
        };
        let mut case = Case::replay([(1, Event::Parked(Box::new(parked)))]).unwrap().unwrap();
        for person in &people {
            if case.decision.is_some() {
                break;
            }
            if !case.parked.voters.contains_key(person)
                && let Some(escalated) = case.tick(Timestamp(10))
            {
                case.add(case.version + 1, escalated).unwrap();
            }
            let event = case.vote(person, Choice::Approve, "", "", Timestamp(10)).unwrap();
            case.add(case.version + 1, event).unwrap();
        }
        case.decision.is_some_and(|decision| decision.judgement == Judgement::Approved)
    }

    #[test]
    fn what_is_parked_can_be_approved() {
        let mut rng = StdRng::seed_from_u64(3);
        let kinds = [
            RuleKind::Quorum,
            RuleKind::Unanimous,
            RuleKind::SuperMajority,
            RuleKind::Weighted,
            RuleKind::Roles,
        ];
        let mut parked = 0;
        for _ in 0..5_000 {
            let mut tenant = Tenant::new("acme".parse().unwrap());
            for number in 0..rng.random_range(1..9) {
                let roles = ["judicial", "controller", "x", "y"].iter().filter(|_| rng.random_bool(0.4));
                let roles = roles.map(|role| (*role).to_owned()).collect();
                let grant = AgentGrant { roles, ..AgentGrant::default() };
                tenant.agents.insert(id(&format!("a{number}")), grant);
            }
            tenant.deliberation.separate_roles = rng.random();
            tenant.deliberation.weights = [(id("a1"), rng.random_range(1..20))].into();
            tenant.deliberation.terms = Terms {
                rule: *kinds.choose(&mut rng).unwrap(),
                min_approvals: rng.random_range(1..4),
                distinct_roles: rng.random_range(1..4),
                ..Terms::default()
            };
            if let Ok(electorate) = of(&tenant, "a0", None) {
                let shown = format!("{electorate:?}");
                assert!(all_approve(electorate), "everybody approves, and it stays open: {shown}");
                parked += 1;
            }
        }
        assert!(parked > 1_000, "{parked}");
    }
}
