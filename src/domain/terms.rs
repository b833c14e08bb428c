//! Are a tenant's settings of deliberation within their bounds?
//!
//! Whoever reads settings asks: what applies a tenants file, and what follows the directory.

use std::time::Duration;

use super::{Adaptive, Deliberation, Electors, Terms, id::shown};

/// Agents with a weight of their own.
pub const WEIGHTS_MAX: usize = 1_000;
pub const WEIGHT_MAX: u32 = 1_000;
/// Roles that vote, or stand in.
pub const ELECTOR_ROLES_MAX: usize = 16;
/// Agents that vote, or stand in, by name.
pub const ELECTOR_AGENTS_MAX: usize = 100;
/// Bytes of a role's name.
pub const ROLE_BYTES_MAX: usize = 64;
/// Messages of one tenant that may be parked at one time.
pub const OPEN_MAX: usize = 100_000;
pub const MIN_APPROVALS_MAX: u32 = 100;
pub const DISTINCT_ROLES_MAX: u32 = 16;
/// Of a timeout, and of the time before an escalation.
pub const TIMEOUT_MIN: Duration = Duration::from_secs(1);
pub const TIMEOUT_MAX: Duration = Duration::from_secs(7 * 24 * 3600);
/// Between which a threshold can be learned (`origin.md`, "Adaptive threshold").
pub const THRESHOLD_MIN: f64 = 0.5;
pub const THRESHOLD_MAX: f64 = 0.95;

/// A setting of deliberation that is out of bounds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at} must be {expected}, found {found}")]
pub struct DeliberationError {
    /// The key below the tenant's `deliberation`, such as `terms.timeout`.
    pub at: String,
    pub expected: String,
    pub found: String,
}

impl Deliberation {
    /// Whether every setting is within its bounds; the first that is not.
    pub fn check(&self) -> Result<(), DeliberationError> {
        electors("voters", &self.voters)?;
        electors("stand_ins", &self.stand_ins)?;
        at_most("weights", "agents", WEIGHTS_MAX, self.weights.len())?;
        for (agent, weight) in &self.weights {
            within(|| format!("weights.{agent}"), 1, WEIGHT_MAX, *weight)?;
        }
        within(|| "open_max".to_owned(), 1, OPEN_MAX, self.open_max)?;
        terms("terms", &self.terms)?;
        for (message_type, other) in &self.terms_by_type {
            terms(&format!("terms_by_type.{}", message_type.as_str()), other)?;
        }
        adaptive(&self.adaptive)
    }
}

fn electors(at: &str, electors: &Electors) -> Result<(), DeliberationError> {
    at_most(&format!("{at}.roles"), "roles", ELECTOR_ROLES_MAX, electors.roles.len())?;
    at_most(&format!("{at}.agents"), "agents", ELECTOR_AGENTS_MAX, electors.agents.len())?;
    for role in &electors.roles {
        if !is_role(role) {
            return refused(
                format!("{at}.roles"),
                format!("words of 1 to {ROLE_BYTES_MAX} of [a-z0-9_-]"),
                shown(role),
            );
        }
    }
    Ok(())
}

fn terms(at: &str, terms: &Terms) -> Result<(), DeliberationError> {
    within(|| format!("{at}.min_approvals"), 1, MIN_APPROVALS_MAX, terms.min_approvals)?;
    within(|| format!("{at}.distinct_roles"), 1, DISTINCT_ROLES_MAX, terms.distinct_roles)?;
    if !(TIMEOUT_MIN..=TIMEOUT_MAX).contains(&terms.timeout) {
        return refused(
            format!("{at}.timeout"),
            format!("{} to {}", told(TIMEOUT_MIN), told(TIMEOUT_MAX)),
            told(terms.timeout),
        );
    }
    match terms.escalate_after {
        Some(after) if after < TIMEOUT_MIN => refused(
            format!("{at}.escalate_after"),
            format!("at least {}, or absent", told(TIMEOUT_MIN)),
            told(after),
        ),
        Some(_) | None => Ok(()),
    }
}

fn adaptive(adaptive: &Adaptive) -> Result<(), DeliberationError> {
    let Adaptive { enabled: _, floor, ceiling } = *adaptive;
    // What is not a number is in no range.
    if !(THRESHOLD_MIN..=THRESHOLD_MAX).contains(&floor) {
        return refused(
            "adaptive.floor".to_owned(),
            format!("{THRESHOLD_MIN} to {THRESHOLD_MAX}"),
            floor.to_string(),
        );
    }
    if !(floor..=THRESHOLD_MAX).contains(&ceiling) {
        return refused(
            "adaptive.ceiling".to_owned(),
            format!("{floor} (the floor) to {THRESHOLD_MAX}"),
            ceiling.to_string(),
        );
    }
    Ok(())
}

