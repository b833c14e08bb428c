//! How is a nats-server child started, and when is it ready?
//!
//! The port may be left to the server, which then binds one and tells it in its ports file: no
//! port is chosen first and bound later, so no other process can take it in between.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, BufReader},
    net::TcpStream,
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{Child, Exit, ServerError, Tool, find};

/// A server with a large JetStream store reads it before it takes clients.
const READY_WAIT: Duration = Duration::from_secs(20);
const READY_STEP: Duration = Duration::from_millis(10);
/// One try to read the greeting.
const GREETING_WAIT: Duration = Duration::from_secs(10);
/// The INFO line is some hundred bytes; a server that sends more than this is not ours.
const GREETING_BYTES_MAX: u64 = 64 * 1024;
/// JetStream flushes its files when it is asked to stop.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// What to start.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// As it is called in messages and as its log file.
    pub name: String,
    /// The server's configuration. Address and port are given as flags and win over it.
    pub config: PathBuf,
    /// For its log and its ports file.
    pub folder: PathBuf,
    /// 0: the server picks a free one.
    pub port: u16,
}

/// A running nats-server. Dropping it kills it.
#[derive(Debug)]
pub struct NatsServer {
    options: NatsOptions,
    program: PathBuf,
    child: Child,
    port: u16,
}

impl NatsServer {
    /// Starts it and waits until it greets clients.
    pub async fn start(options: NatsOptions) -> Result<Self, ServerError> {
        let program = find(Tool::NatsServer)?;
        let (child, port) = launch(&program, &options, options.port).await?;
        Ok(Self { options, program, child, port })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub fn child(&self) -> &Child {
        &self.child
    }

    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Starts it again on the same port and data, after it has ended or was killed. A server that
    /// still runs is stopped first.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await;
        (self.child, self.port) = launch(&self.program, &self.options, self.port).await?;
        Ok(())
    }

    /// Has it read its configuration again, and waits until it says that it did.
    pub async fn reload(&mut self) -> Result<(), ServerError> {
        // The server tells nobody else.
        const DONE: &str = "Reloaded server configuration";
        const FAILED: &str = "Failed to reload server configuration";
        let name = self.options.name.clone();
        if self.child.try_exited().is_some() {
            return Err(ServerError::NotRunning { name });
        }
        let said = |child: &Child| [DONE, FAILED].map(|line| child.said(line));
        let [done, failed] = said(&self.child);
        self.child.reload();
        let deadline = Instant::now() + GREETING_WAIT;
        loop {
            let [done_now, failed_now] = said(&self.child);
            if done_now > done {
                return Ok(());
            }
            let failed = failed_now > failed;
            if failed || Instant::now() > deadline {
                let last = if failed { "the configuration was refused" } else { "no answer to the reload" };
                let tail = self.child.tail();
                return Err(ServerError::NotReady { name, waited: GREETING_WAIT, last: last.into(), tail });
            }
            sleep(READY_STEP).await;
        }
    }

    pub async fn stop(&mut self) -> Exit {
        self.child.stop(STOP_GRACE).await
    }
}

async fn launch(program: &Path, options: &NatsOptions, port: u16) -> Result<(Child, u16), ServerError> {
    let NatsOptions { name, config, folder, .. } = options;
    let file = |cause| ServerError::File { what: "folder", path: folder.clone(), cause };
    let ports = folder.join("ports");
    fs::create_dir_all(&ports).map_err(file)?;
    let mut command = Command::new(program);
    command
        .args(["--addr", "127.0.0.1", "--port"])
        .arg(if port == 0 { "-1".to_owned() } else { port.to_string() })
        .arg("--config")
        .arg(config)
        .arg("--ports_file_dir")
        .arg(&ports);
    let log = folder.join(format!("{name}.log"));
    let mut child = with_late_timers(|| Child::spawn(name, command, &log))?;
    let started = Instant::now();
    let mut last = "no ports file yet".to_owned();
    while started.elapsed() < READY_WAIT {
        if let Some(exit) = child.try_exited() {
            return Err(ServerError::EndedEarly { name: name.clone(), exit, tail: child.tail() });
        }
        if let Some(port) = told_port(&ports, child.pid()) {
            match timeout(GREETING_WAIT, greeting(port)).await {
                Ok(Ok(())) => return Ok((child, port)),
                Ok(Err(error)) => last = error.to_string(),
                Err(_) => last = "no greeting".to_owned(),
            }
        }
        sleep(READY_STEP).await;
    }
    Err(ServerError::NotReady { name: name.clone(), waited: READY_WAIT, last, tail: child.tail() })
}

/// What it starts may be woken up to a millisecond late by a timer. The server's scheduler sleeps for 20 µs again and
/// again, which takes a quarter of its processor time (docs/benchmarks.md). Nothing that it times is as short as that.
#[cfg(target_os = "linux")]
fn with_late_timers<T>(start: impl FnOnce() -> T) -> T {
    use std::num::NonZeroU64;

    use rustix::thread::set_current_timer_slack;

    // A child has it from the thread that starts it.
    let _ = set_current_timer_slack(NonZeroU64::new(1_000_000));
    let started = start();
    let _ = set_current_timer_slack(None);
    started
}

#[cfg(not(target_os = "linux"))]
fn with_late_timers<T>(start: impl FnOnce() -> T) -> T {
    start()
}

/// The port from `<program>_<pid>.ports`: `{"nats":["nats://127.0.0.1:45007"], …}`.
fn told_port(folder: &Path, pid: u32) -> Option<u16> {
    let ending = format!("_{pid}.ports");
    let path = fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().ends_with(&ending))?
        .path();
    let told: serde_json::Value = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    let url = told.get("nats")?.get(0)?.as_str()?;
    url.rsplit(':').next()?.parse().ok()
}

/// Reads the server's first line, `INFO {…}`.
async fn greeting(port: u16) -> std::io::Result<()> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut line = Vec::new();
    BufReader::new(stream.take(GREETING_BYTES_MAX)).read_until(b'\n', &mut line).await?;
    match line.starts_with(b"INFO {") {
        true => Ok(()),
        false => Err(std::io::Error::other("the first line is not INFO")),
    }
}
