//! Could the reviewers of a tenant decide at all? Told before the first message is refused for it.

use std::collections::{BTreeMap, BTreeSet};

use agentbus::{
    deliberation::{NoReviewers, electorate},
    domain::{AgentId, Electors, MessageType, Tenant},
    phrase::counted,
};

/// Names listed in one warning.
const NAMES_MAX: usize = 5;

/// Roles, whether a voter, whether a stand-in, and the weight.
type Kind<'a> = (&'a BTreeSet<String>, bool, bool, Option<&'a u32>);

/// One line for each kind of sender whose messages nobody could approve.
pub(super) fn warnings(tenant: &Tenant) -> Vec<String> {
    // Senders whose reviewers are found alike: of the same roles, and no reviewers themselves, or the same ones.
    let mut kinds: BTreeMap<Kind<'_>, Vec<&AgentId>> = BTreeMap::new();
    let settings = &tenant.deliberation;
    for (agent, grant) in &tenant.agents {
        let voter = settings.voters.include(agent, &grant.roles);
        let stand_in = settings.stand_ins.include(agent, &grant.roles);
        let weight = settings.weights.get(agent);
        kinds.entry((&grant.roles, voter, stand_in, weight)).or_default().push(agent);
    }
    let mut found: BTreeMap<(String, Vec<&AgentId>), Vec<MessageType>> = BTreeMap::new();
    for senders in kinds.into_values() {
        let Some(one) = senders.first() else { continue };
        for message_type in terms(tenant) {
            if let Err(NoReviewers(why)) = electorate(tenant, one, message_type, None) {
                found.entry((why, senders.clone())).or_default().push(message_type);
            }
        }
    }
    let told = |((why, senders), types): ((String, Vec<&AgentId>), Vec<MessageType>)| {
        format!(
            "warning: {}: what {} send{} ({}) would be refused with no_reviewers where it should be \
             deliberated; {why}",
            tenant.id,
            names(&senders),
            if senders.len() == 1 { "s" } else { "" },
            of_types(tenant, &types),
        )
    };
    found.into_iter().map(told).collect()
}

/// `1 voter, 2 stand-ins`.
pub(super) fn numbers(tenant: &Tenant) -> String {
    let count = |electors: &Electors| {
        tenant.agents.iter().filter(|(agent, grant)| electors.include(agent, &grant.roles)).count()
    };
    let (voters, stand_ins) = (count(&tenant.deliberation.voters), count(&tenant.deliberation.stand_ins));
    format!("{}, {}", counted(voters, "voter"), counted(stand_ins, "stand-in"))
}

/// A type with the common terms, if any has, and those with terms of their own.
fn terms(tenant: &Tenant) -> Vec<MessageType> {
    let own = &tenant.deliberation.terms_by_type;
    let common = MessageType::ALL.iter().copied().find(|message_type| !own.contains_key(message_type));
    common.into_iter().chain(own.keys().copied()).collect()
}

fn of_types(tenant: &Tenant, types: &[MessageType]) -> String {
    let own = &tenant.deliberation.terms_by_type;
    if types.len() == terms(tenant).len() {
        return "any type".to_owned();
    }
    let told = |message_type: &MessageType| match own.contains_key(message_type) {
        true => message_type.to_string(),
        false => "types without terms of their own".to_owned(),
    };
    types.iter().map(told).collect::<Vec<_>>().join(", ")
}

fn names(agents: &[&AgentId]) -> String {
    let shown: Vec<String> = agents.iter().take(NAMES_MAX).map(|agent| agent.to_string()).collect();
    let more = agents.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

    use super::*;
    use agentbus::tenants::Plan;

    fn tenant(text: &str) -> Tenant {
        Plan::parse(text).unwrap().tenants()[0].clone()
    }

    #[test]
    fn the_example_can_decide_on_everything() {
        for tenant in Plan::example().unwrap().tenants() {
            assert_eq!(warnings(tenant), Vec::<String>::new());
        }
    }

    #[test]
    fn who_nobody_could_judge_is_told_with_the_types_and_why() {
        let none = tenant("[tenants.acme.agents]\nplanner = {}\nworker = {}\n");
        let told = warnings(&none);
        assert_eq!(told.len(), 1, "{told:?}");
        let line = "warning: acme: what planner, worker send (any type) would be refused with no_reviewers";
        assert!(told[0].starts_with(line) && told[0].contains("at least 1 is expected"), "{told:?}");
        assert_eq!(numbers(&none), "0 voters, 0 stand-ins");

        let strict = tenant(
            "[tenants.acme.agents]\nplanner = {}\njudge = { roles = [\"judicial\"] }\n\
             boss = { roles = [\"controller\"] }\n\
             [tenants.acme.deliberation.terms_by_type.command]\nmin_approvals = 2\n",
        );
        let told = warnings(&strict);
        assert_eq!(told.len(), 2, "a planner has two reviewers, the others one: {told:?}");
        for who in ["boss sends (command)", "judge sends (command)"] {
            assert!(told.iter().any(|line| line.contains(who)), "{told:?}");
        }
        assert_eq!(numbers(&strict), "1 voter, 1 stand-in");
    }
}
