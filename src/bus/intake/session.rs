//! One connection to a NATS server, from the dial to the log-in.

use std::io;

use async_nats::{ServerAddr, ServerInfo};
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::codec::{self, Broken, Operation};
use crate::{
    tenants::{Seed, keys::KeysError},
    tls::{self, TlsError},
};

/// Whatever bytes go over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection on which the server has accepted who we are.
pub(super) struct Session {
    pub(super) stream: Box<dyn Stream>,
    /// Read behind the log-in.
    pub(super) read: BytesMut,
    pub(super) info: ServerInfo,
}

/// Why a connection could not be had, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    #[error("nats.nkey_file: {0}")]
    Key(#[from] KeysError),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Tls(#[from] TlsError),
    #[error("{0} is a WebSocket; name the server's client port")]
    WebSocket(String),
    #[error("what answers is no NATS server: {0}")]
    NotNats(&'static str),
    /// The server's own word.
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("the server broke off: {0}")]
    Broken(#[from] Broken),
    #[error("the server has closed the connection")]
    Closed,
    #[error("no answer from the server in time")]
    Silent,
    #[error("the server is about to stop")]
    LameDuck,
}

/// Who logs in.
pub(super) struct Login {
    pub(super) name: String,
    pub(super) seed: Option<Seed>,
}

#[derive(serde::Serialize)]
struct Connect<'a> {
    verbose: bool,
    pedantic: bool,
    tls_required: bool,
    lang: &'static str,
    version: &'static str,
    protocol: u8,
    headers: bool,
    no_responders: bool,
    echo: bool,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    nkey: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sig: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pass: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_token: Option<&'a str>,
}

/// Dials, upgrades to TLS where it is asked for, and logs in. The caller bounds the wait.
pub(super) async fn open(server: &ServerAddr, login: &Login) -> Result<Session, SessionError> {
    if server.is_websocket() {
        return Err(SessionError::WebSocket(server.host().to_owned()));
    }
    let tcp = TcpStream::connect((bare(server.host()), server.port())).await?;
    tcp.set_nodelay(true)?;
    let mut read = BytesMut::with_capacity(64 * 1024);
    let mut stream: Box<dyn Stream> = Box::new(tcp);
    let Operation::Info(info) = next(&mut stream, &mut read).await? else {
        return Err(SessionError::NotNats("its first word is not INFO"));
    };
    let info = read_info(&info)?;
    let encrypted = server.tls_required() || info.tls_required;
    if encrypted {
        let connector = tokio::task::spawn_blocking(tls::connector).await.map_err(io::Error::other)??;
        stream = Box::new(connector.connect(tls::server_name(bare(server.host()))?, stream).await?);
    }
    let connect = hello(server, login, &info, encrypted)?;
    let json = serde_json::to_string(&connect).map_err(io::Error::other)?;
    stream.write_all(format!("CONNECT {json}\r\nPING\r\n").as_bytes()).await?;
    stream.flush().await?;
    loop {
        match next(&mut stream, &mut read).await? {
            Operation::Pong => return Ok(Session { stream, read, info }),
            Operation::Error(why) => {
                return Err(SessionError::Refused(String::from_utf8_lossy(&why).into_owned()));
            }
            Operation::Ping => stream.write_all(b"PONG\r\n").await?,
            Operation::Info(_) | Operation::Ok | Operation::Message(_) => {}
        }
    }
}

/// A literal IPv6 address stands in brackets.
fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

fn hello<'a>(
    server: &'a ServerAddr,
    login: &'a Login,
    info: &ServerInfo,
    encrypted: bool,
) -> Result<Connect<'a>, SessionError> {
    let (mut nkey, mut sig) = (None, None);
    if let Some(seed) = &login.seed {
        nkey = Some(seed.public_key()?);
        sig = Some(seed.sign(info.nonce.as_bytes())?);
    }
    // A user without a password is a token, as in every NATS client.
    let (user, pass) = (server.username(), server.password());
    Ok(Connect {
        verbose: false,
        pedantic: false,
        tls_required: encrypted,
        lang: "agentbus",
        version: env!("CARGO_PKG_VERSION"),
        protocol: 1,
        headers: true,
        no_responders: true,
        echo: true,
        name: &login.name,
        nkey,
        sig,
        user: user.filter(|_| pass.is_some()),
        pass,
        auth_token: user.filter(|_| pass.is_none()),
    })
}

pub(super) fn read_info(json: &[u8]) -> Result<ServerInfo, SessionError> {
    serde_json::from_slice(json).map_err(|_| SessionError::NotNats("its INFO is no JSON of a NATS server"))
}

/// Waits for one operation. What is behind it stays in `read`.
pub(super) async fn next<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    read: &mut BytesMut,
) -> Result<Operation, SessionError> {
    loop {
        if let Some(operation) = codec::decode(read)? {
            return Ok(operation);
        }
        if read.capacity() - read.len() < READ_MIN {
            read.reserve(READ_BYTES);
        }
        if stream.read_buf(read).await? == 0 {
            return Err(SessionError::Closed);
        }
    }
}

/// Room for one read of a socket.
const READ_BYTES: usize = 64 * 1024;
const READ_MIN: usize = 4 * 1024;

/// The servers that a node knows: those of its configuration, and those that they tell of.
pub(super) struct Servers {
    configured: Vec<ServerAddr>,
    told: Vec<ServerAddr>,
    next: usize,
}

/// Servers of a cluster that are remembered beside those of the configuration.
const TOLD_MAX: usize = 64;

impl Servers {
    /// Several separated by commas.
    pub(super) fn parse(urls: &str) -> io::Result<Self> {
        let configured = urls.split(',').map(|url| url.trim().parse()).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { configured, told: Vec::new(), next: 0 })
    }

    /// In turn. `None`: there is none at all.
    pub(super) fn next(&mut self) -> Option<ServerAddr> {
        let all = self.configured.len() + self.told.len();
        let index = self.next % all.max(1);
        self.next = index + 1;
        self.configured.iter().chain(&self.told).nth(index).cloned()
    }

    /// A server has told of its cluster. Its addresses come without the credentials and the scheme that
    /// the configured one has.
    pub(super) fn learn(&mut self, info: &ServerInfo) {
        let Some(like) = self.configured.first() else { return };
        let told = info.connect_urls.iter().take(TOLD_MAX).filter_map(|address| {
            let mut url = like.clone().into_inner();
            let found: ServerAddr = address.parse().ok()?;
            let host = bare(found.host());
            let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            url.set_host(Some(&host)).ok()?;
            url.set_port(Some(found.port())).ok()?;
            ServerAddr::from_url(url).ok()
        });
        let known = |server: &ServerAddr| {
            let same = |other: &ServerAddr| other.host() == server.host() && other.port() == server.port();
            self.configured.iter().any(same)
        };
        self.told = told.filter(|server| !known(server)).collect();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_cluster_is_learned_and_tried_in_turn() {
        let mut servers = Servers::parse("nats://u:p@a:1, nats://b:2").unwrap();
        let info = ServerInfo {
            connect_urls: vec!["c:3".into(), "a:1".into(), "[::1]:4".into(), "?".into()],
            ..ServerInfo::default()
        };
        servers.learn(&info);
        let tried: Vec<_> = (0..5).map(|_| servers.next().unwrap()).collect();
        let shown: Vec<_> = tried.iter().map(|s| format!("{}:{}", s.host(), s.port())).collect();
        assert_eq!(shown, ["a:1", "b:2", "c:3", "::1:4", "a:1"]);
        assert_eq!(tried.get(2).unwrap().password(), Some("p"), "told servers take the same log-in");
    }
}
