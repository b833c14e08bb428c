//! A million steps of several nodes over one log, against a reference that counts in another way.
//!
//! Nodes have stale copies, clocks that differ by seconds, and restart; people vote late, twice, on what
//! is their own, without the right, on other content. What is appended goes through compare-and-set as
//! in JetStream. The same walk finds a node that breaks any of the rules.

use std::collections::BTreeMap;

use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use self::reference::Reference;
use super::{Case, VoteRefused};
use crate::domain::{AgentId, Choice, Event, Judgement, Parked, Rule, RuleKind, Timestamp, Vote, Voter, Why};

mod reference;

const STEPS: usize = 1_000_000;
const STEPS_OF_ONE: usize = 60;
/// Of each thing that can happen.
const VISITS_MIN: usize = 500;
const NODES: usize = 3;
const PARKED: u64 = 10_000_000;
const ESCALATES: u64 = PARKED + 15_000;
const DEADLINE: u64 = PARKED + 40_000;
/// Around the time of the model, of a node's clock.
const SKEW_MILLIS: u64 = 3_000;
const DIGEST: &str = "right";
const PEOPLE: usize = 12;

/// What one node does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    Nothing,
    /// Appends to a log that has grown since it was read.
    NoCompareAndSet,
    /// Counts votes that are refused for this.
    Counts(&'static str),
    /// Takes the first approval for the decision.
    DecidesEarly,
    /// Lets a decided one expire.
    ExpiresAnyway,
}

/// What the reference found wrong.
type Fault = String;

/// What was visited, so that a walk that proves nothing is noticed.
type Visits = BTreeMap<&'static str, usize>;

struct Node {
    case: Case,
    /// Events of the log that it has read.
    read: usize,
    skew: u64,
}

struct World<'a> {
    people: &'a [AgentId],
    parked: Parked,
    voters: usize,
    stand_ins: usize,
    now: u64,
    /// Milliseconds that pass at one time, at most.
    pace: u64,
    log: Vec<(u64, Event)>,
    /// After each event of the log.
    history: Vec<Reference>,
    truth: Vec<Case>,
    nodes: Vec<Node>,
    broken: Broken,
}

impl<'a> World<'a> {
    fn new(people: &'a [AgentId], broken: Broken, rng: &mut StdRng) -> Self {
        let (voters, stand_ins) = match rng.random_range(0..12) {
            0 => (0, rng.random_range(1..4)),
            _ => (rng.random_range(1..7), rng.random_range(0..4)),
        };
        let some = |from: usize, count: usize, rng: &mut StdRng| -> BTreeMap<AgentId, Voter> {
            let voter = |rng: &mut StdRng| Voter {
                roles: ["x", "y", "z"]
                    .iter()
                    .filter(|_| rng.random())
                    .map(|role| (*role).to_owned())
                    .collect(),
                weight: rng.random_range(1..5),
            };
            people[from..from + count].iter().map(|id| (id.clone(), voter(rng))).collect()
        };
        let kinds = [
            RuleKind::Quorum,
            RuleKind::Unanimous,
            RuleKind::SuperMajority,
            RuleKind::Weighted,
            RuleKind::Roles,
        ];
        let parked = Parked {
            id: "0123456789abcdef01234567".parse().unwrap(),
            tenant: "acme".parse().unwrap(),
            sender: people[voters + stand_ins].clone(),
            message_id: "m".parse().unwrap(),
            message: String::new(),
            digest: DIGEST.to_owned(),
            why: Why::Policy,
            notes: Default::default(),
            impact: None,
            policy_revision: String::new(),
            decision_id: String::new(),
            node: String::new(),
            rule: Rule {
                kind: *kinds.choose(rng).unwrap(),
                min_approvals: *[1, 1, 1, 2, 3].choose(rng).unwrap(),
                distinct_roles: rng.random_range(1..4),
            },
            voters: some(0, voters, rng),
            stand_ins: some(voters, stand_ins, rng),
            parked_at: Timestamp(PARKED),
            escalate_at: rng.random_bool(0.8).then_some(Timestamp(ESCALATES)),
            deadline: Timestamp(DEADLINE),
            traceparent: None,
        };
        let log = vec![(rng.random_range(1..100), Event::Parked(Box::new(parked.clone())))];
        let case = Case::replay(log.clone()).unwrap().unwrap();
        let node = |rng: &mut StdRng| Node {
            case: case.clone(),
            read: 1,
            skew: rng.random_range(0..=2 * SKEW_MILLIS),
        };
        let pace = *[2_000, 6_000, 20_000].choose(rng).unwrap();
        let nodes = (0..NODES).map(|_| node(rng)).collect();
        let (history, truth) = (vec![Reference::default()], vec![case]);
        Self { people, parked, voters, stand_ins, now: PARKED, pace, log, history, truth, nodes, broken }
    }

