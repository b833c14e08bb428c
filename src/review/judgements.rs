//! What did a tenant's reviewers decide? For its operator, as labelled lines that a head can learn from.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};

use crate::domain::{DeliberationId, Event, Judgement, Parked, Tenant, TenantId, Timestamp, Why};

/// Judgements that are read at one time; a head learns from thousands.
pub const JUDGEMENTS_MAX: usize = 100_000;

/// Where deliberations are kept, as an operator may read them. `nats::KeptJudgements` is the one over JetStream.
#[async_trait]
pub trait JudgementStore: Send + Sync {
    /// The tenant as it is published now.
    async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, JudgementError>;

    /// A tenant's first decision at or after a place, and its place.
    async fn next(&self, tenant: &TenantId, from: u64) -> Result<Option<Decided>, JudgementError>;

    /// What the decision is about. `None`: it is older than what is kept.
    async fn parked(&self, tenant: &TenantId, id: &DeliberationId) -> Result<Option<Parked>, JudgementError>;
}

/// A decision as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    pub place: u64,
    pub id: DeliberationId,
    pub event: Event,
}

/// Why they cannot be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgementError {
    #[error("there is no tenant {0}")]
    NoTenant(TenantId),
    #[error("the decision of deliberation {id} is the event {kind}")]
    NoDecision { id: DeliberationId, kind: &'static str },
    #[error("more than {JUDGEMENTS_MAX} judgements; name a shorter time with --since")]
    TooMany,
    #[error("{0}")]
    Store(String),
}

/// How one ended, by people.
#[derive(Debug, Clone, PartialEq)]
pub struct Judged {
    pub parked: Parked,
    pub denied: bool,
    pub at: Timestamp,
}

/// The operator's questions about what was judged.
pub struct Judgements(Arc<dyn JudgementStore>);

impl Judgements {
    pub fn new(store: Arc<dyn JudgementStore>) -> Self {
        Self(store)
    }

    /// Whether the tenant's messages may leave the bus in an export.
    pub async fn texts_allowed(&self, id: &TenantId) -> Result<bool, JudgementError> {
        let tenant = self.0.tenant(id).await?.ok_or_else(|| JudgementError::NoTenant(id.clone()))?;
        Ok(tenant.deliberation.export_texts)
    }

    /// What people decided since then, in the order of the decisions. What expired was judged by nobody.
    pub async fn since(&self, tenant: &TenantId, earliest: Timestamp) -> Result<Vec<Judged>, JudgementError> {
        let (mut judged, mut from) = (Vec::new(), 1);
        while let Some(Decided { place, id, event }) = self.0.next(tenant, from).await? {
            from = place + 1;
            let Event::Decided { judgement, at, .. } = event else {
                return Err(JudgementError::NoDecision { id, kind: event.kind() });
            };
            if judgement == Judgement::Expired || at < earliest {
                continue;
            }
            if judged.len() >= JUDGEMENTS_MAX {
                return Err(JudgementError::TooMany);
            }
            // Of what followed too far its words were not judged.
            let about = |parked: &Parked| !matches!(parked.why, Why::Chain { .. });
            if let Some(parked) = self.0.parked(tenant, &id).await?.filter(about) {
                judged.push(Judged { parked, denied: judgement == Judgement::Denied, at });
            }
        }
        Ok(judged)
    }
}

impl Judged {
    /// As one labelled line, with its message where that may be told.
    pub fn line(&self, texts: bool) -> Result<Value, serde_json::Error> {
        let Self { parked, denied, at } = self;
        let message: Map<String, Value> = serde_json::from_str(&parked.message)?;
        let message_type = message.get("message_type").and_then(Value::as_str).unwrap_or("unknown");
        let mut line = json!({
            "high": u8::from(*denied),
            "judgement": if *denied { Judgement::Denied } else { Judgement::Approved },
            "group": format!("{}/{message_type}", parked.tenant),
            "source": format!("deliberations of {}", parked.tenant),
            "id": parked.id,
            "digest": parked.digest,
            "decided_at": at,
            "because": match &parked.why {
                Why::Impact { .. } => "impact",
                Why::Policy => "policy",
                Why::Unscored { .. } => "unscored",
                Why::Chain { .. } => "chain",
            },
            "impact": parked.impact,
        });
        if texts && let Some(fields) = line.as_object_mut() {
            fields.insert("message".to_owned(), Value::Object(message));
        }
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{
        super::testing::{PARKED, parked},
        *,
    };

    /// What was decided, in order, and whether what it was about is kept still.
    struct Kept(Vec<(Judgement, u64, bool)>);

    #[async_trait]
    impl JudgementStore for Kept {
        async fn tenant(&self, id: &TenantId) -> Result<Option<Tenant>, JudgementError> {
            Ok((id.as_str() == "acme").then(|| Tenant::new(id.clone())))
        }

        async fn next(&self, _: &TenantId, from: u64) -> Result<Option<Decided>, JudgementError> {
            let at = usize::try_from(from).unwrap() - 1;
            Ok(self.0.get(at).map(|(judgement, later, _)| Decided {
                place: from,
                id: format!("{from:024x}").parse().unwrap(),
                event: Event::Decided {
                    judgement: *judgement,
                    at: Timestamp(PARKED.0 + later),
                    detail: String::new(),
                    vote: None,
                },
            }))
        }

        async fn parked(&self, _: &TenantId, id: &DeliberationId) -> Result<Option<Parked>, JudgementError> {
            let place = usize::from_str_radix(id.as_str(), 16).unwrap();
            Ok(self.0[place - 1].2.then(|| Parked { id: id.clone(), ..parked(&["judge"]) }))
        }
    }

    #[tokio::test]
    async fn what_people_decided_is_told_and_what_expired_or_is_gone_is_not() {
        let kept = vec![
            (Judgement::Denied, 10, true),
            (Judgement::Expired, 20, true),
            (Judgement::Approved, 30, false),
            (Judgement::Approved, 40, true),
        ];
        let judgements = Judgements::new(Arc::new(Kept(kept)));
        let tenant = "acme".parse().unwrap();
        let told = async |earliest| {
            let judged = judgements.since(&tenant, Timestamp(earliest)).await.unwrap();
            judged.iter().map(|it| (it.denied, it.at.0 - PARKED.0)).collect::<Vec<_>>()
        };
        assert_eq!(told(0).await, [(true, 10), (false, 40)]);
        assert_eq!(told(PARKED.0 + 11).await, [(false, 40)]);
    }

    #[tokio::test]
    async fn a_line_bears_the_label_and_the_message_only_where_that_may_be_told() {
        let judgements = Judgements::new(Arc::new(Kept(vec![(Judgement::Denied, 10, true)])));
        let tenant: TenantId = "acme".parse().unwrap();
        assert!(!judgements.texts_allowed(&tenant).await.unwrap(), "unless its operator says so");
        let nobody: TenantId = "globex".parse().unwrap();
        let unknown = judgements.texts_allowed(&nobody).await.unwrap_err();
        assert_eq!(unknown, JudgementError::NoTenant(nobody));
        let judged = judgements.since(&tenant, Timestamp(0)).await.unwrap();
        let line = judged[0].line(false).unwrap();
        assert_eq!((&line["high"], &line["group"]), (&json!(1), &json!("acme/command")));
        assert!(line.get("message").is_none());
        let whole = judged[0].line(true).unwrap();
        assert_eq!(whole["message"]["content"]["text"], "open the gate");
    }
}
