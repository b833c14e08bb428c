//! On which of its parts does a node spend its processor time? Reads what `perf script` prints.
//!
//! Each sample counts once. System calls are told apart by what they do and for whom; everything else
//! counts for the part that its innermost known frame belongs to, so that a `malloc` is the
//! allocator's wherever it is called.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read},
};

use crate::tables::table;

/// System calls: a stack that holds one of the first words, and one of the second if there are any.
const SYSTEM: &[(&str, &[&str], &[&str])] = &[
    ("wake a thread (futex)", &["futex"], &[]),
    ("wake the I/O driver (eventfd)", &["eventfd_write", "mio::waker", "mio::sys::unix::waker"], &[]),
    ("wait for I/O and timers (epoll)", &["epoll", "ep_poll"], &[]),
    ("socket to Redis", SOCKET, &["fred::"]),
    ("socket to NATS", SOCKET, &["async_nats::"]),
    ("socket of HTTP", SOCKET, &["hyper::", "axum::"]),
];
const SOCKET: &[&str] = &[
    "__x64_sys_send",
    "__x64_sys_recv",
    "__x64_sys_write",
    "tcp_sendmsg",
    "tcp_recvmsg",
    "__send",
    "__recv",
    "writev",
];

/// A frame that holds one of the words belongs to the part. The first part that knows a frame wins,
/// from the innermost frame outwards.
const PARTS: &[(&str, &[&str])] = &[
    (
        "allocator",
        &["malloc", "calloc", "realloc", "cfree", "_int_free", "unlink_chunk", "__rdl_", "__rust_alloc"],
    ),
    ("decode, canonical form, encode", &["agentbus::wire", "rmp::", "rmp_serde", "serde_json"]),
    ("SHA-256", &["sha2::", "sha256"]),
    ("policy", &["agentbus::policy", "regorus"]),
    ("impact", &["agentbus::impact", "aho_corasick"]),
    ("Redis client", &["fred::", "redis_protocol", "agentbus::state"]),
    ("NATS headers", &["HeaderMap", "async_nats::header"]),
    ("NATS client", &["async_nats", "nuid", "agentbus::nats"]),
    ("metrics", &["prometheus_client", "agentbus::telemetry"]),
    ("logging", &["tracing"]),
    ("admission", &["governor", "admission"]),
    ("lanes", &["agentbus::lanes", "agentbus::governance"]),
    (
        "async runtime",
        &["tokio::", "futures_util", "futures_channel", "parking_lot", "std::thread", "std::sys", "mio::"],
    ),
];
const OTHER: &str = "other (start of threads, unknown frames)";
/// Lines of a profile that are read: a minute at 499 Hz on two cores is about three million.
const LINES_MAX: usize = 20_000_000;
const SYMBOLS_SHOWN: usize = 25;

/// Samples by part, and by the innermost frame.
#[derive(Debug, Default)]
struct Profile {
    samples: u64,
    parts: BTreeMap<&'static str, u64>,
    /// Of each part, how much of it in the kernel.
    kernel: BTreeMap<&'static str, u64>,
    symbols: BTreeMap<String, u64>,
}

/// Prints the shares of a profile that `perf script` wrote, from `input`.
pub(crate) fn run(input: impl Read) -> anyhow::Result<()> {
    let mut profile = Profile::default();
    let mut stack: Vec<String> = Vec::new();
    for line in BufReader::new(input).lines().take(LINES_MAX) {
        let line = line?;
        match line.chars().next() {
            // A blank line ends a sample; frames are indented; the head of a sample is not.
            None => profile.add(std::mem::take(&mut stack)),
            Some(c) if c.is_whitespace() => stack.push(line),
            Some(_) => stack.clear(),
        }
    }
    profile.add(stack);
    println!("{}", profile.show());
    Ok(())
}

impl Profile {
    fn add(&mut self, stack: Vec<String>) {
        let Some(innermost) = stack.first() else { return };
        self.samples += 1;
        let own = || stack.iter().find_map(|frame| part_of(frame));
        let part = system_of(&stack).or_else(own).unwrap_or(OTHER);
        *self.parts.entry(part).or_default() += 1;
        if innermost.contains("[kernel") || innermost.contains("[unknown]") && innermost.contains("ffffffff")
        {
            *self.kernel.entry(part).or_default() += 1;
        }
        *self.symbols.entry(symbol(innermost)).or_default() += 1;
    }

    fn show(&self) -> String {
        let share = |count: u64| format!("{:.1}", count as f64 * 100.0 / self.samples.max(1) as f64);
        let mut parts = table(&["part", "% of CPU", "of it in the kernel"]);
        for (part, count) in sorted(&self.parts) {
            parts.add_row([
                (*part).to_owned(),
                share(count),
                share(self.kernel.get(part).copied().unwrap_or_default()),
            ]);
        }
        let mut symbols = table(&["function", "% of CPU, itself"]);
        for (symbol, count) in sorted(&self.symbols).into_iter().take(SYMBOLS_SHOWN) {
            symbols.add_row([symbol.clone(), share(count)]);
        }
        format!("{} samples.\n\n{parts}\n\n{symbols}", self.samples)
    }
}

fn sorted<K: Ord>(counts: &BTreeMap<K, u64>) -> Vec<(&K, u64)> {
    let mut sorted: Vec<_> = counts.iter().map(|(key, &count)| (key, count)).collect();
    sorted.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    sorted
}

fn system_of(stack: &[String]) -> Option<&'static str> {
    let holds = |words: &[&str]| stack.iter().any(|frame| words.iter().any(|word| frame.contains(word)));
    SYSTEM
        .iter()
        .find(|(_, call, whose)| holds(call) && (whose.is_empty() || holds(whose)))
        .map(|(part, ..)| *part)
}

fn part_of(frame: &str) -> Option<&'static str> {
    PARTS.iter().find(|(_, words)| words.iter().any(|word| frame.contains(word))).map(|(part, _)| *part)
}

/// `  55d0 tokio::runtime::park+0x1f (/path/agentbus)` without address, offset and file.
fn symbol(frame: &str) -> String {
    let name = frame.trim_start().split_once(' ').map_or(frame, |(_, rest)| rest);
    let name = name.rsplit_once(" (").map_or(name, |(name, _)| name);
    let name = name.rsplit_once("+0x").map_or(name, |(name, _)| name);
    name.chars().take(90).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_counts_for_its_system_call_or_its_innermost_known_frame() {
        let mut profile = Profile::default();
        let frames = |frames: &[&str]| frames.iter().map(|frame| (*frame).to_owned()).collect();
        profile.add(frames(&[
            "  ffffffff81 do_syscall_64+0x5 ([kernel.kallsyms])",
            "  7f00 __send+0x1 (libc.so.6)",
            "  55d0 async_nats::connection::Connection::poll_write+0x2 (agentbus)",
            "  55d1 tokio::runtime::task::harness::poll+0x2 (agentbus)",
        ]));
        profile
            .add(frames(&["  7f00 malloc+0x1 (libc.so.6)", "  55d0 agentbus::wire::decode+0x1 (agentbus)"]));
        profile.add(frames(&["  55d0 main+0x1 (agentbus)"]));
        profile.add(Vec::new());
        assert_eq!(profile.samples, 3);
        assert_eq!(profile.parts, BTreeMap::from([("socket to NATS", 1), ("allocator", 1), (OTHER, 1)]));
        assert_eq!(profile.kernel, BTreeMap::from([("socket to NATS", 1)]));
        assert!(profile.symbols.contains_key("malloc"), "{:?}", profile.symbols);
    }
}
