//! Which parts cannot do without which, and so: of all that is not well, what is the cause?
//!
//! A part that is not well while one that it needs is not either is a consequence of that one, and is shown as such: one
//! alarm, not one for each of them.

/// Each part that needs others, with those.
const NEEDS: &[(&str, &[&str])] = &[
    ("name", &["nats"]),
    ("outbox", &["nats", "records"]),
    ("records", &["nats"]),
    ("lane", &["nats"]),
    ("tenants", &["nats"]),
    ("freezes", &["nats"]),
    ("constitutions", &["nats"]),
    ("policy", &["opa", "store"]),
    ("shadow", &["nats"]),
    ("decisions", &["nats"]),
    ("deliberations", &["nats"]),
    ("streams", &["nats"]),
    ("inboxes", &["nats"]),
    ("webhook", &["deliberations"]),
    ("thresholds", &["nats"]),
];

/// The part that `part` is not well for, of those that are not; `None`: for a reason of its own.
pub(super) fn cause_of<'a>(part: &str, ill: &[&'a str]) -> Option<&'a str> {
    let mut found = None;
    let mut at = part;
    // Each step goes to a part that needs fewer others; there are no circles, and the bound is for who makes one.
    for _ in 0..NEEDS.len() {
        let needs = NEEDS.iter().find(|(of, _)| *of == at).map_or(&[][..], |(_, needs)| needs);
        let Some(cause) = needs.iter().find_map(|need| ill.iter().find(|name| *name == need)) else { break };
        (found, at) = (Some(*cause), cause);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_from_another_part_is_told_by_the_deepest_cause() {
        let ill = ["nats", "records", "outbox", "tenants", "webhook", "deliberations", "model"];
        let causes: Vec<_> = ill.iter().map(|part| cause_of(part, &ill)).collect();
        let nats = Some("nats");
        assert_eq!(causes, [None, nats, nats, nats, nats, nats, None]);
        assert_eq!(cause_of("outbox", &["outbox", "records"]), Some("records"));
        assert_eq!(cause_of("policy", &["policy", "store"]), Some("store"));
        assert_eq!(cause_of("webhook", &["webhook", "nats"]), None, "what is between them is well");
    }

    #[test]
    fn no_part_needs_itself_through_others() {
        for (part, _) in NEEDS {
            let others: Vec<&str> = NEEDS.iter().flat_map(|(_, needs)| needs.iter().copied()).collect();
            assert_ne!(cause_of(part, &others), Some(*part));
        }
    }
}
