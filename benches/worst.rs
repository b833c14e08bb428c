//! What do the worst inputs that are known cost, at the size limits? `cargo bench --bench worst`.
//!
//! Prints the median of several rounds in microseconds, and nanoseconds for each byte. What is above 200 µs
//! must not run on a thread of the runtime, and what is read there has 6 KiB at most (`agentbus::cpu`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark may stop at the first surprise")]
#![allow(clippy::print_stdout, reason = "its output is a table")]

use std::{
    collections::BTreeSet,
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

use agentbus::{
    cpu::{BYTES_HERE_MAX, Cpu, CpuSettings, Work},
    domain::{AgentId, Encoding, Tenant, TenantId},
    policy::{Party, PolicySources, Question, RegoEngine, sources::Module},
    wire::{Limits, Stamp, decode, encode_message},
};

const ROUNDS: usize = 21;
/// Of the request; the content is to fill it.
const BYTES: usize = 186 * 1024;

/// An operator's rule that reads all of a content.
const RULE: &str = "package agentbus.modules.own
default allow := false
allow if count([value | walk(input.message.content, [_, value]); is_string(value); contains(value, \"?\")]) == 0";

fn main() {
    println!("a hand-over to a thread for computing and back: {:.1} us", hand_over());
    let tenant: TenantId = "acme".parse().unwrap();
    let sender: AgentId = "planner".parse().unwrap();
    let stamp = Stamp { tenant: &tenant, sender: &sender };
    let limits = Limits { content_bytes: 256 * 1024, ..Limits::default() };
    let own = Module { file: "own.rego".to_owned(), text: RULE.to_owned() };
    let shipped = RegoEngine::load(&PolicySources::shipped()).unwrap();
    let own = RegoEngine::load(&PolicySources { modules: vec![own], ..PolicySources::shipped() }).unwrap();
    let directory = Tenant::new(tenant.clone());

    println!(
        "{:<30} {:>7} {:>8} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "us", "bytes", "json", "ns/B", "msgpack", "to json", "drop", "shipped", "own rule"
    );
    let whole = contents(BYTES).into_iter().map(|(name, content)| (name.to_owned(), content));
    let here =
        contents(BYTES_HERE_MAX).into_iter().map(|(name, content)| (format!("{name}, 6 KiB"), content));
    for (name, content) in whole.chain(here) {
        let json = body(&content);
        let decoded = decode(json.as_bytes(), stamp, &limits).unwrap();
        let msgpack = decoded.canonical.clone();
        let read = |bytes: &[u8]| median(|| decode(black_box(bytes), stamp, &limits).unwrap());
        let from_json = read(json.as_bytes());
        let from_msgpack = read(&msgpack);
        let to_json = median(|| encode_message(&decoded.message, &decoded.canonical, Encoding::Json));
        let dropped = dropping(|| decode(&msgpack, stamp, &limits).unwrap());
        let ask = |engine: &RegoEngine| {
            let (roles, capabilities) = (BTreeSet::from(["implementer".to_owned()]), BTreeSet::new());
            let party = Party { id: &sender, roles: &roles, capabilities: &capabilities, registered: true };
            let question = Question {
                message: &decoded.message,
                size: decoded.canonical.len(),
                sender: party,
                recipient: party,
                tenant: &directory,
                approval: None,
                labels: None,
            };
            median(|| engine.decide(&question))
        };
        println!(
            "{name:<30} {:>7} {from_json:>8.0} {:>6.1} {from_msgpack:>8.0} {to_json:>8.0} {dropped:>8.0} {:>8.0} {:>8.0}",
            json.len(),
            from_json * 1e3 / json.len() as f64,
            ask(&shipped),
            ask(&own),
        );
    }
}

/// Of nothing, one after the other.
fn hand_over() -> f64 {
    let cpu = Cpu::start(CpuSettings { threads: 2, queue: 64 }, Arc::new(())).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let tenant: TenantId = "acme".parse().unwrap();
    let asking = async {
        for _ in 0..1_000 {
            cpu.run(&tenant, Work::Policy, || ()).await.unwrap();
        }
    };
    let started = Instant::now();
    runtime.block_on(asking);
    started.elapsed().as_micros() as f64 / 1e3
}

/// Contents of so many bytes at most, and so many values.
fn contents(bytes: usize) -> Vec<(&'static str, String)> {
    let fill = |unit: &str| unit.repeat(bytes.saturating_sub(256) / unit.len());
    let list = |entry: &dyn Fn(u32) -> String| {
        let room = bytes.saturating_sub(256);
        let mut out = String::from("\"a\":[");
        for at in 0..4_000 {
            let entry = entry(at);
            if out.len() + entry.len() > room {
                break;
            }
            out.push_str(&entry);
            out.push(',');
        }
        out.pop();
        out.push(']');
        out
    };
    let map = |key: &dyn Fn(u32) -> String| {
        let entries = list(&|at| format!("\"{}\":1", key(at)));
        entries.trim_start_matches("\"a\":[").trim_end_matches(']').to_owned()
    };
    let scattered = |at: u32| at.wrapping_mul(2_654_435_761);
    vec![
        ("one long text", format!("\"a\":\"{}\"", fill("x"))),
        ("text of escapes", format!("\"a\":\"{}\"", fill("\\n"))),
        ("text of control characters", format!("\"a\":\"{}\"", fill("\\u0001"))),
        ("short keys, scattered", map(&|at| format!("{:x}", scattered(at)))),
        ("long keys, alike", map(&|at| format!("{}{:08x}", "k".repeat(30), scattered(at)))),
        ("tiny texts", list(&|_| "\"x\"".to_owned())),
        ("empty maps", list(&|_| "{}".to_owned())),
        ("integers", list(&|at| (u64::MAX - u64::from(at)).to_string())),
        (
            "floats between two floats",
            list(&|at| format!("2.225073858507201136057409796709131975934{}e-308", at % 10)),
        ),
    ]
}

fn body(content: &str) -> String {
    format!(
        r#"{{"message_id":"m1","message_type":"query","to":{{"agent":"worker"}},"constitutional_hash":"cdd01ef066bc6cf2","content":{{{content}}},"created_at":1767268800000}}"#
    )
}

/// Microseconds of `run`, without the end of its result.
fn median<T>(run: impl Fn() -> T) -> f64 {
    middle(|| {
        let started = Instant::now();
        let done = black_box(run());
        let took = started.elapsed();
        drop(done);
        took
    })
}

/// Microseconds of the end of what `make` makes.
fn dropping<T>(make: impl Fn() -> T) -> f64 {
    middle(|| {
        let made = make();
        let started = Instant::now();
        drop(black_box(made));
        started.elapsed()
    })
}

fn middle(round: impl Fn() -> Duration) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS).map(|_| round().as_nanos() as f64 / 1e3).collect();
    times.sort_by(f64::total_cmp);
    times.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
}
