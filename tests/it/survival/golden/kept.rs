//! What operators and nodes keep in JetStream beside records and deliberations: what is frozen, what was used.

use agentbus::{
    domain::{Freeze, FrozenBy, Scope},
    nats::Frozen,
    usage::Used,
};

use super::{
    AT, agent,
    check::{read, same},
};

#[test]
fn what_is_frozen_and_what_was_used_is_stored_as_it_was() {
    let tenant = || "acme".parse().unwrap();
    let scopes = [
        Scope::Everything,
        Scope::Tenant { tenant: tenant() },
        Scope::Agent { tenant: tenant(), agent: agent("planner") },
        Scope::Conversation { tenant: tenant(), conversation: "c-1".parse().unwrap() },
    ];
    let freeze = |scope| Freeze {
        scope,
        why: "loops, INC-7".to_owned(),
        at: AT,
        login: Some("root".to_owned()),
        by: None,
        cut_off: false,
    };
    let mut freezes: Vec<_> = scopes.map(freeze).into();
    let thawed = freezes.split_off(3);
    let frozen = Frozen { revision: 0, freezes, thawed, thawed_by: Some("root".to_owned()) };
    let bytes = same("freezes.json", &serde_json::to_vec(&frozen).unwrap());
    assert_eq!(serde_json::from_slice::<Frozen>(&bytes).unwrap(), frozen);

    let one = frozen.freezes.last().cloned().unwrap();
    let by_policy = Some(FrozenBy::Policy { module: "own".to_owned() });
    let freezes = vec![
        Freeze { cut_off: true, ..one.clone() },
        Freeze { by: by_policy, login: None, ..one.clone() },
        Freeze { by: Some(FrozenBy::Agent), login: None, ..one },
    ];
    let by_others = Frozen { revision: 0, freezes, thawed: Vec::new(), thawed_by: None };
    let bytes = same("freezes-by.json", &serde_json::to_vec(&by_others).unwrap());
    assert_eq!(serde_json::from_slice::<Frozen>(&bytes).unwrap(), by_others);

    let used = Used {
        messages: 9,
        bytes: 900,
        decisions: 8,
        refused: 1,
        deliveries: 7,
        stored_bytes: 600,
        deliberations: 2,
        scored: 3,
        tokens: 41,
    };
    let bytes = same("usage-tokens.json", &serde_json::to_vec(&used).unwrap());
    assert_eq!(serde_json::from_slice::<Used>(&bytes).unwrap(), used);
    assert_eq!(serde_json::from_slice::<Used>(&read("usage.json")).unwrap(), Used { tokens: 0, ..used });
    // Of a version that counted less, what it did not count is none.
    assert_eq!(
        serde_json::from_str::<Used>(r#"{"messages":9}"#).unwrap(),
        Used { messages: 9, ..Used::default() }
    );
}