    fn sender(&self) -> usize {
        self.voters + self.stand_ins
    }

    fn escalates(&self, now: u64, already: bool) -> bool {
        let at = if self.voters == 0 { Some(PARKED) } else { self.parked.escalate_at.map(|at| at.0) };
        self.stand_ins > 0 && !already && at.is_some_and(|at| now >= at)
    }

    fn clock(&self, node: usize) -> u64 {
        self.now + self.nodes[node].skew - SKEW_MILLIS
    }

    fn step(&mut self, visits: &mut Visits, rng: &mut StdRng) -> Result<(), Fault> {
        let node = rng.random_range(0..NODES);
        match rng.random_range(0..20) {
            0..5 => self.now += rng.random_range(0..self.pace),
            5..8 => self.read(node)?,
            8 => self.restart(node)?,
            9..12 => self.tick(node, visits, rng)?,
            12 => self.conclude(node, visits, rng)?,
            _ => self.vote(node, visits, rng)?,
        }
        Ok(())
    }

    fn vote(&mut self, node: usize, visits: &mut Visits, rng: &mut StdRng) -> Result<(), Fault> {
        // Voters, stand-ins, the sender, a stranger.
        let person = rng.random_range(0..self.voters + self.stand_ins + 2);
        let choice = if rng.random_bool(0.6) { Choice::Approve } else { Choice::Reject };
        let digest = if rng.random_bool(0.9) { DIGEST } else { "wrong" };
        let now = self.clock(node);
        let Node { case, read, .. } = &self.nodes[node];
        let known = self.history[read - 1];
        let (voter, at) = (&self.people[person], Timestamp(now));
        let found = case.vote(voter, choice, digest, "", at);
        let expected = match known.refusal(self, person, digest, now) {
            Some(refusal) => Err(refusal),
            None => Ok(known.with(person, choice).judgement(self)),
        };
        let simply = Event::Vote(Vote { voter: voter.clone(), choice, comment: String::new(), at });
        let event = match (found, expected) {
            (Err(found), Err(expected)) if found == expected => {
                let why = kind(&found);
                *visits.entry(why).or_default() += 1;
                match self.broken {
                    Broken::Counts(counted) if counted == why => simply,
                    _ => return Ok(()),
                }
            }
            (Ok(Event::Vote(vote)), Ok(None)) if self.broken == Broken::DecidesEarly => {
                Event::Decided { judgement: Judgement::Approved, at, detail: String::new(), vote: Some(vote) }
            }
            (Ok(event @ Event::Vote(_)), Ok(None)) => event,
            (Ok(event), Ok(Some(expected))) => match event {
                Event::Decided { judgement, .. } if judgement == expected => event,
                other => return Err(format!("{other:?}, expected {expected:?}")),
            },
            (found, expected) => return Err(format!("{found:?}, expected {expected:?}")),
        };
        self.append(node, event, digest, visits, rng)
    }

    fn tick(&mut self, node: usize, visits: &mut Visits, rng: &mut StdRng) -> Result<(), Fault> {
        let now = self.clock(node);
        let Node { case, read, .. } = &self.nodes[node];
        let known = self.history[read - 1];
        let found = case.tick(Timestamp(now));
        let (kind, expected) = (found.as_ref().map(Event::kind), known.due(self, now));
        let due = case.due().is_some_and(|due| now >= due.0);
        if kind != expected || due != expected.is_some() {
            return Err(format!("{kind:?} (due: {due}), expected {expected:?}"));
        }
        let over = self.broken == Broken::ExpiresAnyway && now >= DEADLINE;
        let expired = over.then(|| Event::Decided {
            judgement: Judgement::Expired,
            at: Timestamp(now),
            detail: String::new(),
            vote: None,
        });
        match found.or(expired) {
            Some(event) => self.append(node, event, DIGEST, visits, rng),
            None => Ok(()),
        }
    }

    fn conclude(&mut self, node: usize, visits: &mut Visits, rng: &mut StdRng) -> Result<(), Fault> {
        let case = &self.nodes[node].case;
        if case.decision.is_none() || case.conclusion.is_some() {
            return Ok(());
        }
        let event = Event::Concluded {
            at: Timestamp(self.clock(node)),
            reason: String::new(),
            decision_id: String::new(),
            detail: String::new(),
        };
        self.append(node, event, DIGEST, visits, rng)
    }

