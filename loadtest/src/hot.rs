//! What does every message go through, each stage by itself, on one thread and without a wait?
//!
//! By these [`crate::measure`] tells nanoseconds and [`crate::instructions`] counts instructions.

use std::{
    collections::BTreeSet,
    hint::black_box,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use agentbus::{
    audit,
    domain::{
        AgentGrant, AgentId, AgentRecord, CapabilityId, Constitution, ConstitutionHash, Encoding, Tenant,
        Timestamp,
    },
    governance::{Admitted, Decoded, Judging, Plan, Purpose, RetryMode, Rules},
    impact::{Assessor, Keywords, Patience, Senders, Settings},
    lanes::{Rotation, find},
    policy::{Gate, Party, PolicyEngine as _, PolicySources, Question, RegoEngine},
    state::{CachedRegistry, Lifetimes, MemoryStore, Registry},
    wire::{Limits, Stamp, decode, encode_message, encode_verdict},
};

use samples::{record, sample, verdict};

mod samples;

/// Of the message, in MessagePack.
pub(crate) const BYTES: usize = 512;
pub(crate) const NOW: Timestamp = Timestamp(1_767_268_800_000);
/// Of what has a time limit.
const TRIES_MAX: u32 = 50;
/// Longer than anything is measured.
const LIVES: Duration = Duration::from_secs(24 * 3600);

/// One stage: its name in files, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stage {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
}

const fn stage(name: &'static str, what: &'static str) -> Stage {
    Stage { name, what }
}

/// Hands over each stage with what does it once.
pub(crate) fn stages(mut each: impl FnMut(Stage, &mut dyn FnMut())) -> anyhow::Result<()> {
    // Nothing waits, but a look at the store is within a time limit, which needs a runtime.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let _entered = runtime.enter();
    let judge = Judge::new()?;
    let stamp = judge.stamp();
    let limits = Limits::default();
    let (msgpack, json) = (sample(stamp, Encoding::MessagePack)?, sample(stamp, Encoding::Json)?);
    let body = decode(&msgpack, stamp, &limits)?;
    let decoded = judge.decoded(&msgpack)?;
    let question = judge.question(&decoded, body.canonical.len());
    let uncached = async || judge.engine.evaluate(&question).await;
    let verdict = verdict()?;
    patiently(|| ready(judge.gate.decide(&question))?.map_err(|denied| anyhow::anyhow!("{denied:?}")))?;

    each(stage("decode", "decode, canonical form and SHA-256, from MessagePack"), &mut || {
        let _ = black_box(decode(black_box(&msgpack), stamp, &limits));
    });
    each(stage("decode_json", "the same, from JSON"), &mut || {
        let _ = black_box(decode(black_box(&json), stamp, &limits));
    });
    each(stage("policy", "policy, not cached"), &mut || {
        let _ = black_box(ready(uncached()));
    });
    each(stage("policy_cached", "policy, cached, with the permit"), &mut || {
        let _ = black_box(ready(judge.gate.decide(black_box(&question))));
    });
    each(stage("impact", "impact, by keywords"), &mut || {
        let _ = black_box(judge.score(black_box(&decoded)));
    });
    each(stage("judge", "judging it all, from its constitution to its plan"), &mut || {
        let _ = black_box(judge.plan(black_box(&decoded)));
    });
    each(stage("verdict", "write the verdict, MessagePack"), &mut || {
        black_box(encode_verdict(black_box(&verdict), Encoding::MessagePack));
    });
    each(stage("record", "write the record, MessagePack"), &mut || {
        black_box(audit::encode(&record(&body, black_box(&verdict)), Encoding::MessagePack));
    });
    each(stage("delivery_json", "write the delivery, JSON"), &mut || {
        black_box(encode_message(&body.message, &body.canonical, Encoding::Json));
    });
    Ok(())
}

/// What judging takes, as a node has it.
struct Judge {
    tenant: Arc<Tenant>,
    sender: AgentId,
    registry: Arc<dyn Registry>,
    rotation: Rotation,
    engine: Arc<RegoEngine>,
    gate: Gate,
    assessor: Assessor,
    constitutions: [Constitution; 1],
    roles: [BTreeSet<String>; 2],
    none: BTreeSet<CapabilityId>,
    recipient: AgentId,
}

impl Judge {
    fn new() -> anyhow::Result<Self> {
        let mut tenant = Tenant::new("acme".parse()?);
        let (sender, recipient): (AgentId, AgentId) = ("planner".parse()?, "worker".parse()?);
        let roles = ["executive", "implementer"].map(|role| BTreeSet::from([role.to_owned()]));
        for (id, roles) in [&sender, &recipient].into_iter().zip(&roles) {
            tenant.agents.insert(id.clone(), AgentGrant { roles: roles.clone(), ..AgentGrant::default() });
        }
        let store = MemoryStore::new(Lifetimes { agent: LIVES, ..Lifetimes::default() });
        let registry = CachedRegistry::new(Arc::new(store));
        for id in [&sender, &recipient] {
            let record = AgentRecord {
                id: id.clone(),
                capabilities: Arc::default(),
                encoding: None,
                description: String::new(),
            };
            ready(registry.register(&tenant.id, &record, 2))??;
        }
        let engine = Arc::new(patiently(|| RegoEngine::load(&PolicySources::shipped()))?);
        let senders = Arc::new(Senders::unshared(65_536));
        Ok(Self {
            tenant: Arc::new(tenant),
            sender,
            registry: Arc::new(registry),
            rotation: Rotation::new(),
            gate: Gate::new(engine.clone()),
            engine,
            assessor: Assessor::new(Arc::new(Keywords), Settings::default(), senders)?,
            constitutions: constitutions()?,
            roles,
            none: BTreeSet::new(),
            recipient,
        })
    }

