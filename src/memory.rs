//! How much memory may this node have, and how near is it to that? What takes memory asks here before the system ends the
//! process.
//!
//! The limit is the operator's (`limits.memory_bytes`), or else that of the control groups the process is in (cgroup v2 and
//! v1), or else what the machine has. What the kernel can take back, such as files that it has read, is not counted.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;

/// Of a limit, so much is left when caches are emptied and when work is shed.
const TIGHT_BELOW: f64 = 0.15;
const SHORT_BELOW: f64 = 0.08;
/// A machine has others, who take and give back: of its memory no more than this is kept free.
const TIGHT_BYTES: u64 = 512 << 20;
const SHORT_BYTES: u64 = 256 << 20;
/// A level is left when there is so much more room than where it began, so that it does not flicker.
const LEFT_AT: f64 = 1.25;
/// cgroup v1 says this or a little less where there is no limit.
const NO_LIMIT: u64 = 1 << 60;
/// Of control groups within each other.
const GROUPS_MAX: usize = 32;

/// The line of it in `/proc/self/status`, and those of what no file has.
pub(crate) const RESIDENT: &str = "VmRSS:";
const OWN: [&str; 2] = ["RssAnon:", "RssShmem:"];

/// How near a node is to what it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Pressure {
    #[default]
    None,
    /// Caches are emptied.
    Tight,
    /// New work is refused.
    Short,
}

/// What is used of what may be, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    pub used: u64,
    /// 0: nobody says.
    pub limit: u64,
    /// It is the machine's or a group's above its own, which others use too.
    shared: bool,
}

/// A node's memory, as it was looked at last. Clones share it.
#[derive(Debug, Clone)]
pub struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    system: System,
    /// The operator's own; absent: the system's.
    limit: Option<u64>,
    pressure: AtomicU8,
    last: Mutex<Reading>,
}

impl Memory {
    /// With the operator's own limit; without one, that of the system.
    pub fn new(limit: Option<u64>) -> Self {
        Self::of(System::default(), limit)
    }

    fn of(system: System, limit: Option<u64>) -> Self {
        let (pressure, last) = (AtomicU8::new(0), Mutex::default());
        Self(Arc::new(Inner { system, limit, pressure, last }))
    }

    /// As it was looked at last; one load.
    pub fn pressure(&self) -> Pressure {
        match self.0.pressure.load(Relaxed) {
            0 => Pressure::None,
            1 => Pressure::Tight,
            _ => Pressure::Short,
        }
    }

    pub fn reading(&self) -> Reading {
        *self.0.last.lock()
    }

    /// Looks again. Reads some small files of the kernel's.
    pub fn look(&self) -> Pressure {
        let reading = match self.0.limit {
            Some(limit) => Some(Reading { used: self.0.system.resident(), limit, shared: false }),
            None => self.0.system.read(),
        };
        let pressure = reading.map_or(Pressure::None, |reading| reading.pressure(self.pressure()));
        *self.0.last.lock() = reading.unwrap_or_default();
        self.0.pressure.store(pressure as u8, Relaxed);
        pressure
    }
}

impl Reading {
    /// From 0 to 1; 0 where nobody says.
    pub fn share(&self) -> f64 {
        if self.limit == 0 { 0.0 } else { (self.used as f64 / self.limit as f64).min(1.0) }
    }

    fn pressure(&self, before: Pressure) -> Pressure {
        let room = self.limit.saturating_sub(self.used) as f64;
        let below = |level: Pressure, share: f64, bytes: u64| {
            let of_limit = share * self.limit as f64;
            let bound = if self.shared { of_limit.min(bytes as f64) } else { of_limit };
            room < if before >= level { bound * LEFT_AT } else { bound }
        };
        if below(Pressure::Short, SHORT_BELOW, SHORT_BYTES) {
            Pressure::Short
        } else if below(Pressure::Tight, TIGHT_BELOW, TIGHT_BYTES) {
            Pressure::Tight
        } else {
            Pressure::None
        }
    }
}

