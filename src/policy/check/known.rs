//! Which words mean something to the bus? Read off the modules that ship, and the tenants.

use std::collections::BTreeSet;

use crate::{
    domain::{MessageType, Tenant},
    policy::{
        sources::SHIPPED,
        tokens::{texts_of, tokens},
    },
};

/// Roles, tools and people.
pub(super) struct Known {
    pub(super) roles: BTreeSet<String>,
    pub(super) tools: BTreeSet<String>,
    /// Of the tenants file, if there is one.
    pub(super) people: Option<People>,
}

pub(super) struct People {
    pub(super) tenants: BTreeSet<String>,
    pub(super) agents: BTreeSet<String>,
}

impl Known {
    /// What ships, and what these tenants have.
    pub(super) fn of(tenants: Option<&[Tenant]>) -> Self {
        let module =
            |name: &str| SHIPPED.iter().find(|(file, _)| file.ends_with(name)).map_or("", |(_, text)| text);
        let (roles, tools) = (tokens(module("/roles.rego")), tokens(module("/tools.rego")));
        let owned = |words: Vec<&str>| words.into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
        // Keys of the table are roles, and its values types or tools.
        let types: BTreeSet<&str> = MessageType::WORDS.iter().copied().collect();
        let mut roles = owned(texts_of(&roles, "granted"));
        roles.retain(|role| !types.contains(role.as_str()));
        let mut tools = owned([texts_of(&tools, "granted"), texts_of(&tools, "everyone")].concat());
        tools.retain(|tool| !roles.contains(tool));
        let people = tenants.map(|tenants| {
            let agents = || tenants.iter().flat_map(|tenant| &tenant.agents);
            roles.extend(agents().flat_map(|(_, grant)| grant.roles.iter().cloned()));
            People {
                tenants: tenants.iter().map(|tenant| tenant.id.to_string()).collect(),
                agents: agents().map(|(id, _)| id.to_string()).collect(),
            }
        });
        Self { roles, tools, people }
    }
}
