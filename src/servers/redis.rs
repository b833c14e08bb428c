//! How is a redis-server child started, and when is it ready?

use std::{fs, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{Child, Exit, ServerError, Tool, find, ports};

const READY_WAIT: Duration = Duration::from_secs(10);
const READY_STEP: Duration = Duration::from_millis(10);
/// One question and its answer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// `INFO server` is about a kilobyte.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Free ports tried when another process takes the one that was just found.
const PORTS_TRIED_MAX: usize = 5;
/// What it may hold. Full means refused writes, which the bus treats as a store that is down;
/// evicting would silently forget registrations and verdicts. About 1.8 million settled messages.
const MEMORY_MAX: &str = "1gb";

/// What to start.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// As it is called in messages and as its log file.
    pub name: String,
    /// For its log and, when it keeps any, its data.
    pub folder: PathBuf,
    /// 0: a free one.
    pub port: u16,
    pub data: RedisData,
}

/// What a redis-server still knows after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisData {
    /// Nothing: it comes back empty.
    InMemory,
    /// All that it confirmed, in an append-only file. A machine that dies takes the last second with it.
    OnDisk,
}

/// A running redis-server. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    options: RedisOptions,
    program: PathBuf,
    child: Child,
    port: u16,
}

impl RedisServer {
    /// Starts it and waits until it answers.
    pub async fn start(options: RedisOptions) -> Result<Self, ServerError> {
        let program = find(Tool::RedisServer)?;
        let mut tried = 0;
        loop {
            tried += 1;
            let port = if options.port == 0 { ports::free()? } else { options.port };
            match launch(&program, &options, port).await {
                Ok(child) => return Ok(Self { options, program, child, port }),
                // Another process may have taken the free port in between.
                Err(ServerError::EndedEarly { tail, .. })
                    if options.port == 0
                        && tried < PORTS_TRIED_MAX
                        && tail.contains("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn child(&self) -> &Child {
        &self.child
    }

    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Starts it again on the same port, with the data it has on disk, if any. A server that still runs is stopped first.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await;
        self.child = launch(&self.program, &self.options, self.port).await?;
        Ok(())
    }

    pub async fn stop(&mut self) -> Exit {
        self.child.stop(STOP_GRACE).await
    }
}

async fn launch(program: &PathBuf, options: &RedisOptions, port: u16) -> Result<Child, ServerError> {
    let RedisOptions { name, folder, port: _, data } = options;
    let file = |cause| ServerError::File { what: "folder", path: folder.clone(), cause };
    fs::create_dir_all(folder).map_err(file)?;
    let mut command = Command::new(program);
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
        .args(["--save", ""])
        .args(match data {
            RedisData::InMemory => ["--appendonly", "no", "--appendfsync", "no"],
            RedisData::OnDisk => ["--appendonly", "yes", "--appendfsync", "everysec"],
        })
        .args(["--maxmemory", MEMORY_MAX, "--maxmemory-policy", "noeviction", "--dir"])
        .arg(folder);
    let mut child = Child::spawn(name, command, &folder.join(format!("{name}.log")))?;
    let started = Instant::now();
    let mut last = "no answer".to_owned();
    while started.elapsed() < READY_WAIT {
        if let Some(exit) = child.try_exited() {
            return Err(ServerError::EndedEarly { name: name.clone(), exit, tail: child.tail() });
        }
        match timeout(ANSWER_WAIT, process_id(port)).await {
            Ok(Ok(Some(pid))) if pid == child.pid() => return Ok(child),
            Ok(Ok(_)) => last = "another server answers on its port".to_owned(),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".to_owned(),
        }
        sleep(READY_STEP).await;
    }
    Err(ServerError::NotReady { name: name.clone(), waited: READY_WAIT, last, tail: child.tail() })
}

/// Which process serves as Redis on the port: a PONG alone could be a stranger's, and while it still
/// reads its data from disk it tells who it is and serves nothing.
async fn process_id(port: u16) -> std::io::Result<Option<u32>> {
    const FIELD: &str = "process_id:";
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(b"INFO server\r\nPING\r\n").await?;
    let mut answer = Vec::new();
    let mut buffer = [0; 2048];
    while answer.len() < ANSWER_BYTES_MAX {
        let read = stream.read(&mut buffer).await?;
        answer.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        // Only a line that has its end: half a number is another number.
        let line =
            text.split_inclusive("\r\n").find(|line| line.starts_with(FIELD) && line.ends_with("\r\n"));
        if text.contains("\r\n-LOADING") {
            return Err(std::io::Error::other("it still reads its data"));
        }
        if let Some(line) = line
            && text.ends_with("+PONG\r\n")
        {
            return Ok(line.trim_start_matches(FIELD).trim().parse().ok());
        }
        if read == 0 {
            break;
        }
    }
    Ok(None)
}
