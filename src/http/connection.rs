//! How does one request go over a connection, and how much is read of its answer?

use std::{fmt, pin::Pin};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request,
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Answer, Call, CallError};
use crate::domain::id::shown;

/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Bytes that are read of a refusal's body, for the log.
const REFUSAL_BYTES_MAX: usize = 4 * 1024;

/// One connection. No task reads it: it moves while somebody exchanges something over it, and ends when it is dropped.
pub(super) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    io: Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>,
    ended: bool,
}

impl Connection {
    pub(super) async fn open(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self, CallError> {
        let (sender, io) =
            http1::Builder::new().max_buf_size(HEAD_BYTES_MAX).handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender, io: Box::pin(io), ended: false })
    }

    /// Whether another request can go over it, as far as can be known without waiting.
    pub(super) fn is_open(&mut self) -> bool {
        self.ended = self.ended || (&mut self.io).now_or_never().is_some();
        !self.ended && !self.sender.is_closed()
    }

    pub(super) async fn exchange(
        &mut self,
        request: Request<Full<Bytes>>,
        call: &Call<'_>,
    ) -> Result<Answer, CallError> {
        let Self { sender, io, ended } = self;
        let answer = async {
            sender.ready().await?;
            let (head, body) = sender.send_request(request).await?.into_parts();
            let status = head.status.as_u16();
            if head.status.is_success() || call.any_status {
                let body = match call.answer_bytes {
                    Some(limit) => read(body, limit).await?,
                    None => Bytes::new(),
                };
                return Ok(Answer { status, headers: head.headers, body });
            }
            // A body that is too long, or breaks off, says nothing; the status has said it.
            let body = read(body, REFUSAL_BYTES_MAX).await.unwrap_or_default();
            Err(CallError::Refused { status, body: shown(&String::from_utf8_lossy(&body)) })
        };
        tokio::pin!(answer);
        tokio::select! {
            answer = &mut answer => answer,
            _ = io => {
                *ended = true;
                // What came before the end is still to be read.
                answer.await
            }
        }
    }
}

async fn read(body: Incoming, limit: usize) -> Result<Bytes, CallError> {
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(match error.downcast::<hyper::Error>() {
            Ok(broken) => CallError::Broken(*broken),
            Err(_) => CallError::TooLarge { limit },
        }),
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("ended", &self.ended).finish_non_exhaustive()
    }
}
