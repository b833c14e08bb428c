//! Bundles of a web server, as OPA asks for them: by ETag, so that nothing comes twice, and by long polling where the
//! server knows it.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    bundle::PACKED_BYTES_MAX,
    source::{BundleSource, Offer, SourceError},
};
use crate::http::{Answer, Call, CallError, Endpoint, EndpointError, HeaderMap, Method};

/// For a server that holds the answer back until there is another bundle.
const WAIT: Duration = Duration::from_secs(30);
/// For one answer, the wait included.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);
/// Between two questions to a server that does not hold it back.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// An answer that comes sooner was not held back.
const HELD_BACK_MIN: Duration = Duration::from_secs(1);
/// As it says that it does.
const LONG_POLLING: &str = "application/vnd.openpolicyagent.bundles";
/// Of an ETag that is sent back.
const ETAG_CHARS_MAX: usize = 256;
const NOT_MODIFIED: u16 = 304;

/// One URL.
pub struct WebBundles {
    endpoint: Endpoint,
    /// `Bearer …`.
    authorization: Option<String>,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    etag: Option<String>,
    /// The server holds an answer back: it is asked again at once.
    holds_back: bool,
    /// What was told last, for a server without ETags.
    packed: Bytes,
}

impl WebBundles {
    /// Reads the system's root certificates for https. Blocks.
    pub fn open(url: &str, token: Option<&str>) -> Result<Self, EndpointError> {
        let authorization = token.map(|token| format!("Bearer {}", token.trim()));
        Ok(Self { endpoint: Endpoint::open(url)?, authorization, told: Mutex::default() })
    }

    /// What has changed since it was told last.
    async fn look(&self) -> Result<Option<Bytes>, CallError> {
        let mut headers = vec![("prefer", format!("modes=snapshot;wait={}", WAIT.as_secs()))];
        headers.extend(self.told.lock().etag.clone().map(|etag| ("if-none-match", etag)));
        headers.extend(self.authorization.clone().map(|token| ("authorization", token)));
        let call = Call {
            method: Method::GET,
            headers: &headers,
            body: Bytes::new(),
            answer_bytes: Some(PACKED_BYTES_MAX),
            within: ANSWER_WITHIN,
            any_status: false,
        };
        let Answer { headers, body, .. } = match self.endpoint.call(call).await {
            Err(CallError::Refused { status: NOT_MODIFIED, .. }) => return Ok(None),
            answer => answer?,
        };
        let mut told = self.told.lock();
        told.etag = text(&headers, "etag").filter(|etag| etag.len() <= ETAG_CHARS_MAX);
        told.holds_back =
            told.etag.is_some() && text(&headers, "content-type").as_deref() == Some(LONG_POLLING);
        if told.packed == body {
            return Ok(None);
        }
        told.packed = body.clone();
        Ok(Some(body))
    }
}

#[async_trait]
impl BundleSource for WebBundles {
    async fn next(&self) -> Result<Option<Offer>, SourceError> {
        let asked = Instant::now();
        if let Some(packed) = self.look().await.map_err(|error| SourceError(error.to_string()))? {
            return Ok(Some(Offer { packed, force: None }));
        }
        // One that says so and does not hold it back is asked no more often than another.
        let held_back = self.told.lock().holds_back && asked.elapsed() >= HELD_BACK_MIN;
        if !held_back {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(None)
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
