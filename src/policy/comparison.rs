//! What would another policy change? Questions that both have answered, counted by rule, tenant, sender and type, with
//! examples.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Decision, Lane, Obligations, PolicyError};

mod summary;

pub use summary::Summary;

/// What a policy made of a question: a decision, or why there is none.
pub type Answer = Result<Decision, String>;

/// Names that are told apart in one group; more are counted together.
const NAMES_MAX: usize = 10_000;
/// Asked again where the processor was busy.
const PATIENCE: usize = 5;
/// Where they are counted.
const OTHERS: &str = "(others)";

/// One question, and what two policies made of it.
pub struct Compared<'a> {
    /// Its place among all: the first changes are the examples.
    pub number: u64,
    pub decision_id: &'a str,
    pub tenant: &'a str,
    pub sender: &'a str,
    pub recipient: &'a str,
    pub message_type: &'a str,
    pub before: &'a Answer,
    pub after: &'a Answer,
}

/// What is otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was allowed, and is denied.
    Denied,
    /// It was not allowed, and is.
    Allowed,
    /// It is allowed by both, with other obligations.
    Obliged,
    /// It was decided, and a rule fails.
    Fails,
    /// It is allowed by neither, and its sender would hear another reason.
    Reasons,
}

/// How often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Questions that both have answered.
    pub decisions: u64,
    pub newly_denied: u64,
    pub newly_allowed: u64,
    pub otherwise_obliged: u64,
    pub newly_failing: u64,
    /// No part of what has changed: the message goes nowhere, before and after.
    pub other_reasons: u64,
}

/// By what changes are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The modules that deny on the one side and not on the other, the obligations that differ, or what fails.
    Rule,
    Tenant,
    /// Written `tenant/sender`.
    Sender,
    Type,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// Its place among all: the first are shown.
    #[serde(skip)]
    pub number: u64,
    pub change: Change,
    pub decision_id: String,
    pub tenant: String,
    pub sender: String,
    pub recipient: String,
    #[serde(rename = "type")]
    pub message_type: String,
    pub before: String,
    pub after: String,
}

/// All questions so far.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    all: Tally,
    groups: BTreeMap<Group, BTreeMap<String, Tally>>,
    examples: BTreeMap<Change, Vec<Example>>,
    /// Of each change.
    examples_max: usize,
}

/// Asks a policy until it answers. `None`: the processor has no time for it.
pub fn answer_of(mut ask: impl FnMut() -> Result<Decision, PolicyError>) -> Option<Answer> {
    for _ in 0..PATIENCE {
        match ask() {
            Ok(decision) => return Some(Ok(decision)),
            Err(PolicyError::TimedOut { .. } | PolicyError::Busy { .. }) => {}
            Err(
                failed @ (PolicyError::Failed { .. }
                | PolicyError::Broken { .. }
                | PolicyError::Unanswered { .. }
                | PolicyError::BreakerOpen { .. }),
            ) => return Some(Err(failed.to_string())),
        }
    }
    None
}

impl Change {
    pub const ALL: &[Change] =
        &[Change::Denied, Change::Allowed, Change::Obliged, Change::Fails, Change::Reasons];

    pub fn of(before: &Answer, after: &Answer) -> Option<Self> {
        match (before, after) {
            (Ok(Decision::Allowed(before)), Ok(Decision::Allowed(after))) => {
                (before != after).then_some(Change::Obliged)
            }
            (Ok(Decision::Denied { reasons: before }), Ok(Decision::Denied { reasons: after })) => {
                (before != after).then_some(Change::Reasons)
            }
            (Ok(Decision::Allowed(_)), Ok(Decision::Denied { .. })) => Some(Change::Denied),
            (Ok(Decision::Denied { .. }) | Err(_), Ok(Decision::Allowed(_))) => Some(Change::Allowed),
            (Err(_), Ok(Decision::Denied { .. })) => Some(Change::Reasons),
            (Ok(_), Err(_)) => Some(Change::Fails),
            (Err(_), Err(_)) => None,
        }
    }

