//! One connection to a NATS server, from the dial to the log-in.

use std::{io, time::Duration};

use async_nats::{ServerAddr, ServerInfo};
use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

use super::codec::{self, Broken, Operation};
use crate::{
    nats::server_list::{Servers, bare},
    tenants::{Seed, keys::KeysError},
    tls::{self, TlsError},
};

/// Whatever bytes go over.
pub(in crate::nats) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection on which the server has accepted who we are.
pub(in crate::nats) struct Session {
    pub(in crate::nats) stream: Box<dyn Stream>,
    /// Read behind the log-in.
    pub(in crate::nats) read: BytesMut,
    pub(in crate::nats) info: ServerInfo,
    /// Its host, as it was dialled.
    pub(in crate::nats) server: String,
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
pub(in crate::nats) struct Login {
    pub(in crate::nats) name: String,
    pub(in crate::nats) seed: Option<Seed>,
    /// What TLS goes by. Named ones ask for it.
    pub(in crate::nats) files: tls::Files,
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

/// A session with the next server, within the time.
pub(in crate::nats) async fn open_next(
    servers: &mut Servers,
    login: &Login,
    within: Duration,
) -> Result<Session, SessionError> {
    let server = servers.next().ok_or(SessionError::NotNats("no server is named"))?;
    let opening = tokio::time::timeout(within, open(&server, login));
    let session = opening.await.map_err(|_| SessionError::Silent)??;
    servers.learn(&session.info);
    Ok(session)
}

/// Dials, upgrades to TLS where it is asked for, and logs in. The caller bounds the wait.
async fn open(server: &ServerAddr, login: &Login) -> Result<Session, SessionError> {
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
    let encrypted = server.tls_required() || info.tls_required || login.files.are_named();
    if encrypted {
        let files = login.files.clone();
        let connector = tokio::task::spawn_blocking(move || tls::connector_by(&files)).await;
        let connector = connector.map_err(io::Error::other)??;
        stream = Box::new(connector.connect(tls::server_name(bare(server.host()))?, stream).await?);
    }
    let connect = hello(server, login, &info, encrypted)?;
    let json = serde_json::to_string(&connect).map_err(io::Error::other)?;
    stream.write_all(format!("CONNECT {json}\r\nPING\r\n").as_bytes()).await?;
    stream.flush().await?;
    loop {
        match next(&mut stream, &mut read).await? {
            Operation::Pong => {
                return Ok(Session { stream, read, info, server: server.host().to_owned() });
            }
            Operation::Error(why) => {
                return Err(SessionError::Refused(String::from_utf8_lossy(&why).into_owned()));
            }
            Operation::Ping => stream.write_all(b"PONG\r\n").await?,
            Operation::Info(_) | Operation::Ok | Operation::Message(_) => {}
        }
    }
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

pub(in crate::nats) fn read_info(json: &[u8]) -> Result<ServerInfo, SessionError> {
    serde_json::from_slice(json).map_err(|_| SessionError::NotNats("its INFO is no JSON of a NATS server"))
}

/// Waits for one operation. What is behind it stays in `read`.
pub(in crate::nats) async fn next<S: AsyncRead + Unpin + ?Sized>(
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
