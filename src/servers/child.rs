//! How is one child process started, watched, and ended without leaving anything behind?
//!
//! The child writes its output straight to its log file: nothing of ours can hold it up, and the
//! last lines are still there when the parent is killed. Signals go to the child's own process id
//! while it is not yet reaped, so never to a stranger who got the same number.

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use tokio::process::Command;

use super::ServerError;

/// Lines shown of a child's log.
const TAIL_LINES: usize = 40;
/// Bytes of the log's end that are read for them.
const TAIL_BYTES: u64 = 16 * 1024;
/// A log beyond this is moved to `<log>.1` when the child is looked after.
const LOG_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How long a dropped child, already sent SIGKILL, is waited for.
const REAP_WAIT: Duration = Duration::from_secs(2);
/// How often a dropped child is looked at; a killed process is gone within a few milliseconds.
const REAP_STEP: Duration = Duration::from_millis(2);

/// A process started by this one. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    name: String,
    log: PathBuf,
    /// Where its own lines begin: the log may hold those of earlier runs.
    log_start: u64,
    inner: tokio::process::Child,
    /// Kept after the end, for messages.
    pid: u32,
    exit: Option<Exit>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit(pub ExitStatus);

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.code(), self.0.signal()) {
            (Some(code), _) => write!(f, "exit code {code}"),
            (None, Some(9)) => f.write_str("killed by SIGKILL"),
            (None, Some(15)) => f.write_str("ended by SIGTERM"),
            (None, Some(signal)) => write!(f, "ended by signal {signal}"),
            (None, None) => f.write_str("ended"),
        }
    }
}

impl Child {
    /// Starts `command` with its output appended to `log`, in a process group of its own: Ctrl-C in
    /// the terminal must reach only the parent, which then stops its children in order.
    pub fn spawn(name: &str, mut command: Command, log: &Path) -> Result<Self, ServerError> {
        let file = |cause| ServerError::File { what: "log file", path: log.to_path_buf(), cause };
        let output = OpenOptions::new().create(true).append(true).open(log).map_err(file)?;
        let log_start = output.metadata().map_err(file)?.len();
        let errors = output.try_clone().map_err(file)?;
        let spawned = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let inner = spawned.map_err(|cause| ServerError::Spawn { name: name.into(), cause })?;
        let pid = inner.id().unwrap_or_default();
        Ok(Self { name: name.into(), log: log.to_path_buf(), log_start, inner, pid, exit: None })
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id it has or had.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    pub fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn try_exited(&mut self) -> Option<Exit> {
        if self.exit.is_none() {
            self.exit = self.inner.try_wait().ok().flatten().map(Exit);
        }
        self.exit
    }

    /// Resolves when it has ended. Cancel safe; may be asked again.
    pub async fn exited(&mut self) -> Exit {
        if let Some(exit) = self.exit {
            return exit;
        }
        match self.inner.wait().await {
            Ok(status) => *self.exit.insert(Exit(status)),
            // Only when the child was reaped behind our back; it is gone either way.
            Err(_) => *self.exit.insert(Exit(ExitStatus::from_raw(0))),
        }
    }

    /// Asks it to end, and kills it when it has not within `grace`.
    pub async fn stop(&mut self, grace: Duration) -> Exit {
        self.signal(Signal::TERM);
        match tokio::time::timeout(grace, self.exited()).await {
            Ok(exit) => exit,
            Err(_) => self.kill().await,
        }
    }

    /// Ends it at once (SIGKILL).
    pub async fn kill(&mut self) -> Exit {
        self.signal(Signal::KILL);
        self.exited().await
    }

    /// Freezes it (SIGSTOP): alive, its connections open, and answering nothing.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on after [`Child::pause`].
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Asks it to read its configuration again (SIGHUP).
    pub fn reload(&mut self) {
        self.signal(Signal::HUP);
    }

    /// No file of it grows beyond so many bytes: writes fail as on a full disk. `None`: any size.
    pub fn limit_files(&mut self, bytes: Option<u64>) -> std::io::Result<()> {
        let Some(pid) = self.running() else { return Err(std::io::ErrorKind::NotFound.into()) };
        // The highest that it may have is this process's own, and cannot be raised again once it was lowered.
        let maximum = getrlimit(Resource::Fsize).maximum;
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes.or(maximum), maximum })?;
        Ok(())
    }

    /// How often its log has this text.
    pub fn said(&self, text: &str) -> usize {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log).matches(text).count()
    }

    /// The last lines of its log since it was started, at most 40.
    pub fn tail(&self) -> String {
        tail(&self.log, self.log_start).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// Keeps the log within its bound: the full one becomes `<log>.1`, the one before it goes.
    pub fn trim_log(&self) {
        let full = self.log.metadata().is_ok_and(|meta| meta.len() > LOG_BYTES_MAX);
        if !full {
            return;
        }
        let previous = PathBuf::from(format!("{}.1", self.log.display()));
        // Copied and cut, not renamed: the child holds the file open, and appends from wherever
        // its end is. Lines written in between are lost; the log is for people.
        let trimmed = std::fs::copy(&self.log, previous)
            .and_then(|_| OpenOptions::new().write(true).open(&self.log))
            .and_then(|file| file.set_len(0));
        if let Err(cause) = trimmed {
            tracing::warn!(child = %self.name, %cause, "log not trimmed");
        }
    }

    /// While it is not yet reaped its id is nobody else's.
    fn running(&self) -> Option<Pid> {
        self.inner.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw)
    }

    /// Sends a signal, unless it has been reaped and its id may be another's.
    fn signal(&mut self, signal: Signal) {
        if let Some(pid) = self.running() {
            // It may have just ended; then there is nothing to signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.try_exited().is_some() {
            return;
        }
        let _ = self.inner.start_kill();
        // Waiting here, briefly, means that the port and the files are free when drop returns.
        let deadline = Instant::now() + REAP_WAIT;
        while self.try_exited().is_none() && Instant::now() < deadline {
            thread::sleep(REAP_STEP);
        }
    }
}

