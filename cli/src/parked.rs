//! What would a tenant's threshold park? Told by texts of known levels, before a message waits for people.

use std::collections::BTreeMap;

use agentbus::{
    domain::{Adaptive, Tenant, TenantId, TenantLimits, Weights},
    impact::{
        Settings,
        reference::{Measure, Reference},
    },
};

/// Names listed in one line.
const NAMES_MAX: usize = 5;

/// What a node scores tenants by that say nothing else.
pub(super) struct Gauge {
    pub weights: Weights,
    pub report_lift_max: f64,
    pub usual: Result<Reference, String>,
    /// By the name that tenants have for them.
    pub heads: BTreeMap<String, Result<Reference, String>>,
}

impl Gauge {
    /// Of a node that is configured to nothing else, with the model within the program.
    pub(super) fn usual() -> Self {
        let Settings { weights, report_lift_max, .. } = Settings::default();
        let usual = Reference::shipped().map_err(|error| error.to_string());
        Self { weights, report_lift_max, usual, heads: BTreeMap::new() }
    }

    /// Of tenants that say nothing, and of those that name a head and nothing else.
    pub(super) fn tell_usual(&self) -> Vec<String> {
        let of = |head: Option<&String>| {
            let limits = TenantLimits { head: head.cloned(), ..TenantLimits::default() };
            self.look(&limits, Adaptive::default())
        };
        let heads = self.heads.keys().map(|head| (format!("tenants with head = \"{head}\""), of(Some(head))));
        let usual = ("tenants that say nothing else".to_owned(), of(None));
        lines(std::iter::once(usual).chain(heads))
    }

    /// Lines for all tenants that are alike, then what their numbers are of, then warnings.
    pub(super) fn tell(&self, tenants: &[Tenant]) -> Vec<String> {
        let mut alike: BTreeMap<Found, Vec<&TenantId>> = BTreeMap::new();
        for Tenant { id, limits, deliberation, .. } in tenants {
            alike.entry(self.look(limits, deliberation.adaptive)).or_default().push(id);
        }
        lines(alike.into_iter().map(|(found, ids)| (names(&ids), found)))
    }

    fn look(&self, limits: &TenantLimits, adaptive: Adaptive) -> Found {
        let threshold = limits.deliberation_threshold;
        let reference = match self.reference(limits.head.as_deref()) {
            Ok(reference) => reference,
            Err(why) => {
                let line = format!("threshold {threshold}: what it parks is not known; {why}");
                return Found { lines: vec![line], ..Found::default() };
            }
        };
        let requests = Measure::of_requests(threshold, limits.weights.unwrap_or(self.weights));
        let mut found = Found {
            lines: vec![format!("threshold {threshold} parks {}", in_words(reference.parked(&requests)))],
            warnings: unreachable(reference, &requests).into_iter().collect(),
            of: Some((reference.model.clone(), reference.texts())),
        };
        let lift_max = limits.report_lift_max.unwrap_or(self.report_lift_max);
        if lift_max < requests.lift_max {
            let reports = short(reference.parked(&Measure { lift_max, ..requests }));
            found.lines.push(format!("and of the same as reports, by report_lift_max {lift_max}: {reports}"));
        }
        let Adaptive { enabled, floor, ceiling } = adaptive;
        if enabled {
            let at = |threshold| Measure { threshold, ..requests };
            let [low, high] = [floor, ceiling].map(|threshold| short(reference.parked(&at(threshold))));
            found.lines.push(format!("what it learns stays from {floor} ({low}) to {ceiling} ({high})"));
            found.warnings.extend(unreachable(reference, &at(ceiling)));
        }
        found
    }

    fn reference(&self, head: Option<&str>) -> Result<&Reference, String> {
        let Some(head) = head else { return self.usual.as_ref().map_err(String::clone) };
        let known = self.heads.get(head).ok_or_else(|| {
            format!(
                "its head {head} is not here; agentbus config check --tenants FILE scores by the impact.heads of a node"
            )
        })?;
        known.as_ref().map_err(String::clone)
    }
}

/// What there is to say of a tenant, but for its name.
#[derive(Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    lines: Vec<String>,
    warnings: Vec<String>,
    /// The model whose scores they are, and of how many texts.
    of: Option<(String, usize)>,
}

/// What was found of each by its name, in lines for people.
fn lines(all: impl Iterator<Item = (String, Found)>) -> Vec<String> {
    let (mut said, mut warned, mut models) = (Vec::new(), Vec::new(), BTreeMap::new());
    for (whose, Found { lines, warnings, of }) in all {
        said.extend(lines.into_iter().map(|line| format!("{whose}: {line}")));
        warned.extend(warnings.into_iter().map(|line| format!("warning: {whose}: {line}")));
        models.extend(of);
    }
    said.extend(models.into_iter().map(|(model, texts)| {
        format!(
            "(of {texts} texts that nothing was learned from, by the words alone: no tool, no amount, normal \
             priority; scored by {model})"
        )
    }));
    said.extend(warned);
    said
}

