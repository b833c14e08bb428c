//! How is a redis-server child started, and when is it ready?

use std::{fs, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::Command,
    time::{Instant, sleep, timeout},
};

use sha2::{Digest as _, Sha256};

use super::{Child, Exit, ServerError, Tool, find, ports, secrets};

const READY_WAIT: Duration = Duration::from_secs(30);
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

/// Whom nodes log in as.
pub const NODE_USER: &str = "agentbus";
/// What a node may do in Redis: what it does, and nothing else. `docs/operations.md` says the same.
pub const NODE_RIGHTS: &str = "resetkeys ~agentbus:* resetchannels -@all +hello +client|id +client|tracking +info \
    +ping +quit +eval +evalsha +time +set +del +getrange +exists +type +pttl +pexpire +zadd +zcard +zscore +zrange \
    +zrangebyscore +zrem +zremrangebyscore";
/// Who asks whether the server is there: knows who the server is, and nothing that is in it.
const PROBE_USER: &str = "probe";
const PROBE_RIGHTS: &str = "resetkeys resetchannels -@all +ping +info";

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
    password: String,
}

impl RedisServer {
    /// Starts it and waits until it answers.
    pub async fn start(options: RedisOptions) -> Result<Self, ServerError> {
        let program = find(Tool::RedisServer)?;
        let password = prepare(&options)?;
        let mut tried = 0;
        loop {
            tried += 1;
            let port = if options.port == 0 { ports::free()? } else { options.port };
            match launch(&program, &options, port).await {
                Ok(child) => return Ok(Self { options, program, child, port, password }),
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

    /// With the password of [`NODE_USER`], in a file.
    pub fn node_password_file(&self) -> PathBuf {
        self.options.folder.join("node.password")
    }

    /// Of Redis' user `default`, who may do everything. Also in the file `operator.password`.
    pub fn operator_password(&self) -> &str {
        &self.password
    }

    /// It keeps so many bytes and refuses what would be more; `None`: what it was started with.
    pub async fn limit_memory(&self, bytes: Option<u64>) -> Result<(), ServerError> {
        let most = bytes.map_or_else(|| MEMORY_MAX.to_owned(), |bytes| bytes.to_string());
        let line = format!("AUTH default {}\r\nCONFIG SET maxmemory {most}\r\n", self.password);
        let set = async {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
            stream.write_all(line.as_bytes()).await?;
            let mut answer = [0; "+OK\r\n+OK\r\n".len()];
            stream.read_exact(&mut answer).await?;
            match answer.starts_with(b"+OK\r\n+OK\r\n") {
                true => Ok(()),
                false => Err(std::io::Error::other(String::from_utf8_lossy(&answer).into_owned())),
            }
        };
        let last = match timeout(ANSWER_WAIT, set).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer".to_owned(),
        };
        let (name, tail) = (self.options.name.clone(), self.child.tail());
        Err(ServerError::NotReady { name, waited: ANSWER_WAIT, last, tail })
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
    prepare(options)?;
    // Everybody on the machine sees the arguments of a process, so what is secret is in a file: only hashes
    // of passwords, but a hash of a short-lived one more.
    let probe = secrets::random();
    let config = folder.join("redis.conf");
    secrets::write(&config, &users(options, &probe)?)?;
    let mut command = Command::new(program);
    command
        .arg(&config)
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
        match timeout(ANSWER_WAIT, process_id(port, &probe)).await {
            Ok(Ok(Some(pid))) if pid == child.pid() => return Ok(child),
            Ok(Ok(_)) => last = "another server answers on its port".to_owned(),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".to_owned(),
        }
        sleep(READY_STEP).await;
    }
    Err(ServerError::NotReady { name: name.clone(), waited: READY_WAIT, last, tail: child.tail() })
}

/// Its folder and passwords, made where they are not there. Returns the operator's.
fn prepare(options: &RedisOptions) -> Result<String, ServerError> {
    let RedisOptions { folder, .. } = options;
    let file = |cause| ServerError::File { what: "folder", path: folder.clone(), cause };
    fs::create_dir_all(folder).map_err(file)?;
    secrets::keep(&folder.join("node.password"))?;
    secrets::keep(&folder.join("operator.password"))
}

/// Who may do what, as Redis' configuration has it.
fn users(options: &RedisOptions, probe: &str) -> Result<String, ServerError> {
    let hash = |password: &str| hex::encode(Sha256::digest(password));
    let operator = hash(&secrets::keep(&options.folder.join("operator.password"))?);
    let node = hash(&secrets::keep(&options.folder.join("node.password"))?);
    let probe = hash(probe);
    Ok(format!(
        "# Written at each start; edits are lost.\n\
         user default reset on #{operator} ~* &* +@all\n\
         user {NODE_USER} on #{node} {NODE_RIGHTS}\n\
         user {PROBE_USER} on #{probe} {PROBE_RIGHTS}\n"
    ))
}

/// Which process serves as Redis on the port: a PONG alone could be a stranger's, and while it still
/// reads its data from disk it tells who it is and serves nothing.
async fn process_id(port: u16, password: &str) -> std::io::Result<Option<u32>> {
    const FIELD: &str = "process_id:";
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.write_all(format!("AUTH {PROBE_USER} {password}\r\nINFO server\r\nPING\r\n").as_bytes()).await?;
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