fn tail(log: &Path, from: u64) -> std::io::Result<String> {
    let mut file = File::open(log)?;
    let length = file.metadata()?.len();
    // A trimmed log is shorter than where it once began.
    let from = if from > length { 0 } else { from };
    file.seek(SeekFrom::Start(from.max(length.saturating_sub(TAIL_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default();
    // A log line may hold anything; control characters must not reach a terminal.
    Ok(shown
        .iter()
        .map(|line| line.chars().filter(|c| !c.is_control()).collect::<String>())
        .collect::<Vec<_>>()
        .join("\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn shell(folder: &Path, script: &str) -> Child {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]);
        Child::spawn("shell", command, &folder.join("shell.log")).unwrap()
    }

    /// Waits until the child's log has the word.
    async fn told(child: &Child, word: &str) {
        for _ in 0..12_000 {
            if child.tail().contains(word) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(child.tail().contains(word), "{}", child.tail());
    }

    fn alive(pid: u32) -> bool {
        Path::new(&format!("/proc/{pid}")).exists()
    }

    #[tokio::test]
    async fn a_dead_child_is_noticed_with_its_exit_and_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let mut child =
            shell(folder.path(), "for i in $(seq 100); do echo line $i; done; echo bad >&2; exit 3");
        let exit = child.exited().await;
        assert_eq!(exit.to_string(), "exit code 3");
        assert_eq!(child.try_exited(), Some(exit));
        let tail = child.tail();
        assert!(tail.ends_with("line 100\nbad"), "{tail}");
        assert_eq!(tail.lines().count(), TAIL_LINES);
    }

    #[tokio::test]
    async fn the_last_lines_are_those_of_this_run() {
        let folder = tempfile::tempdir().unwrap();
        shell(folder.path(), "echo before").exited().await;
        let mut child = shell(folder.path(), "echo now");
        child.exited().await;
        assert_eq!(child.tail(), "now");
    }

    #[tokio::test]
    async fn a_dropped_child_is_gone_when_drop_returns() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell(folder.path(), "trap '' TERM; while :; do sleep 0.1; done");
        let pid = child.pid();
        assert!(alive(pid));
        drop(child);
        assert!(!alive(pid));
    }

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed_after_the_grace() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell(folder.path(), "trap '' TERM; echo up; while :; do sleep 0.05; done");
        told(&child, "up").await;
        let exit = child.stop(Duration::from_millis(200)).await;
        assert_eq!(exit.to_string(), "killed by SIGKILL");
    }

    #[tokio::test]
    async fn a_paused_child_does_nothing_until_it_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let script = "echo up; while [ ! -e go ]; do sleep 0.02; done";
        let mut child = shell(folder.path(), &format!("cd {}; {script}", folder.path().display()));
        told(&child, "up").await;
        child.pause();
        std::fs::write(folder.path().join("go"), "").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(400), child.exited()).await.is_err());
        child.resume();
        assert_eq!(child.exited().await.to_string(), "exit code 0");
    }

    #[tokio::test]
    async fn control_characters_of_a_log_do_not_reach_the_terminal() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell(folder.path(), r"printf 'a\033[2Jb\n'");
        child.exited().await;
        assert_eq!(child.tail(), "a[2Jb");
    }

    #[tokio::test]
    async fn a_full_log_is_moved_aside_and_the_child_goes_on_writing() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell(folder.path(), "read x; while :; do echo tick; sleep 0.02; done");
        let log = OpenOptions::new().write(true).open(child.log()).unwrap();
        log.set_len(LOG_BYTES_MAX + 1).unwrap();
        child.trim_log();
        told(&child, "tick").await;
        assert!(child.log().metadata().unwrap().len() < 10_000);
        assert!(folder.path().join("shell.log.1").exists());
    }
}