    fn append(
        &mut self,
        node: usize,
        event: Event,
        digest: &str,
        visits: &mut Visits,
        rng: &mut StdRng,
    ) -> Result<(), Fault> {
        let last = self.truth[self.truth.len() - 1].version;
        if self.nodes[node].case.version != last && self.broken != Broken::NoCompareAndSet {
            let decided = self.truth[self.truth.len() - 1].decision.is_some();
            let what = match &event {
                Event::Decided { judgement: Judgement::Expired, .. } if decided => "expiry_came_second",
                Event::Decided { .. } if decided => "decision_came_second",
                _ => "conflict",
            };
            *visits.entry(what).or_default() += 1;
            return self.read(node);
        }
        let next = self.history[self.history.len() - 1].admit(self, &event, digest)?;
        let seen = match &event {
            Event::Decided { judgement, .. } => judgement.as_str(),
            other => other.kind(),
        };
        *visits.entry(seen).or_default() += 1;
        // Other deliberations are in the same stream.
        let sequence = last + rng.random_range(1..4);
        let mut truth = self.truth[self.truth.len() - 1].clone();
        truth.add(sequence, event.clone())?;
        self.log.push((sequence, event));
        self.history.push(next);
        self.truth.push(truth);
        // Otherwise the confirmation was lost, and the node does not know of its own event.
        if rng.random() { self.read(node) } else { Ok(()) }
    }

    fn read(&mut self, node: usize) -> Result<(), Fault> {
        let node = &mut self.nodes[node];
        for (sequence, event) in &self.log[node.read..] {
            node.case.add(*sequence, event.clone())?;
        }
        node.read = self.log.len();
        Ok(())
    }

    fn restart(&mut self, node: usize) -> Result<(), Fault> {
        let case = self.replayed(self.log.len())?;
        self.nodes[node] = Node { case, read: self.log.len(), skew: self.nodes[node].skew };
        Ok(())
    }

    /// The first events of the log, which must come to what they came to one by one.
    fn replayed(&self, events: usize) -> Result<Case, Fault> {
        let prefix = self.log.iter().take(events).cloned();
        let case = Case::replay(prefix).map_err(|error| error.to_string())?.unwrap();
        if case != self.truth[events - 1] {
            return Err(format!("replayed {case:?}, expected {:?}", self.truth[events - 1]));
        }
        Ok(case)
    }

    fn replay_all(&self) -> Result<(), Fault> {
        (1..=self.log.len()).try_for_each(|events| self.replayed(events).map(drop))
    }
}

fn kind(refused: &VoteRefused) -> &'static str {
    match refused {
        VoteRefused::Closed(_) => "closed",
        VoteRefused::Late(_) => "late",
        VoteRefused::Own => "own",
        VoteRefused::NotAVoter { later: true } => "stand_in",
        VoteRefused::NotAVoter { later: false } => "stranger",
        VoteRefused::Again(_) => "again",
        VoteRefused::OtherContent { .. } => "other_content",
    }
}

/// Deliberations one after the other, each of so many steps.
fn walk(seed: u64, steps: usize, broken: Broken) -> (Visits, Result<(), Fault>) {
    let mut rng = StdRng::seed_from_u64(seed);
    let people: Vec<AgentId> = (0..PEOPLE).map(|number| format!("p{number}").parse().unwrap()).collect();
    let mut visits = Visits::new();
    for number in 0..steps.div_ceil(STEPS_OF_ONE) {
        let mut world = World::new(&people, broken, &mut rng);
        let mut run = || {
            for _ in 0..STEPS_OF_ONE {
                world.step(&mut visits, &mut rng)?;
            }
            if number % 8 == 0 { world.replay_all() } else { Ok(()) }
        };
        if let Err(fault) = run() {
            return (visits, Err(format!("deliberation {number} of seed {seed}: {fault}")));
        }
    }
    (visits, Ok(()))
}

#[test]
fn a_million_steps_decide_nothing_twice() {
    let (visits, outcome) = walk(1, STEPS, Broken::Nothing);
    outcome.unwrap();
    let expected = [
        "vote",
        "escalated",
        "approved",
        "denied",
        "expired",
        "concluded",
        "conflict",
        "expiry_came_second",
        "decision_came_second",
        "closed",
        "late",
        "own",
        "stand_in",
        "stranger",
        "again",
        "other_content",
    ];
    for what in expected {
        let times = visits.get(what).copied().unwrap_or_default();
        assert!(
            times >= VISITS_MIN,
            "{what} was visited {times} times, expected at least {VISITS_MIN}: {visits:?}"
        );
    }
}

#[test]
fn a_node_that_breaks_a_rule_is_found() {
    for broken in [
        Broken::NoCompareAndSet,
        Broken::Counts("closed"),
        Broken::Counts("late"),
        Broken::Counts("own"),
        Broken::Counts("stand_in"),
        Broken::Counts("stranger"),
        Broken::Counts("again"),
        Broken::Counts("other_content"),
        Broken::DecidesEarly,
        Broken::ExpiresAnyway,
    ] {
        let (_, outcome) = walk(2, STEPS / 100, broken);
        assert!(outcome.is_err(), "{broken:?} was not found");
    }
}
