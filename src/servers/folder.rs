//! Whose data folder is this, who runs in it, and what did an earlier run leave behind?

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::PermissionsExt,
    path::{self, Path, PathBuf},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::{Instant, sleep};

/// Raised when a later version cannot use what an earlier one wrote.
const FORMAT: u32 = 1;
const MARKER: &str = "FORMAT";
const LOCK: &str = "lock";
const CHILDREN: &str = "children";
const RUNNING: &str = "up.json";
/// Where a fleet is told what to break in it, and the file that ends that.
pub(super) const SOCKET: &str = "chaos.sock";
pub(super) const STOP_FILE: &str = "chaos.stop";
/// What the bus writes; nothing else is ever deleted.
const OURS: [&str; 13] = [
    MARKER,
    LOCK,
    CHILDREN,
    RUNNING,
    TENANTS,
    ".gitignore",
    "keys",
    "nats",
    "jetstream",
    "redis",
    "nodes",
    SOCKET,
    STOP_FILE,
];
/// The operator's own file; survives even a fresh start.
const TENANTS: &str = "tenants.toml";
/// The files read here are of a few hundred bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// How long a left-over process may take to end before it is killed, and after.
const LEFTOVER_GRACE: Duration = Duration::from_secs(5);
const LEFTOVER_STEP: Duration = Duration::from_millis(20);

/// A data folder that this process, and no other, runs in. Dropping it lets go of the folder.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    // Held, not read: the lock ends with the file, however this process ends.
    _lock: File,
}

/// Why a folder cannot be used. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("agentbus already runs in {} ({holder}); stop it, or use another folder with --dir", path.display())]
    InUse { path: PathBuf, holder: String },
    #[error(
        "{} holds {found:?}, which is not from agentbus; use another folder with --dir",
        path.display()
    )]
    Foreign { path: PathBuf, found: String },
    #[error(
        "{} was written in format {found}, and this version writes format {FORMAT}; start over with \
         --fresh (deletes its keys and stored messages, keeps {TENANTS}), or use another folder with --dir",
        path.display()
    )]
    OtherFormat { path: PathBuf, found: String },
    #[error("cannot {what} {}: {cause}", path.display())]
    File { what: &'static str, path: PathBuf, cause: io::Error },
}

/// What runs, as `up.json` tells other tools.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Running {
    /// Of `agentbus up`.
    pub pid: u32,
    pub nats_url: String,
    /// Absent: nodes keep their state in memory.
    pub redis_url: Option<String>,
    pub nodes: Vec<RunningNode>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunningNode {
    pub name: String,
    /// Health and metrics, as `127.0.0.1:8080`.
    pub http: String,
}

impl Running {
    /// What runs in the folder; `None` when nothing does.
    pub fn read(folder: &Path) -> Option<Self> {
        let running: Self = serde_json::from_slice(&read_bounded(&folder.join(RUNNING)).ok()?).ok()?;
        // A killed run leaves its file; the lock tells the truth.
        let lock = File::open(folder.join(LOCK)).ok()?;
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)).then_some(running)
    }
}

