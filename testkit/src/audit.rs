//! What does the bus itself say when all is over? Records, dead letters, and what still waits.

use std::time::Duration;

use agentbus::{
    audit::{self, Body, PROBE_SUBJECT, Record},
    domain::TenantId,
    servers::Stack,
    tenants::{BusUser, names},
};
use anyhow::Context as _;
use async_nats::{
    Client,
    jetstream::{self, Context, stream::LastRawMessageErrorKind},
};
use futures_util::StreamExt as _;
use serde_json::Value;

use crate::books::{Books, Key, Place, Seen};

/// Questions to JetStream that wait at one time.
const ASKED_AT_ONCE: usize = 64;

/// One answer about a stream or a consumer, of a server that is busy with the last of the load.
const ANSWER_WAIT: Duration = Duration::from_secs(20);

/// Asks as a node, and of consumers as an operator: agents see nothing of it.
pub struct Audit {
    tenants: Vec<TenantId>,
    node: Context,
    operator: Client,
}

impl Audit {
    pub async fn connect(stack: &Stack, tenants: &[&str]) -> anyhow::Result<Self> {
        let mut node = jetstream::new(stack.connect(BusUser::Node).await?);
        node.set_timeout(ANSWER_WAIT);
        let tenants = tenants.iter().map(|tenant| tenant.parse()).collect::<Result<_, _>>()?;
        Ok(Self { tenants, node, operator: stack.connect(BusUser::Operator).await? })
    }

    /// Messages that wait to be governed, over all tenants.
    pub async fn inbound(&self) -> anyhow::Result<u64> {
        let mut sum = 0;
        for tenant in &self.tenants {
            let stream = self.node.get_stream(names::inbound_stream(tenant)).await?;
            sum += stream.cached_info().state.messages;
        }
        Ok(sum)
    }

    /// Messages of an agent's durable inbox that are not read or not acknowledged yet.
    pub async fn unread(&self, tenant: &str, agent: &str) -> anyhow::Result<u64> {
        let subject = format!("$JS.API.CONSUMER.INFO.OUT_{tenant}.{agent}");
        let request = async_nats::Request::new().timeout(Some(ANSWER_WAIT));
        let answer = self.operator.send_request(subject, request).await?;
        let info: Value = serde_json::from_slice(&answer.payload)?;
        let count = |field: &str| info.get(field).and_then(Value::as_u64);
        match (count("num_pending"), count("num_ack_pending")) {
            (Some(pending), Some(unacknowledged)) => Ok(pending + unacknowledged),
            _ => anyhow::bail!("{agent} has no durable inbox: {info}"),
        }
    }

    /// Writes all of it down.
    pub async fn read(&self, books: &Books) -> anyhow::Result<()> {
        let context = &self.node;
        for (subject, payload) in all(context, names::RECORDS_STREAM).await? {
            if subject == PROBE_SUBJECT {
                continue;
            }
            let record = audit::decode(&payload)
                .with_context(|| format!("a record that cannot be read, {subject}"))?;
            record.each().iter().filter_map(seen).for_each(|seen| books.write(seen));
        }
        for tenant in &self.tenants {
            for (subject, _) in all(context, &names::inbound_stream(tenant)).await? {
                if let ["tenant", tenant, "submitted", sender, message] = tokens(&subject).as_slice() {
                    books.write(Seen::Left { key: key(tenant, sender, message), place: Place::Inbound });
                }
            }
        }
        for tenant in &self.tenants {
            for (subject, _) in all(context, &names::dead_letters_stream(tenant)).await? {
                if let ["dead", tenant, sender, message] = tokens(&subject).as_slice() {
                    books.write(Seen::Left { key: key(tenant, sender, message), place: Place::DeadLetters });
                }
            }
        }
        Ok(())
    }
}

/// Votes are recorded as well, and have no verdict.
fn seen(record: &Record<'_>) -> Option<Seen> {
    let (Body::Intent(it) | Body::Verdict(it)) = &record.body else { return None };
    let verdict = &*it.verdict;
    let message = verdict.message_id.as_ref().map_or("~", |message| message.as_str());
    Some(Seen::Recorded {
        key: key(record.tenant.as_str(), it.sender.as_str(), message),
        status: verdict.status.as_str().to_owned(),
        reason: verdict.reason.as_str().to_owned(),
        decision: verdict.decision_id.clone(),
    })
}

/// Subjects and payloads of a stream, in no order.
async fn all(context: &Context, name: &str) -> anyhow::Result<Vec<(String, bytes::Bytes)>> {
    let stream = context.get_stream(name).await.with_context(|| name.to_owned())?;
    let state = stream.cached_info().state.clone();
    let sequences = if state.messages == 0 { 1..1 } else { state.first_sequence..state.last_sequence + 1 };
    let mut messages = futures_util::stream::iter(sequences)
        .map(|sequence| stream.get_raw_message(sequence))
        .buffer_unordered(ASKED_AT_ONCE);
    let mut found = Vec::new();
    while let Some(message) = messages.next().await {
        match message {
            Ok(message) => found.push((message.subject.to_string(), message.payload)),
            // A work queue has holes where messages were acknowledged.
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {}
            Err(error) => return Err(error).with_context(|| name.to_owned()),
        }
    }
    Ok(found)
}

fn tokens(subject: &str) -> Vec<&str> {
    subject.split('.').collect()
}

fn key(tenant: &str, sender: &str, message: &str) -> Key {
    Key { tenant: tenant.to_owned(), sender: sender.to_owned(), message: message.to_owned() }
}
