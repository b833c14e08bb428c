//! How many deliberations does a tenant have, and how full is its stream? The server counts, by subjects.

use std::collections::HashMap;

use async_nats::Request;
use serde::Deserialize;
use serde_json::json;

use super::{ANSWER_WITHIN, Deliberations, not_computed};
use crate::{
    cpu::Work,
    deliberation::LogError,
    domain::{DeliberationId, TenantId},
    nats::subjects,
    tenants::names,
};

/// Subjects that the server counts in one answer.
const PAGE: usize = 100_000;
/// Answers that are read for one count.
const PAGES_MAX: usize = 10;

impl Deliberations {
    /// The deliberations that have events of this kind, and how many; and how full the stream is.
    pub(super) async fn ids(
        &self,
        tenant: &TenantId,
        kind: &str,
    ) -> Result<(HashMap<DeliberationId, u64>, Filled), LogError> {
        let filter = subjects::deliberations_with(tenant, kind);
        let subject = format!("$JS.API.STREAM.INFO.{}", names::deliberations_stream(tenant));
        let (mut found, mut fill) = (HashMap::new(), Filled::default());
        for page in 0..PAGES_MAX {
            let question = json!({ "subjects_filter": filter, "offset": page * PAGE });
            let request = Request::new().payload(question.to_string().into()).timeout(Some(ANSWER_WITHIN));
            let answer = self.client.send_request(subject.clone(), request).await.map_err(|error| {
                tracing::debug!(%error, "deliberations not counted");
                LogError::Unconfirmed
            })?;
            // A page of many subjects is megabytes.
            let (bytes, mut so_far) = (answer.payload.len(), found);
            let count = move || count(&answer.payload, &mut so_far).map(|counted| (counted, so_far));
            let counted = self.cpu.run_sized(bytes, tenant, Work::Deliberation, count).await;
            let (subjects, filled);
            ((subjects, filled), found) = counted.map_err(not_computed)??;
            fill = filled;
            if subjects < PAGE {
                break;
            }
        }
        Ok((found, fill))
    }
}

/// Adds the deliberations of one answer about a stream's subjects; how many subjects it has, and how full the
/// stream is.
fn count(answer: &[u8], found: &mut HashMap<DeliberationId, u64>) -> Result<(usize, Filled), LogError> {
    let info: Info = serde_json::from_slice(answer).map_err(|error| {
        tracing::debug!(%error, "deliberations not counted");
        LogError::Unconfirmed
    })?;
    if let Some(error) = info.error {
        return Err(LogError::Refused(error.description));
    }
    let InfoState { bytes, subjects } = info.state.unwrap_or_default();
    // Without a bound, and as nobody provisions it, less than 0.
    let bytes_max = info.config.and_then(|config| u64::try_from(config.max_bytes).ok());
    let subjects = subjects.unwrap_or_default();
    let listed = subjects.len();
    found.extend(
        subjects
            .into_iter()
            .filter_map(|(subject, events)| Some((subject.split('.').nth(2)?.parse().ok()?, events))),
    );
    Ok((listed, Filled { bytes, bytes_max: bytes_max.unwrap_or(u64::MAX) }))
}

/// How full a stream is.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Filled {
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    error: Option<ApiError>,
    #[serde(default)]
    state: Option<InfoState>,
    #[serde(default)]
    config: Option<InfoConfig>,
}

#[derive(Deserialize)]
struct InfoConfig {
    max_bytes: i64,
}

#[derive(Default, Deserialize)]
struct InfoState {
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    subjects: Option<HashMap<String, u64>>,
}

#[derive(Deserialize)]
struct ApiError {
    #[serde(default)]
    description: String,
}
