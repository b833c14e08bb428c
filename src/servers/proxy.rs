//! How is a connection between two processes slowed, held up or cut, with nobody's help? By a proxy on loopback that stands
//! between them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{self, AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{mpsc, watch},
    time::{Instant, sleep_until},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::ServerError;

/// Connections at one time; one more is closed at once.
const CONNECTIONS_MAX: usize = 1_024;
/// Of a connection, on their way in one direction: beyond it the sender's own socket fills.
const CHUNKS_MAX: usize = 256;
const CHUNK_BYTES: usize = 16 * 1024;
/// Before it accepts again, where the system gives no connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What happens to bytes on their way, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    Open,
    /// Each arrives so much later.
    Late(Duration),
    /// None arrives until it is open again, as in a network that is parted.
    Parted,
    /// Connections are closed, and new ones as soon as they are made.
    Cut,
}

/// Listens on a free port of loopback and leads to one server. Dropping it closes all of its connections.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    passage: watch::Sender<Passage>,
    _over: DropGuard,
}

impl Proxy {
    pub async fn start(server: SocketAddr) -> Result<Self, ServerError> {
        let listening = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
        let listener = listening.map_err(|cause| ServerError::NoPort { cause })?;
        let port = listener.local_addr().map_err(|cause| ServerError::NoPort { cause })?.port();
        let (passage, _) = watch::channel(Passage::Open);
        let over = CancellationToken::new();
        let accepting = accept(listener, server, passage.clone(), over.clone());
        tokio::spawn(over.clone().run_until_cancelled_owned(accepting));
        Ok(Self { port, passage, _over: over.drop_guard() })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, also for what is on its way.
    pub fn pass(&self, passage: Passage) {
        self.passage.send_replace(passage);
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    passage: watch::Sender<Passage>,
    over: CancellationToken,
) {
    let connections = TaskTracker::new();
    loop {
        match listener.accept().await {
            Ok((client, _)) if connections.len() < CONNECTIONS_MAX => {
                let connection = carry(client, server, passage.subscribe());
                connections.spawn(over.clone().run_until_cancelled_owned(connection));
            }
            Ok(_) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Until one of both sides ends, or it is cut.
async fn carry(client: TcpStream, server: SocketAddr, passage: watch::Receiver<Passage>) {
    let mut watched = passage.clone();
    let cut = watched.wait_for(|passage| *passage == Passage::Cut);
    let carried = async {
        let server = TcpStream::connect(server).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::select! {
            ended = one_way(from_client, to_server, passage.clone()) => ended,
            ended = one_way(from_server, to_client, passage) => ended,
        }
    };
    // How a connection ends is seen by both of its ends.
    tokio::select! {
        _ = cut => {}
        _ = carried => {}
    }
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut passage: watch::Receiver<Passage>,
) -> io::Result<()> {
    let (on_its_way, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let now = passage.clone();
    let reading = async move {
        loop {
            let mut chunk = vec![0; CHUNK_BYTES];
            let read = from.read(&mut chunk).await?;
            chunk.truncate(read);
            let late = match *now.borrow() {
                Passage::Late(late) => late,
                Passage::Open | Passage::Parted | Passage::Cut => Duration::ZERO,
            };
            if read == 0 || on_its_way.send((Instant::now() + late, chunk)).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async move {
        while let Some((due, chunk)) = arriving.recv().await {
            sleep_until(due).await;
            // Cannot fail while the proxy lives, and with it the connection ends.
            let _ = passage.wait_for(|passage| *passage != Passage::Parted).await;
            to.write_all(&chunk).await?;
        }
        Ok(())
    };
    tokio::try_join!(reading, writing).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// A server that says what it hears.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (mut from, mut to) = stream.into_split();
                tokio::spawn(async move { io::copy(&mut from, &mut to).await });
            }
        });
        address
    }

    async fn said(stream: &mut TcpStream, text: &str) -> io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).await?;
        Ok(String::from_utf8(heard).unwrap())
    }

    #[tokio::test]
    async fn bytes_are_late_held_up_or_gone_as_it_is_told_and_none_is_lost_that_was_held_up() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port()));
        let mut stream = connect().await.unwrap();
        assert_eq!(said(&mut stream, "open").await.unwrap(), "open");

        proxy.pass(Passage::Late(Duration::from_millis(60)));
        let started = Instant::now();
        assert_eq!(said(&mut stream, "late").await.unwrap(), "late");
        assert!(started.elapsed() >= Duration::from_millis(120), "both ways: {:?}", started.elapsed());

        proxy.pass(Passage::Parted);
        let parted = tokio::time::timeout(Duration::from_millis(100), said(&mut stream, "held")).await;
        assert!(parted.is_err(), "{parted:?}");
        proxy.pass(Passage::Open);
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"held");

        proxy.pass(Passage::Cut);
        assert!(said(&mut stream, "gone").await.is_err());
        let mut another = connect().await.unwrap();
        assert!(said(&mut another, "gone").await.is_err());
        proxy.pass(Passage::Open);
        assert_eq!(said(&mut connect().await.unwrap(), "back").await.unwrap(), "back");
    }
}
