//! How is a bus node started as a child, and when is it ready?

use std::{
    fs::{self, OpenOptions, Permissions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{Child, Exit, ServerError, Tool, ports};

/// A node with a model loads it before it is ready.
const READY_WAIT: Duration = Duration::from_secs(60);
const READY_STEP: Duration = Duration::from_millis(20);
/// One question to its health endpoint.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// A status line is some ten bytes.
const STATUS_BYTES_MAX: u64 = 4 * 1024;
/// A node drains within 10 s of SIGTERM; a little more before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(12);
/// Free ports tried when another process takes the one that was just found.
const PORTS_TRIED_MAX: usize = 5;

/// What to start.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// As in `node-1`; names its configuration and log files too.
    pub name: String,
    /// `agentbus` itself.
    pub executable: PathBuf,
    /// For its configuration and log.
    pub folder: PathBuf,
    /// The node's configuration without `node.name` and `http.listen`.
    pub config: toml::Table,
    /// Of health and metrics. 0: a free one.
    pub http_port: u16,
}

/// A running node. Dropping it kills it.
#[derive(Debug)]
pub struct Node {
    options: NodeOptions,
    child: Child,
    http_port: u16,
}

impl Node {
    /// Writes its configuration, starts it and waits until it says that it is ready.
    pub async fn start(options: NodeOptions) -> Result<Self, ServerError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let http_port = if options.http_port == 0 { ports::free()? } else { options.http_port };
            match launch(&options, http_port).await {
                Ok(child) => return Ok(Self { options, child, http_port }),
                // Another process may have taken the free port in between.
                Err(ServerError::EndedEarly { .. })
                    if options.http_port == 0 && tried < PORTS_TRIED_MAX && !ports::is_free(http_port) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Where health and metrics are, as `127.0.0.1:8080`.
    pub fn http(&self) -> String {
        format!("127.0.0.1:{}", self.http_port)
    }

    pub fn child(&self) -> &Child {
        &self.child
    }

    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Starts it again with the same configuration. A node that still runs is stopped first.
    pub async fn restart(&mut self) -> Result<(), ServerError> {
        self.stop().await;
        self.child = launch(&self.options, self.http_port).await?;
        Ok(())
    }

    /// Has it read its configuration again with `over` laid on top, and waits until it says that it did.
    pub async fn reload(&mut self, over: &toml::Table) -> Result<(), ServerError> {
        const READ: [&str; 2] =
            ["SIGHUP: the configuration was read again", "SIGHUP: the configuration is not taken"];
        let mut options = self.options.clone();
        merge(&mut options.config, over);
        let name = options.name.clone();
        write_config(&options, self.http_port, &options.folder.join(format!("{name}.toml")))?;
        let said = |child: &Child| READ.map(|line| child.said(line));
        let [taken, refused] = said(&self.child);
        self.child.reload();
        let started = Instant::now();
        while started.elapsed() < READY_WAIT {
            if let Some(exit) = self.child.try_exited() {
                return Err(ServerError::EndedEarly { name, exit, tail: self.child.tail() });
            }
            let now = said(&self.child);
            if now != [taken, refused] {
                let [_, now_refused] = now;
                if now_refused == refused {
                    return Ok(());
                }
                break;
            }
            sleep(READY_STEP).await;
        }
        let last = "the configuration was not taken over".to_owned();
        Err(ServerError::NotReady { name, waited: started.elapsed(), last, tail: self.child.tail() })
    }

    pub async fn stop(&mut self) -> Exit {
        self.child.stop(STOP_GRACE).await
    }
}

async fn launch(options: &NodeOptions, http_port: u16) -> Result<Child, ServerError> {
    let NodeOptions { name, executable, folder, .. } = options;
    let config = folder.join(format!("{name}.toml"));
    write_config(options, http_port, &config)?;
    let mut command = Command::new(executable);
    command.args(["node", "--config"]).arg(&config);
    for tool in Tool::ALL {
        // They tell this program where servers are; a node's settings are in its file.
        command.env_remove(tool.variable());
    }
    let mut child = Child::spawn(name, command, &folder.join(format!("{name}.log")))?;
    let started = Instant::now();
    let mut last = "no answer".to_owned();
    while started.elapsed() < READY_WAIT {
        if let Some(exit) = child.try_exited() {
            return Err(ServerError::EndedEarly { name: name.clone(), exit, tail: child.tail() });
        }
        match timeout(ANSWER_WAIT, get_status(http_port, "/readyz")).await {
            Ok(Ok(200)) => return Ok(child),
            Ok(Ok(status)) => last = format!("/readyz answers {status}"),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => last = "no answer".to_owned(),
        }
        sleep(READY_STEP).await;
    }
    Err(ServerError::NotReady { name: name.clone(), waited: READY_WAIT, last, tail: child.tail() })
}

fn write_config(options: &NodeOptions, http_port: u16, path: &Path) -> Result<(), ServerError> {
    let mut own = toml::Table::new();
    own.insert("node".into(), toml::Table::from_iter([("name".into(), options.name.clone().into())]).into());
    let listen = format!("127.0.0.1:{http_port}");
    own.insert("http".into(), toml::Table::from_iter([("listen".into(), listen.into())]).into());
    let mut config = options.config.clone();
    merge(&mut config, &own);
    let text = format!("# Written at each start; edits are lost.\n{config}");
    fs::create_dir_all(&options.folder)
        .and_then(|()| write_private(path, &text))
        .map_err(|cause| ServerError::File { what: "node configuration", path: path.to_path_buf(), cause })
}

/// For its owner only: what it is told may hold a password.
fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    // One that was there keeps its mode otherwise.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())
}

/// Lays `over` on top of `base`, table by table.
pub fn merge(base: &mut toml::Table, over: &toml::Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// The status of a GET on loopback. Enough for a health endpoint of our own; no client is needed.
pub async fn get_status(port: u16, path: &str) -> io::Result<u16> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut line = Vec::new();
    BufReader::new(stream.take(STATUS_BYTES_MAX)).read_until(b'\n', &mut line).await?;
    String::from_utf8_lossy(&line)
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other("not an HTTP answer"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn overrides_win_and_leave_their_neighbours() {
        let mut base: toml::Table = "[a]\nx = 1\ny = 2\n[b]\nz = 3".parse().unwrap();
        merge(&mut base, &"[a]\nx = 9\n[c]\nw = 4".parse().unwrap());
        assert_eq!(base, "[a]\nx = 9\ny = 2\n[b]\nz = 3\n[c]\nw = 4".parse().unwrap());
    }
}
