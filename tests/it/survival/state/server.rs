//! How do these tests start and torment a redis-server of their own?

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use agentbus::servers::redis::{NODE_RIGHTS, NODE_USER};

use crate::support::{root, servers};

/// Of Redis' user `default`, who may do everything.
pub(crate) const OPERATOR: &str = "of-the-operator";
/// Of the user whom nodes log in as.
pub(crate) const NODE: &str = "of-the-nodes";

/// How a server differs from one that stands alone.
#[derive(Default)]
pub(crate) struct Setup {
    /// Instead of redis-server.
    pub(crate) program: Option<PathBuf>,
    /// What nodes may do besides.
    pub(crate) rights: &'static str,
    /// Lines of its configuration.
    pub(crate) lines: String,
    /// It watches over others, and keeps nothing.
    pub(crate) sentinel: bool,
}

/// A redis-server without persistence, killed on drop by its own id.
pub(crate) struct Server {
    child: Child,
    port: u16,
    folder: tempfile::TempDir,
    setup: Setup,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(Setup::default())
    }

    pub(crate) fn with(setup: Setup) -> Self {
        let port = servers::port();
        let folder = tempfile::tempdir().unwrap();
        Self { child: launch(port, folder.path(), &setup), port, folder, setup }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{NODE_USER}:{NODE}@127.0.0.1:{}", self.port)
    }

    pub(crate) fn url_of(&self, user: &str, password: &str) -> String {
        format!("redis://{user}:{password}@127.0.0.1:{}", self.port)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Empty, on the same port.
    pub(crate) fn start_again(&mut self) {
        self.child = launch(self.port, self.folder.path(), &self.setup);
    }

    /// The process stands still; its sockets stay open.
    pub(crate) fn pause(&self) {
        self.signal("-STOP");
    }

    pub(crate) fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        assert!(
            Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap().success()
        );
    }

    /// One command in Redis's inline form, and the beginning of the answer.
    pub(crate) fn tell(&self, command: &str) -> String {
        String::from_utf8_lossy(&self.tell_bytes(command)).into_owned()
    }

    /// The same for what is no text.
    pub(crate) fn tell_bytes(&self, command: &str) -> Vec<u8> {
        ask(self.port, command).unwrap()
    }

    /// Whether the answer has this in it. Without one it has not: a server that a Sentinel gives another role ends the
    /// connections of its clients.
    pub(crate) fn says(&self, command: &str, words: &str) -> bool {
        ask(self.port, command).is_some_and(|answer| String::from_utf8_lossy(&answer).contains(words))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A stopped process dies of SIGKILL as well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn launch(port: u16, folder: &Path, setup: &Setup) -> Child {
    let Setup { program: other, rights, lines, sentinel } = setup;
    let config = folder.join("redis.conf");
    let (first, keeps) = match sentinel {
        true => ("resetkeys resetchannels -@all", &["--sentinel"][..]),
        false => (
            NODE_RIGHTS,
            &["--save", "", "--appendonly", "no", "--maxmemory", "512mb", "--maxmemory-policy", "noeviction"]
                [..],
        ),
    };
    let users = format!(
        "user default reset on >{OPERATOR} ~* &* +@all\nuser {NODE_USER} on >{NODE} {first} {rights}\n{lines}\n"
    );
    fs::write(&config, users).unwrap();
    let mut child = Command::new(other.clone().unwrap_or_else(program))
        .arg(config)
        .args(keeps)
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--dir"])
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    while ask(port, "PING").is_none_or(|answer| !answer.starts_with(b"+PONG")) {
        assert!(child.try_wait().unwrap().is_none(), "redis-server ended");
        assert!(start.elapsed() < Duration::from_secs(60), "redis-server does not answer");
        sleep(Duration::from_millis(10));
    }
    child
}

fn program() -> PathBuf {
    let local = root().join(".servers/bin/redis-server");
    match env::var_os("AGENTBUS_REDIS_SERVER") {
        Some(path) => path.into(),
        None if local.exists() => local,
        None => "redis-server".into(),
    }
}

fn ask(port: u16, command: &str) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    stream.write_all(format!("AUTH {OPERATOR}\r\n").as_bytes()).ok()?;
    let mut ok = [0; 5];
    stream.read_exact(&mut ok).ok()?;
    assert_eq!(&ok, b"+OK\r\n");
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut answer = [0; 4096];
    let read = stream.read(&mut answer).ok()?;
    Some(answer.get(..read)?.to_vec())
}
