//! How do all nodes get the same share of processor time, however many there are? Each is in a cgroup of its own,
//! with a quota (cgroup v1, as root).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

const ROOT: &str = "/sys/fs/cgroup/cpu";
/// The least that a process can be given at a time: a node that has used it up stands still for as short as can be.
const QUOTA_US: f64 = 1_000.0;

/// One process's quota. Dropping it gives the process all there is again.
#[derive(Debug)]
pub(crate) struct Quota {
    folder: PathBuf,
    pid: u32,
}

impl Quota {
    pub(crate) fn of(pid: u32, cores: f64) -> anyhow::Result<Self> {
        let folder = Path::new(ROOT).join(format!("agentbus-loadtest-{pid}"));
        fs::create_dir(&folder).with_context(|| {
            format!("node_cores: {} cannot be made, expected cgroup v1 and root", folder.display())
        })?;
        let quota = Self { folder, pid };
        let period = (QUOTA_US / cores).round().max(QUOTA_US);
        quota.write("cpu.cfs_period_us", period)?;
        quota.write("cpu.cfs_quota_us", (period * cores).round().max(QUOTA_US))?;
        quota.write("cgroup.procs", f64::from(pid))?;
        Ok(quota)
    }

    fn write(&self, file: &str, number: f64) -> anyhow::Result<()> {
        let path = self.folder.join(file);
        fs::write(&path, number.to_string()).with_context(|| format!("{}: {number}", path.display()))
    }
}

impl Drop for Quota {
    fn drop(&mut self) {
        // It may have ended; a cgroup goes when nobody is in it.
        let _ = fs::write(Path::new(ROOT).join("cgroup.procs"), self.pid.to_string());
        if let Err(error) = fs::remove_dir(&self.folder) {
            eprintln!("loadtest: {}: {error}", self.folder.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// Where there is no cgroup v1, or no root, a profile with `node_cores` is refused in words.
    #[test]
    fn a_process_has_its_quota_until_it_is_dropped() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        match Quota::of(child.id(), 0.25) {
            Err(error) => {
                let error = format!("{error:#}");
                assert!(error.contains("expected cgroup v1 and root"), "{error}");
            }
            Ok(quota) => {
                let folder = quota.folder.clone();
                let read = |file: &str| fs::read_to_string(folder.join(file)).unwrap().trim().to_owned();
                assert_eq!(
                    (read("cpu.cfs_quota_us"), read("cpu.cfs_period_us")),
                    ("1000".into(), "4000".into())
                );
                assert_eq!(read("cgroup.procs"), child.id().to_string());
                drop(quota);
                assert!(!folder.exists() && child.try_wait().unwrap().is_none());
            }
        }
        drop(child.stdin.take());
        child.wait().unwrap();
    }
}