fn is_role(role: &str) -> bool {
    (1..=ROLE_BYTES_MAX).contains(&role.len())
        && role.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

fn at_most(at: &str, what: &str, limit: usize, found: usize) -> Result<(), DeliberationError> {
    if found > limit {
        return refused(at.to_owned(), format!("at most {limit} {what}"), found.to_string());
    }
    Ok(())
}

fn within<N: PartialOrd + std::fmt::Display>(
    at: impl FnOnce() -> String,
    least: N,
    most: N,
    found: N,
) -> Result<(), DeliberationError> {
    if found < least || found > most {
        return refused(at(), format!("{least} to {most}"), found.to_string());
    }
    Ok(())
}

fn refused(at: String, expected: String, found: String) -> Result<(), DeliberationError> {
    Err(DeliberationError { at, expected, found })
}

fn told(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{AgentId, MessageType};

    #[track_caller]
    fn check(change: impl FnOnce(&mut Deliberation), at: &str, found: &str) {
        let mut settings = Deliberation::default();
        change(&mut settings);
        let error = settings.check().expect_err(at);
        assert_eq!((error.at.as_str(), error.found.as_str()), (at, found), "{error}");
    }

    fn agent(number: usize) -> AgentId {
        format!("agent-{number}").parse().unwrap()
    }

    #[test]
    fn the_defaults_and_the_bounds_themselves_are_allowed() {
        assert_eq!(Deliberation::default().check(), Ok(()));
        let terms = Terms {
            min_approvals: MIN_APPROVALS_MAX,
            distinct_roles: DISTINCT_ROLES_MAX,
            timeout: TIMEOUT_MAX,
            escalate_after: Some(TIMEOUT_MIN),
            ..Terms::default()
        };
        let settings = Deliberation {
            weights: [(agent(1), 1), (agent(2), WEIGHT_MAX)].into(),
            open_max: OPEN_MAX,
            terms_by_type: [(MessageType::Command, terms)].into(),
            terms: Terms { timeout: TIMEOUT_MIN, escalate_after: None, ..Terms::default() },
            adaptive: Adaptive { enabled: true, floor: THRESHOLD_MAX, ceiling: THRESHOLD_MAX },
            ..Deliberation::default()
        };
        assert_eq!(settings.check(), Ok(()));
    }

    #[test]
    fn a_setting_out_of_bounds_is_refused_with_its_place_and_what_was_found() {
        check(|s| s.weights = [(agent(1), 0)].into(), "weights.agent-1", "0");
        check(|s| s.weights = [(agent(1), 1_001)].into(), "weights.agent-1", "1001");
        check(|s| s.weights = (0..1_001).map(|n| (agent(n), 1)).collect(), "weights", "1001");
        check(|s| s.voters.roles = ["Judge".to_owned()].into(), "voters.roles", "\"Judge\"");
        check(|s| s.stand_ins.roles = [String::new()].into(), "stand_ins.roles", "\"\"");
        check(|s| s.stand_ins.roles = ["a.b".to_owned()].into(), "stand_ins.roles", "\"a.b\"");
        check(|s| s.voters.roles = (0..17).map(|n| format!("r{n}")).collect(), "voters.roles", "17");
        check(|s| s.stand_ins.agents = (0..101).map(agent).collect(), "stand_ins.agents", "101");
        check(|s| s.open_max = 0, "open_max", "0");
        check(|s| s.open_max = 100_001, "open_max", "100001");
        check(|s| s.terms.min_approvals = 0, "terms.min_approvals", "0");
        check(|s| s.terms.min_approvals = 101, "terms.min_approvals", "101");
        check(|s| s.terms.distinct_roles = 17, "terms.distinct_roles", "17");
        check(|s| s.terms.timeout = Duration::from_millis(999), "terms.timeout", "999ms");
        check(|s| s.terms.timeout = TIMEOUT_MAX + TIMEOUT_MIN, "terms.timeout", "7days 1s");
        check(|s| s.terms.escalate_after = Some(Duration::ZERO), "terms.escalate_after", "0s");
        check(
            |s| {
                let other = Terms { min_approvals: 0, ..Terms::default() };
                s.terms_by_type = [(MessageType::Command, other)].into();
            },
            "terms_by_type.command.min_approvals",
            "0",
        );
    }

    #[test]
    fn a_threshold_is_learned_within_half_and_nineteen_twentieths_only() {
        let between = |floor, ceiling| {
            move |s: &mut Deliberation| {
                s.adaptive = Adaptive { enabled: true, floor, ceiling };
            }
        };
        check(between(0.49, 0.9), "adaptive.floor", "0.49");
        check(between(f64::NAN, 0.9), "adaptive.floor", "NaN");
        check(between(f64::INFINITY, 0.9), "adaptive.floor", "inf");
        check(between(0.7, 0.6), "adaptive.ceiling", "0.6");
        check(between(0.7, 0.96), "adaptive.ceiling", "0.96");
        check(between(0.7, f64::NAN), "adaptive.ceiling", "NaN");
    }

    #[test]
    fn the_settings_on_the_page_of_deliberation_are_the_defaults() {
        type Tenants = BTreeMap<String, BTreeMap<String, BTreeMap<String, Deliberation>>>;
        let page = include_str!("../../docs/deliberation.md");
        let block = page.split("```toml").nth(1).unwrap().split("```").next().unwrap();
        let tenants: Tenants = toml::from_str(block).unwrap();
        let mut found = tenants["tenants"]["acme"]["deliberation"].clone();
        assert_eq!(found.check(), Ok(()));
        assert_eq!((found.weights.len(), found.terms_by_type.len()), (1, 1));
        found.weights.clear();
        found.terms_by_type.clear();
        assert_eq!(found, Deliberation::default());
    }
}
