//! How is one call made? HTTP/1.1 over a connection of its own, everything within one time.
//!
//! Deliberately little: no redirects, which could lead a signed call to a stranger, no proxies, no
//! connections kept. Calls are few, as reviewers are people or slow.

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, Uri,
    client::conn::http1,
    header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, rustls::pki_types::ServerName};

use crate::{
    domain::id::shown,
    tls::{self, TlsError},
};

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are read of an answer's body, for the log.
const BODY_BYTES_MAX: usize = 4 * 1024;

/// Where calls go.
pub(super) struct Endpoint {
    uri: Uri,
    /// With the port, if the URL has one.
    authority: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    timeout: Duration,
}

/// Why a URL cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Without the URL, which may hold a token.
    #[error("not a URL with http or https and a host: {0}")]
    Url(String),
    #[error("https: {0}")]
    Tls(#[from] TlsError),
}

/// Why a call did not succeed. A later one may.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("not reachable: {0}")]
    Unreachable(std::io::Error),
    #[error("no TLS connection: {0}")]
    Tls(std::io::Error),
    #[error("the exchange broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The beginning of the body, escaped.
    #[error("answered {status}, expected 200 to 299{}: {body}", redirect(*status))]
    Refused { status: u16, body: String },
}

impl CallError {
    /// For a metric's label.
    pub fn word(&self) -> &'static str {
        match self {
            CallError::TimedOut(_) => "timed_out",
            CallError::Unreachable(_) => "unreachable",
            CallError::Tls(_) => "tls",
            CallError::Broken(_) => "broken",
            CallError::Refused { .. } => "refused",
        }
    }
}

fn redirect(status: u16) -> &'static str {
    if (300..400).contains(&status) { " (redirects are not followed)" } else { "" }
}

impl Endpoint {
    /// Reads the system's root certificates for https. Blocks.
    pub(super) fn open(url: &str, timeout: Duration) -> Result<Self, EndpointError> {
        let uri: Uri = url.parse().map_err(|cause| EndpointError::Url(format!("{cause}")))?;
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(EndpointError::Url("no host".to_owned()));
        };
        // A literal IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some((tls::connector()?, tls::server_name(&host)?)), 443),
            _ => return Err(EndpointError::Url("neither http nor https".to_owned())),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { authority: authority.to_string(), host, port, tls, timeout, uri })
    }

    pub(super) async fn post<const N: usize>(
        &self,
        headers: [(&'static str, String); N],
        body: Bytes,
    ) -> Result<(), CallError> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("agentbus/", env!("CARGO_PKG_VERSION")))
            .header(CONTENT_TYPE, "application/json")
            .header(CONNECTION, "close");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| CallError::Unreachable(std::io::Error::other(error)))?;
        let late = |_| CallError::TimedOut(self.timeout);
        tokio::time::timeout(self.timeout, self.send(request)).await.map_err(late)?
    }

    pub(super) async fn reach(&self) -> Result<(), CallError> {
        let connected = async {
            let stream = self.connect().await?;
            if let Some((connector, name)) = &self.tls {
                connector.connect(name.clone(), stream).await.map_err(CallError::Tls)?;
            }
            Ok(())
        };
        let late = |_| CallError::TimedOut(self.timeout);
        tokio::time::timeout(self.timeout, connected).await.map_err(late)?
    }

    async fn connect(&self) -> Result<TcpStream, CallError> {
        TcpStream::connect((self.host.as_str(), self.port)).await.map_err(CallError::Unreachable)
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(), CallError> {
        let stream = self.connect().await?;
        match &self.tls {
            None => exchange(stream, request).await,
            Some((connector, name)) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(CallError::Tls)?;
                exchange(stream, request).await
            }
        }
    }
}

/// One request and its answer. The connection ends with this future.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    request: Request<Full<Bytes>>,
) -> Result<(), CallError> {
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        // A body that is too long, or breaks off, says nothing; the status has said it.
        let body = Limited::new(answer.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(CallError::Refused { status: status.as_u16(), body: shown(&String::from_utf8_lossy(&body)) })
    };
    tokio::pin!(answer, connection);
    tokio::select! {
        answer = &mut answer => answer,
        // What came before the end is still to be read.
        _ = &mut connection => answer.await,
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The path and the query of a webhook are often its secret.
        f.debug_struct("Endpoint").field("host", &self.authority).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::sync::Arc;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };
    use tokio_rustls::{
        TlsAcceptor,
        rustls::{
            RootCertStore, ServerConfig,
            crypto::ring,
            pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
        },
    };

    use super::*;

    /// Of a CA and a certificate for `localhost` made for this test, valid for a hundred years; the
    /// CA's key is gone.
    const CA: &[u8] = include_bytes!("test/ca.der");
    const LEAF: &[u8] = include_bytes!("test/leaf.der");
    const LEAF_KEY: &[u8] = include_bytes!("test/leaf.key.der");

    /// Takes one call by TLS and accepts it. The endpoint's host is `host`, wherever it resolves to.
    async fn call(host: &str, trusted: bool) -> Result<(), CallError> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![LEAF.into()], PrivateKeyDer::from(PrivatePkcs8KeyDer::from(LEAF_KEY)))
            .unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = TlsAcceptor::from(Arc::new(config)).accept(stream).await else { return };
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request.get(..read).unwrap().starts_with(b"POST /hook?a=b HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            let _ = stream.shutdown().await;
        });
        let mut roots = RootCertStore::empty();
        if trusted {
            roots.add(CA.into()).unwrap();
        }
        let endpoint = Endpoint {
            uri: "https://localhost/hook?a=b".parse().unwrap(),
            authority: "localhost".to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            tls: Some((tls::with_roots(roots).unwrap(), tls::server_name(host).unwrap())),
            timeout: Duration::from_secs(30),
        };
        let called = endpoint.post([("webhook-id", "id".to_owned())], Bytes::from_static(b"{}")).await;
        server.await.unwrap();
        called
    }

    #[tokio::test]
    async fn a_call_by_https_goes_only_to_whom_the_roots_vouch_for() {
        call("localhost", true).await.unwrap();
        let stranger = call("localhost", false).await.unwrap_err();
        assert!(matches!(stranger, CallError::Tls(_)), "{stranger}");
        let other = call("example.org", true).await.unwrap_err();
        assert!(matches!(other, CallError::Tls(_)), "{other}");
    }

    #[test]
    fn an_endpoint_is_shown_without_its_path() {
        let endpoint =
            Endpoint::open("http://[::1]:99/hunter2?token=hunter2", Duration::from_secs(1)).unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("::1", 99));
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