    /// For people.
    pub fn as_str(self) -> &'static str {
        match self {
            Change::Denied => "newly denied",
            Change::Allowed => "newly allowed",
            Change::Obliged => "otherwise obliged",
            Change::Fails => "newly failing",
            Change::Reasons => "other reasons",
        }
    }
}

impl Tally {
    /// Questions whose message would fare otherwise.
    pub fn changed(&self) -> u64 {
        self.newly_denied + self.newly_allowed + self.otherwise_obliged + self.newly_failing
    }

    /// The same as a share of all, 0 to 1.
    pub fn share(&self) -> f64 {
        self.changed() as f64 / self.decisions.max(1) as f64
    }

    pub fn of(&self, change: Change) -> u64 {
        match change {
            Change::Denied => self.newly_denied,
            Change::Allowed => self.newly_allowed,
            Change::Obliged => self.otherwise_obliged,
            Change::Fails => self.newly_failing,
            Change::Reasons => self.other_reasons,
        }
    }

    fn add(&mut self, change: Option<Change>) {
        self.decisions += 1;
        let count = match change {
            None => return,
            Some(Change::Denied) => &mut self.newly_denied,
            Some(Change::Allowed) => &mut self.newly_allowed,
            Some(Change::Obliged) => &mut self.otherwise_obliged,
            Some(Change::Fails) => &mut self.newly_failing,
            Some(Change::Reasons) => &mut self.other_reasons,
        };
        *count += 1;
    }

    fn merge(&mut self, other: Tally) {
        self.decisions += other.decisions;
        self.newly_denied += other.newly_denied;
        self.newly_allowed += other.newly_allowed;
        self.otherwise_obliged += other.otherwise_obliged;
        self.newly_failing += other.newly_failing;
        self.other_reasons += other.other_reasons;
    }
}

impl Group {
    pub const ALL: &[Group] = &[Group::Rule, Group::Tenant, Group::Sender, Group::Type];

    pub fn as_str(self) -> &'static str {
        match self {
            Group::Rule => "rule",
            Group::Tenant => "tenant",
            Group::Sender => "sender",
            Group::Type => "type",
        }
    }
}

impl Comparison {
    /// With so many examples of each change.
    pub fn new(examples_max: usize) -> Self {
        Self { examples_max, ..Self::default() }
    }

    pub fn add(&mut self, compared: &Compared<'_>) {
        if let Some(change) = self.count(compared) {
            self.show(Example::of(compared, change));
        }
    }

    /// Counts it. What has changed, where an example of that is wanted.
    pub fn count(&mut self, compared: &Compared<'_>) -> Option<Change> {
        let change = Change::of(compared.before, compared.after);
        self.all.add(change);
        self.count_in(Group::Tenant, compared.tenant, change);
        self.count_in(Group::Type, compared.message_type, change);
        let sender = format!("{}/{}", compared.tenant, compared.sender);
        self.count_in(Group::Sender, &sender, change);
        let change = change?;
        for rule in rules(compared.before, compared.after) {
            self.count_in(Group::Rule, &rule, Some(change));
        }
        let shown = self.examples.get(&change).map_or(0, Vec::len);
        (shown < self.examples_max).then_some(change)
    }

    pub fn show(&mut self, example: Example) {
        let examples = self.examples.entry(example.change).or_default();
        examples.push(example);
        examples.sort_by_key(|example| example.number);
        examples.truncate(self.examples_max);
    }

    /// Adds what another has counted of other questions.
    pub fn merge(&mut self, other: Comparison) {
        self.all.merge(other.all);
        for (group, names) in other.groups {
            let mine = self.groups.entry(group).or_default();
            for (name, tally) in names {
                tally_of(mine, &name).merge(tally);
            }
        }
        other.examples.into_values().flatten().for_each(|example| self.show(example));
    }

    pub fn all(&self) -> &Tally {
        &self.all
    }

