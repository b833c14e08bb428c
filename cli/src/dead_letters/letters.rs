//! The tenants' streams of dead letters, by requests that the operator's user may make: no consumers.

use std::{collections::BTreeSet, fmt, str::FromStr, time::Duration};

use agentbus::{
    domain::{AgentId, Encoding, IdError, MessageId, TenantId},
    tenants::{names::dead_letters_stream, plan::TENANTS_MAX},
    wire,
};
use anyhow::{Context as _, anyhow, bail};
use async_nats::{
    Client, HeaderMap,
    jetstream::{
        self,
        message::StreamMessage,
        stream::{LastRawMessageErrorKind, Stream},
    },
};
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use serde_json::Value;

/// What stands in a subject for what could not be read.
const UNREADABLE: &str = "~";
/// Names of streams that are read to find those of dead letters: each tenant has four, and may have left.
const STREAMS_MAX: usize = 10 * TENANTS_MAX;
/// For the server to keep what is put back.
const KEPT_WITHIN: Duration = Duration::from_secs(5);
/// Of what cannot be read, shown.
const BEGINNING: usize = 160;

/// A letter as `tenant/sender/message`, the latter two `~` where they could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    tenant: TenantId,
    sender: String,
    message: String,
}

impl Address {
    pub(super) fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    pub(super) fn sender(&self) -> &str {
        &self.sender
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    fn subject(&self) -> String {
        format!("dead.{}.{}.{}", self.tenant, self.sender, self.message)
    }

    /// What was known of it when it died.
    fn ids(&self) -> Option<(TenantId, AgentId, MessageId)> {
        Some((self.tenant.clone(), self.sender.parse().ok()?, self.message.parse().ok()?))
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let tokens: Vec<&str> = text.split('/').collect();
        let [tenant, sender, message] = tokens.as_slice() else {
            return Err(format!("expected TENANT/SENDER/MESSAGE, found {} parts", tokens.len()));
        };
        let tenant = tenant.parse().map_err(|error: IdError| error.to_string())?;
        checked::<AgentId>(sender)?;
        checked::<MessageId>(message)?;
        let owned = |token: &&str| (*token).to_owned();
        Ok(Self { tenant, sender: owned(sender), message: owned(message) })
    }
}

fn checked<T: FromStr<Err = IdError>>(token: &str) -> Result<(), String> {
    match token {
        UNREADABLE => Ok(()),
        token => token.parse::<T>().map(drop).map_err(|error| error.to_string()),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.tenant, self.sender, self.message)
    }
}

/// One that was given up.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) address: Address,
    pub(super) reason: String,
    pub(super) detail: String,
    pub(super) attempts: u64,
    pub(super) redriven: u32,
    /// Milliseconds since 1970.
    pub(super) died_at: u64,
    pub(super) traceparent: Option<String>,
    pub(super) payload: Bytes,
    sequence: u64,
}

impl Letter {
    fn read(stored: StreamMessage) -> anyhow::Result<Self> {
        let address = stored.subject.strip_prefix("dead.").unwrap_or_default().replace('.', "/");
        let address: Address = address
            .parse()
            .map_err(|error| anyhow!("subject {:?} among dead letters: {error}", stored.subject.as_str()))?;
        let header = |name: &str| stored.headers.get(name).map(|value| value.as_str().to_owned());
        let number = |name: &str| header(name).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        Ok(Self {
            address,
            reason: header("Agentbus-Reason").unwrap_or_default(),
            detail: header("Agentbus-Detail").unwrap_or_default(),
            attempts: number("Agentbus-Attempts"),
            redriven: u32::try_from(number("Agentbus-Redriven")).unwrap_or(u32::MAX),
            died_at: number("Agentbus-Died-At"),
            traceparent: header("traceparent"),
            payload: stored.payload,
            sequence: stored.sequence,
        })
    }

    fn decoded(&self) -> Option<wire::Decoded> {
        let (tenant, sender, id) = self.address.ids()?;
        let limits = wire::Limits { content_bytes: usize::MAX, ..wire::Limits::default() };
        let stamp = wire::Stamp { tenant: &tenant, sender: &sender };
        let decoded = wire::decode(&self.payload, stamp, &limits).ok()?;
        (decoded.message.id == id).then_some(decoded)
    }

    /// As the map that its sender wrote, if it can be read as theirs.
    pub(super) fn message(&self) -> Option<Value> {
        let decoded = self.decoded()?;
        let json = wire::encode_message(&decoded.message, &decoded.canonical, Encoding::Json);
        serde_json::from_slice(&json).ok()
    }

    /// The first bytes, escaped.
    pub(super) fn beginning(&self) -> String {
        let more = if self.payload.len() > BEGINNING { "…" } else { "" };
        format!(
            "{}{more}",
            self.payload.get(..BEGINNING.min(self.payload.len())).unwrap_or_default().escape_ascii()
        )
    }
}

/// The operator's way to the streams.
pub(super) struct Letters {
    client: Client,
    context: jetstream::Context,
}

impl Letters {
    pub(super) fn new(client: Client) -> Self {
        let mut context = jetstream::new(client.clone());
        context.set_timeout(KEPT_WITHIN);
        Self { client, context }
    }

