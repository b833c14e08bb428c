//! What does the bus keep of a decision and its message?

use std::path::Path;

use agentbus::{
    audit::{Body, Decision},
    deliberation::Case,
    domain::{DeliberationId, TenantId},
    nats::{DeadLetterStreams, DecisionStream, KeptJudgements, RecordStream, StoredRecord},
    phrase::causes,
    review::{DeadLetterStore as _, Letter},
};
use async_nats::Client;

use super::rules::{self, Rules};

/// All that is known.
pub(super) struct Explained {
    /// The id that was asked about.
    pub(super) decision_id: String,
    /// The record that names it.
    pub(super) found: StoredRecord,
    /// All that is on record of its message by itself, and of the decision, the oldest first.
    pub(super) records: Vec<StoredRecord>,
    pub(super) rules: Rules,
    /// Absent where it was not parked.
    pub(super) deliberation: Option<Result<Case, String>>,
    /// Whether it was given up, and waits for a person.
    pub(super) dead_letter: Result<Option<Letter>, String>,
}

impl Explained {
    pub(super) async fn of(
        decision_id: String,
        found: StoredRecord,
        stored: &RecordStream,
        client: &Client,
        policy: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let message = found.message();
        let mut records = stored.in_batch(&decision_id, Some(&found.record.tenant)).await?;
        if let Some(message) = &message {
            records.extend(stored.of_message(message).await?);
        }
        records.sort_by_key(|record| record.sequence);
        // That of the verdict: an id that `submit` answered with names no answer of the policy.
        let governed = decision(&found).map_or(decision_id.as_str(), |it| it.verdict.decision_id.as_str());
        let logged = DecisionStream::new(client.clone()).of_decision(governed).await;
        let logged = logged.map_err(|error| causes(&error));
        let rules = rules::of(decision(&found), logged, client, policy).await;
        let tenant = &*found.record.tenant;
        let parked = records.iter().chain([&found]).filter_map(decision);
        let parked = parked.filter_map(|it| it.verdict.deliberation_id.clone()).next_back();
        let deliberation = match parked {
            Some(id) => Some(case(client, tenant, &id).await),
            None => None,
        };
        let dead_letter = match &message {
            Some(message) => {
                let letters = DeadLetterStreams::new(client.clone());
                letters.find(&message.into()).await.map_err(|error| causes(&error))
            }
            None => Ok(None),
        };
        Ok(Self { decision_id, found, records, rules, deliberation, dead_letter })
    }

    pub(super) fn decision(&self) -> Option<&Decision<'static>> {
        decision(&self.found)
    }

    /// The last word on the message, and where it stands.
    pub(super) fn last(&self) -> Option<(&Decision<'static>, &StoredRecord)> {
        let newest_first = self.records.iter().rev().chain([&self.found]);
        newest_first.filter_map(|stored| Some((decision(stored)?, stored))).next()
    }
}

async fn case(client: &Client, tenant: &TenantId, id: &DeliberationId) -> Result<Case, String> {
    let kept = KeptJudgements::new(client.clone());
    match kept.case(tenant, id).await {
        Ok(Some(case)) => Ok(case),
        Ok(None) => Err("it is not kept any more".to_owned()),
        Err(error) => Err(causes(&error)),
    }
}

/// What a record tells of a message, if it tells of one.
pub(super) fn decision(stored: &StoredRecord) -> Option<&Decision<'static>> {
    match &stored.record.body {
        Body::Intent(decision) | Body::Verdict(decision) => Some(decision),
        _ => None,
    }
}