    /// Where most changes first.
    pub fn rows(&self, group: Group) -> Vec<(&str, Tally)> {
        let names = self.groups.get(&group).into_iter().flatten();
        let mut rows: Vec<(&str, Tally)> = names.map(|(name, tally)| (name.as_str(), *tally)).collect();
        rows.sort_by_key(|(_, tally)| {
            std::cmp::Reverse((tally.changed(), tally.other_reasons, tally.decisions))
        });
        rows
    }

    /// The first of each change.
    pub fn examples(&self) -> impl Iterator<Item = &Example> {
        self.examples.values().flatten()
    }

    fn count_in(&mut self, group: Group, name: &str, change: Option<Change>) {
        tally_of(self.groups.entry(group).or_default(), name).add(change);
    }
}

fn tally_of<'a>(names: &'a mut BTreeMap<String, Tally>, name: &str) -> &'a mut Tally {
    let name = if names.len() < NAMES_MAX || names.contains_key(name) { name } else { OTHERS };
    names.entry(name.to_owned()).or_default()
}

impl Example {
    fn of(compared: &Compared<'_>, change: Change) -> Self {
        let Compared { number, decision_id, tenant, sender, recipient, message_type, before, after } =
            *compared;
        Self {
            number,
            change,
            decision_id: decision_id.to_owned(),
            tenant: tenant.to_owned(),
            sender: sender.to_owned(),
            recipient: recipient.to_owned(),
            message_type: message_type.to_owned(),
            before: shown(before),
            after: shown(after),
        }
    }
}

/// An answer in a line.
pub fn shown(answer: &Answer) -> String {
    match answer {
        Ok(Decision::Allowed(obligations)) => match words(obligations).as_slice() {
            [] => "allowed".to_owned(),
            words => format!("allowed: {}", words.join(", ")),
        },
        Ok(Decision::Denied { reasons }) => format!("denied: {}", reasons.join("; ")),
        Err(why) => format!("failed: {why}"),
    }
}

/// Which rules make the difference.
fn rules(before: &Answer, after: &Answer) -> BTreeSet<String> {
    match (before, after) {
        (_, Err(why)) => BTreeSet::from([why.split(' ').next().unwrap_or(why).to_owned()]),
        (Ok(Decision::Allowed(before)), Ok(Decision::Allowed(after))) => {
            let [before, after] = [before, after].map(|it| words(it).into_iter().collect::<BTreeSet<_>>());
            before.symmetric_difference(&after).map(|word| format!("obligation {}", name_of(word))).collect()
        }
        _ => {
            let [before, after] = [before, after].map(denying);
            match before == after {
                // The same modules, by other words.
                true => after,
                false => before.symmetric_difference(&after).cloned().collect(),
            }
        }
    }
}

/// The modules that deny: a reason is written `module: why`.
fn denying(answer: &Answer) -> BTreeSet<String> {
    match answer {
        Ok(Decision::Denied { reasons }) => reasons.iter().map(|reason| name_of(reason).to_owned()).collect(),
        Ok(Decision::Allowed(_)) | Err(_) => BTreeSet::new(),
    }
}

fn name_of(told: &str) -> &str {
    told.split(':').next().unwrap_or(told)
}

/// Each obligation in some words.
fn words(obligations: &Obligations) -> Vec<String> {
    let Obligations { deliberate, min_approvals, redact, lane, score, rates, notes: _, freezes, labels } =
        obligations;
    let mut words = Vec::new();
    if *deliberate {
        words.push("deliberate".to_owned());
    }
    words.extend(min_approvals.map(|approvals| format!("min_approvals: {approvals}")));
    words.extend(redact.iter().map(|path| format!("redact: {path}")));
    if let Some(Lane::Durable) = lane {
        words.push("lane: durable".to_owned());
    }
    if *score {
        words.push("score".to_owned());
    }
    words.extend(rates.iter().map(|(module, rate)| format!("rate: {module}: {rate}")));
    words.extend(obligations.note_lines().map(|note| format!("note: {note}")));
    words.extend(freezes.iter().map(|(module, why)| format!("freeze: {module}: {why}")));
    words.extend(labels.iter().map(|label| format!("label: {label}")));
    words
}

#[cfg(test)]
mod tests;