    /// The tenants that have a stream of them: this one, or all, those that left the file as well.
    pub(super) async fn tenants(&self, only: Option<&TenantId>) -> anyhow::Result<Vec<TenantId>> {
        if let Some(tenant) = only {
            return Ok(vec![tenant.clone()]);
        }
        let names = self.context.stream_names().take(STREAMS_MAX).try_collect::<BTreeSet<String>>().await;
        let names = names.context("JetStream does not say which streams there are")?;
        let tenant = |name: &String| {
            let tenant: TenantId = name.strip_prefix("DEAD_")?.parse().ok()?;
            (dead_letters_stream(&tenant) == *name).then_some(tenant)
        };
        Ok(names.iter().filter_map(tenant).collect())
    }

    /// How many these tenants have.
    pub(super) async fn count(&self, tenants: &[TenantId]) -> anyhow::Result<u64> {
        let mut sum = 0;
        for tenant in tenants {
            let stream = dead_letters_stream(tenant);
            let subject = format!("$JS.API.STREAM.INFO.{stream}");
            let answer =
                self.client.request(subject, "".into()).await.context("JetStream does not answer")?;
            let info: Value = serde_json::from_slice(&answer.payload).context("JetStream's answer")?;
            if let Some(fault) = info.pointer("/error/description").and_then(Value::as_str) {
                bail!("stream {stream}: {fault}; `agentbus tenants apply` makes it for a tenant in the file");
            }
            sum += info.pointer("/state/messages").and_then(Value::as_u64).unwrap_or(0);
        }
        Ok(sum)
    }

    /// The oldest of these tenants, at most so many.
    pub(super) async fn oldest(&self, tenants: &[TenantId], limit: u64) -> anyhow::Result<Vec<Letter>> {
        let (mut letters, mut heads) = (Vec::new(), Vec::new());
        for tenant in tenants {
            let stream = self.stream(tenant).await?;
            if let Some(letter) = next(&stream, tenant, 1).await? {
                heads.push((letter, stream));
            }
        }
        while (letters.len() as u64) < limit {
            let oldest = heads.iter().enumerate().min_by_key(|(_, (letter, _))| letter.died_at);
            let Some(at) = oldest.map(|(at, _)| at) else { break };
            let (letter, stream) = heads.swap_remove(at);
            if let Some(later) = next(&stream, letter.address.tenant(), letter.sequence + 1).await? {
                heads.push((later, stream));
            }
            letters.push(letter);
        }
        Ok(letters)
    }

    pub(super) async fn read(&self, address: &Address) -> anyhow::Result<Letter> {
        let stream = self.stream(&address.tenant).await?;
        match stream.get_last_raw_message_by_subject(&address.subject()).await {
            Ok(stored) => Letter::read(stored),
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                bail!("there is no dead letter {address}")
            }
            Err(error) => Err(error).context(format!("stream {}", dead_letters_stream(&address.tenant))),
        }
    }

    async fn stream(&self, tenant: &TenantId) -> anyhow::Result<Stream<()>> {
        Ok(self.context.get_stream_no_info(dead_letters_stream(tenant)).await?)
    }

    /// Back onto the durable lane; removed once JetStream has it there.
    pub(super) async fn redrive(&self, letter: &Letter) -> anyhow::Result<()> {
        let (Some(decoded), Some((tenant, sender, id))) = (letter.decoded(), letter.address.ids()) else {
            bail!("it cannot be read as a message of its sender, so no node could govern it");
        };
        let times = letter.redriven.saturating_add(1);
        let mut headers = HeaderMap::new();
        headers.insert("Agentbus-Redriven", times.to_string());
        headers.insert("Agentbus-Digest", hex::encode(decoded.digest));
        // Twice at one time is once.
        headers.insert("Nats-Msg-Id", format!("{sender}.{id}.{times}"));
        if let Some(traceparent) = &letter.traceparent {
            headers.insert("traceparent", traceparent.as_str());
        }
        let subject = format!("tenant.{tenant}.submitted.{sender}.{id}");
        let publishing = async {
            let kept = self.context.publish_with_headers(subject, headers, letter.payload.clone()).await?;
            kept.await
        };
        publishing.await.context("JetStream did not take it, and it stays a dead letter")?;
        self.delete(letter).await.context("it is back on the durable lane, and its dead letter stays")
    }

    pub(super) async fn delete(&self, letter: &Letter) -> anyhow::Result<()> {
        // By its sequence: a newer letter of the same message is another one.
        let stream = self.stream(&letter.address.tenant).await?;
        stream.delete_message(letter.sequence).await.context("JetStream did not delete it")?;
        Ok(())
    }
}

/// A tenant's first letter at or after a sequence.
async fn next(stream: &Stream<()>, tenant: &TenantId, from: u64) -> anyhow::Result<Option<Letter>> {
    match stream.get_first_raw_message_by_subject(format!("dead.{tenant}.*.*"), from).await {
        Ok(stored) => Letter::read(stored).map(Some),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(None),
        Err(error) => Err(error).context(format!("stream {}", dead_letters_stream(tenant))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn an_address_is_what_the_list_writes_and_never_a_wildcard() {
        for good in ["acme/planner/m1", "acme/~/~", "acme/~/m_1-X"] {
            assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        }
        for bad in [
            "",
            "~/~/~",
            "acme/planner",
            "acme/*/m1",
            "acme/planner/>",
            "acme/planner/a.b",
            "acme/planner/m1/x",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?} was accepted");
        }
        assert_eq!("acme/~/~".parse::<Address>().unwrap().subject(), "dead.acme.~.~");
    }
}
