//! How are calls made by HTTP/2, as gRPC wants them? Over one kept connection, several at once.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    HeaderMap, Method, Request,
    client::conn::http2::{self, SendRequest},
    header::USER_AGENT,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{CallError, Endpoint, EndpointError, within};
use crate::tls::{self, Files};

/// What TLS calls the protocol.
const H2: &[u8] = b"h2";

/// A kept connection to one server, for calls that may be made twice.
#[derive(Debug)]
pub struct Channel {
    endpoint: Endpoint,
    kept: Mutex<Option<SendRequest<Full<Bytes>>>>,
}

/// What is called for.
pub struct ChannelCall<'a> {
    pub path: &'a str,
    pub headers: &'a [(String, String)],
    pub body: Bytes,
    /// Bytes that an answer may have.
    pub answer_bytes: usize,
    /// For the whole of it.
    pub within: Duration,
}

/// An answer of any status. Trailers stand behind the body; without a body they are headers.
#[derive(Debug)]
pub struct ChannelAnswer {
    pub status: u16,
    pub headers: HeaderMap,
    pub trailers: HeaderMap,
    pub body: Bytes,
}

impl Channel {
    /// Trusts what `files` say for https. Blocks.
    pub fn open(url: &str, files: &Files) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::open_with(url, || tls::connector_speaking(files, H2))?;
        Ok(Self { endpoint, kept: Mutex::default() })
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// One call by POST, all of it within its time.
    pub async fn call(&self, call: ChannelCall<'_>) -> Result<ChannelAnswer, CallError> {
        let answered = within(call.within, self.exchange(&call)).await;
        if matches!(answered, Err(CallError::TimedOut(_))) {
            // Its other end may be gone without a word: the next call opens another.
            *self.kept.lock() = None;
        }
        answered
    }

    async fn exchange(&self, call: &ChannelCall<'_>) -> Result<ChannelAnswer, CallError> {
        let kept = self.kept.lock().clone().filter(|kept| !kept.is_closed());
        if let Some(kept) = kept {
            match self.over(kept, call).await {
                // The server may have ended it while nobody used it: that is found out only now.
                Err(CallError::Broken(_)) => {}
                answered => return answered,
            }
        }
        let stream = self.endpoint.stream().await?;
        let opened = open(stream).await?;
        *self.kept.lock() = Some(opened.clone());
        self.over(opened, call).await
    }

    async fn over(
        &self,
        mut connection: SendRequest<Full<Bytes>>,
        call: &ChannelCall<'_>,
    ) -> Result<ChannelAnswer, CallError> {
        let uri = format!("{}://{}{}", self.endpoint.scheme(), self.endpoint.authority(), call.path);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(uri)
            .header(USER_AGENT, concat!("agentbus/", env!("CARGO_PKG_VERSION")));
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(call.body.clone()));
        let request = request.map_err(|error| CallError::Unreachable(std::io::Error::other(error)))?;
        connection.ready().await?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        let body = Limited::new(body, call.answer_bytes).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(broken) => CallError::Broken(*broken),
            Err(_) => CallError::TooLarge { limit: call.answer_bytes },
        })?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(ChannelAnswer {
            status: head.status.as_u16(),
            headers: head.headers,
            trailers,
            body: body.to_bytes(),
        })
    }
}

/// Its task ends with the last of its handles, or with the connection.
async fn open(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<SendRequest<Full<Bytes>>, CallError> {
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection by HTTP/2 has ended");
        }
    });
    Ok(sender)
}