impl Folder {
    /// Takes the folder, creating it where needed.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let folder = Self::take(path)?;
        folder.check_format()?;
        Ok(folder)
    }

    /// Takes the folder and deletes what earlier runs wrote, of any format, but `tenants.toml`.
    pub async fn open_fresh(path: &Path) -> Result<Self, FolderError> {
        let folder = Self::take(path)?;
        folder.end_leftovers().await;
        for name in OURS.iter().filter(|name| ![LOCK, TENANTS].contains(name)) {
            let path = folder.path.join(name);
            let removed = match path.symlink_metadata() {
                Err(_) => Ok(()),
                Ok(meta) if meta.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
            };
            removed.map_err(|cause| FolderError::File { what: "delete", path, cause })?;
        }
        folder.check_format()?;
        Ok(folder)
    }

    /// Absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn take(given: &Path) -> Result<Self, FolderError> {
        let failed = |what, path: &Path| {
            let path = path.to_path_buf();
            move |cause| FolderError::File { what, path, cause }
        };
        let path = path::absolute(given).map_err(failed("find", given))?;
        if let Some(found) = foreign_entry(&path) {
            return Err(FolderError::Foreign { path, found });
        }
        fs::create_dir_all(&path).map_err(failed("create", &path))?;
        // It holds keys.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).map_err(failed("protect", &path))?;
        let name = path.join(LOCK);
        let mut lock = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&name)
            .map_err(failed("open", &name))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let pid = read_bounded(&name).unwrap_or_default();
                let pid = String::from_utf8_lossy(&pid).trim().parse::<u32>();
                let holder = pid.map_or_else(|_| "pid unknown".to_owned(), |pid| format!("pid {pid}"));
                return Err(FolderError::InUse { path, holder });
            }
            Err(TryLockError::Error(cause)) => return Err(failed("lock", &name)(cause)),
        }
        lock.set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(failed("write", &name))?;
        Ok(Self { path, _lock: lock })
    }

    fn check_format(&self) -> Result<(), FolderError> {
        let path = self.path.join(MARKER);
        match read_bounded(&path) {
            Ok(text) => {
                let found = String::from_utf8_lossy(&text).trim().to_owned();
                match found.parse() {
                    Ok(FORMAT) => Ok(()),
                    _ => {
                        let found = found.chars().filter(|c| !c.is_control()).take(20).collect();
                        Err(FolderError::OtherFormat { path: self.path.clone(), found })
                    }
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.write(MARKER, &format!("{FORMAT}\n"))
            }
            Err(cause) => Err(FolderError::File { what: "read", path, cause }),
        }
    }

    /// Notes who was started, so that the next run can end them if this one is killed.
    pub fn note_children(&self, children: &[(&str, u32)]) -> Result<(), FolderError> {
        let lines: String = children
            .iter()
            .filter_map(|(name, pid)| Some(format!("{pid} {} {name}\n", start_time(*pid)?)))
            .collect();
        self.write(CHILDREN, &lines)
    }

    /// Ends servers that a killed run left behind: they hold the ports, and two NATS servers on one
    /// JetStream folder destroy it. Returns their names. A process id that meanwhile belongs to
    /// another process is told by its start time, and left alone.
    pub async fn end_leftovers(&self) -> Vec<String> {
        let noted = read_bounded(&self.path.join(CHILDREN)).unwrap_or_default();
        let mut ended = Vec::new();
        for line in String::from_utf8_lossy(&noted).lines() {
            let mut words = line.split(' ');
            let (Some(pid), Some(started), Some(name)) = (words.next(), words.next(), words.next()) else {
                continue;
            };
            let Ok(pid) = pid.parse::<u32>() else { continue };
            if end_leftover(pid, started).await {
                ended.push(name.to_owned());
            }
        }
        ended
    }

    /// Tells other tools what runs.
    pub fn publish(&self, running: &Running) -> Result<(), FolderError> {
        let json = serde_json::to_string_pretty(running).unwrap_or_default();
        self.write(RUNNING, &(json + "\n"))
    }

    /// After all children have ended.
    pub fn unpublish(&self) {
        for name in [RUNNING, CHILDREN] {
            let _ = fs::remove_file(self.path.join(name));
        }
    }

    /// Whole or not at all.
    fn write(&self, name: &str, text: &str) -> Result<(), FolderError> {
        let path = self.path.join(name);
        let partial = self.path.join(format!(".{name}.partial"));
        fs::write(&partial, text)
            .and_then(|()| fs::rename(&partial, &path))
            .map_err(|cause| FolderError::File { what: "write", path, cause })
    }
}

/// Something in the folder that the bus did not write.
fn foreign_entry(path: &Path) -> Option<String> {
    if path.join(MARKER).exists() {
        return None;
    }
    fs::read_dir(path).ok()?.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = OURS.contains(&name.as_str()) || name.ends_with(".partial");
        (!ours).then_some(name)
    })
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// When the process started, in clock ticks since boot: with the id, it names a process for good.
/// `None` when there is none, or the system does not tell.
fn start_time(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may hold anything; the third is the state.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    match fields.next()? {
        // A zombie holds nothing any more.
        "Z" | "X" => None,
        _ => fields.nth(18).map(str::to_owned),
    }
}

