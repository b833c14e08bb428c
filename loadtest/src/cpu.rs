//! How much processor time did a process take? From `/proc/<pid>/stat`, so Linux only.

use std::{fs, time::Duration};

/// `utime` and `stime` are in ticks of 1/100 s: `USER_HZ`, the same on every Linux that Rust's
/// servers run on.
const TICK: Duration = Duration::from_millis(10);

/// What this thread has had of a processor: other work on the machine counts little.
pub(crate) fn of_this_thread() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Bytes of a process that are resident; 0 when it is gone.
pub(crate) fn memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kibibytes = resident.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or_default() * 1024
}

/// User and system time of a process, of all its threads, since its start.
pub(crate) fn time(pid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold spaces; after it the 12th and 13th fields are the times.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).filter_map(|f| f.parse::<u32>().ok()).sum();
    TICK * ticks
}

/// What the machine is, for the head of every table.
pub(crate) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZeroUsize::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']).trim();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{cores} cores, {model}, Linux {}", kernel.trim())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn work_shows_in_this_process_time() {
        let before = time(std::process::id());
        let started = std::time::Instant::now();
        let mut sum = 0_u64;
        while time(std::process::id()).saturating_sub(before) < TICK * 5 && started.elapsed().as_secs() < 20 {
            sum = (0..10_000_u64).fold(sum, |sum, n| std::hint::black_box(sum.wrapping_mul(31) + n));
        }
        assert!(time(std::process::id()).saturating_sub(before) >= TICK * 5, "{sum}");
    }
}
