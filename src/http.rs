//! How is a call made to a server of somebody else? HTTP/1.1, everything within one time; by HTTP/2 where gRPC is
//! spoken ([`Channel`]).
//!
//! Deliberately little: no redirects, which could lead a signed call to a stranger, and no proxies. A webhook and a
//! server of bundles get a connection for each call, since those are few; OPA's are kept ([`Pool`]).

use std::{fmt, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
pub use hyper::{
    HeaderMap, Method,
    header::{HeaderName, HeaderValue},
};
use hyper::{
    Request, Uri,
    header::{CONNECTION, HOST, USER_AGENT},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::tls::{self, TlsConnector, TlsError};

mod channel;
mod connection;
mod pool;

pub use channel::{Channel, ChannelAnswer, ChannelCall};
use connection::Connection;
pub use pool::Pool;

/// Where calls go.
pub struct Endpoint {
    uri: Uri,
    /// With the port, if the URL has one.
    authority: String,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
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
    #[error("the answer has more than {limit} bytes")]
    TooLarge { limit: usize },
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
            CallError::Broken(_) | CallError::TooLarge { .. } => "broken",
            CallError::Refused { .. } => "refused",
        }
    }
}

fn redirect(status: u16) -> &'static str {
    if (300..400).contains(&status) { " (redirects are not followed)" } else { "" }
}

/// What is called for.
pub struct Call<'a> {
    pub method: Method,
    pub headers: &'a [(&'a str, String)],
    pub body: Bytes,
    /// Bytes that an answer may have; `None`: it is not read.
    pub answer_bytes: Option<usize>,
    /// For the whole of it.
    pub within: Duration,
    /// Whether a status beside 200 to 299 is an answer too, and no error.
    pub any_status: bool,
}

/// An answer of 200 to 299, or of any status where that was asked for.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Endpoint {
    /// Reads the system's root certificates for https. Blocks.
    pub fn open(url: &str) -> Result<Self, EndpointError> {
        Self::open_with(url, tls::connector)
    }

    fn open_with(
        url: &str,
        connector: impl FnOnce() -> Result<TlsConnector, TlsError>,
    ) -> Result<Self, EndpointError> {
        let uri: Uri = url.parse().map_err(|cause| EndpointError::Url(format!("{cause}")))?;
        let (Some(authority), Some(host)) = (uri.authority(), uri.host()) else {
            return Err(EndpointError::Url("no host".to_owned()));
        };
        // A literal IPv6 address stands in brackets.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let (tls, port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some((connector()?, tls::server_name(&host)?)), 443),
            _ => return Err(EndpointError::Url("neither http nor https".to_owned())),
        };
        let port = uri.port_u16().unwrap_or(port);
        Ok(Self { authority: authority.to_string(), host, port, tls, uri })
    }

    /// Host, and port if the URL has one.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// One call over a connection of its own, all of it within its time.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, CallError> {
        let exchanged = async {
            let request = self.request(&call, "close")?;
            self.connection().await?.exchange(request, &call).await
        };
        within(call.within, exchanged).await
    }

    /// Whether connections are taken. Nothing is asked.
    pub async fn reach(&self, limit: Duration) -> Result<(), CallError> {
        within(limit, async { self.stream().await.map(drop) }).await
    }

    async fn stream(&self) -> Result<Stream, CallError> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(CallError::Unreachable)?;
        match &self.tls {
            None => Ok(Box::new(stream)),
            Some((connector, name)) => {
                Ok(Box::new(connector.connect(name.clone(), stream).await.map_err(CallError::Tls)?))
            }
        }
    }

    async fn connection(&self) -> Result<Connection, CallError> {
        Connection::open(self.stream().await?).await
    }

    fn scheme(&self) -> &str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// `connection`: what is to become of it, `close` or `keep-alive`.
    fn request(&self, call: &Call<'_>, connection: &str) -> Result<Request<Full<Bytes>>, CallError> {
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::builder()
            .method(call.method.clone())
            .uri(path)
            .header(HOST, &self.authority)
            .header(USER_AGENT, concat!("agentbus/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, connection);
        for (name, value) in call.headers {
            request = request.header(*name, value);
        }
        let request = request.body(Full::new(call.body.clone()));
        request.map_err(|error| CallError::Unreachable(std::io::Error::other(error)))
    }
}

/// With TLS or without.
type Stream = Box<dyn Duplex>;

trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

async fn within<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    tokio::time::timeout(limit, work).await.map_err(|_| CallError::TimedOut(limit))?
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

    use super::*;
    use crate::tls::{Files, tests::LocalFiles};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    /// Takes one call by TLS and accepts it. The endpoint's host is `host`, wherever it resolves to.
    async fn call(host: &str, trusted: bool) -> Result<(), CallError> {
        let local = LocalFiles::new();
        let acceptor = local.acceptor(false);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.now().accept(stream).await else { return };
            let mut request = [0; 1024];
            let read = stream.read(&mut request).await.unwrap();
            assert!(request.get(..read).unwrap().starts_with(b"POST /hook?a=b HTTP/1.1\r\n"));
            stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
            let _ = stream.shutdown().await;
        });
        let ca = trusted.then(|| local.ca.clone());
        let connector = TlsConnector::from(tls::client(&Files { ca, identity: None }).unwrap());
        let endpoint = Endpoint {
            uri: "https://localhost/hook?a=b".parse().unwrap(),
            authority: "localhost".to_owned(),
            host: "127.0.0.1".to_owned(),
            port,
            tls: Some((connector, tls::server_name(host).unwrap())),
        };
        let headers = [("webhook-id", "id".to_owned())];
        let called = endpoint.call(Call {
            method: Method::POST,
            headers: &headers,
            body: Bytes::from_static(b"{}"),
            answer_bytes: None,
            within: Duration::from_secs(30),
            any_status: false,
        });
        let called = called.await;
        server.await.unwrap();
        called.map(drop)
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
        let endpoint = Endpoint::open("http://[::1]:99/hunter2?token=hunter2").unwrap();
        assert_eq!((endpoint.host.as_str(), endpoint.port), ("::1", 99));
        assert!(!format!("{endpoint:?}").contains("hunter2"));
    }
}
