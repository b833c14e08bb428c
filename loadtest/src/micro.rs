//! What does each stage cost by itself, in this process, on one thread?

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    domain::{AgentId, Encoding, Tenant, TenantId, TenantLimits, Timestamp},
    impact::{Assessor, Keywords, Need, Patience, Senders, Settings},
    policy::{Gate, Party, PolicyEngine as _, PolicySources, Question, RegoEngine},
    wire,
};
use anyhow::Context as _;
use serde::Serialize;

use crate::{
    cpu,
    figures::Spread,
    message,
    options::MicroOptions,
    tables::{show, table},
    targets::{Is, Target},
};

/// Operations between two looks at the clock.
const BATCH: u32 = 64;
const PAYLOAD: usize = 512;

/// One stage's figures, as written to the JSON file.
#[derive(Debug, Serialize)]
struct Figure {
    stage: &'static str,
    goal: Option<Goal>,
    ns: Spread,
}

/// What a stage may cost.
#[derive(Debug, Clone, Copy, Serialize)]
struct Goal {
    id: &'static str,
    ns: f64,
}

/// Measures, prints and returns the table, with P5 and P6.
pub(crate) fn run(options: &MicroOptions) -> anyhow::Result<(String, Vec<Target>)> {
    let figures = measure(options)?;
    let mut table = table(&["stage", "ns", "target ns", "met"]);
    for figure in &figures {
        let met = figure.goal.map(|goal| if figure.ns.median <= goal.ns { "yes" } else { "no" });
        table.add_row([
            figure.stage.to_owned(),
            show(Some(figure.ns), 0),
            figure.goal.map_or("–".to_owned(), |goal| format!("{:.0}", goal.ns)),
            met.unwrap_or("–").to_owned(),
        ]);
    }
    let text = format!(
        "`loadtest micro`: {} rounds of {} ms each, one thread, a message of {PAYLOAD} B in MessagePack; median \
         and range. {}.\n\n{table}",
        options.rounds,
        options.millis,
        cpu::machine()
    );
    println!("{text}");
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&figures)?;
        fs::write(path, json).with_context(|| path.display().to_string())?;
    }
    let target = |figure: &Figure| {
        let Goal { id, ns } = figure.goal?;
        let how = format!("{}, one thread in this process", figure.stage);
        Target::new(id, Some(figure.ns), (Is::AtMost, ns), "ns", how)
    };
    Ok((text, figures.iter().filter_map(target).collect()))
}

fn measure(options: &MicroOptions) -> anyhow::Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let mut add = |stage: &'static str, goal: Option<Goal>, work: &mut dyn FnMut()| {
        if let Some(ns) = nanos(options, work) {
            figures.push(Figure { stage, goal, ns });
        }
    };

    let bytes = message::sample(PAYLOAD)?;
    let (tenant, sender): (TenantId, AgentId) = ("acme".parse()?, "planner".parse()?);
    let stamp = wire::Stamp { tenant: &tenant, sender: &sender };
    let limits = wire::Limits::default();
    let decoded = wire::decode(&bytes, stamp, &limits)?;
    add("decode + canonical form + SHA-256 (P6)", Some(Goal { id: "P6", ns: 800.0 }), &mut || {
        let _ = black_box(wire::decode(black_box(&bytes), stamp, &limits));
    });

    let sources = PolicySources::shipped();
    let engine = Arc::new(RegoEngine::load(&sources)?);
    let gate = Gate::new(engine.clone());
    let (sender_roles, recipient_roles) = (roles("executive"), roles("implementer"));
    let (recipient, capabilities) = ("worker".parse()?, BTreeSet::new());
    let directory = Tenant {
        id: tenant.clone(),
        labels: BTreeMap::new(),
        limits: TenantLimits::default(),
        agents: BTreeMap::new(),
        deliberation: agentbus::domain::Deliberation::default(),
    };
    let party = |id, roles| Party { id, roles, capabilities: &capabilities, registered: true };
    let question = Question {
        message: &decoded.message,
        size: decoded.canonical.len(),
        sender: party(&sender, &sender_roles),
        recipient: party(&recipient, &recipient_roles),
        tenant: &directory,
        approval: None,
    };
    // Nothing of this waits, so a runtime that does nothing else adds as little as can be.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let ready = |permit: Result<_, _>| permit.map(drop).map_err(|denied| anyhow::anyhow!("{denied:?}"));
    ready(runtime.block_on(gate.decide(&question)))?;
    add("policy, not cached (P5)", Some(Goal { id: "P5", ns: 7_000.0 }), &mut || {
        let _ = black_box(pollster(engine.evaluate(black_box(&question))));
    });
    add("policy, cached, with the permit (P5)", Some(Goal { id: "P5", ns: 350.0 }), &mut || {
        let _ = black_box(pollster(gate.decide(black_box(&question))));
    });

    let assessor =
        Assessor::new(Arc::new(Keywords), Settings::default(), Arc::new(Senders::unshared(65_536)))?;
    let noon = Timestamp(1_767_268_800_000);
    let assess = async |message: &Arc<agentbus::domain::Message>| {
        let observation = assessor.observe(message, &directory, noon).await;
        let impact = assessor
            .assess(message, &directory, observation.past(), (Need::IfItMatters, Patience::RoundTrip), noon)
            .await
            .ok();
        observation.count(impact.as_ref().and_then(|impact| impact.parts.semantic));
        impact
    };
    add("impact, keywords", None, &mut || {
        let _ = black_box(pollster(assess(black_box(&decoded.message))));
    });

    let impact = runtime.block_on(assess(&decoded.message));
    let verdict = agentbus::domain::Verdict {
        message_id: Some(decoded.message.id.clone()),
        status: agentbus::domain::Status::Delivered,
        reason: agentbus::domain::Reason::Delivered,
        detail: "handed to worker".to_owned(),
        retryable: false,
        retry_after: None,
        decision_id: "AAAAAAAAAAAAAAAAAAAAAA".to_owned(),
        policy_revision: Some("0123456789abcdef".to_owned()),
        impact,
        reach: Some(agentbus::domain::Reach {
            delivered: 1,
            agent: Some(recipient.clone()),
            ..agentbus::domain::Reach::default()
        }),
        deliberation_id: None,
        node: "node-1".to_owned(),
        elapsed: Duration::from_micros(300),
    };
    add("encode the verdict, MessagePack", None, &mut || {
        drop(black_box(wire::encode_verdict(black_box(&verdict), Encoding::MessagePack)));
    });
    Ok(figures)
}

/// Nanoseconds of one operation, over the rounds.
fn nanos(options: &MicroOptions, work: &mut dyn FnMut()) -> Option<Spread> {
    let length = Duration::from_millis(options.millis.into());
    let mut round = || {
        let started = Instant::now();
        let mut done = 0_u64;
        while started.elapsed() < length {
            for _ in 0..BATCH {
                work();
            }
            done += u64::from(BATCH);
        }
        started.elapsed().as_secs_f64() * 1e9 / done as f64
    };
    round(); // warm-up
    Spread::of((0..options.rounds.get()).map(|_| round()))
}

/// Drives a future that has nothing to wait for. A future that does wait gives `None`.
fn pollster<F: Future>(future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}

fn roles(role: &str) -> BTreeSet<String> {
    BTreeSet::from([role.to_owned()])
}
