//! A part whose calls pass breakers: while one is open, it works with less than all.

use std::sync::Arc;

use crate::{
    breakers::{Breakers, Kind, Standing},
    health::{Health, Part, State},
    phrase::counted,
};

/// Which breakers a part's calls pass.
const BEHIND: &[(&str, Kind)] = &[
    ("store", Kind::Redis),
    ("model", Kind::Model),
    ("records", Kind::Records),
    ("lane", Kind::Jetstream),
    ("deliberations", Kind::Deliberations),
    ("webhook", Kind::Webhook),
];

/// A part as it says of itself, and as its breakers do.
pub(super) struct Behind {
    part: Arc<dyn Part>,
    kind: Kind,
    breakers: Arc<Breakers>,
}

impl Behind {
    /// The part as it is, where it has none, or tells of them itself.
    pub(super) fn of(name: &str, part: Arc<dyn Part>, breakers: &Arc<Breakers>) -> Arc<dyn Part> {
        match BEHIND.iter().find(|(behind, _)| *behind == name) {
            Some((_, kind)) => Arc::new(Self { part, kind: *kind, breakers: Arc::clone(breakers) }),
            None => part,
        }
    }
}

impl Part for Behind {
    fn health(&self) -> Option<Health> {
        let health = self.part.health()?;
        if health.state != State::Up {
            return Some(health);
        }
        Some(told(&self.breakers.open_of(Some(self.kind))).map_or(health, Health::degraded))
    }
}

/// Names no tenant: HTTP asks for no log-in.
fn told(open: &[Standing]) -> Option<String> {
    let first = open.first()?;
    let whose = match first.target.is_empty() {
        true => "its breaker is open".to_owned(),
        false => format!("the breakers of {} are open", counted(open.len(), "tenant")),
    };
    let again = match first.retry_ms {
        Some(ms) => format!("tried again within {} s", ms.div_ceil(1_000)),
        None => "not tried again before `agentbus recover`".to_owned(),
    };
    Some(format!("{whose} ({}); {again}", first.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Well;

    impl Part for Well {
        fn health(&self) -> Option<Health> {
            Some(Health::up("well"))
        }
    }

    #[test]
    fn an_open_breaker_degrades_its_part_and_no_other_and_names_no_tenant() {
        let breakers = Arc::new(Breakers::default());
        breakers.of_target(Kind::Jetstream, "acme").fell(&"no answer");
        let of = |name| Behind::of(name, Arc::new(Well), &breakers).health();
        let lane = Health::degraded("the breakers of 1 tenant are open (no answer); tried again within 1 s");
        assert_eq!(of("lane"), Some(lane));
        for name in ["store", "records", "deliberations", "webhook", "policy"] {
            assert_eq!(of(name), Some(Health::up("well")), "{name}");
        }
    }
}
