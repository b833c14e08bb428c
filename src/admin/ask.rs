//! How does another process on the machine ask a node how it is?

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_util::either::Either;

use crate::{
    config,
    tls::{self, TlsConnector},
};

/// A node answers within this.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
/// Bytes that are read of its answer.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// What a node said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Asks the node that is so configured for a page, such as `/readyz`. By TLS it trusts the node's own certificate alone,
/// and shows the same.
pub async fn ask(http: &config::Http, page: &str) -> io::Result<Answer> {
    let asked = async {
        let address = reachable(http.listen);
        let stream = TcpStream::connect(address).await?;
        let mut stream = match &http.tls {
            Some(tls) => {
                let identity = tls.identity();
                let config = tokio::task::spawn_blocking(move || tls::pinned(&identity)).await;
                let config = config.map_err(io::Error::other)?.map_err(io::Error::other)?;
                let connector = TlsConnector::from(Arc::new(config));
                let name = tls::server_name(&address.ip().to_string()).map_err(io::Error::other)?;
                Either::Right(connector.connect(name, stream).await?)
            }
            None => Either::Left(stream),
        };
        stream.write_all(format!("GET {page} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.flush().await?;
        stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
        parsed(&answer).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the answer is not HTTP"))
    };
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {ANSWERED_WITHIN:?}"));
    tokio::time::timeout(ANSWERED_WITHIN, asked).await.map_err(late)?
}

/// Who listens on all addresses listens on loopback.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let loopback = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(loopback, listen.port())
}

fn parsed(answer: &str) -> Option<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use tokio::net::TcpListener;

    use super::*;

    async fn heard(answer: &'static str) -> io::Result<Answer> {
        let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
        let listen = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 64];
            let count = stream.read(&mut request).await.unwrap();
            assert_eq!(request.get(..count).unwrap(), b"GET /readyz HTTP/1.0\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let answer = ask(&config::Http { listen, ..config::Http::default() }, "/readyz").await;
        server.await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_node_on_all_addresses_is_asked_on_loopback_and_its_status_is_read() {
        let answer = heard("HTTP/1.1 503 Service Unavailable\r\na: b\r\n\r\nno\r\n\r\nno").await.unwrap();
        assert_eq!(answer, Answer { status: 503, body: "no\r\n\r\nno".to_owned() });
        for strange in ["", "SSH-2.0\r\n\r\n", "HTTP/1.1 yes\r\n\r\n"] {
            assert_eq!(heard(strange).await.unwrap_err().kind(), io::ErrorKind::InvalidData, "{strange:?}");
        }
    }
}
