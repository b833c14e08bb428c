//! Which headers does what comes out of the bus bear? Off a running one: nothing else can make a delivery.

use agentbus::client::{Draft, Patience};
use async_nats::{HeaderMap, Message};
use futures_util::{Stream, StreamExt as _};

use super::*;
use crate::support::bus::Bus;

/// In lines, with letters for what differs each time.
fn lines(headers: &HeaderMap, draft: &Draft) -> String {
    let read = |name: &str| headers.get(name).map(ToString::to_string);
    let differs = [
        ("<decision>", read("Agentbus-Decision")),
        ("<digest>", read("Agentbus-Digest")),
        ("<trace>", read("traceparent")),
        ("<message>", Some(draft.message_id.clone())),
    ];
    let plain = |value: String| {
        let each = differs.iter().filter_map(|(name, found)| Some((name, found.as_ref()?)));
        each.fold(value, |value, (name, found)| value.replace(found, name))
    };
    let mut lines: Vec<String> = headers
        .iter()
        .flat_map(|(name, values)| values.iter().map(move |value| (name, value.to_string())))
        .filter(|(name, _)| !name.to_string().starts_with("Nats-"))
        .map(|(name, value)| format!("{name}: {}", plain(value)))
        .collect();
    lines.sort_unstable();
    lines.join("\n")
}

async fn next(inbox: &mut (impl Stream<Item = Message> + Unpin)) -> HeaderMap {
    let message = tokio::time::timeout(Duration::from_secs(60), inbox.next()).await.unwrap().unwrap();
    message.headers.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_and_verdicts_bear_the_headers_that_agents_know() {
    let bus = Bus::start(1).await;
    let (planner, worker) = (bus.agent("acme", "planner").await, bus.agent("acme", "worker").await);
    worker.register(&[]).await.unwrap();
    let mut live = worker.inbox().await.unwrap();
    let mut outcomes = planner.outcomes().await.unwrap();
    let kept = worker.durable_inbox(&"acme".parse().unwrap()).unwrap().messages().await.unwrap();
    let mut kept = kept.map(|message| message.unwrap().message);

    let sent = Draft::to_agent("worker", "hello");
    let bytes = sent.encode(Encoding::Json);
    let told = planner.call(agentbus::domain::Verb::Send, bytes, Patience::default()).await.unwrap();
    same("headers-verdict.txt", lines(&told.headers.unwrap(), &sent).as_bytes());
    same("headers-delivery.txt", lines(&next(&mut live).await, &sent).as_bytes());

    let submitted = Draft::to_agent("worker", "hello");
    planner.submit(submitted.encode(Encoding::Json), Patience::default()).await.unwrap();
    same("headers-delivery-kept.txt", lines(&next(&mut kept).await, &submitted).as_bytes());
    same("headers-outcome-live.txt", lines(&next(&mut outcomes).await, &submitted).as_bytes());
    bus.stop().await;
}
