//! Can a message be made to arrive twice, or another's be kept from arriving?

use std::{collections::BTreeMap, time::Duration};

use agentbus::{
    client::{AgentClient, Draft},
    domain::{Encoding, Status, Verb},
    wire,
};
use anyhow::{Context as _, ensure};
use futures_util::{StreamExt as _, future::join_all};
use tokio::time::timeout;

use crate::chaos::cast::header;

use super::{
    calls::{self, PATIENCE},
    field::Field,
    lanes,
    raw::publish_with_headers,
};

/// What comes twice comes within this time.
const QUIET: Duration = Duration::from_millis(250);
/// What was told as delivered has come within this time.
const COMES_WITHIN: Duration = Duration::from_secs(10);

/// How often each of these came to the sink while something was done.
async fn arrivals(
    sink: &AgentClient,
    done: impl Future<Output = anyhow::Result<()>>,
) -> anyhow::Result<BTreeMap<String, usize>> {
    let mut inbox = Box::pin(sink.inbox().await?);
    done.await?;
    let mut counts = BTreeMap::new();
    let mut wait = COMES_WITHIN;
    while let Ok(Some(message)) = timeout(wait, inbox.next()).await {
        *counts.entry(header(&message, "Agentbus-Message-Id").unwrap_or_default()).or_default() += 1;
        wait = QUIET;
    }
    Ok(counts)
}

pub(crate) async fn play(field: &mut Field) -> anyhow::Result<()> {
    let (mallory, sink) = (field.client("globex", "mallory").await?, field.client("globex", "sink").await?);
    let races = if field.full { 8 } else { 3 };
    for race in 0..races {
        for (what, variant) in [
            ("the same bytes 20 times at once", 0),
            ("the same in two encodings, at once", 1),
            ("one id with 20 contents, at once", 2),
            ("one id with other times, at once", 3),
            ("the same again and again", 4),
        ] {
            let (mallory, sink) = (mallory.clone(), sink.clone());
            field
                .attempt(format!("send, {what} ({race})"), async move {
                    let id = nuid::next().to_string();
                    let note = |text: &str| Draft { message_id: id.clone(), ..Draft::to_agent("sink", text) };
                    let drafts: Vec<(Draft, Encoding)> = (0..20)
                        .map(|number| match variant {
                            1 if number % 2 == 0 => (note("one text"), Encoding::MessagePack),
                            2 => (note(&format!("text {number}")), Encoding::Json),
                            3 => (
                                Draft {
                                    expires_in: Some(Duration::from_secs(60 + number)),
                                    ..note("one text")
                                },
                                Encoding::Json,
                            ),
                            _ => (note("one text"), Encoding::Json),
                        })
                        .collect();
                    let counts = arrivals(&sink, async {
                        if variant == 4 {
                            for (draft, encoding) in &drafts {
                                calls::status(&mallory, Verb::Send, draft, *encoding).await?;
                            }
                        } else {
                            let calls = drafts.iter().map(|(draft, encoding)| {
                                calls::status(&mallory, Verb::Send, draft, *encoding)
                            });
                            // That some are told to come again is right.
                            join_all(calls).await;
                        }
                        Ok(())
                    })
                    .await?;
                    let times = counts.get(&id).copied().unwrap_or_default();
                    ensure!(times > 0, "it never came");
                    Ok((times > 1).then(|| format!("it came {times} times")))
                })
                .await?;
        }
    }
    submitted(field, races).await?;
    suppressed(field).await
}

/// The durable lane: stored once, whatever comes at once.
async fn submitted(field: &mut Field, races: usize) -> anyhow::Result<()> {
    let mallory = field.client("globex", "mallory").await?;
    let sink = field.client("globex", "sink").await?;
    for race in 0..races {
        let (mallory, sink) = (mallory.clone(), sink.clone());
        field
            .attempt(format!("submit, the same bytes 20 times at once ({race})"), async move {
                let draft = Draft::to_agent("sink", "one text");
                let calls = (0..20).map(|_| calls::status(&mallory, Verb::Submit, &draft, Encoding::Json));
                join_all(calls).await;
                let times = lanes::kept(&sink, &draft.message_id).await?;
                ensure!(times > 0, "it never came");
                Ok((times > 1).then(|| format!("it was stored {times} times")))
            })
            .await?;
    }
    Ok(())
}

/// Taking the ids that others will use, in the bus's own words to JetStream.
async fn suppressed(field: &mut Field) -> anyhow::Result<()> {
    let (worker, planner) =
        (field.client("acme", "planner").await?, field.client("globex", "planner").await?);
    for (what, verb) in [("send", Verb::Send), ("submit", Verb::Submit)] {
        for (whose, victim, tenant) in
            [("another tenant's", &worker, "acme"), ("a colleague's", &planner, "globex")]
        {
            let (login, victim) = (field.attacker().await, victim.clone());
            field
                .attempt(format!("{what}, {whose} message id taken beforehand"), async move {
                    let mut raw = login?;
                    let id = nuid::next().to_string();
                    for number in 0..6 {
                        let draft = Draft {
                            message_id: id.clone(),
                            ..Draft::to_agent("sink", &format!("text {number}"))
                        };
                        let block = [
                            format!("Nats-Msg-Id: {id}"),
                            format!("Nats-Msg-Id: {tenant}.planner.{id}"),
                            format!("Nats-Msg-Id: record.{tenant}.planner.{id}"),
                            "Nats-Expected-Last-Subject-Sequence: 0".to_owned(),
                            "Nats-Rollup: sub".to_owned(),
                            format!("Nats-Expected-Last-Msg-Id: {id}"),
                        ];
                        let line = block.get(number).context("a header")?;
                        let block = format!("NATS/1.0\r\n{line}\r\n\r\n");
                        let subject = format!("bus.mallory.{verb}");
                        let body = draft.encode(Encoding::Json);
                        let reply = Some(&b"_INBOX.mallory.r"[..]);
                        raw.send(&publish_with_headers(subject.as_bytes(), reply, block.as_bytes(), &body))
                            .await?;
                    }
                    raw.settle().await;
                    let honest =
                        Draft { message_id: id, ..Draft::to_agent("worker", "the weekly summary is ready") };
                    // `send` would be a delivery that the watch over the worker does not know; a refusal tells as much.
                    let honest = match verb {
                        Verb::Send => Draft { to: serde_json::json!({ "agent": "nobody" }), ..honest },
                        _ => honest,
                    };
                    let answer = victim.call(verb, honest.encode(Encoding::Json), PATIENCE).await?;
                    let verdict = wire::decode_verdict(&answer.payload)?;
                    let right = match verb {
                        Verb::Send => verdict.reason.as_str() == "recipient_unknown",
                        _ => verdict.status == Status::Stored,
                    };
                    Ok((!right)
                        .then(|| format!("its owner hears {}: {}", verdict.reason.as_str(), verdict.detail)))
                })
                .await?;
        }
    }
    Ok(())
}