    fn stamp(&self) -> Stamp<'_> {
        Stamp { tenant: &self.tenant.id, sender: &self.sender }
    }

    fn decoded(&self, bytes: &[u8]) -> anyhow::Result<Decoded> {
        decoded(bytes, &self.tenant, &self.sender)
    }

    fn question<'a>(&'a self, decoded: &'a Decoded, size: usize) -> Question<'a> {
        let party = |id, roles| Party { id, roles, capabilities: &self.none, registered: true };
        let [senders, recipients] = &self.roles;
        Question {
            message: decoded.message(),
            size,
            sender: party(&self.sender, senders),
            recipient: party(&self.recipient, recipients),
            tenant: &self.tenant,
            approval: None,
            labels: None,
        }
    }

    fn score(&self, decoded: &Decoded) -> anyhow::Result<agentbus::domain::Impact> {
        let message = decoded.message();
        let observation = ready(self.assessor.observe(message, &self.tenant, NOW))?;
        let need = (agentbus::impact::Need::IfItMatters, Patience::RoundTrip);
        let assessed = self.assessor.assess(message, &self.tenant, observation.past(), need, NOW);
        let impact = ready(assessed)?.map_err(|unassessed| anyhow::anyhow!("{unassessed:?}"))?;
        observation.count(impact.parts.semantic);
        Ok(impact)
    }

    /// What the lane does between decoding and claiming.
    fn plan<'a>(&self, decoded: &'a Decoded) -> anyhow::Result<Plan<'a>> {
        let refused = |rejection| anyhow::anyhow!("{rejection:?}");
        let rules = rules(&self.constitutions);
        let checked = decoded.in_force(&rules).and_then(|in_force| in_force.checked(&rules));
        let mut judging = checked.map_err(refused)?.judge(Purpose::of(RetryMode::Sender));
        loop {
            judging = match judging {
                Judging::NeedsRegistry(asks) => {
                    let view = ready(find(&*self.registry, &self.rotation, &asks))?.map_err(refused)?;
                    asks.found(view).map_err(refused)?
                }
                Judging::NeedsPolicy(asks) => {
                    let decide = |recipient| ready(self.gate.decide(&asks.question(recipient)));
                    let answers = asks.recipients().iter().map(|it| decide(it));
                    let answers = answers.collect::<anyhow::Result<Vec<_>>>()?;
                    asks.answered(answers).map_err(refused)?
                }
                Judging::NeedsModel(permitted) => {
                    let impact = permitted.need().map(|_| self.score(decoded)).transpose()?;
                    permitted.scored(impact.map(Ok)).map_err(refused)?
                }
                Judging::Routed(routed) => return Ok(routed.plan()),
            }
        }
    }
}

/// The one that messages name unless said.
pub(crate) fn constitutions() -> anyhow::Result<[Constitution; 1]> {
    let hash = agentbus::config::DEFAULT_CONSTITUTION.parse()?;
    Ok([Constitution { hash, from: None, until: None }])
}

/// No other node knows others.
static NOWHERE: BTreeSet<ConstitutionHash> = BTreeSet::new();

pub(crate) fn rules(constitutions: &[Constitution]) -> Rules<'_> {
    Rules {
        constitutions,
        elsewhere: &NOWHERE,
        clock_skew: Duration::from_secs(30),
        clock_is_off: false,
        now: NOW,
    }
}

/// As the lane has it, of a tenant that is known.
pub(crate) fn decoded(bytes: &[u8], tenant: &Arc<Tenant>, sender: &AgentId) -> anyhow::Result<Decoded> {
    let stamp = Stamp { tenant: &tenant.id, sender };
    let body = decode(bytes, stamp, &Limits::default())?;
    let admitted = Admitted::new(Some(Arc::clone(tenant)), &tenant.id, sender);
    admitted.and_then(|it| it.decoded(body)).map_err(|rejection| anyhow::anyhow!("{rejection:?}"))
}

/// A decision has a tenth of a second, which valgrind on a busy machine may miss. The next try has another one.
fn patiently<T, E>(mut attempt: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let done = (1..TRIES_MAX).find_map(|_| attempt().ok());
    done.map_or_else(attempt, Ok)
}

/// Of a future that has nothing to wait for.
pub(crate) fn ready<T>(future: impl Future<Output = T>) -> anyhow::Result<T> {
    match std::pin::pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Ok(value),
        Poll::Pending => anyhow::bail!("it waits, which none of this should"),
    }
}

#[cfg(test)]
mod tests {
    use agentbus::governance::Effect;

    use super::*;

    #[test]
    fn every_stage_does_its_work_and_the_sample_is_delivered() {
        let mut names = BTreeSet::new();
        stages(|stage, work| {
            work();
            assert!(names.insert(stage.name), "{} twice", stage.name);
        })
        .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let _entered = runtime.enter();
        let judge = Judge::new().unwrap();
        let decoded = judge.decoded(&sample(judge.stamp(), Encoding::MessagePack).unwrap()).unwrap();
        assert_eq!(decoded.body().canonical.len(), BYTES);
        let plan = judge.plan(&decoded).unwrap();
        assert!(matches!(plan.effect, Effect::Deliver(_)), "{plan:?}");
    }
}