/// Where the kernel tells.
#[derive(Debug)]
struct System {
    proc: PathBuf,
    groups: PathBuf,
}

impl Default for System {
    fn default() -> Self {
        Self { proc: "/proc".into(), groups: "/sys/fs/cgroup".into() }
    }
}

/// The files of a control group's memory.
struct Files {
    limit: &'static str,
    used: &'static str,
    /// Lines of `memory.stat` that the kernel can take back.
    files: [&'static str; 2],
}

const V2: Files =
    Files { limit: "memory.max", used: "memory.current", files: ["active_file", "inactive_file"] };
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    used: "memory.usage_in_bytes",
    files: ["total_active_file", "total_inactive_file"],
};

impl System {
    /// Of the control groups, or else of the machine.
    fn read(&self) -> Option<Reading> {
        self.of_groups().or_else(|| self.of_machine())
    }

    fn resident(&self) -> u64 {
        let status = fs::read_to_string(self.proc.join("self/status")).unwrap_or_default();
        let parts: Vec<u64> = OWN.iter().filter_map(|line| bytes_of(&status, line)).collect();
        if parts.is_empty() { bytes_of(&status, RESIDENT).unwrap_or_default() } else { parts.iter().sum() }
    }

    fn of_machine(&self) -> Option<Reading> {
        let told = fs::read_to_string(self.proc.join("meminfo")).ok()?;
        let (limit, free) = (bytes_of(&told, "MemTotal:")?, bytes_of(&told, "MemAvailable:")?);
        Some(Reading { used: limit.saturating_sub(free), limit, shared: true })
    }

    /// The limit that is nearest, of all groups that the process is in.
    fn of_groups(&self) -> Option<Reading> {
        let told = fs::read_to_string(self.proc.join("self/cgroup")).ok()?;
        let groups = told.lines().filter_map(|line| {
            let mut fields = line.splitn(3, ':');
            let (_, kinds, path) = (fields.next()?, fields.next()?, fields.next()?);
            match kinds {
                "" => Some((self.groups.clone(), V2, path)),
                _ if kinds.split(',').any(|kind| kind == "memory") => {
                    Some((self.groups.join("memory"), V1, path))
                }
                _ => None,
            }
        });
        let readings = groups.flat_map(|(root, files, path)| {
            // Within a container the path may be one of the machine's, which is not there: its root is the group then.
            let group = root.join(path.trim_start_matches('/'));
            let above = group.ancestors().take_while(|at| at.starts_with(&root)).take(GROUPS_MAX);
            let there = above.filter(|at| at.is_dir()).enumerate();
            let told = there.filter_map(|(up, at)| Some(Reading { shared: up > 0, ..files.read(at)? }));
            told.collect::<Vec<_>>()
        });
        readings.max_by(|a, b| a.share().total_cmp(&b.share()))
    }
}

impl Files {
    fn read(&self, group: &Path) -> Option<Reading> {
        let number = |name: &str| fs::read_to_string(group.join(name)).ok()?.trim().parse::<u64>().ok();
        // "max" is no number.
        let limit = number(self.limit).filter(|limit| *limit < NO_LIMIT)?;
        let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let files = stat.lines().filter_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            if self.files.contains(&name) { bytes.trim().parse::<u64>().ok() } else { None }
        });
        Some(Reading { used: number(self.used)?.saturating_sub(files.sum()), limit, shared: false })
    }
}

/// Memory that the process has in RAM, if the system says.
pub fn resident_bytes() -> Option<u64> {
    bytes_of(&fs::read_to_string("/proc/self/status").ok()?, RESIDENT)
}

/// Of a line such as `VmRSS:   1024 kB`.
pub(crate) fn bytes_of(told: &str, line: &str) -> Option<u64> {
    let found = told.lines().find_map(|found| found.strip_prefix(line))?;
    found.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests;