async fn end_leftover(pid: u32, started: &str) -> bool {
    let same = || start_time(pid).as_deref() == Some(started);
    let Some(id) = i32::try_from(pid).ok().and_then(Pid::from_raw).filter(|_| same()) else { return false };
    for signal in [Signal::TERM, Signal::KILL] {
        let _ = kill_process(id, signal);
        let deadline = Instant::now() + LEFTOVER_GRACE;
        while same() && Instant::now() < deadline {
            sleep(LEFTOVER_STEP).await;
        }
        if !same() {
            break;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::process::{Command, Stdio};

    use super::*;

    /// A process that another test starts just now holds a copy of a lock until it runs its own program.
    fn soon(done: impl Fn() -> bool) {
        let looks = std::iter::repeat_with(|| {
            std::thread::sleep(Duration::from_millis(5));
            done()
        });
        assert!(looks.take(2_000).any(|done| done));
    }

    #[test]
    fn a_folder_is_held_by_one_at_a_time_and_the_second_learns_the_pid() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = Folder::open(&path).unwrap();
        let error = Folder::open(&path).unwrap_err();
        assert!(matches!(error, FolderError::InUse { .. }), "{error}");
        assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
        drop(first);
        soon(|| Folder::open(&path).is_ok());
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_with_other_peoples_files_is_refused_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("thesis.tex"), "x").unwrap();
        let error = Folder::open(dir.path()).unwrap_err();
        assert!(matches!(&error, FolderError::Foreign { found, .. } if found == "thesis.tex"), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_folder_in_which_tenants_were_generated_before_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("keys")).unwrap();
        Folder::open(dir.path()).unwrap();
    }

    #[tokio::test]
    async fn a_folder_of_another_format_names_the_way_out_and_fresh_takes_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MARKER), "99\n").unwrap();
        fs::create_dir(dir.path().join("jetstream")).unwrap();
        fs::write(dir.path().join(TENANTS), "mine").unwrap();
        let error = Folder::open(dir.path()).unwrap_err();
        assert!(matches!(&error, FolderError::OtherFormat { found, .. } if found == "99"), "{error}");
        assert!(error.to_string().contains("--fresh"), "{error}");
        let folder = Folder::open_fresh(dir.path()).await.unwrap();
        assert!(!dir.path().join("jetstream").exists());
        assert_eq!(fs::read_to_string(dir.path().join(TENANTS)).unwrap(), "mine");
        drop(folder);
        soon(|| Folder::open(dir.path()).is_ok());
    }

    #[tokio::test]
    async fn what_a_killed_run_left_is_ended_and_a_stranger_with_its_pid_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let sleeper = || Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        let (mut left, mut stranger) = (sleeper(), sleeper());
        folder.note_children(&[("nats", left.id())]).unwrap();
        let noted = fs::read_to_string(dir.path().join(CHILDREN)).unwrap();
        fs::write(dir.path().join(CHILDREN), format!("{noted}{} 1 other\n", stranger.id())).unwrap();
        assert_eq!(folder.end_leftovers().await, ["nats"]);
        assert!(!left.wait().unwrap().success());
        assert!(stranger.try_wait().unwrap().is_none());
        stranger.kill().unwrap();
        stranger.wait().unwrap();
    }

    #[test]
    fn what_runs_is_told_only_while_it_runs() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::open(dir.path()).unwrap();
        let running = Running {
            pid: std::process::id(),
            nats_url: "nats://127.0.0.1:4222".into(),
            redis_url: None,
            nodes: vec![RunningNode { name: "node-1".into(), http: "127.0.0.1:8080".into() }],
        };
        folder.publish(&running).unwrap();
        assert_eq!(Running::read(dir.path()), Some(running));
        // As after SIGKILL: the file stays, the lock does not.
        drop(folder);
        soon(|| Running::read(dir.path()).is_none());
    }
}
