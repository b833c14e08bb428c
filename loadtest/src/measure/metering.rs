//! What does it cost to count what an agent has used, and is all of it told (P9)?

use std::{
    collections::HashMap,
    hint::black_box,
    thread,
    time::{Duration, Instant},
};

use agentbus::{
    domain::{AgentId, TenantId},
    usage::{Usage, Used},
};

use super::stages::nanos;
use crate::{
    hot::NOW,
    spread::Spread,
    tables::{show, table},
    targets::{Is, Target},
};

const TENANTS: usize = 100;
const AGENTS: usize = 1_000;
/// For the second part.
const THREADS: usize = 2;
const A_SECOND: u32 = 100_000;
const SECONDS: u32 = 5;
/// A node does so every 10 s.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// What is due sooner is not waited for.
const SOON: Duration = Duration::from_millis(1);
const ONE: Used = Used {
    messages: 1,
    bytes: 512,
    decisions: 1,
    refused: 0,
    deliveries: 1,
    stored_bytes: 0,
    deliberations: 0,
    scored: 0,
    tokens: 0,
};

type Names = [(TenantId, AgentId)];

pub(super) fn run() -> anyhow::Result<(String, Vec<Target>)> {
    let names = (0..AGENTS).flat_map(|agent| (0..TENANTS).map(move |tenant| (tenant, agent)));
    let names = names
        .map(|(tenant, agent)| Ok((format!("tenant-{tenant}").parse()?, format!("agent-{agent}").parse()?)));
    let names: Vec<(TenantId, AgentId)> = names.collect::<anyhow::Result<_>>()?;
    let (few, all) = (cost(names.get(..8).unwrap_or_default()), cost(&names));
    let (longest, lost) = at_a_rate(&names);
    let mut rows = table(&["of how many agents", "ns"]);
    rows.add_row(["8".to_owned(), show(few)]);
    rows.add_row([format!("{} of {TENANTS} tenants, in turn", names.len()), show(all)]);
    let text = format!(
        "To count one message, one thread in this process, by its own clock.\n\n{rows}\n\nAt {A_SECOND} a second from \
         {THREADS} threads for {SECONDS} s, of all these agents, while sums are told once a second: {lost} lost; the \
         longest wait for one was {:.2} ms.",
        longest.as_secs_f64() * 1e3
    );
    let targets = [
        Target::new("P9", few, (Is::AtMost, 100.0), "ns", "to count one message, of 8 agents"),
        Target::new("P9", all, (Is::AtMost, 100.0), "ns", "to count one message, of 100,000 agents in turn"),
        Target::new("P9", Spread::of([lost as f64]), (Is::AtMost, 0.0), "", "lost at 100,000 a second"),
    ];
    Ok((text, targets.into_iter().flatten().collect()))
}

/// Nanoseconds.
fn cost(names: &Names) -> Option<Spread> {
    let (usage, mut turn) = (Usage::default(), names.iter().cycle());
    nanos(&mut || {
        if let Some((tenant, agent)) = turn.next() {
            black_box(&usage).count(tenant, agent, NOW, black_box(ONE));
        }
    })
}

/// The longest that one took, and how many more were counted than were told in the end.
fn at_a_rate(names: &Names) -> (Duration, u64) {
    let usage = Usage::default();
    // A sum replaces the one before.
    let mut kept: HashMap<(TenantId, AgentId), u64> = HashMap::new();
    let mut tell = || {
        for sum in usage.untold() {
            usage.told(&sum, NOW);
            kept.insert((sum.tenant, sum.agent), sum.used.messages);
        }
    };
    let each = A_SECOND as usize / THREADS * SECONDS as usize;
    let every = Duration::from_secs(u64::from(SECONDS)) / u32::try_from(each).unwrap_or(u32::MAX);
    let longest = thread::scope(|scope| {
        let counting = [0; THREADS].map(|_| {
            scope.spawn(|| {
                let (began, mut longest) = (Instant::now(), Duration::ZERO);
                for ((tenant, agent), number) in names.iter().cycle().zip(0_u32..).take(each) {
                    let due = began + every * number;
                    if let Some(early) =
                        due.checked_duration_since(Instant::now()).filter(|early| *early > SOON)
                    {
                        thread::sleep(early);
                    }
                    let started = Instant::now();
                    usage.count(tenant, agent, NOW, ONE);
                    longest = longest.max(started.elapsed());
                }
                longest
            })
        });
        while !counting.iter().all(thread::ScopedJoinHandle::is_finished) {
            thread::sleep(TELL_EVERY);
            tell();
        }
        counting.into_iter().filter_map(|it| it.join().ok()).max().unwrap_or_default()
    });
    tell();
    (longest, ((each * THREADS) as u64).saturating_sub(kept.values().sum()))
}