/// Why hardly anything said would ever be parked, if it is so.
fn unreachable(reference: &Reference, measure: &Measure) -> Option<String> {
    let threshold = measure.threshold;
    match reference.reach(measure) {
        Some(most) if most < threshold => Some(format!(
            "no words reach the threshold {threshold}: without a tool, an amount or urgency they make {most:.2} at most"
        )),
        _ => {
            let highest = reference.highest(measure);
            (highest < threshold).then(|| {
                format!(
                    "hardly any words reach the threshold {threshold}: of {} texts the highest scores {highest:.2}",
                    reference.texts()
                )
            })
        }
    }
}

fn in_words([reads, small, weighty, harmful]: [f64; 4]) -> String {
    let [reads, small, weighty, harmful] = [reads, small, weighty, harmful].map(percent);
    format!(
        "{reads} of reads, {small} of small acts, {weighty} of acts with weight, {harmful} of plainly harmful texts"
    )
}

fn short(shares: [f64; 4]) -> String {
    shares.map(percent).join(", ")
}

fn percent(share: f64) -> String {
    format!("{:.0} %", 100.0 * share)
}

fn names(ids: &[&TenantId]) -> String {
    let shown: Vec<&str> = ids.iter().take(NAMES_MAX).map(|id| id.as_str()).collect();
    let more = ids.len().saturating_sub(NAMES_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use agentbus::tenants::Plan;

    fn told(text: &str) -> Vec<String> {
        Gauge::usual().tell(Plan::parse(text).unwrap().tenants())
    }

    fn limits(text: &str) -> Vec<String> {
        told(&format!("[tenants.acme.limits]\n{text}"))
    }

    #[test]
    fn each_threshold_says_what_it_parks_of_each_level_and_tenants_that_are_alike_say_it_once() {
        let lines =
            told("[tenants.acme]\n[tenants.globex]\n[tenants.third.limits]\ndeliberation_threshold = 0.7");
        assert_eq!(lines.len(), 3, "{lines:?}");
        for (line, begins) in lines.iter().zip([
            "third: threshold 0.7 parks 0 % of reads, 2 % of small acts, 7",
            "acme, globex: threshold 0.8 parks 0 % of reads, 0 % of small acts, 1",
            "(of 252 texts that nothing was learned from, by the words alone",
        ]) {
            assert!(line.starts_with(begins), "{line}");
        }
        let all = limits("deliberation_threshold = 0.0");
        assert!(all.concat().contains("100 % of reads, 100 % of small acts"), "{all:?}");
    }

    #[test]
    fn a_threshold_that_words_cannot_reach_is_warned_of_and_one_that_they_hardly_reach() {
        for (text, warned) in [
            ("deliberation_threshold = 0.8", None),
            ("deliberation_threshold = 0.95", None),
            (
                "deliberation_threshold = 0.969",
                Some("hardly any words reach the threshold 0.969: of 252 texts"),
            ),
            ("deliberation_threshold = 0.98", Some("no words reach the threshold 0.98")),
            ("deliberation_threshold = 1.0", Some("they make 0.97 at most")),
            // Words lift a message to their own height, whatever they weigh.
            ("deliberation_threshold = 0.8\nweights = { semantic = 0.0 }", None),
        ] {
            let lines = limits(text);
            let warning = lines.iter().find(|line| line.starts_with("warning: acme: "));
            assert_eq!(warning.is_some(), warned.is_some(), "{text}: {lines:?}");
            assert!(warned.is_none_or(|warned| warning.unwrap().contains(warned)), "{text}: {lines:?}");
        }
    }

    #[test]
    fn weights_and_the_lift_of_reports_and_a_threshold_that_learns_have_their_say() {
        let heavy = limits("deliberation_threshold = 0.3\nweights = { semantic = 100.0 }");
        let usual = limits("deliberation_threshold = 0.3");
        assert_ne!(heavy.first(), usual.first(), "the mean is another");
        let reports = limits("report_lift_max = 0.3").join("\n");
        assert!(reports.contains("as reports, by report_lift_max 0.3: 0 %, 0 %, 0 %, 0 %"), "{reports}");
        let learns = told("[tenants.acme.deliberation.adaptive]\nenabled = true\nceiling = 0.95").join("\n");
        assert!(
            learns.contains("what it learns stays from 0.5 (") && learns.contains("to 0.95 ("),
            "{learns}"
        );
    }

    #[test]
    fn what_is_scored_by_an_unknown_head_has_no_figures_of_another() {
        let lines = limits("head = \"own\"");
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines.concat().contains("is not known; its head own is not here"), "{lines:?}");
        let own = Reference::of("own@1/f32", [(0, 0.1), (3, 0.75)]);
        let gauge = Gauge { heads: [("own".to_owned(), Ok(own))].into(), ..Gauge::usual() };
        let plan = Plan::parse("[tenants.acme.limits]\nhead = \"own\"").unwrap();
        let lines = gauge.tell(plan.tenants()).join("\n");
        assert!(lines.contains("of 2 texts") && lines.contains("scored by own@1)"), "{lines}");
        assert!(
            lines.contains("hardly any words reach the threshold 0.8: of 2 texts the highest"),
            "{lines}"
        );
    }
}
